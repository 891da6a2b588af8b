//! Images as JPEG files: a data set of a sixth to an eighth of the size, for a little loss and some
//! time.
//!
//! Baseline JPEG with the colours at half resolution in both directions (4:2:0), each the average
//! of four pixels' as libjpeg takes it, and the standard's Huffman tables (tables made for the
//! image would save little). What a reader gets is what the encoder lost something of, so mean
//! image and colour components are summed up over the decoded pixels.
//!
//! 60 pieces of seven photographs, 256×256 pixels, at quality 95: 7.5 times smaller in all, half of
//! them 6.7 to 8.0 times and nine of ten more than 5.7; 1.64 grey levels off in the mean, as
//! libjpeg's at that quality.
//!
//! A reader makes only those pixels that its crop needs: it stops below it, and left and right of
//! it and above blocks' codes are read but not transformed.

use super::RecordShape;
use crate::data::area::Area;
use crate::data::jpeg::Jpeg;
use anyhow::{Context, Result, ensure};
use jpeg_encoder::{ChromaSubsamplingMethod, ColorType, Encoder, SamplingFactor};

/// The quality where none is named.
pub const QUALITY: u8 = 95;

/// The largest record that a shard may say it has, for images of `shape`: an encoder codes whole
/// blocks of 8 or 16 pixels, whose codes may take more bytes than the pixels.
pub(super) fn longest(shape: &RecordShape) -> usize {
    let RecordShape { height, width, channels, .. } = *shape;
    4 * height.next_multiple_of(16) * width.next_multiple_of(16) * channels + 4096
}

/// Encodes the pixels [height, width, channels] of an image of `shape`.
pub fn encode(pixels: &[u8], shape: &RecordShape, quality: u8) -> Result<Vec<u8>> {
    assert_eq!(pixels.len(), shape.image_bytes());
    let mut file = Vec::with_capacity(pixels.len() / 4);
    let mut encoder = Encoder::new(&mut file, quality);
    encoder.set_sampling_factor(SamplingFactor::F_2_2);
    encoder.set_chroma_subsampling_method(ChromaSubsamplingMethod::Average);
    let color = if shape.channels == 1 { ColorType::Luma } else { ColorType::Rgb };
    let (width, height) = (u16::try_from(shape.width)?, u16::try_from(shape.height)?);
    encoder.encode(pixels, width, height, color).context("the image cannot be stored as JPEG")?;
    Ok(file)
}

