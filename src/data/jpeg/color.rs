//! From components to colours, with libjpeg's rounding.

#[cfg(any(target_arch = "aarch64", target_arch = "x86_64"))]
use crate::vectors::Level;
use crate::vectors::Simd;

/// A row of Y, Cb, Cr to R, G, B (JFIF's equations), written interleaved. All of one length; `out`
/// has three bytes a pixel. `colors` is memory for three rows.
#[inline(always)]
pub(super) fn rgb<S: Simd>(s: S, rows: [&[u8]; 3], out: &mut [u8], colors: &mut [Vec<u8>; 3]) {
    let [y, cb, cr] = rows;
    let n = y.len();
    for row in &mut *colors {
        row.resize(n, 0);
    }
    let [red, green, blue] = colors;
    let (red, green, blue) = (&mut red[..n], &mut green[..n], &mut blue[..n]);
    let (cb, cr) = (&cb[..n], &cr[..n]);
    for i in 0..n {
        let [r, g, b] = convert(y[i], cb[i], cr[i]);
        (red[i], green[i], blue[i]) = (r, g, b);
    }
    interleave(s, [red, green, blue], out);
}

/// Constants of 16 bits: 1.402, 0.34414, 0.71414 and 1.772. Products with the differences are made
/// without their whole parts so that they fit into 16 bits twice, which makes vectors twice as
/// long; the sums are those of libjpeg's tables.
#[inline(always)]
pub(super) fn convert(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i16::from(y), i16::from(cb) - 128, i16::from(cr) - 128);
    // floor(x · c + 1/2), the double of x · c rounded down, halved.
    let part = |x: i16, c: i16| (((i32::from(2 * x) * i32::from(c)) >> 16) as i16 + 1) >> 1;
    let red = y + cr + part(cr, (91881 - 65536) as i16);
    let blue = y + 2 * cb + part(cb, (116130 - 131072) as i16);
    let products = i32::from(cb) * -22554 + i32::from(cr) * (65536 - 46802) + (1 << 15);
    let green = y - cr + (products >> 16) as i16;
    [red, green, blue].map(|v| v.clamp(0, 255) as u8)
}

/// Three rows to one of three bytes a pixel.
#[inline(always)]
pub(super) fn interleave<S: Simd>(_: S, rows: [&[u8]; 3], out: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    if S::LEVEL >= Level::Avx2 {
        // SAFETY: a value of `S` says that the processor has AVX2.
        return unsafe { x86::interleave(rows, out) };
    }
    #[cfg(target_arch = "aarch64")]
    if S::LEVEL >= Level::Neon {
        // SAFETY: a value of `S` says that the processor has NEON.
        return unsafe { arm::interleave(rows, out) };
    }
    plain_interleave(rows, out);
}

