//! What a piece of work is written in: the operations of a level, and what is made of them.

use super::levels::Level;

/// The operations of one level on vectors of f32.
///
/// # Safety
/// A value of the type is the proof that the processor has all that [`LEVEL`](Simd::LEVEL) needs:
/// who implements it lets one be made only where that is so.
pub unsafe trait Simd: Copy {
    /// The level, for steps that are written for one by hand.
    const LEVEL: Level;
    /// Values of one vector, at most `MOST_LANES`.
    const LANES: usize;
    /// Rows that a product's kernel keeps in registers: with [`PANEL`](Simd::PANEL) vectors of
    /// columns their product, and the vectors and a value more. Sixteen registers are short of
    /// 4 × 3 + 3 + 1 as the compiler orders the work: it kept one sum in memory, whose latency took
    /// half of the speed.
    const ROWS: usize;
    /// Vectors of columns that a product's kernel keeps in registers.
    const PANEL: usize;
    /// A vector.
    type V: Copy;

    /// `value` in every lane.
    fn splat(self, value: f32) -> Self::V;
    /// The values at `from`, which need not be aligned.
    ///
    /// # Safety
    /// `LANES` values are readable at `from`.
    unsafe fn load(self, from: *const f32) -> Self::V;
    /// `v` to `to`, which need not be aligned.
    ///
    /// # Safety
    /// `LANES` values are writable at `to`.
    unsafe fn store(self, to: *mut f32, v: Self::V);
    /// a + b
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// a − b
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// a · b
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// a / b
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// √a
    fn sqrt(self, a: Self::V) -> Self::V;
    /// a·b + c
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// Lane by lane, `then` where a > b, else `other`.
    fn if_greater(self, a: Self::V, b: Self::V, then: Self::V, other: Self::V) -> Self::V;
    /// Lane by lane, `then` where a = b, else `other`.
    fn if_equal(self, a: Self::V, b: Self::V, then: Self::V, other: Self::V) -> Self::V;
    /// Lane by lane, a where a > b, else b: of two zeros and beside NaN, b.
    #[inline(always)]
    fn larger(self, a: Self::V, b: Self::V) -> Self::V {
        self.if_greater(a, b, a, b)
    }
    /// Lane by lane, the float whose bits are [`FOURTH_ROOT`] less a fourth of a's: a^−¼ within
    /// 3.3 %, for positive a that are no denormals.
    fn fourth_root_guess(self, a: Self::V) -> Self::V;
}

/// The bits from which a fourth of a float's are taken: of its exponent, which that divides by −4,
/// and of its fraction, which that does nearly. A search over constants 2¹⁵ apart found the errors
/// of this one the least after a step of `lrn::vectors`.
pub const FOURTH_ROOT: u32 = 0x4f58_0000;

/// Something to be done at any level.
pub trait Work {
    /// What comes of it.
    type Out;
    /// Has to be `#[inline(always)]`, as must be all that it calls with `simd`: only what is
    /// inlined into [`dispatch`](super::dispatch())'s functions is compiled for their level.
    fn run<S: Simd>(self, simd: S) -> Self::Out;
}

/// Something that fills a slice, at any level.
///
/// As [`Work`], but the slice is a parameter of the level's function and no field: of a parameter
/// the compiler knows that nothing else points there, so that what is read can stay in registers
/// while the slice is written. Augmentation's loops take a fifth more time without (Zen 3, AVX2).
pub trait Fill<T> {
    /// What comes of it.
    type Out;
    /// Inlined as [`Work::run`].
    fn fill<S: Simd>(self, simd: S, to: &mut [T]) -> Self::Out;
}

/// A level of the caches.
#[derive(Clone, Copy)]
pub enum Cache {
    /// A core's own, the smallest and fastest.
    First,
    /// A core's own, behind the first.
    Second,
}

/// Asks for the cache line at `from`, which need not be readable.
#[inline(always)]
pub fn prefetch(from: *const f32, to: Cache) {
    // SAFETY: every processor of the kind has the instruction, and it never faults.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        use std::arch::asm;
        match to {
            Cache::First => {
                asm!("prfm pldl1keep, [{}]", in(reg) from, options(readonly, nostack, preserves_flags))
            }
            Cache::Second => {
                asm!("prfm pldl2keep, [{}]", in(reg) from, options(readonly, nostack, preserves_flags))
            }
        }
    }
    // SAFETY: every processor of the kind has the instruction, and it never faults.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        match to {
            Cache::First => _mm_prefetch::<_MM_HINT_T0>(from.cast()),
            Cache::Second => _mm_prefetch::<_MM_HINT_T1>(from.cast()),
        }
    }
    #[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
    let _ = (from, to);
}

/// Most lanes of a level.
const MOST_LANES: usize = 16;

/// The first vector of `values`, zeros where they end.
#[inline(always)]
pub fn load_some<S: Simd>(s: S, values: &[f32]) -> S::V {
    if values.len() >= S::LANES {
        // SAFETY: as many values are there.
        return unsafe { s.load(values.as_ptr()) };
    }
    const { assert!(S::LANES <= MOST_LANES) };
    let mut whole = [0.0; MOST_LANES];
    whole[..values.len()].copy_from_slice(values);
    // SAFETY: the array holds `MOST_LANES`, and no level has more.
    unsafe { s.load(whole.as_ptr()) }
}

/// `v` to the start of `to`, as far as it goes.
#[inline(always)]
pub fn store_some<S: Simd>(s: S, to: &mut [f32], v: S::V) {
    if to.len() >= S::LANES {
        // SAFETY: there is room for as many values.
        return unsafe { s.store(to.as_mut_ptr(), v) };
    }
    const { assert!(S::LANES <= MOST_LANES) };
    let mut whole = [0.0; MOST_LANES];
    // SAFETY: the array has room for `MOST_LANES`, and no level has more.
    unsafe { s.store(whole.as_mut_ptr(), v) };
    let n = to.len();
    to.copy_from_slice(&whole[..n]);
}
