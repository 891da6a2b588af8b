//! Vectors of f32 in the machine's widest registers, chosen at run time: AVX-512, AVX2 with FMA, or
//! what every processor of its kind has: SSE2, and on others than x86-64 whatever the compiler makes of
//! plain arrays.
//!
//! A piece of work is a [`Work`]: generic over [`Simd`], inlined into one function for each level that
//! is compiled for it. [`dispatch`] picks the function. `ALEXNET_SIMD=avx2` or `=plain` asks for less
//! than the machine has; that is how the tests come by every level.
//!
//! Levels differ in rounding only: without FMA a product is rounded before it is added.

pub mod kernel;
pub mod peak;
#[cfg(any(test, not(target_arch = "x86_64")))]
mod plain;
pub mod product;
pub mod scratch;
#[cfg(target_arch = "x86_64")]
mod x86;

use crate::config_error;
use anyhow::Result;
use std::sync::OnceLock;

/// What the processor offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Plain,
    Avx2,
    Avx512,
}

/// The level that everything runs at: the machine's, or less if `ALEXNET_SIMD` says so.
pub fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let most = machine();
        asked().ok().flatten().map_or(most, |asked| most.min(asked))
    })
}

/// What `ALEXNET_SIMD` asks for. Err: the sentence that names the choices, for a value that is none.
pub fn asked() -> Result<Option<Level>> {
    std::env::var_os("ALEXNET_SIMD").map(|name| named(&name.to_string_lossy())).transpose()
}

fn named(name: &str) -> Result<Level> {
    match name {
        "plain" => Ok(Level::Plain),
        "avx2" => Ok(Level::Avx2),
        "avx512" => Ok(Level::Avx512),
        _ => Err(config_error!(
            "ALEXNET_SIMD = {name:?}: it must be \"plain\", \"avx2\" or \"avx512\"; unset it for the widest vectors that the machine has"
        )),
    }
}

fn machine() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return if is_x86_feature_detected!("avx512f") { Level::Avx512 } else { Level::Avx2 };
        }
    }
    Level::Plain
}

/// Values of a vector at the machine's level.
pub fn lanes() -> usize {
    match level() {
        Level::Avx512 => 16,
        Level::Avx2 => 8,
        Level::Plain => 4,
    }
}

/// Columns of one panel of a product's right operand (`vectors::kernel`) at the machine's level.
pub fn panel() -> usize {
    struct Panel;
    impl Work for Panel {
        type Out = usize;
        #[inline(always)]
        fn run<S: Simd>(self, _: S) -> usize {
            S::PANEL * S::LANES
        }
    }
    dispatch(Panel)
}

/// The operations of one level. A value of the type is the proof that the processor has them.
pub trait Simd: Copy {
    /// Values of one vector.
    const LANES: usize;
    /// Rows and vectors of columns that a product's kernel keeps in registers: their product and the
    /// vectors and a value more. Sixteen registers are short of 4 × 3 + 3 + 1 as the compiler orders the
    /// work: it kept one sum in memory, whose latency took half of the speed.
    const ROWS: usize;
    const PANEL: usize;
    type V: Copy;

    fn splat(self, value: f32) -> Self::V;
    /// # Safety
    /// `LANES` values are readable at `from`.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// # Safety
    /// `LANES` values are writable at `to`.
    unsafe fn store(self, to: *mut f32, v: Self::V);
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    fn sqrt(self, a: Self::V) -> Self::V;
    /// a·b + c
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Lane by lane, `then` where a > b, else `other`.
    fn if_greater(self, a: Self::V, b: Self::V, then: Self::V, other: Self::V) -> Self::V;
    /// Lane by lane, `then` where a = b, else `other`.
    fn if_equal(self, a: Self::V, b: Self::V, then: Self::V, other: Self::V) -> Self::V;
}

/// Something to be done at any level.
pub trait Work {
    type Out;
    /// Has to be `#[inline(always)]`, as must be all that it calls with `simd`: only what is inlined
    /// into [`dispatch`]'s functions is compiled for their level.
    fn run<S: Simd>(self, simd: S) -> Self::Out;
}

