//! Vectors of f32 in the machine's widest registers, chosen at run time: AVX-512, AVX2 with FMA, or
//! what every processor of its kind has: SSE2, and on others than x86-64 whatever the compiler makes of
//! plain arrays.
//!
//! A piece of work is a [`Work`]: generic over [`Simd`], inlined into one function for each level that
//! is compiled for it. [`dispatch`] picks the function. `ALEXNET_SIMD=avx2` or `=plain` asks for less
//! than the machine has; that is how the tests come by every level.
//!
//! Levels differ in rounding only: without FMA a product is rounded before it is added.

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

/// Columns of one panel of a product's right operand (`layers::kernel`) at the machine's level.
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
    return work.run(Plain(()));
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

/// Asks for the cache line at `from`, which need not be readable.
#[inline(always)]
pub fn prefetch(from: *const f32) {
    // SAFETY: every processor of the kind has the instruction, and it never faults.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
}

/// As [`prefetch`], but into the second-level cache only.
#[inline(always)]
pub fn prefetch_far(from: *const f32) {
    // SAFETY: as in `prefetch`.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T1>(from.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = from;
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

/// Arrays of four, of the size of the registers that every 64-bit processor has. Where SSE2 serves
/// instead, the same bits come out; Winograd's kernels run in two
/// thirds of the time, and compile in 7 seconds where arrays took 108.
#[cfg(any(test, not(target_arch = "x86_64")))]
#[derive(Clone, Copy)]
struct Plain(());

#[cfg(any(test, not(target_arch = "x86_64")))]
impl Plain {
    #[inline(always)]
    fn each(a: [f32; 4], b: [f32; 4], f: impl Fn(f32, f32) -> f32) -> [f32; 4] {
        [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
impl Simd for Plain {
    const LANES: usize = 4;
    const ROWS: usize = 4;
    const PANEL: usize = 2;
    type V = [f32; 4];

    #[inline(always)]
    fn splat(self, value: f32) -> Self::V {
        [value; 4]
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> Self::V {
        // SAFETY: the caller's word.
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: Self::V) {
        // SAFETY: the caller's word.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(v) }
    }
    #[inline(always)]
    fn add(self, a: Self::V, b: Self::V) -> Self::V {
        Plain::each(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: Self::V, b: Self::V) -> Self::V {
        Plain::each(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: Self::V, b: Self::V) -> Self::V {
        Plain::each(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: Self::V, b: Self::V) -> Self::V {
        Plain::each(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn sqrt(self, a: Self::V) -> Self::V {
        Plain::each(a, a, |a, _| a.sqrt())
    }
    #[inline(always)]
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn if_greater(self, a: Self::V, b: Self::V, then: Self::V, other: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] > b[i] { then[i] } else { other[i] })
    }
    #[inline(always)]
    fn if_equal(self, a: Self::V, b: Self::V, then: Self::V, other: Self::V) -> Self::V {
        std::array::from_fn(|i| if a[i] == b[i] { then[i] } else { other[i] })
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    /// Registers of sixteen values.
    #[derive(Clone, Copy)]
    pub struct Avx512(pub(super) ());
    /// Registers of eight values.
    #[derive(Clone, Copy)]
    pub struct Avx2(pub(super) ());

    /// Registers of four values, which every x86-64 processor has; products are rounded before they are
    /// added.
    #[derive(Clone, Copy)]
    pub struct Sse2(pub(super) ());

    macro_rules! level {
        ($level:ident, $vector:ty, $lanes:literal, $rows:literal $panel:literal,
         $splat:ident $load:ident $store:ident $add:ident $sub:ident $mul:ident $div:ident $sqrt:ident $fma:ident, $choose:ident) => {
            impl Simd for $level {
                const LANES: usize = $lanes;
                const ROWS: usize = $rows;
                const PANEL: usize = $panel;
                type V = $vector;

                #[inline(always)]
                fn splat(self, value: f32) -> $vector {
                    // SAFETY: a value of this type exists only where the processor has the instructions.
                    unsafe { $splat(value) }
                }
                #[inline(always)]
                unsafe fn load(self, from: *const f32) -> $vector {
                    // SAFETY: as above; the memory by the caller's word.
                    unsafe { $load(from) }
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut f32, v: $vector) {
                    // SAFETY: as above; the memory by the caller's word.
                    unsafe { $store(to, v) }
                }
                #[inline(always)]
                fn add(self, a: $vector, b: $vector) -> $vector {
                    // SAFETY: as above.
                    unsafe { $add(a, b) }
                }
                #[inline(always)]
                fn sub(self, a: $vector, b: $vector) -> $vector {
                    // SAFETY: as above.
                    unsafe { $sub(a, b) }
                }
                #[inline(always)]
                fn mul(self, a: $vector, b: $vector) -> $vector {
                    // SAFETY: as above.
                    unsafe { $mul(a, b) }
                }
                #[inline(always)]
                fn div(self, a: $vector, b: $vector) -> $vector {
                    // SAFETY: as above.
                    unsafe { $div(a, b) }
                }
                #[inline(always)]
                fn sqrt(self, a: $vector) -> $vector {
                    // SAFETY: as above.
                    unsafe { $sqrt(a) }
                }
                #[inline(always)]
                fn fma(self, a: $vector, b: $vector, c: $vector) -> $vector {
                    // SAFETY: as above.
                    unsafe { $fma(a, b, c) }
                }
                #[inline(always)]
                fn if_greater(
                    self,
                    a: $vector,
                    b: $vector,
                    then: $vector,
                    other: $vector,
                ) -> $vector {
                    // SAFETY: as above.
                    unsafe { $choose::<_CMP_GT_OQ>(a, b, then, other) }
                }
                #[inline(always)]
                fn if_equal(
                    self,
                    a: $vector,
                    b: $vector,
                    then: $vector,
                    other: $vector,
                ) -> $vector {
                    // SAFETY: as above.
                    unsafe { $choose::<_CMP_EQ_OQ>(a, b, then, other) }
                }
            }
        };
    }

    level!(Avx512, __m512, 16, 8 3, _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_add_ps
        _mm512_sub_ps _mm512_mul_ps _mm512_div_ps _mm512_sqrt_ps _mm512_fmadd_ps, choose512);
    level!(Avx2, __m256, 8, 6 2, _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_add_ps
        _mm256_sub_ps _mm256_mul_ps _mm256_div_ps _mm256_sqrt_ps _mm256_fmadd_ps, choose256);

    level!(Sse2, __m128, 4, 4 2, _mm_set1_ps _mm_loadu_ps _mm_storeu_ps _mm_add_ps
        _mm_sub_ps _mm_mul_ps _mm_div_ps _mm_sqrt_ps fma128, choose128);

    #[inline]
    #[target_feature(enable = "sse2")]
    fn fma128(a: __m128, b: __m128, c: __m128) -> __m128 {
        _mm_add_ps(_mm_mul_ps(a, b), c)
    }

    #[inline]
    #[target_feature(enable = "sse2")]
    fn choose128<const C: i32>(a: __m128, b: __m128, then: __m128, other: __m128) -> __m128 {
        let mask = if C == _CMP_GT_OQ { _mm_cmpgt_ps(a, b) } else { _mm_cmpeq_ps(a, b) };
        _mm_or_ps(_mm_and_ps(mask, then), _mm_andnot_ps(mask, other))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn choose512<const C: i32>(a: __m512, b: __m512, then: __m512, other: __m512) -> __m512 {
        _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<C>(a, b), other, then)
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    fn choose256<const C: i32>(a: __m256, b: __m256, then: __m256, other: __m256) -> __m256 {
        _mm256_blendv_ps(other, then, _mm256_cmp_ps::<C>(a, b))
    }
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
        assert_eq!(all(x86::Sse2(()), &a, &b, &c), all(Plain(()), &a, &b, &c));
    }
}
