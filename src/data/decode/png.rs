//! PNG files.

use super::{Decoded, MEMORY, admit, check_length, chunks, colours, zeros};
use crate::data::preparation::Colour;
use crate::data::resize::Image;
use anyhow::Result;
use image::codecs::png::PngDecoder;
use image::metadata::Orientation as Mark;
use image::{ImageDecoder, Limits};
use std::io::Cursor;

/// Pixels and orientation mark of the PNG file `bytes`.
pub(super) fn read(bytes: &[u8], background: Option<Colour>, channels: usize) -> Result<Decoded> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MEMORY as u64);
    let decoder = PngDecoder::with_limits(Cursor::new(bytes), limits)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    let color = decoder.color_type();
    let bytes_a_pixel = usize::from(color.bytes_per_pixel()) + 3;
    let _alone = admit(width, height, width.saturating_mul(height).saturating_mul(bytes_a_pixel))?;
    check_length(bytes, width, height)?;
    let mut pixels = zeros(usize::try_from(decoder.total_bytes())?)?;
    decoder.read_image(&mut pixels)?;
    let pixels = colours::take(pixels, color, background, channels)?;
    let mark = chunks::orientation(bytes).unwrap_or(Mark::NoTransforms);
    let image = Image { height, width, channels, pixels };
    Ok(Decoded { image, mark, notes: Vec::new(), _alone })
}