/// Decodes the `window` of the JPEG file `bytes` of an image of `shape` into `pixels`
/// [height, width, channels]; the rest is left as it was.
///
/// # Errors
/// If it is no such image, or damaged in what is read of it.
pub fn decode(bytes: &[u8], shape: &RecordShape, window: &Area, pixels: &mut [u8]) -> Result<()> {
    assert_eq!(pixels.len(), shape.image_bytes());
    let jpeg = Jpeg::open(bytes)?;
    let found = [jpeg.height(), jpeg.width(), jpeg.channels()];
    ensure!(
        found == [shape.height, shape.width, shape.channels],
        "it is an image of {}×{}×{} instead of {}×{}×{}",
        found[0],
        found[1],
        found[2],
        shape.height,
        shape.width,
        shape.channels
    );
    jpeg.decode(window, true, pixels).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::shard::Store;

    /// Smooth colours, as photographs mostly are.
    fn picture(shape: &RecordShape) -> Vec<u8> {
        let value = |i: usize| {
            let (pixel, c) = (i / shape.channels, i % shape.channels);
            let (y, x) = ((pixel / shape.width) as f64, (pixel % shape.width) as f64);
            128.0 + 60.0 * ((x + c as f64 * 9.0) / 17.0).sin() + 50.0 * (y / 23.0).cos()
        };
        (0..shape.image_bytes()).map(|i| value(i) as u8).collect()
    }

    #[test]
    fn pixels_come_back_nearly_and_always_the_same() {
        for (height, width, channels) in [(256, 256, 3), (64, 48, 1), (37, 51, 3), (8, 8, 3)] {
            let shape = RecordShape { store: Store::Jpeg, height, width, channels };
            let pixels = picture(&shape);
            let all = Area::all(height, width);
            let file = encode(&pixels, &shape, 95).unwrap();
            assert_eq!(file, encode(&pixels, &shape, 95).unwrap());
            assert!(file.len() < longest(&shape));
            let mut decoded = vec![0; pixels.len()];
            decode(&file, &shape, &all, &mut decoded).unwrap();
            let off = pixels.iter().zip(&decoded).map(|(a, b)| f64::from(a.abs_diff(*b)));
            let mean = off.sum::<f64>() / pixels.len() as f64;
            assert!(mean < 1.5, "{shape:?}: {mean}");
            let mut again = vec![7; pixels.len()];
            decode(&file, &shape, &all, &mut again).unwrap();
            assert_eq!(decoded, again);
        }
    }

    /// Two colours of one brightness in columns, in rows and as a chequerboard, either first: what
    /// is stored is the colour between them, where one of two points would give one of the two.
    #[test]
    fn colours_are_halved_by_their_average() {
        let shape = RecordShape { store: Store::Jpeg, height: 32, width: 32, channels: 3 };
        // 0.299 R + 0.587 G + 0.114 B is 121 for either.
        let colours = [[190, 90, 99], [52, 150, 150]];
        let patterns: [fn(usize, usize) -> usize; 3] =
            [|_, x| x % 2, |y, _| y % 2, |y, x| (y + x) % 2];
        for (at, pattern) in patterns.into_iter().enumerate() {
            for first in [0, 1] {
                let pixels: Vec<u8> = (0..32 * 32)
                    .flat_map(|i| colours[(pattern(i / 32, i % 32) + first) % 2])
                    .collect();
                let file = encode(&pixels, &shape, 100).unwrap();
                let mut decoded = vec![0; pixels.len()];
                decode(&file, &shape, &Area::all(32, 32), &mut decoded).unwrap();
                for pixel in decoded.as_chunks::<3>().0 {
                    let between = [121u8, 120, 124];
                    let most = pixel.iter().zip(between).map(|(a, b)| a.abs_diff(b)).max().unwrap();
                    assert!(most <= 3, "pattern {at}, colour {first} first: {pixel:?}");
                }
            }
        }
    }

    #[test]
    fn noise_at_the_best_quality_is_no_longer_than_a_record_may_be() {
        for [height, width, channels] in [[8, 8, 3], [9, 9, 3], [256, 256, 3], [2, 8192, 1]] {
            let shape = RecordShape { store: Store::Jpeg, height, width, channels };
            let noise: Vec<u8> = (0..shape.image_bytes() as u32)
                .map(|i| (i.wrapping_mul(2_654_435_761).rotate_left(7) >> 20) as u8)
                .collect();
            assert!(encode(&noise, &shape, 100).unwrap().len() <= longest(&shape));
        }
    }

    #[test]
    fn another_image_than_the_header_says_is_an_error() {
        let shape = RecordShape { store: Store::Jpeg, height: 16, width: 24, channels: 3 };
        let file = encode(&picture(&shape), &shape, 90).unwrap();
        let grey = RecordShape { channels: 1, ..shape };
        let grey_file = encode(&picture(&grey), &grey, 90).unwrap();
        for (file, shape) in [
            (&file[..], RecordShape { width: 16, height: 24, ..shape }),
            (&file[..], grey),
            (&grey_file, shape),
            (&file[..file.len() / 2], shape),
            (b"", shape),
        ] {
            let mut pixels = vec![0; shape.image_bytes()];
            let all = Area::all(shape.height, shape.width);
            assert!(decode(file, &shape, &all, &mut pixels).is_err(), "{shape:?}");
        }
    }
}
