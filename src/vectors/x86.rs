//! The levels of x86-64.

use super::levels::Level;
use super::operations::{FOURTH_ROOT, Simd};
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

/// Operations from vectors to a vector, an instruction each.
macro_rules! operations {
    ($vector:ty; $($name:ident($($operand:ident)+) $instruction:path;)+) => {
        $(
            #[inline(always)]
            fn $name(self, $($operand: $vector),+) -> $vector {
                // SAFETY: `self` is the proof that the processor has the instruction.
                unsafe { $instruction($($operand),+) }
            }
        )+
    };
}

macro_rules! level {
    ($level:ident: $name:ident, $vector:ty,
     $lanes:literal lanes, $rows:literal rows, panel of $panel:literal;
     $splat:ident $load:ident $store:ident $add:ident $sub:ident
     $mul:ident $div:ident $sqrt:ident $fma:ident $choose:ident
     $larger:ident $guess:ident) => {
        // SAFETY: only `dispatch` makes a value of the type, in the function of this level.
        unsafe impl Simd for $level {
            const LEVEL: Level = Level::$name;
            const LANES: usize = $lanes;
            const ROWS: usize = $rows;
            const PANEL: usize = $panel;
            type V = $vector;

            #[inline(always)]
            fn splat(self, value: f32) -> $vector {
                // SAFETY: `self` is the proof that the processor has the instruction.
                unsafe { $splat(value) }
            }
            #[inline(always)]
            unsafe fn load(self, from: *const f32) -> $vector {
                // SAFETY: `self` stands for the instruction, the caller for the memory.
                unsafe { $load(from) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut f32, v: $vector) {
                // SAFETY: `self` stands for the instruction, the caller for the memory.
                unsafe { $store(to, v) }
            }
            operations! {
                $vector;
                add(a b) $add;
                sub(a b) $sub;
                mul(a b) $mul;
                div(a b) $div;
                sqrt(a) $sqrt;
                fma(a b c) $fma;
                if_greater(a b then other) $choose::<_CMP_GT_OQ>;
                if_equal(a b then other) $choose::<_CMP_EQ_OQ>;
                larger(a b) $larger;
                fourth_root_guess(a) $guess;
            }
        }
    };
}

level!(Avx512: Avx512, __m512, 16 lanes, 8 rows, panel of 3;
    _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_add_ps _mm512_sub_ps
    _mm512_mul_ps _mm512_div_ps _mm512_sqrt_ps _mm512_fmadd_ps choose512
    _mm512_max_ps guess512);
level!(Avx2: Avx2, __m256, 8 lanes, 6 rows, panel of 2;
    _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_add_ps _mm256_sub_ps
    _mm256_mul_ps _mm256_div_ps _mm256_sqrt_ps _mm256_fmadd_ps choose256
    _mm256_max_ps guess256);
level!(Sse2: Plain, __m128, 4 lanes, 4 rows, panel of 2;
    _mm_set1_ps _mm_loadu_ps _mm_storeu_ps _mm_add_ps _mm_sub_ps
    _mm_mul_ps _mm_div_ps _mm_sqrt_ps fma128 choose128
    _mm_max_ps guess128);

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

#[inline]
#[target_feature(enable = "sse2")]
fn guess128(a: __m128) -> __m128 {
    let fourth = _mm_srli_epi32::<2>(_mm_castps_si128(a));
    _mm_castsi128_ps(_mm_sub_epi32(_mm_set1_epi32(FOURTH_ROOT as i32), fourth))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn guess512(a: __m512) -> __m512 {
    let fourth = _mm512_srli_epi32::<2>(_mm512_castps_si512(a));
    _mm512_castsi512_ps(_mm512_sub_epi32(_mm512_set1_epi32(FOURTH_ROOT as i32), fourth))
}

#[inline]
#[target_feature(enable = "avx2")]
fn guess256(a: __m256) -> __m256 {
    let fourth = _mm256_srli_epi32::<2>(_mm256_castps_si256(a));
    _mm256_castsi256_ps(_mm256_sub_epi32(_mm256_set1_epi32(FOURTH_ROOT as i32), fourth))
}
