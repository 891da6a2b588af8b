//! Sums of pixels and of products of channels, over many images: the same loops at every level of
//! vectors, of which the compiler makes what the level has.

use crate::vectors::{Simd, Work, dispatch};

/// Sums over images, from which the [`Statistics`](super::Statistics) come. Sums of parts can be merged.
#[derive(Clone, Debug, PartialEq)]
pub struct Sums {
    pub(super) shape: [usize; 3],
    pub(super) images: u64,
    /// [h, w, c]
    pub(super) pixel: Vec<u64>,
    /// [c, c]: sums of products of channels over all pixels.
    pub(super) product: Vec<u64>,
}

impl Sums {
    /// No images yet, of `shape` [height, width, channels].
    pub fn new(shape: [usize; 3]) -> Sums {
        let [h, w, c] = shape;
        Sums { shape, images: 0, pixel: vec![0; h * w * c], product: vec![0; c * c] }
    }

    /// Adds images, [height, width, channels] each. Many at once are faster than one after another:
    /// a piece of the sums stays in the cache while all images' pieces pass by.
    pub fn add(&mut self, images: &[&[u8]]) {
        assert!(images.iter().all(|image| image.len() == self.pixel.len()));
        self.images += images.len() as u64;
        dispatch(Add { sums: self, images });
    }

    /// Adds the sums of other images of the same shape.
    pub fn merge(&mut self, other: &Sums) {
        assert_eq!(self.shape, other.shape);
        self.images += other.images;
        for (sum, x) in self.pixel.iter_mut().zip(&other.pixel) {
            *sum += x;
        }
        for (sum, x) in self.product.iter_mut().zip(&other.product) {
            *sum += x;
        }
    }

    /// Images added so far.
    pub fn images(&self) -> u64 {
        self.images
    }
}

/// Values that are summed at a time: whole pixels of 1 to 4 channels, and of 48 bytes.
const PIECE: usize = 48 * 64;

/// The images' pieces to the sums.
struct Add<'a> {
    sums: &'a mut Sums,
    images: &'a [&'a [u8]],
}

impl Work for Add<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Sums { shape, pixel, product, .. } = self.sums;
        // 32 bits hold the sums of as many images.
        for images in self.images.chunks(1 << 16) {
            for (place, sums) in pixel.chunks_mut(PIECE).enumerate() {
                let values = place * PIECE..place * PIECE + sums.len();
                let pieces = images.iter().map(|image| &image[values.clone()]);
                add_pixels(sums, pieces.clone());
                for piece in pieces {
                    match shape[2] {
                        3 => add_products(product, piece),
                        c => add_products_plainly(product, piece, c),
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn add_pixels<'a>(sums: &mut [u64], pieces: impl Iterator<Item = &'a [u8]>) {
    let mut small = [0u32; PIECE];
    for piece in pieces {
        for (sum, &value) in small.iter_mut().zip(piece) {
            *sum += u32::from(value);
        }
    }
    for (sum, small) in sums.iter_mut().zip(small) {
        *sum += u64::from(small);
    }
}

/// Adds up products of channels of pixels of three channels. `piece` has at most [`PIECE`] bytes.
///
/// Sixteen pixels at a time. Products of each byte with itself and the two after it are summed up
/// by their place among the 48 bytes, whether or not they are of one pixel; those that are not are
/// left out in the end. That way no byte has to change its place, and the compiler makes vectors of
/// it.
#[inline(always)]
fn add_products(product: &mut [u64], piece: &[u8]) {
    let mut sums = [[0u32; 48]; 3];
    let mut rest = piece;
    // The products with later bytes look two bytes ahead.
    while let Some(bytes) = rest.first_chunk::<50>() {
        for (after, sums) in sums.iter_mut().enumerate() {
            for (at, sum) in sums.iter_mut().enumerate() {
                // Of two bytes, so less than 2^16; and there are at most 64 of them.
                *sum += u32::from(u16::from(bytes[at]) * u16::from(bytes[at + after]));
            }
        }
        rest = &rest[48..];
    }
    let of = |after: usize, first: usize| -> u64 {
        sums[after].iter().skip(first).step_by(3).map(|&sum| u64::from(sum)).sum()
    };
    let (rr, gg, bb) = (of(0, 0), of(0, 1), of(0, 2));
    let (rg, gb, rb) = (of(1, 0), of(1, 1), of(2, 0));
    for (sum, x) in product.iter_mut().zip([rr, rg, rb, rg, gg, gb, rb, gb, bb]) {
        *sum += x;
    }
    add_products_plainly(product, rest, 3);
}

#[inline(always)]
fn add_products_plainly(product: &mut [u64], piece: &[u8], c: usize) {
    for pixel in piece.chunks_exact(c) {
        for i in 0..c {
            for j in 0..c {
                product[i * c + j] += u64::from(pixel[i]) * u64::from(pixel[j]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::at_each_level;

    /// At every level by plain arithmetic, for sizes around those of a piece and of sixteen pixels.
    #[test]
    fn sums_are_exact() {
        for (height, width, channels) in
            [(1, 1, 3), (3, 17, 3), (33, 31, 3), (40, 77, 3), (64, 49, 1)]
        {
            let n = height * width * channels;
            let mut state = 1u32;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Often the largest value, which is what would overflow.
                ((state >> 20) as u8).saturating_add(100)
            };
            let images: Vec<Vec<u8>> = (0..5).map(|_| (0..n).map(|_| next()).collect()).collect();
            let pixel: Vec<u64> =
                (0..n).map(|at| images.iter().map(|image| u64::from(image[at])).sum()).collect();
            at_each_level(|level| {
                let mut sums = Sums::new([height, width, channels]);
                sums.add(&[&images[0]]);
                sums.add(&images[1..].iter().map(|image| &image[..]).collect::<Vec<_>>());
                assert_eq!(sums.pixel, pixel, "{level:?}");
                for (at, &product) in sums.product.iter().enumerate() {
                    let (i, j) = (at / channels, at % channels);
                    let pixels = images.iter().flat_map(|image| image.chunks(channels));
                    let expected: u64 = pixels.map(|p| u64::from(p[i]) * u64::from(p[j])).sum();
                    assert_eq!(product, expected, "{height}×{width}×{channels}: {i}, {j}");
                }
                assert_eq!(sums.images(), 5, "{level:?}");
            });
        }
    }
}