/// As [`interleave`], on any processor.
#[inline(never)]
fn plain_interleave(rows: [&[u8]; 3], out: &mut [u8]) {
    let [a, b, c] = rows;
    for (i, pixel) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
        *pixel = [a[i], b[i], c[i]];
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// For each of the three vectors of pixels and each row, which of the row's bytes go where:
    /// byte 3i + c of the pixels is byte i of row c.
    const ORDERS: [[[i8; 16]; 3]; 3] = {
        let mut orders = [[[-1; 16]; 3]; 3];
        let mut at = 0;
        while at < 48 {
            orders[at / 16][at % 3][at % 16] = (at / 3) as i8;
            at += 1;
        }
        orders
    };

    /// As [`super::interleave`].
    #[target_feature(enable = "avx2")]
    pub(super) fn interleave(rows: [&[u8]; 3], out: &mut [u8]) {
        let n = rows[0].len();
        assert!(rows[1].len() == n && rows[2].len() == n && out.len() == 3 * n);
        // SAFETY: each order has the sixteen bytes that are read.
        let order = |order: &[i8; 16]| unsafe { _mm_loadu_si128(order.as_ptr().cast()) };
        let orders = ORDERS.each_ref().map(|part| part.each_ref().map(order));
        let whole = n / 16 * 16;
        for i in (0..whole).step_by(16) {
            // SAFETY: sixteen pixels from i on lie in all rows, and 48 bytes from 3i on in `out`.
            unsafe {
                let vectors = rows.map(|row| _mm_loadu_si128(row.as_ptr().add(i).cast()));
                for (part, orders) in orders.iter().enumerate() {
                    let two = _mm_or_si128(
                        _mm_shuffle_epi8(vectors[0], orders[0]),
                        _mm_shuffle_epi8(vectors[1], orders[1]),
                    );
                    let three = _mm_or_si128(two, _mm_shuffle_epi8(vectors[2], orders[2]));
                    _mm_storeu_si128(out.as_mut_ptr().add(3 * i + 16 * part).cast(), three);
                }
            }
        }
        super::plain_interleave(rows.map(|row| &row[whole..]), &mut out[3 * whole..]);
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::*;

    /// As [`super::interleave`].
    #[target_feature(enable = "neon")]
    pub(super) fn interleave(rows: [&[u8]; 3], out: &mut [u8]) {
        let n = rows[0].len();
        assert!(rows[1].len() == n && rows[2].len() == n && out.len() == 3 * n);
        let whole = n / 16 * 16;
        for i in (0..whole).step_by(16) {
            // SAFETY: sixteen pixels from i on lie in all rows, and 48 bytes from 3i on in `out`.
            unsafe {
                let [a, b, c] = rows.map(|row| vld1q_u8(row.as_ptr().add(i)));
                vst3q_u8(out.as_mut_ptr().add(3 * i), uint8x16x3_t(a, b, c));
            }
        }
        super::plain_interleave(rows.map(|row| &row[whole..]), &mut out[3 * whole..]);
    }
}

/// CMYK or YCCK as Adobe writes them (inverted) to RGB, with Pillow's rounding.
pub(super) fn four_to_rgb(pixel: [u8; 4], ycck: bool) -> [u8; 3] {
    let [a, b, c, k] = pixel;
    // The stored values are those of inverted inks, that is of light; libjpeg gives CMY as 255 less
    // RGB.
    let ink = if ycck { convert(a, b, c).map(|x| 255 - x) } else { [a, b, c] };
    // As stored 255 is no ink: light = stored · k / 255.
    ink.map(|light| {
        let product = u32::from(255 - light) * u32::from(k) + 128;
        let absorbed = ((product >> 8) + product) >> 8;
        (u32::from(k) - absorbed.min(u32::from(k))) as u8
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::{Work, at_each_level, dispatch};

    struct Interleave<'a>([&'a [u8]; 3], &'a mut [u8]);

    impl Work for Interleave<'_> {
        type Out = ();
        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            interleave(s, self.0, self.1);
        }
    }

    #[test]
    fn every_level_interleaves_as_the_plain_way_does() {
        for n in [0, 1, 15, 16, 17, 47, 48, 100] {
            let rows = [3, 5, 7].map(|k| (0..n).map(|i| (k * i) as u8).collect::<Vec<_>>());
            let rows = [&rows[0][..], &rows[1], &rows[2]];
            let mut plain = vec![1; 3 * n];
            plain_interleave(rows, &mut plain);
            at_each_level(|level| {
                let mut ours = vec![0; 3 * n];
                dispatch(Interleave(rows, &mut ours));
                assert_eq!(ours, plain, "{level:?}");
            });
        }
    }

    /// JFIF's equations in libjpeg's fixed point of 16 bits, for every colour.
    #[test]
    fn colours_are_those_of_the_equations() {
        for cb in 0..=255u8 {
            for cr in 0..=255u8 {
                let (b, r) = (i32::from(cb) - 128, i32::from(cr) - 128);
                let half = 1 << 15;
                let red = (91881 * r + half) >> 16;
                let green = (-22554 * b - 46802 * r + half) >> 16;
                let blue = (116130 * b + half) >> 16;
                for y in 0..=255u8 {
                    let expected =
                        [red, green, blue].map(|v| (i32::from(y) + v).clamp(0, 255) as u8);
                    assert_eq!(convert(y, cb, cr), expected, "{y} {cb} {cr}");
                }
            }
        }
    }
}
