//! Scaling and cropping of 8-bit images, as torchvision's `Resize` and `CenterCrop` do on Pillow, and
//! scaling of both sides.
//!
//! The shorter side becomes `size`, the longer one `size` · longer / shorter, rounded down; the
//! filter is the antialiased triangle (Pillow's BILINEAR); the crop's offsets are rounded down,
//! where torchvision rounds a half to the even number.

use super::area::Area;
use anyhow::{Result, ensure};
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8, U8x3};
use fast_image_resize::{FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer};
use std::cell::RefCell;

/// An 8-bit image in memory, [height, width, channels], channels 1 or 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
    /// Values a pixel: 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// height × width × channels bytes.
    pub pixels: Vec<u8>,
}

/// Scaled images with more pixels than this are refused: they come from images that are a few
/// pixels high and very wide, or the other way round.
const LARGEST: usize = 100_000_000;

thread_local! {
    /// Keeps its scratch memory from image to image.
    static RESIZER: RefCell<Resizer> = RefCell::new(Resizer::new());
}

/// The size to which an image of `from` [height, width] is scaled so that it just covers `size`:
/// one side fits exactly, the other is as long or longer. For a square this is torchvision's
/// `Resize`.
fn covering(from: [usize; 2], size: [usize; 2]) -> Result<[usize; 2]> {
    let ([height, width], [high, wide]) = (from, size);
    ensure!(height > 0 && width > 0, "the image has no pixels");
    let scaled = if height * wide >= width * high {
        [wide * height / width, wide]
    } else {
        [high, high * width / height]
    };
    ensure!(
        scaled[0] * scaled[1] <= LARGEST,
        "the image is too long and narrow ({width}×{height}) to be scaled to a shorter side of {}",
        high.min(wide)
    );
    Ok(scaled)
}

/// The part of a side of `from` pixels, scaled to `scaled`, that becomes the `size` in its middle:
/// where it begins and its length, in pixels of the side.
fn part(from: usize, scaled: usize, size: usize) -> (f64, f64) {
    // Products of whole numbers first: a whole side then comes out exactly, and not a bit longer.
    let scale = |pixels: usize| (pixels * from) as f64 / scaled as f64;
    let start = scale((scaled - size) / 2);
    (start, scale(size).min(from as f64 - start))
}

/// The part of an image of `from` [height, width] that [`cover_centre`] looks at.
pub fn needed(from: [usize; 2], size: [usize; 2]) -> Result<Area> {
    let scaled = covering(from, size)?;
    let range = |i: usize| {
        let (start, length) = part(from[i], scaled[i], size[i]);
        // The filter reaches a scaled pixel's width, or one pixel, beyond the middle of each.
        let reach = (from[i] as f64 / scaled[i] as f64).max(1.0) + 1.0;
        let end = ((start + length + reach).ceil() as usize).min(from[i]);
        (start - reach).floor().max(0.0) as usize..end
    };
    Ok(Area { rows: range(0), columns: range(1) })
}

/// The pixels of an image of `shape` [height, width, channels] scaled so that it just covers `size`
/// [height, width], and of that the middle, offsets rounded down.
///
/// # Errors
/// If the image has no pixels or is too long and narrow.
pub fn cover_centre(pixels: &[u8], shape: [usize; 3], size: [usize; 2]) -> Result<Vec<u8>> {
    let [height, width, channels] = shape;
    let [high, wide] = covering([height, width], size)?;
    if [high, wide] == [height, width] {
        return Ok(centre(pixels, shape, size));
    }
    let (top, rows) = part(height, high, size[0]);
    let (left, columns) = part(width, wide, size[1]);
    let window = ResizeOptions::new().crop(left, top, columns, rows);
    match channels {
        1 => scale::<U8>(pixels, [height, width], size, window),
        _ => scale::<U8x3>(pixels, [height, width], size, window),
    }
}

/// The pixels of an image of `shape` [height, width, channels] with each side scaled to that of
/// `size` [height, width], by the same filter: all of the image, in other proportions.
///
/// # Errors
/// If the image has no pixels.
pub fn warp(pixels: &[u8], shape: [usize; 3], size: [usize; 2]) -> Result<Vec<u8>> {
    let [height, width, channels] = shape;
    ensure!(height > 0 && width > 0, "the image has no pixels");
    if [height, width] == size {
        return Ok(pixels.to_vec());
    }
    match channels {
        1 => scale::<U8>(pixels, [height, width], size, ResizeOptions::new()),
        _ => scale::<U8x3>(pixels, [height, width], size, ResizeOptions::new()),
    }
}

/// Scales a part of an image to `size`. Of one kind of pixel, since each kind is much to compile.
fn scale<P: PixelTrait + Default>(
    pixels: &[u8],
    [height, width]: [usize; 2],
    size: [usize; 2],
    part: ResizeOptions,
) -> Result<Vec<u8>> {
    let from = TypedImageRef::<P>::from_buffer(width as u32, height as u32, pixels)?;
    let mut scaled = vec![0; size[0] * size[1] * size_of::<P>()];
    let mut to = TypedImage::<P>::from_buffer(size[1] as u32, size[0] as u32, &mut scaled)?;
    let options = part.resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
    RESIZER.with_borrow_mut(|resizer| resizer.resize_typed(&from, &mut to, &options))?;
    Ok(scaled)
}

