//! Orientation marks.

use crate::data::resize::Image;
use anyhow::{Context, Result};
use image::metadata::Orientation as Mark;

/// The image as an orientation mark says that it is to be shown. Err: there is no memory for both.
pub(super) fn turn(image: Image, mark: Mark) -> Result<Image> {
    if mark == Mark::NoTransforms {
        return Ok(image);
    }
    let (h, w, c) = (image.height, image.width, image.channels);
    let sideways = matches!(
        mark,
        Mark::Rotate90 | Mark::Rotate270 | Mark::Rotate90FlipH | Mark::Rotate270FlipH
    );
    let (height, width) = if sideways { (w, h) } else { (h, w) };
    let mut pixels = Vec::new();
    pixels
        .try_reserve_exact(image.pixels.len())
        .context("there is no room in memory to turn it as its Exif data say")?;
    for y in 0..height {
        for x in 0..width {
            let (row, column) = match mark {
                Mark::NoTransforms => (y, x),
                Mark::FlipHorizontal => (y, w - 1 - x),
                Mark::Rotate180 => (h - 1 - y, w - 1 - x),
                Mark::FlipVertical => (h - 1 - y, x),
                Mark::Rotate90FlipH => (x, y),
                Mark::Rotate90 => (h - 1 - x, y),
                Mark::Rotate270FlipH => (h - 1 - x, w - 1 - y),
                Mark::Rotate270 => (x, w - 1 - y),
            };
            let at = (row * w + column) * c;
            pixels.extend_from_slice(&image.pixels[at..at + c]);
        }
    }
    Ok(Image { height, width, channels: c, pixels })
}
