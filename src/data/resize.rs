//! Scaling and cropping of 8-bit images, as torchvision's `Resize` and `CenterCrop` do on Pillow.
//!
//! The shorter side becomes `size`, the longer one `size` · longer / shorter, rounded down; the
//! filter is the antialiased triangle (Pillow's BILINEAR); the crop's offsets are rounded down.

use anyhow::{Result, ensure};
use fast_image_resize::images::{Image as Out, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
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

/// Scales `image` so that it just covers `size` [height, width]: one side fits exactly, the other
/// is as long or longer. For a square `size` this is torchvision's `Resize(size)`.
pub fn cover(image: Image, size: [usize; 2]) -> Result<Image> {
    let [height, width] = size;
    ensure!(image.height > 0 && image.width > 0, "the image has no pixels");
    let (high, wide) = if image.height * width >= image.width * height {
        (width * image.height / image.width, width)
    } else {
        (height, height * image.width / image.height)
    };
    if (high, wide) == (image.height, image.width) {
        return Ok(image);
    }
    ensure!(
        high * wide <= LARGEST,
        "the image is too long and narrow ({}×{}) to be scaled to a shorter side of {}",
        image.width,
        image.height,
        height.min(width)
    );
    let pixel = match image.channels {
        1 => PixelType::U8,
        _ => PixelType::U8x3,
    };
    let source = ImageRef::new(image.width as u32, image.height as u32, &image.pixels, pixel)?;
    let mut scaled = Out::new(wide as u32, high as u32, pixel);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .use_alpha(false);
    RESIZER.with_borrow_mut(|resizer| resizer.resize(&source, &mut scaled, &options))?;
    Ok(Image { height: high, width: wide, channels: image.channels, pixels: scaled.into_vec() })
}

/// The centre `size` [height, width] of `image`, offsets rounded down. The image must cover it.
pub fn centre(image: &Image, size: [usize; 2]) -> Vec<u8> {
    let [height, width] = size;
    let (top, left) = ((image.height - height) / 2, (image.width - width) / 2);
    let c = image.channels;
    let mut pixels = Vec::with_capacity(height * width * c);
    for row in image.pixels.chunks_exact(image.width * c).skip(top).take(height) {
        pixels.extend_from_slice(&row[left * c..(left + width) * c]);
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::{Orientation, Preparation};
    use crate::data::decode::prepare_image;

    /// Pillow's BILINEAR and the centre crop, shrinking and enlarging, wide and high.
    #[test]
    fn scaling_agrees_with_pillow_within_one_grey_level() {
        for name in ["down", "up"] {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/prepare");
            let png = std::fs::read(format!("{folder}/{name}.png")).unwrap();
            let theirs = std::fs::read(format!("{folder}/{name}.32")).unwrap();
            let preparation = Preparation::photographs(32, Orientation::Ignore);
            let ours = prepare_image(&png, &preparation, 3).unwrap();
            assert_eq!(ours.len(), theirs.len());
            let most = ours.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(most <= Some(1), "{name}: off by {most:?}");
        }
    }

    fn sides(height: usize, width: usize, size: [usize; 2]) -> (usize, usize) {
        let image = Image { height, width, channels: 1, pixels: vec![0; height * width] };
        let scaled = cover(image, size).unwrap();
        (scaled.height, scaled.width)
    }

    /// torchvision's int(size · long / short).
    #[test]
    fn the_longer_side_is_rounded_down() {
        assert_eq!(sides(375, 500, [256, 256]), (256, 341));
        assert_eq!(sides(500, 375, [256, 256]), (341, 256));
        assert_eq!(sides(99, 100, [256, 256]), (256, 258));
        assert_eq!(sides(256, 300, [256, 256]), (256, 300));
        // Not a square: both sides are covered.
        assert_eq!(sides(100, 100, [20, 30]), (30, 30));
    }

    #[test]
    fn crop_offsets_are_rounded_down() {
        let image = Image { height: 1, width: 5, channels: 1, pixels: b"abcde".to_vec() };
        assert_eq!(centre(&image, [1, 2]), b"bc");
    }

    #[test]
    fn a_long_thin_image_does_not_explode() {
        let image = Image { height: 1, width: 1_000_000, channels: 1, pixels: vec![0; 1_000_000] };
        let error = cover(image, [256, 256]).unwrap_err().to_string();
        assert!(error.contains("too long and narrow (1000000×1)"), "{error}");
    }
}
