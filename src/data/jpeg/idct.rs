//! The inverse discrete cosine transform of 8×8 blocks: libjpeg's "slow" integer method, bit by
//! bit.
//!
//! It is Loeffler, Ligtenberg and Moschytz's with constants of 13 bits; the columns' results keep
//! two bits more, and each result is rounded once. Every result of one dimension is thus a sum of
//! whole multiples of the eight inputs, rounded, and sums of whole numbers can be made in any
//! order: here as sums of two products each, which is one instruction (`vpmaddwd`) for eight
//! columns.

#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
use crate::vectors::Level;
use crate::vectors::Simd;

/// A block's coefficients or samples, row by row.
#[repr(align(32))]
#[derive(Clone)]
pub(super) struct Block(pub(super) [i16; 64]);

/// Multiples of inputs (0, 2), (4, 6) in the four even sums, and of (1, 3), (5, 7) in the four odd
/// ones: results n and 7 - n are the n-th even sum plus and less the n-th odd one. In 8192nds.
#[rustfmt::skip]
const EVEN: [[[i16; 2]; 2]; 4] = {
    // Products of √2 and cosines of multiples of π / 16.
    let (a, b) = (4433 + 6270, 4433);
    let (c, d) = (4433, 4433 - 15137);
    [
        [[8192,  a], [ 8192,  b]],
        [[8192,  c], [-8192,  d]],
        [[8192, -c], [-8192, -d]],
        [[8192, -a], [ 8192, -b]],
    ]
};
#[rustfmt::skip]
const ODD: [[[i16; 2]; 2]; 4] = [
    [[ 12299 - 7373 - 3196 + 9633, 9633],  [-3196 + 9633, -7373 + 9633]],
    [[ 9633, 25172 - 20995 - 16069 + 9633], [-20995 + 9633, -16069 + 9633]],
    [[-3196 + 9633, -20995 + 9633], [16819 - 20995 - 3196 + 9633, 9633]],
    [[-7373 + 9633, -16069 + 9633], [9633, 2446 - 7373 - 16069 + 9633]],
];
/// Bits by which the columns' results are shifted: 13 of the constants, less two that stay.
const COLUMNS: i32 = 11;
/// And the rows': 13, the two, and 3, since √8 was left out twice.
const ROWS: i32 = 18;

/// The samples of a block that has a DC coefficient only.
#[inline(always)]
pub(super) fn flat(dc: i16, quantisation: u16, out: &mut [u8], stride: usize) {
    let column = (i32::from(dc.wrapping_mul(quantisation as i16)) << 2).clamp(-32768, 32767);
    let sample = ((column + (1 << 4)) >> 5).clamp(-128, 127) + 128;
    for row in out.chunks_mut(stride).take(8) {
        row[..8].fill(sample as u8);
    }
}

/// `block`, times `quantisation`, transformed to 8 rows of samples, `stride` apart.
#[inline(always)]
pub(super) fn transform<S: Simd>(
    _: S,
    block: &Block,
    quantisation: &[u16; 64],
    out: &mut [u8],
    stride: usize,
) {
    #[cfg(target_arch = "x86_64")]
    if S::LEVEL >= Level::Avx2 {
        // SAFETY: a value of `S` says that the processor has AVX2.
        return unsafe { x86::avx2(block, quantisation, out, stride) };
    }
    #[cfg(target_arch = "aarch64")]
    if S::LEVEL >= Level::Neon {
        // SAFETY: a value of `S` says that the processor has NEON.
        return unsafe { arm::neon(block, quantisation, out, stride) };
    }
    plain(block, quantisation, out, stride);
}

