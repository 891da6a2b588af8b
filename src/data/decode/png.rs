//! PNG files.

use super::{Decoded, MEMORY, admit, chunks, from_grey, from_rgb, zeros};
use crate::data::resize::Image;
use anyhow::{Result, ensure};
use image::codecs::png::PngDecoder;
use image::metadata::Orientation as Mark;
use image::{ColorType, ImageDecoder, Limits};
use std::io::Cursor;

/// Pixels and orientation mark of the PNG file `bytes`.
pub(super) fn read(bytes: &[u8], channels: usize) -> Result<Decoded> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MEMORY as u64);
    let decoder = PngDecoder::with_limits(Cursor::new(bytes), limits)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    let color = decoder.color_type();
    let bytes_a_pixel = usize::from(color.bytes_per_pixel()) + 3;
    let _alone = admit(width, height, width.saturating_mul(height).saturating_mul(bytes_a_pixel))?;
    // A pixel has a bit at least, and deflate makes at most 1,032 bytes of one.
    let most = bytes.len().saturating_mul(8 * 1032);
    ensure!(
        width * height <= most,
        "the file was cut short: {} bytes cannot hold {width}×{height} pixels",
        bytes.len()
    );
    let mut pixels = zeros(usize::try_from(decoder.total_bytes())?)?;
    decoder.read_image(&mut pixels)?;

    let wide = match color {
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => 2,
        _ => 1,
    };
    let stored = usize::from(color.channel_count());
    if wide == 2 {
        // Samples come in the machine's byte order; the upper byte counts.
        pixels = pixels
            .chunks_exact(2)
            .map(|sample| (u16::from_ne_bytes([sample[0], sample[1]]) >> 8) as u8)
            .collect();
    }
    let kept = if stored >= 3 { 3 } else { 1 };
    if kept != stored {
        pixels = pixels.chunks_exact(stored).flat_map(|p| &p[..kept]).copied().collect();
    }
    let pixels = match kept {
        1 => from_grey(pixels, channels)?,
        _ => from_rgb(pixels, channels),
    };
    let mark = chunks::orientation(bytes).unwrap_or(Mark::NoTransforms);
    let image = Image { height, width, channels, pixels };
    Ok(Decoded { image, mark, notes: Vec::new(), _alone })
}
