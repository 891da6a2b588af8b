//! The levels of 64-bit ARM: NEON, which every processor of the kind has.
//!
//! A product's block is 6 rows by 4 vectors: 24 sums, the 4 vectors of the right operand and a few
//! values of the left one in 32 registers, and a panel of sixteen columns, a cache line. As Rust
//! 1.95 compiles it, one step of the depth takes 40 instructions where the left operand lies along
//! the rows and 41 where it lies along the depth (in AVX2's blocks of 6 × 2: 24 and 25): 24 of them
//! multiply-adds (12), of which each takes its value of the left operand from a lane, 10 loads (8),
//! 1 prefetch (1), the rest addresses and the loop; no sum leaves its register. So 59 to 60 % of
//! the instructions are multiply-adds where AVX2 has 48 to 50 %. A core that starts four
//! instructions a cycle, two of them multiply-adds, would spend 12 cycles on the multiply-adds and
//! start all 41 in 11. Counted with objdump, not measured: no such processor was at hand.

use super::levels::Level;
use super::operations::{FOURTH_ROOT, Simd};
use std::arch::aarch64::*;

/// Registers of four values; multiply-add with one rounding.
#[derive(Clone, Copy)]
pub struct Neon(pub(super) ());

/// The same registers; products are rounded before they are added, as `plain`'s are.
#[derive(Clone, Copy)]
pub struct Unfused(pub(super) ());

/// Operations to a vector.
macro_rules! operations {
    ($($name:ident($($operand:ident: $kind:ty),+) $instruction:ident;)+) => {
        $(
            #[inline(always)]
            fn $name(self, $($operand: $kind),+) -> float32x4_t {
                // SAFETY: `self` is the proof that the processor has the instructions.
                unsafe { $instruction($($operand),+) }
            }
        )+
    };
}

macro_rules! level {
    ($level:ident: $name:ident, $rows:literal rows, panel of $panel:literal; $fma:ident) => {
        // SAFETY: only `dispatch` makes a value of the type, in the function of this level; and
        // every processor of the kind has the instructions.
        unsafe impl Simd for $level {
            const LEVEL: Level = Level::$name;
            const LANES: usize = 4;
            const ROWS: usize = $rows;
            const PANEL: usize = $panel;
            type V = float32x4_t;

            #[inline(always)]
            unsafe fn load(self, from: *const f32) -> float32x4_t {
                // SAFETY: `self` stands for the instruction, the caller for the memory.
                unsafe { vld1q_f32(from) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut f32, v: float32x4_t) {
                // SAFETY: `self` stands for the instruction, the caller for the memory.
                unsafe { vst1q_f32(to, v) }
            }
            operations! {
                splat(value: f32) vdupq_n_f32;
                add(a: float32x4_t, b: float32x4_t) vaddq_f32;
                sub(a: float32x4_t, b: float32x4_t) vsubq_f32;
                mul(a: float32x4_t, b: float32x4_t) vmulq_f32;
                div(a: float32x4_t, b: float32x4_t) vdivq_f32;
                sqrt(a: float32x4_t) vsqrtq_f32;
                fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) $fma;
                if_greater(a: float32x4_t, b: float32x4_t, then: float32x4_t, other: float32x4_t)
                    if_greater;
                if_equal(a: float32x4_t, b: float32x4_t, then: float32x4_t, other: float32x4_t)
                    if_equal;
                fourth_root_guess(a: float32x4_t) guess;
            }
        }
    };
}

level!(Neon: Neon, 6 rows, panel of 4; fused);
level!(Unfused: Plain, 4 rows, panel of 2; unfused);

#[inline]
#[target_feature(enable = "neon")]
fn fused(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
    vfmaq_f32(c, a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn unfused(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
    vaddq_f32(vmulq_f32(a, b), c)
}

#[inline]
#[target_feature(enable = "neon")]
fn if_greater(
    a: float32x4_t,
    b: float32x4_t,
    then: float32x4_t,
    other: float32x4_t,
) -> float32x4_t {
    vbslq_f32(vcgtq_f32(a, b), then, other)
}

#[inline]
#[target_feature(enable = "neon")]
fn if_equal(a: float32x4_t, b: float32x4_t, then: float32x4_t, other: float32x4_t) -> float32x4_t {
    vbslq_f32(vceqq_f32(a, b), then, other)
}

#[inline]
#[target_feature(enable = "neon")]
fn guess(a: float32x4_t) -> float32x4_t {
    let fourth = vshrq_n_u32::<2>(vreinterpretq_u32_f32(a));
    vreinterpretq_f32_u32(vsubq_u32(vdupq_n_u32(FOURTH_ROOT), fourth))
}
