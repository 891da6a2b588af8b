//! WebP, GIF (its first picture), BMP and TIFF files, through the `image` crate, which decodes them
//! in safe Rust (but for the casts of numbers to bytes in its TIFF decoder).

use super::{Decoded, MEMORY, admit, check_length, colours, zeros};
use crate::data::exif;
use crate::data::preparation::Colour;
use crate::data::resize::Image;
use crate::errors::guarded;
use anyhow::{Result, anyhow, ensure};
use image::codecs::bmp::BmpDecoder;
use image::codecs::gif::GifDecoder;
use image::codecs::tiff::TiffDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation as Mark;
use image::{ImageDecoder, Limits};
use std::io::Cursor;

/// The two ways in which TIFF packs as JPEG. The decoder for them is fast, and not in safe Rust.
const JPEG: [Option<u32>; 2] = [Some(6), Some(7)];

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    WebP,
    Gif,
    Bmp,
    Tiff,
}

impl Format {
    /// What the file `bytes` is by its first bytes.
    pub(super) fn of(bytes: &[u8]) -> Option<Format> {
        Some(match bytes {
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Format::WebP,
            [b'G', b'I', b'F', b'8', ..] => Format::Gif,
            [b'B', b'M', ..] => Format::Bmp,
            [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => Format::Tiff,
            _ => return None,
        })
    }

    /// What an error in such a file begins with.
    pub(super) fn name(self) -> &'static str {
        match self {
            Format::WebP => "as a WebP",
            Format::Gif => "as a GIF",
            Format::Bmp => "as a BMP",
            Format::Tiff => "as a TIFF",
        }
    }
}

/// Refuses by its width and height what is too large, or more than the file `bytes` can hold.
fn check_size(bytes: &[u8], (width, height): (u32, u32)) -> Result<()> {
    admit(width as usize, height as usize, 0)?;
    check_length(bytes, width as usize, height as usize)
}

/// Pixels and orientation mark of the file `bytes`.
pub(super) fn read(
    bytes: &[u8],
    format: Format,
    background: Option<Colour>,
    channels: usize,
) -> Result<Decoded> {
    let file = Cursor::new(bytes);
    let read = || match format {
        Format::WebP => {
            let mut decoder = WebPDecoder::new(file)?;
            let mark = decoder.exif_metadata().ok().flatten();
            let mark = mark.and_then(|data| exif::orientation(&data));
            decoded(decoder, mark, background, channels)
        }
        Format::Gif => {
            let decoder = GifDecoder::new(file)?;
            check_size(bytes, decoder.dimensions())?;
            decoded(decoder, None, background, channels)
        }
        Format::Bmp => {
            let decoder = BmpDecoder::new(file)?;
            check_size(bytes, decoder.dimensions())?;
            decoded(decoder, None, background, channels)
        }
        // A TIFF file is Exif data, with a picture.
        Format::Tiff => {
            ensure!(
                !JPEG.contains(&exif::compression(bytes)),
                "its pixels are a JPEG inside of the TIFF, which is not read; save it as JPEG"
            );
            decoded(TiffDecoder::new(file)?, exif::orientation(bytes), background, channels)
        }
    };
    guarded(read).unwrap_or_else(|| Err(anyhow!("the decoder failed at it")))
}

/// What `decoder` gives, with the orientation `mark`.
fn decoded(
    mut decoder: impl ImageDecoder,
    mark: Option<Mark>,
    background: Option<Colour>,
    channels: usize,
) -> Result<Decoded> {
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    let color = decoder.color_type();
    // The decoder's own pixels, those that it hands over, and what is made of them.
    let bytes_a_pixel = 2 * usize::from(color.bytes_per_pixel()) + 3;
    let _alone = admit(width, height, width.saturating_mul(height).saturating_mul(bytes_a_pixel))?;
    let mut limits = Limits::default();
    limits.max_alloc = Some(MEMORY as u64);
    decoder.set_limits(limits)?;
    let mut pixels = zeros(usize::try_from(decoder.total_bytes())?)?;
    decoder.read_image(&mut pixels)?;
    let pixels = colours::take(pixels, color, background, channels)?;
    let image = Image { height, width, channels, pixels };
    let mark = mark.unwrap_or(Mark::NoTransforms);
    Ok(Decoded { image, mark, notes: Vec::new(), _alone })
}
