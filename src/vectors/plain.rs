//! What every 64-bit processor has, without a word of its instructions.

use super::levels::Level;
use super::operations::{FOURTH_ROOT, Simd};

/// Arrays of four, of the size of the registers that every 64-bit processor has. Where SSE2 or
/// NEON serve instead, the same bits come out; with SSE2 Winograd's kernels run in two thirds of the
/// time, and compile in 7 seconds where arrays took 108.
#[derive(Clone, Copy)]
pub(super) struct Plain(pub(super) ());

impl Plain {
    #[inline(always)]
    fn each(a: [f32; 4], b: [f32; 4], f: impl Fn(f32, f32) -> f32) -> [f32; 4] {
        [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
    }
}

// SAFETY: the level asks nothing of a processor.
unsafe impl Simd for Plain {
    const LEVEL: Level = Level::Plain;
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
        // SAFETY: four values are readable at `from` by the caller's word, aligned or not.
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, v: Self::V) {
        // SAFETY: four values are writable at `to` by the caller's word, aligned or not.
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
    fn fourth_root_guess(self, a: Self::V) -> Self::V {
        a.map(|a| f32::from_bits(FOURTH_ROOT.wrapping_sub(a.to_bits() >> 2)))
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

#[cfg(all(test, any(target_arch = "aarch64", target_arch = "x86_64")))]
mod tests {
    use super::*;
    #[cfg(target_arch = "aarch64")]
    use crate::vectors::arm::Unfused as Registers;
    #[cfg(target_arch = "x86_64")]
    use crate::vectors::x86::Sse2 as Registers;

    /// Every operation of a level on the first values of `a`, `b` and `c`.
    fn all<S: Simd>(s: S, a: &[f32; 4], b: &[f32; 4], c: &[f32; 4]) -> Vec<[u32; 4]> {
        assert_eq!(S::LANES, 4);
        // SAFETY: each array has the four values that are read.
        let [a, b, c] = unsafe { [a, b, c].map(|v| s.load(v.as_ptr())) };
        let results = [
            s.add(a, b),
            s.sub(a, b),
            s.mul(a, b),
            s.div(a, b),
            s.sqrt(c),
            s.fma(a, b, c),
            s.if_greater(a, b, c, s.splat(7.0)),
            s.if_equal(a, b, c, s.splat(7.0)),
            s.larger(a, b),
            s.fourth_root_guess(c),
        ];
        let bits = results.map(|v| {
            let mut to = [0.0; 4];
            // SAFETY: the array has room for the four values that are written.
            unsafe { s.store(to.as_mut_ptr(), v) };
            to.map(f32::to_bits)
        });
        bits.to_vec()
    }

    #[test]
    fn registers_of_four_give_the_bits_of_arrays() {
        let (a, b, c) = ([0.1, -3.7, 5.5, f32::NAN], [0.3, -9.1, 5.5, 1.0], [0.7, 2.0, 1e-9, 3.0]);
        assert_eq!(all(Registers(()), &a, &b, &c), all(Plain(()), &a, &b, &c));
    }
}