/// Runs `work` at the machine's level.
pub fn dispatch<W: Work>(work: W) -> W::Out {
    match level() {
        // SAFETY: `level` names only what the processor has.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { avx512(work) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { avx2(work) },
        _ => plain(work),
    }
}

/// A function of its own, as the other levels are: callers stay small.
#[inline(never)]
fn plain<W: Work>(work: W) -> W::Out {
    #[cfg(target_arch = "x86_64")]
    return work.run(x86::Sse2(()));
    #[cfg(not(target_arch = "x86_64"))]
    return work.run(plain::Plain);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx2,fma")]
fn avx512<W: Work>(work: W) -> W::Out {
    work.run(x86::Avx512(()))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2<W: Work>(work: W) -> W::Out {
    work.run(x86::Avx2(()))
}

/// A level of the caches.
#[derive(Clone, Copy)]
pub enum Cache {
    First,
    Second,
}

/// Asks for the cache line at `from`, which need not be readable.
#[inline(always)]
pub fn prefetch(from: *const f32, to: Cache) {
    // SAFETY: every processor of the kind has the instruction, and it never faults.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        match to {
            Cache::First => _mm_prefetch::<_MM_HINT_T0>(from.cast()),
            Cache::Second => _mm_prefetch::<_MM_HINT_T1>(from.cast()),
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (from, to);
}

/// Most lanes of a level.
const MOST: usize = 16;

/// The first vector of `values`, zeros where they end.
#[inline(always)]
pub fn load_some<S: Simd>(s: S, values: &[f32]) -> S::V {
    if values.len() >= S::LANES {
        // SAFETY: as many are there.
        return unsafe { s.load(values.as_ptr()) };
    }
    let mut whole = [0.0; MOST];
    whole[..values.len()].copy_from_slice(values);
    // SAFETY: no level has more lanes.
    unsafe { s.load(whole.as_ptr()) }
}

/// `v` to the start of `to`, as far as it goes.
#[inline(always)]
pub fn store_some<S: Simd>(s: S, to: &mut [f32], v: S::V) {
    if to.len() >= S::LANES {
        // SAFETY: there is room.
        return unsafe { s.store(to.as_mut_ptr(), v) };
    }
    let mut whole = [0.0; MOST];
    // SAFETY: no level has more lanes.
    unsafe { s.store(whole.as_mut_ptr(), v) };
    let n = to.len();
    to.copy_from_slice(&whole[..n]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation of a level on the first values of `a`, `b` and `c`.
    fn all<S: Simd>(s: S, a: &[f32; 4], b: &[f32; 4], c: &[f32; 4]) -> Vec<[u32; 4]> {
        // SAFETY: the levels here have four lanes.
        unsafe {
            let [a, b, c] = [a, b, c].map(|v| s.load(v.as_ptr()));
            let results = [
                s.add(a, b),
                s.sub(a, b),
                s.mul(a, b),
                s.div(a, b),
                s.sqrt(c),
                s.fma(a, b, c),
                s.if_greater(a, b, c, s.splat(7.0)),
                s.if_equal(a, b, c, s.splat(7.0)),
            ];
            results.map(|v| {
                let mut to = [0.0; 4];
                s.store(to.as_mut_ptr(), v);
                to.map(f32::to_bits)
            })
        }
        .to_vec()
    }

    #[test]
    fn a_level_goes_by_its_name() {
        assert_eq!(named("avx2").unwrap(), Level::Avx2);
        let sentence = named("avx-2").unwrap_err().to_string();
        assert!(sentence.contains("\"avx-2\"") && sentence.contains("\"plain\""), "{sentence}");
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn sse2_gives_the_bits_of_arrays() {
        let (a, b, c) = ([0.1, -3.7, 5.5, f32::NAN], [0.3, -9.1, 5.5, 1.0], [0.7, 2.0, 1e-9, 3.0]);
        assert_eq!(all(x86::Sse2(()), &a, &b, &c), all(plain::Plain, &a, &b, &c));
    }
}
