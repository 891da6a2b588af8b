//! What the multiply-add units of this machine can do, measured: the limit that kernels are held
//! against.

use super::{Simd, Work, dispatch};
use crate::machine::threads::own_time;
use std::hint::black_box;
use std::thread::Builder;

/// f32 operations a second of all `threads` together (a multiply-add is two), from registers alone,
/// at the level in use. Each thread's own time counts, in which it was at work: what other processes
/// take of the machine makes the peak no lower (but where the system is no Unix). More threads than
/// there are cores count as many as these. The best of several runs of some 20 ms.
pub fn measure(threads: usize) -> f64 {
    let chains = || {
        let begun = own_time();
        let work = dispatch(Chains { rounds: 4_000_000 });
        work / (own_time() - begun).max(1e-9)
    };
    let runs = (0..8).map(|_| {
        std::thread::scope(|scope| {
            // Where the system gives fewer threads, that is what the machine can do.
            let start = |_| Builder::new().spawn_scoped(scope, chains).ok();
            let workers: Vec<_> = (0..threads).filter_map(start).collect();
            workers.into_iter().map(|w| w.join().unwrap_or(0.0)).sum()
        })
    });
    let cores = std::thread::available_parallelism().map_or(threads, usize::from);
    runs.fold(0.0, f64::max) * (cores as f64 / threads.max(1) as f64).min(1.0)
}

/// Independent chains of multiply-adds, as many as hide their latency and have room in the
/// registers: four units of four cycles (NEON's on large cores) take 16, two of four take 8.
const CHAINS: [usize; 2] = [12, 24];

/// As many rounds of a multiply-add in every chain; gives the operations done.
struct Chains {
    rounds: u64,
}

impl Work for Chains {
    type Out = f64;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        match S::PANEL {
            4.. => self.run_chains::<S, { CHAINS[1] }>(s),
            _ => self.run_chains::<S, { CHAINS[0] }>(s),
        }
    }
}

impl Chains {
    #[inline(always)]
    fn run_chains<S: Simd, const N: usize>(self, s: S) -> f64 {
        // NEON's instruction adds to the register that it writes: were that a constant, each would
        // take a copy of it first.
        let a = s.splat(black_box(1e-9));
        let mut chains = [s.splat(1.0); N];
        for _ in 0..self.rounds {
            for chain in &mut chains {
                *chain = s.fma(*chain, a, *chain);
            }
        }
        black_box(chains);
        (self.rounds * (N * S::LANES * 2) as u64) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::at_each_level;

    #[test]
    fn the_operations_are_those_of_the_level() {
        let mut counts = Vec::new();
        at_each_level(|_| counts.push(dispatch(Chains { rounds: 10 })));
        assert_eq!(counts[0], 10.0 * 12.0 * 4.0 * 2.0);
        // Twice the lanes of the level below; NEON: twice the chains.
        assert!(counts.is_sorted_by(|a, b| 2.0 * a == *b), "{counts:?}");
    }
}
