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