/// As [`transform`], on any processor.
#[inline(never)]
fn plain(block: &Block, quantisation: &[u16; 64], out: &mut [u8], stride: usize) {
    let mut columns = [0i32; 64];
    for x in 0..8 {
        let inputs = std::array::from_fn(|y| {
            i32::from(block.0[8 * y + x].wrapping_mul(quantisation[8 * y + x] as i16))
        });
        for (y, result) in one_dimension(&inputs, COLUMNS).into_iter().enumerate() {
            columns[8 * y + x] = result.clamp(-32768, 32767);
        }
    }
    for (row, out) in columns.as_chunks::<8>().0.iter().zip(out.chunks_mut(stride)) {
        for (result, out) in one_dimension(row, ROWS).into_iter().zip(out) {
            *out = (result.clamp(-128, 127) + 128) as u8;
        }
    }
}

fn one_dimension(inputs: &[i32; 8], shift: i32) -> [i32; 8] {
    let sum = |first: usize, multiples: &[[i16; 2]; 2]| {
        (0..4).fold(0i32, |sum, i| {
            let product = inputs[first + 2 * i].wrapping_mul(multiples[i / 2][i % 2].into());
            sum.wrapping_add(product)
        })
    };
    let mut results = [0; 8];
    for n in 0..4 {
        let even = sum(0, &EVEN[n]).wrapping_add(1 << (shift - 1));
        let odd = sum(1, &ODD[n]);
        results[n] = even.wrapping_add(odd) >> shift;
        results[7 - n] = even.wrapping_sub(odd) >> shift;
    }
    results
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Block, COLUMNS, EVEN, ODD, ROWS};
    use std::arch::x86_64::*;

    /// As [`super::transform`], the same bits.
    #[target_feature(enable = "avx2")]
    #[inline]
    pub(super) fn avx2(block: &Block, quantisation: &[u16; 64], out: &mut [u8], stride: usize) {
        assert!(out.len() >= 7 * stride + 8);
        let row = |y: usize| {
            // SAFETY: eight values from 8y on, y at most 7, of two arrays of 64.
            unsafe {
                _mm_mullo_epi16(
                    _mm_load_si128(block.0.as_ptr().add(8 * y).cast()),
                    _mm_loadu_si128(quantisation.as_ptr().add(8 * y).cast()),
                )
            }
        };
        let pairs = |a: usize, b: usize| {
            let (a, b) = (row(a), row(b));
            _mm256_set_m128i(_mm_unpackhi_epi16(a, b), _mm_unpacklo_epi16(a, b))
        };
        // Of eight columns, inputs (0, 2), (4, 6), (1, 3), (5, 7).
        let results =
            one_dimension::<COLUMNS>([pairs(0, 2), pairs(4, 6), pairs(1, 3), pairs(5, 7)]);

        // Two rows each: columns 0 to 3 in the low half, 4 to 7 in the high one. The shuffle brings
        // columns (0, 2) of both rows before (1, 3) of both.
        let order = _mm256_broadcastsi128_si256(_mm_setr_epi8(
            0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15,
        ));
        let two =
            |y: usize| _mm256_shuffle_epi8(_mm256_packs_epi32(results[y], results[y + 1]), order);
        let (a, b, c, d) = (two(0), two(2), two(4), two(6));
        let (first, second) = (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
        let (third, fourth) = (_mm256_unpacklo_epi64(c, d), _mm256_unpackhi_epi64(c, d));
        let results = one_dimension::<ROWS>([
            _mm256_permute2x128_si256(first, third, 0x20),
            _mm256_permute2x128_si256(first, third, 0x31),
            _mm256_permute2x128_si256(second, fourth, 0x20),
            _mm256_permute2x128_si256(second, fourth, 0x31),
        ]);

        // Columns now: four of them to bytes, of rows 0 to 3 in the low half and 4 to 7 in the high
        // one.
        let order = _mm256_broadcastsi128_si256(_mm_setr_epi8(
            0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,
        ));
        let four = |x: usize| {
            let two = |x: usize| _mm256_packs_epi32(results[x], results[x + 1]);
            _mm256_shuffle_epi8(_mm256_packs_epi16(two(x), two(x + 2)), order)
        };
        let (left, right) = (four(0), four(4));
        let middle = _mm256_set1_epi8(-128);
        let rows = _mm256_xor_si256(_mm256_unpacklo_epi32(left, right), middle);
        let next = _mm256_xor_si256(_mm256_unpackhi_epi32(left, right), middle);
        let at = out.as_mut_ptr();
        for (y, two) in [
            (0, _mm256_castsi256_si128(rows)),
            (2, _mm256_castsi256_si128(next)),
            (4, _mm256_extracti128_si256(rows, 1)),
            (6, _mm256_extracti128_si256(next, 1)),
        ] {
            // SAFETY: rows y and y + 1, eight bytes each, lie in `out` by the check above.
            unsafe {
                _mm_storel_epi64(at.add(y * stride).cast(), two);
                _mm_storel_epi64(at.add((y + 1) * stride).cast(), _mm_unpackhi_epi64(two, two));
            }
        }
    }

    /// The eight results from pairs of inputs, for eight columns or rows at once.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn one_dimension<const SHIFT: i32>(inputs: [__m256i; 4]) -> [__m256i; 8] {
        let [p02, p46, p13, p57] = inputs;
        let both = |m: [i16; 2]| {
            _mm256_set1_epi32((u32::from(m[0] as u16) | u32::from(m[1] as u16) << 16) as i32)
        };
        let sum = |a, b, m: [[i16; 2]; 2]| {
            _mm256_add_epi32(_mm256_madd_epi16(a, both(m[0])), _mm256_madd_epi16(b, both(m[1])))
        };
        let half = _mm256_set1_epi32(1 << (SHIFT - 1));
        let mut results = [half; 8];
        for n in 0..4 {
            let even = _mm256_add_epi32(sum(p02, p46, EVEN[n]), half);
            let odd = sum(p13, p57, ODD[n]);
            results[n] = _mm256_srai_epi32(_mm256_add_epi32(even, odd), SHIFT);
            results[7 - n] = _mm256_srai_epi32(_mm256_sub_epi32(even, odd), SHIFT);
        }
        results
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::{Block, COLUMNS, EVEN, ODD, ROWS};
    use std::arch::aarch64::*;

    /// As [`super::transform`], the same bits.
    #[target_feature(enable = "neon")]
    #[inline]
    pub(super) fn neon(block: &Block, quantisation: &[u16; 64], out: &mut [u8], stride: usize) {
        assert!(out.len() >= 7 * stride + 8);
        let mut inputs = [vdupq_n_s16(0); 8];
        for (y, input) in inputs.iter_mut().enumerate() {
            // SAFETY: eight values from 8y on, y at most 7, of two arrays of 64.
            let (a, b) = unsafe {
                let quantisation = vld1q_u16(quantisation.as_ptr().add(8 * y));
                (vld1q_s16(block.0.as_ptr().add(8 * y)), vreinterpretq_s16_u16(quantisation))
            };
            *input = vmulq_s16(a, b);
        }

        let columns = |even, odd| vqshrn_n_s32::<COLUMNS>(vaddq_s32(even, odd));
        let others = |even, odd| vqshrn_n_s32::<COLUMNS>(vsubq_s32(even, odd));
        let mut results = [inputs[0]; 8];
        let [low, high] = one_dimension::<COLUMNS>(&inputs);
        for n in 0..4 {
            let ([a, b], [c, d]) = (low[n], high[n]);
            results[n] = vcombine_s16(columns(a, b), columns(c, d));
            results[7 - n] = vcombine_s16(others(a, b), others(c, d));
        }

        // Sixteen of the bits by which the rows' results are shifted go with the lower half.
        const REST: i32 = ROWS - 16;
        let mut samples = [vdup_n_s8(0); 8];
        let [low, high] = one_dimension::<ROWS>(&transposed(results));
        for n in 0..4 {
            let ([a, b], [c, d]) = (low[n], high[n]);
            let (sum, other) = (vaddhn_s32(a, b), vsubhn_s32(a, b));
            samples[n] = vqshrn_n_s16::<REST>(vaddhn_high_s32(sum, c, d));
            samples[7 - n] = vqshrn_n_s16::<REST>(vsubhn_high_s32(other, c, d));
        }

        // Columns now. Bytes of columns 0 to 3 in the low half and 4 to 7 in the high one: pairs of
        // columns, fours, then whole rows, two to a vector.
        let [a, b, c, d] = [0, 1, 2, 3].map(|x| vcombine_s8(samples[x], samples[x + 4]));
        let pairs = |a, b| {
            let (even, odd) = (vtrn1q_s8(a, b), vtrn2q_s8(a, b));
            [even, odd].map(|rows| vreinterpretq_s16_s8(rows))
        };
        let ([even, odd], [even_right, odd_right]) = (pairs(a, b), pairs(c, d));
        let fours = [
            vtrn1q_s16(even, even_right),
            vtrn1q_s16(odd, odd_right),
            vtrn2q_s16(even, even_right),
            vtrn2q_s16(odd, odd_right),
        ];
        let [a, b, c, d] = fours.map(|rows| vreinterpretq_s32_s16(rows));
        let middle = vdupq_n_u8(128);
        for (y, two) in [
            (0, vuzp1q_s32(a, b)),
            (2, vuzp1q_s32(c, d)),
            (4, vuzp2q_s32(a, b)),
            (6, vuzp2q_s32(c, d)),
        ] {
            let two = veorq_u8(vreinterpretq_u8_s32(two), middle);
            // SAFETY: rows y and y + 1, eight bytes each, lie in `out` by the check above.
            unsafe {
                vst1_u8(out.as_mut_ptr().add(y * stride), vget_low_u8(two));
                vst1_u8(out.as_mut_ptr().add((y + 1) * stride), vget_high_u8(two));
            }
        }
    }

    /// Of four columns or rows, each even sum with half of the last bit, and each odd one.
    type Sums = [[int32x4_t; 2]; 4];

    /// Of eight columns or rows the first four and the last, shifted by nothing yet.
    #[target_feature(enable = "neon")]
    #[inline]
    fn one_dimension<const SHIFT: i32>(inputs: &[int16x8_t; 8]) -> [Sums; 2] {
        let low = std::array::from_fn(|i| vget_low_s16(inputs[i]));
        let high = std::array::from_fn(|i| vget_high_s16(inputs[i]));
        [four::<SHIFT>(&low), four::<SHIFT>(&high)]
    }

    #[target_feature(enable = "neon")]
    #[inline]
    fn four<const SHIFT: i32>(inputs: &[int16x4_t; 8]) -> Sums {
        // Inputs 0 and 4 are multiplied by 8192, and the even sums 2 and 3 are 1 and 0 with the
        // other sign of inputs 2 and 6.
        let half = vdupq_n_s32(1 << (SHIFT - 1));
        let first = vaddq_s32(vshll_n_s16::<13>(inputs[0]), half);
        let fourth = vshll_n_s16::<13>(inputs[4]);
        let two = |n: usize| {
            let product = vmull_n_s16(inputs[2], EVEN[n][0][1]);
            vmlal_n_s16(product, inputs[6], EVEN[n][1][1])
        };
        let (sum, difference) = (vaddq_s32(first, fourth), vsubq_s32(first, fourth));
        let (outer, inner) = (two(0), two(1));
        let even = [
            vaddq_s32(sum, outer),
            vaddq_s32(difference, inner),
            vsubq_s32(difference, inner),
            vsubq_s32(sum, outer),
        ];
        std::array::from_fn(|n| {
            let mut odd = vmull_n_s16(inputs[1], ODD[n][0][0]);
            odd = vmlal_n_s16(odd, inputs[3], ODD[n][0][1]);
            odd = vmlal_n_s16(odd, inputs[5], ODD[n][1][0]);
            [even[n], vmlal_n_s16(odd, inputs[7], ODD[n][1][1])]
        })
    }

    #[target_feature(enable = "neon")]
    #[inline]
    fn transposed(rows: [int16x8_t; 8]) -> [int16x8_t; 8] {
        let mut pairs = [vreinterpretq_s32_s16(rows[0]); 8];
        for y in (0..8).step_by(2) {
            pairs[y] = vreinterpretq_s32_s16(vtrn1q_s16(rows[y], rows[y + 1]));
            pairs[y + 1] = vreinterpretq_s32_s16(vtrn2q_s16(rows[y], rows[y + 1]));
        }
        // Of columns 0 and 4, 1 and 5, 2 and 6, 3 and 7 the four rows from `y` on.
        let fours = |y: usize| {
            let [a, b, c, d] = [pairs[y], pairs[y + 1], pairs[y + 2], pairs[y + 3]];
            let fours = [vtrn1q_s32(a, c), vtrn1q_s32(b, d), vtrn2q_s32(a, c), vtrn2q_s32(b, d)];
            fours.map(|columns| vreinterpretq_s64_s32(columns))
        };
        let (top, bottom) = (fours(0), fours(4));
        std::array::from_fn(|x| {
            let (top, bottom) = (top[x % 4], bottom[x % 4]);
            let column = if x < 4 { vtrn1q_s64(top, bottom) } else { vtrn2q_s64(top, bottom) };
            vreinterpretq_s16_s64(column)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{Work, at_each_level, dispatch};

    fn blocks() -> impl Iterator<Item = (Block, [u16; 64])> {
        let mut state = 1u32;
        let mut next = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        (0..400).map(move |n| {
            // From nearly empty to overflowing.
            let size = 1 << (n % 15);
            let block = std::array::from_fn(|_| match next() % 3 {
                0 => (next() % (2 * size)) as i16 - size as i16,
                _ => 0,
            });
            (Block(block), std::array::from_fn(|_| (next() % 40 + 1) as u16))
        })
    }

    /// Within the samples' range the result is the transform of the standard (A.3.3), rounded, to
    /// one grey level.
    #[test]
    fn it_is_the_inverse_cosine_transform() {
        use std::f64::consts::{FRAC_1_SQRT_2, PI};
        let mut most: f64 = 0.0;
        for (block, quantisation) in blocks().filter(|(b, _)| b.0.iter().all(|v| v.abs() < 16)) {
            let mut out = [0; 64];
            plain(&block, &quantisation, &mut out, 8);
            for (at, &sample) in out.iter().enumerate() {
                let (y, x) = ((at / 8) as f64, (at % 8) as f64);
                let exact: f64 = (0..64)
                    .map(|i| {
                        let (v, u) = (i / 8, i % 8);
                        let scale = |k| if k == 0 { FRAC_1_SQRT_2 } else { 1.0 };
                        let wave =
                            |t: f64, k: usize| ((2.0 * t + 1.0) * k as f64 * PI / 16.0).cos();
                        let coefficient = f64::from(block.0[i]) * f64::from(quantisation[i]);
                        scale(u) * scale(v) / 4.0 * coefficient * wave(x, u) * wave(y, v)
                    })
                    .sum();
                let off = ((exact + 128.0).clamp(0.0, 255.0) - f64::from(sample)).abs();
                most = most.max(off);
            }
        }
        assert!(most < 0.6, "{most}");
    }

    struct Transform<'a>(&'a Block, &'a [u16; 64], &'a mut [u8], usize);

    impl Work for Transform<'_> {
        type Out = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            transform(s, self.0, self.1, self.2, self.3);
        }
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        for (block, quantisation) in blocks() {
            let mut plain_way = [7; 8 * 13];
            plain(&block, &quantisation, &mut plain_way, 13);
            at_each_level(|level| {
                let mut ours = [7; 8 * 13];
                dispatch(Transform(&block, &quantisation, &mut ours, 13));
                assert_eq!(ours, plain_way, "{level:?} {:?}", block.0);
            });
        }
    }

    #[test]
    fn a_flat_block_is_a_block_like_others() {
        for dc in -3000..3000 {
            let mut block = Block([0; 64]);
            block.0[0] = dc;
            let (mut one, mut other) = ([0; 64], [0; 64]);
            plain(&block, &[3; 64], &mut one, 8);
            flat(dc, 3, &mut other, 8);
            assert_eq!(one, other, "{dc}");
        }
    }
}
