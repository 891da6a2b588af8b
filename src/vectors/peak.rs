//! What the multiply-add units of this machine can do, measured: the limit that kernels are held against.

use std::hint::black_box;
use std::time::Instant;

/// f32 operations a second of all `threads` together (a multiply-add is two), from registers alone.
/// The best of several runs of some 20 ms: neighbours on the machine only ever make it slower.
pub fn measure(threads: usize) -> f64 {
    let runs = (0..8).map(|_| {
        let begun = Instant::now();
        let work: f64 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| chains(4_000_000))).collect();
            workers.into_iter().map(|w| w.join().unwrap_or(0.0)).sum()
        });
        work / begun.elapsed().as_secs_f64()
    });
    runs.fold(0.0, f64::max)
}

/// Independent chains of multiply-adds, enough to hide their latency; returns the operations done.
fn chains(rounds: u64) -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the feature is there.
            return unsafe { avx512(rounds) };
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: the features are there.
            return unsafe { avx2(rounds) };
        }
    }
    plain(rounds)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(rounds: u64) -> f64 {
    use std::arch::x86_64::*;
    let (a, b) = (_mm512_set1_ps(black_box(0.999)), _mm512_set1_ps(black_box(0.001)));
    let mut chains = [_mm512_set1_ps(1.0); 12];
    for _ in 0..rounds {
        for c in &mut chains {
            *c = _mm512_fmadd_ps(*c, a, b);
        }
    }
    black_box(chains);
    (rounds * 12 * 16 * 2) as f64
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(rounds: u64) -> f64 {
    use std::arch::x86_64::*;
    let (a, b) = (_mm256_set1_ps(black_box(0.999)), _mm256_set1_ps(black_box(0.001)));
    let mut chains = [_mm256_set1_ps(1.0); 12];
    for _ in 0..rounds {
        for c in &mut chains {
            *c = _mm256_fmadd_ps(*c, a, b);
        }
    }
    black_box(chains);
    (rounds * 12 * 8 * 2) as f64
}

fn plain(rounds: u64) -> f64 {
    let (a, b) = (black_box(0.999f32), black_box(0.001f32));
    let mut chains = [1.0f32; 32];
    for _ in 0..rounds {
        for c in &mut chains {
            *c = *c * a + b;
        }
    }
    black_box(chains);
    (rounds * 32 * 2) as f64
}
