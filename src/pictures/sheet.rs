//! A contact sheet: what the network gets to see, with labels, since people check data by looking.

use super::canvas::{Anchor, Canvas, Letters, Pixels};
use super::colors::INK;
use crate::data::augment::{Augmentation, Geometry, Noise};
use crate::data::dataset::Dataset;
use crate::data::order::{Order, Shuffle};
use anyhow::{Result, ensure};

/// Images are enlarged until they are at least so many pixels wide.
const WIDE: usize = 112;
/// The sheet's width, about, in pixels.
const SHEET: usize = 1400;
/// Pixels between images.
const GAP: usize = 8;
/// Height of a line of text, and of its letters.
const LINE: usize = 16;
const LETTERS: f64 = 13.0;

/// What to show.
pub struct Options {
    /// Which split.
    pub split: String,
    /// Images on the sheet.
    pub count: usize,
    /// Side of the crops in pixels.
    pub crop: usize,
    /// Chooses the images and the crops.
    pub seed: u64,
}

/// The paper's augmentation (random crop, flip, colour noise of deviation 0.1) of images drawn from
/// the split, the mean image left in; below each the name of its class.
pub fn contact(dataset: &Dataset, options: &Options) -> Result<Canvas> {
    let split = dataset.split(&options.split)?;
    ensure!(!split.is_empty(), "the split `{}` holds no images", options.split);
    let header = &dataset.header;
    let (channels, crop) = (header.channels, options.crop);
    let geometry = Geometry { height: header.height, width: header.width, channels, crop };
    let vectors = dataset.statistics.color_vectors(|deviation| deviation);
    let augmentation = Augmentation {
        geometry,
        flip: true,
        noise: (channels > 1).then_some(Noise { sigma: 0.1, vectors, rescale: false }),
        random_crops: true,
        scale: [1.0; 4],
        shared_crops: 1,
        mean: vec![0.0; geometry.crop_len()],
    };
    augmentation.check()?;

    let mut order = Vec::new();
    Order::Shuffled(Shuffle::Full).fill(&mut order, options.seed, 0, u32::try_from(split.len())?);
    order.truncate(options.count.max(1));
    let zoom = WIDE.div_ceil(crop);
    let (wide, high) = (crop * zoom + GAP, crop * zoom + LINE + GAP);
    let columns = (SHEET / wide).clamp(1, order.len());
    let rows = order.len().div_ceil(columns);
    let mut canvas = Canvas::new(columns * wide + GAP, rows * high + GAP);
    let mut pixels = vec![0; header.image_bytes()];
    let mut values = vec![0.0; geometry.crop_len()];
    for (place, &image) in order.iter().enumerate() {
        let draw = augmentation.training(options.seed, 1, image, place as u32, true);
        split.read(image as usize, &augmentation.window(&draw), &mut pixels)?;
        augmentation.apply(&mut values, &pixels, &draw);
        let shown: Vec<u8> = values.iter().map(|v| v.round().clamp(0.0, 255.0) as u8).collect();
        let (x, y) = (GAP + place % columns * wide, GAP + place / columns * high);
        canvas.image((x, y), Pixels::new(crop, crop, channels, &shown), zoom);
        let name = &header.classes[split.label(image as usize) as usize].name;
        let middle = (x as f64 + (crop * zoom) as f64 / 2.0, (y + crop * zoom + LINE - 4) as f64);
        let letters = Letters::new(LETTERS, INK).at(Anchor::Middle);
        canvas.text(middle, name, letters, (crop * zoom) as f64);
    }
    Ok(canvas)
}
