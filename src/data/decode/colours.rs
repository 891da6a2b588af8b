//! What decoders give to the values that a network takes: 8 bits, grey or RGB, nothing transparent.

use super::zeros;
use crate::data::preparation::Colour;
use anyhow::{Result, bail};
use image::ColorType;

/// Pixels as a decoder of the `image` crate gives them, as `channels` values each. What is
/// transparent shows `background`, or its hidden colour where there is none.
pub(super) fn take(
    pixels: Vec<u8>,
    color: ColorType,
    background: Option<Colour>,
    channels: usize,
) -> Result<Vec<u8>> {
    let (stored, wide) = match color {
        ColorType::L8 => (1, false),
        ColorType::La8 => (2, false),
        ColorType::Rgb8 => (3, false),
        ColorType::Rgba8 => (4, false),
        ColorType::L16 => (1, true),
        ColorType::La16 => (2, true),
        ColorType::Rgb16 => (3, true),
        ColorType::Rgba16 => (4, true),
        _ => bail!("its values are floating-point numbers, which are not read"),
    };
    let pixels = if wide { upper_bytes(&pixels) } else { pixels };
    let (pixels, grey) = match (stored, background) {
        (1, _) => (pixels, true),
        (3, _) => (pixels, false),
        (2, None) => (pixels.chunks_exact(2).map(|p| p[0]).collect(), true),
        (_, None) => (pixels.chunks_exact(4).flat_map(|p| &p[..3]).copied().collect(), false),
        (2, Some(background)) => match background.grey() {
            Some(behind) => {
                (pixels.chunks_exact(2).map(|p| over(p[0], p[1], behind)).collect(), true)
            }
            None => {
                let colours = |p: &[u8]| background.0.map(|behind| over(p[0], p[1], behind));
                (pixels.chunks_exact(2).flat_map(colours).collect(), false)
            }
        },
        (_, Some(Colour(background))) => {
            let colours = |p: &[u8]| [0, 1, 2].map(|c| over(p[c], p[3], background[c]));
            (pixels.chunks_exact(4).flat_map(colours).collect(), false)
        }
    };
    if grey { from_grey(pixels, channels) } else { Ok(from_rgb(pixels, channels)) }
}

/// The upper byte of each 16-bit sample; samples come in the machine's byte order.
fn upper_bytes(samples: &[u8]) -> Vec<u8> {
    let upper = |sample: &[u8]| (u16::from_ne_bytes([sample[0], sample[1]]) >> 8) as u8;
    samples.chunks_exact(2).map(upper).collect()
}

/// A value that covers `alpha` of 255 parts of what is behind it, rounded to the nearest.
fn over(value: u8, alpha: u8, behind: u8) -> u8 {
    let (value, alpha, behind) = (u32::from(value), u32::from(alpha), u32::from(behind));
    ((value * alpha + behind * (255 - alpha) + 127) / 255) as u8
}

pub(super) fn from_grey(pixels: Vec<u8>, channels: usize) -> Result<Vec<u8>> {
    if channels == 1 {
        return Ok(pixels);
    }
    let mut colours = zeros(3 * pixels.len())?;
    for (colour, grey) in colours.as_chunks_mut().0.iter_mut().zip(pixels) {
        *colour = [grey; 3];
    }
    Ok(colours)
}

pub(super) fn from_rgb(pixels: Vec<u8>, channels: usize) -> Vec<u8> {
    match channels {
        // Rec. 601 luma in 16-bit fixed point, as Pillow's convert("L").
        1 => pixels
            .chunks_exact(3)
            .map(|p| {
                let [r, g, b] = [p[0], p[1], p[2]].map(u32::from);
                ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16) as u8
            })
            .collect(),
        _ => pixels,
    }
}
