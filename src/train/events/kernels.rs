//! The first layer's kernels as a picture, as the paper's figure 3 shows them.

use crate::engine::{Engine, Slot, Tensor};
use anyhow::Result;
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

/// Kernels are enlarged until they are at least so many pixels wide.
const WIDE: usize = 22;
/// Pixels between kernels.
const GAP: usize = 2;

/// An RGB image file.
pub struct Picture {
    /// Pixels.
    pub height: usize,
    /// Pixels.
    pub width: usize,
    /// PNG.
    pub png: Vec<u8>,
}

/// The kernels of the lowest convolution, if it sees colours or grey, and its name.
pub fn first_kernels(engine: &dyn Engine) -> Result<Option<(String, Picture)>> {
    let plan = engine.plan();
    let tensors = plan.tensors();
    let first = tensors.iter().position(|t| !t.is_bias && t.shape.len() == 4);
    let Some(first) = first.filter(|&index| matches!(tensors[index].shape[1], 1 | 3)) else {
        return Ok(None);
    };
    let name = plan.layers[tensors[first].layer].name.clone();
    Ok(kernels_picture(&engine.read(Slot::Value, first)?)?.map(|picture| (name, picture)))
}

/// Kernels [kernel, channel, height, width] in rows, each stretched by itself from its smallest
/// value, black, to its largest, white. None: their channels are neither grey nor colours.
pub fn kernels_picture(kernels: &Tensor) -> Result<Option<Picture>> {
    let [count, channels @ (1 | 3), high, wide] = kernels.shape[..] else { return Ok(None) };
    if kernels.values.is_empty() {
        return Ok(None);
    }
    let zoom = WIDE.div_ceil(wide);
    let columns = (1..).find(|columns| columns * columns * 2 >= count * 3).unwrap_or(1);
    let rows = count.div_ceil(columns);
    let (cell_high, cell_wide) = (high * zoom + GAP, wide * zoom + GAP);
    let (height, width) = (rows * cell_high + GAP, columns * cell_wide + GAP);
    let mut pixels = vec![255u8; height * width * 3];
    for (index, kernel) in kernels.values.chunks_exact(channels * high * wide).enumerate() {
        let least = kernel.iter().copied().fold(f32::INFINITY, f32::min);
        let most = kernel.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let span = if most > least { most - least } else { 1.0 };
        let (top, left) = (index / columns * cell_high + GAP, index % columns * cell_wide + GAP);
        for (y, x) in (0..high * zoom).flat_map(|y| (0..wide * zoom).map(move |x| (y, x))) {
            for color in 0..3 {
                let place = (color.min(channels - 1) * high + y / zoom) * wide + x / zoom;
                let value = 255.0 * (kernel[place] - least) / span;
                pixels[((top + y) * width + left + x) * 3 + color] = value.round() as u8;
            }
        }
    }
    let mut png = Vec::new();
    let encoder = PngEncoder::new(&mut png);
    encoder.write_image(&pixels, width as u32, height as u32, ExtendedColorType::Rgb8)?;
    Ok(Some(Picture { height, width, png }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_stand_in_rows_each_from_black_to_white() {
        // Kernel 0 is dark above and light below in red alone, kernel 1 is even.
        let red = [-1.0, -1.0, 3.0, 3.0];
        let values = [&red[..], &[-1.0; 8], &[7.0; 12]].concat();
        let tensor = Tensor { shape: vec![2, 3, 2, 2], values };
        let picture = kernels_picture(&tensor).unwrap().unwrap();
        let image = image::load_from_memory(&picture.png).unwrap().into_rgb8();
        assert_eq!((image.width(), image.height()), (picture.width as u32, picture.height as u32));
        assert_eq!((picture.width, picture.height), (2 * 24 + 2, 24 + 2));
        assert_eq!(image.get_pixel(2, 2).0, [0, 0, 0]);
        assert_eq!(image.get_pixel(2, 13).0, [255, 0, 0]);
        assert_eq!(image.get_pixel(26, 2).0, [0, 0, 0]);
        assert_eq!(image.get_pixel(1, 1).0, [255, 255, 255]);
    }
}