/// The centre `size` [height, width] of an image of `shape`, offsets rounded down.
fn centre(pixels: &[u8], shape: [usize; 3], size: [usize; 2]) -> Vec<u8> {
    let [image_height, image_width, c] = shape;
    let [height, width] = size;
    let (top, left) = ((image_height - height) / 2, (image_width - width) / 2);
    let mut out = Vec::with_capacity(height * width * c);
    for row in pixels.chunks_exact(image_width * c).skip(top).take(height) {
        out.extend_from_slice(&row[left * c..(left + width) * c]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::decode::prepare_image;
    use crate::data::preparation::{Orientation, Preparation};

    /// Pillow's BILINEAR and the centre crop, shrinking and enlarging, wide and high.
    #[test]
    fn scaling_agrees_with_pillow_within_one_grey_level() {
        for name in ["down", "up"] {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/prepare");
            let png = std::fs::read(format!("{folder}/{name}.png")).unwrap();
            let theirs = std::fs::read(format!("{folder}/{name}.32")).unwrap();
            let preparation = Preparation::photographs(32, Orientation::Ignore);
            let ours = prepare_image(&png, &preparation, 3).unwrap().pixels;
            assert_eq!(ours.len(), theirs.len());
            let most = ours.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(most <= Some(1), "{name}: off by {most:?}");
        }
    }

    /// torchvision's int(size · long / short).
    #[test]
    fn the_longer_side_is_rounded_down() {
        let sides = |height, width, size| covering([height, width], size).unwrap();
        assert_eq!(sides(375, 500, [256, 256]), [256, 341]);
        assert_eq!(sides(500, 375, [256, 256]), [341, 256]);
        assert_eq!(sides(99, 100, [256, 256]), [256, 258]);
        assert_eq!(sides(256, 300, [256, 256]), [256, 300]);
        // Not a square: both sides are covered.
        assert_eq!(sides(100, 100, [20, 30]), [30, 30]);
    }

    /// For each of these the quotient of both sides, rounded, times the size is larger than the
    /// side.
    #[test]
    fn a_part_is_never_larger_than_the_side() {
        for (height, size) in [(111, 100), (123, 224), (121, 227), (240, 500), (59, 28)] {
            for width in [height, height + 40, 2 * height + 1] {
                for side in [[height, width], [width, height]] {
                    let pixels = vec![9; height * width];
                    let scaled = cover_centre(&pixels, [side[0], side[1], 1], [size, size]);
                    assert!(scaled.unwrap().iter().all(|&p| p == 9), "{side:?} to {size}");
                }
            }
        }
    }

    #[test]
    fn crop_offsets_are_rounded_down() {
        assert_eq!(cover_centre(b"abcde", [1, 5, 1], [1, 2]).unwrap(), b"bc");
    }

    /// Only what is needed is looked at, and the part is what all of it, scaled, has there.
    #[test]
    fn a_part_is_scaled_as_if_the_whole_were() {
        let noise = |n: usize| (0..n as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8);
        for (height, width) in [(375, 500), (500, 333), (64, 41), (30, 97), (17, 16), (300, 301)] {
            for (size, channels) in [([64, 64], 3), ([32, 32], 1), ([16, 16], 3), ([40, 20], 3)] {
                let pixels: Vec<u8> = noise(height * width * channels).collect();
                let shape = [height, width, channels];
                let ours = cover_centre(&pixels, shape, size).unwrap();

                let [high, wide] = covering([height, width], size).unwrap();
                let whole = if [high, wide] == [height, width] {
                    pixels.clone()
                } else {
                    let options = ResizeOptions::new();
                    let scale = if channels == 1 { scale::<U8> } else { scale::<U8x3> };
                    scale(&pixels, [height, width], [high, wide], options).unwrap()
                };
                let theirs = centre(&whole, [high, wide, channels], size);
                let name = format!("{height}×{width}×{channels} to {size:?}");
                // Weights are rounded; that of a pixel at the edge of one may fall to the other
                // side.
                let off = ours.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b));
                let other = off.clone().filter(|&d| d > 0).count();
                let most = off.max().unwrap();
                assert!(most <= 1 && other * 100 <= ours.len(), "{name}: {other}, {most}");

                let Area { rows, columns } = needed([height, width], size).unwrap();
                let mut other: Vec<u8> = pixels.iter().map(|p| !p).collect();
                for y in rows {
                    let row = |x| (y * width + x) * channels;
                    let (a, b) = (row(columns.start), row(columns.end));
                    other[a..b].copy_from_slice(&pixels[a..b]);
                }
                assert!(cover_centre(&other, shape, size).unwrap() == ours, "{name}");
            }
        }
    }

    #[test]
    fn a_long_thin_image_does_not_explode() {
        let pixels = vec![0; 1_000_000];
        let error = cover_centre(&pixels, [1, 1_000_000, 1], [256, 256]).unwrap_err().to_string();
        assert!(error.contains("too long and narrow (1000000×1)"), "{error}");
    }
}
