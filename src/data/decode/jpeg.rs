//! JPEG files.

use super::{admit, from_grey, from_rgb, markers};
use crate::data::resize::Image;
use anyhow::{Context, Result, anyhow, ensure};
use image::metadata::Orientation as Mark;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Pixels and orientation mark of the JPEG file `bytes`.
pub(super) fn read(bytes: &[u8], channels: usize) -> Result<(Image, Mark)> {
    // Nearly all files end with the end marker; only the others need the walk.
    ensure!(
        bytes.ends_with(&[0xff, 0xd9]) || markers::walk(bytes).whole,
        "the file was cut short: it has no end marker"
    );
    // zune-jpeg 0.5.15 gives wrong colours for these, without an error.
    ensure!(
        !markers::separate_scans(bytes),
        "its components lie in separate scans, which this program cannot read; save it again, as \
         an ordinary or a progressive JPEG"
    );
    strict(bytes, channels).or_else(|error| {
        let kept = markers::walk(bytes).kept;
        if kept == bytes { Err(error) } else { strict(&kept, channels) }
    })
}

fn strict(bytes: &[u8], channels: usize) -> Result<(Image, Mark)> {
    let options = DecoderOptions::new_fast()
        .set_strict_mode(true)
        .set_max_width(u16::MAX.into())
        .set_max_height(u16::MAX.into());
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| anyhow!("{e}"))?;
    let info = decoder.info().context("it has no header")?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    let input = decoder.input_colorspace().context("its colours are unknown")?;
    // Four components are read as stored; the way to RGB is ours, as Pillow's.
    let (output, stored) = match input {
        ColorSpace::Luma => (ColorSpace::Luma, 1),
        ColorSpace::CMYK => (ColorSpace::CMYK, 4),
        ColorSpace::YCCK => (ColorSpace::YCCK, 4),
        _ => (ColorSpace::RGB, 3),
    };
    // A progressive image's coefficients are all kept, 16 bits each, beside planes and output.
    let _alone = admit(width, height, stored * 4)?;
    decoder.set_options(options.jpeg_set_out_colorspace(output));
    let mut pixels = decoder.decode().map_err(|e| anyhow!("{e}"))?;
    ensure!(
        pixels.len() == width * height * stored,
        "the decoder gave {} bytes for {width}×{height} pixels of {stored}",
        pixels.len()
    );
    if stored == 4 {
        pixels = pixels
            .chunks_exact(4)
            .flat_map(|p| four_to_rgb([p[0], p[1], p[2], p[3]], output == ColorSpace::YCCK))
            .collect();
    }
    let mark = decoder.exif().and_then(|exif| Mark::from_exif_chunk(exif));
    let pixels = match stored {
        1 => from_grey(pixels, channels),
        _ => from_rgb(pixels, channels),
    };
    Ok((Image { height, width, channels, pixels }, mark.unwrap_or(Mark::NoTransforms)))
}

/// CMYK or YCCK as Adobe writes them (inverted) to RGB, with Pillow's rounding.
fn four_to_rgb(pixel: [u8; 4], ycck: bool) -> [u8; 3] {
    let [a, b, c, k] = pixel;
    let ink = if ycck {
        // JFIF's equations; libjpeg's fixed point with 16 bits. The stored values are those of
        // inverted inks, that is of light.
        let (y, cb, cr) = (i32::from(a), i32::from(b) - 128, i32::from(c) - 128);
        let half = 1 << 15;
        let r = y + ((91881 * cr + half) >> 16);
        let g = y + ((-22554 * cb - 46802 * cr + half) >> 16);
        let b = y + ((116130 * cb + half) >> 16);
        // libjpeg gives CMY as 255 less RGB.
        [r, g, b].map(|x| 255 - x.clamp(0, 255) as u8)
    } else {
        [a, b, c]
    };
    // As stored 255 is no ink: light = stored · k / 255.
    ink.map(|light| {
        let product = u32::from(255 - light) * u32::from(k) + 128;
        let absorbed = ((product >> 8) + product) >> 8;
        (u32::from(k) - absorbed.min(u32::from(k))) as u8
    })
}
