//! The levels of x86-64.

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
            fn if_greater(self, a: $vector, b: $vector, then: $vector, other: $vector) -> $vector {
                // SAFETY: as above.
                unsafe { $choose::<_CMP_GT_OQ>(a, b, then, other) }
            }
            #[inline(always)]
            fn if_equal(self, a: $vector, b: $vector, then: $vector, other: $vector) -> $vector {
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
