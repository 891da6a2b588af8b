//! Every picture that the built program draws, pixel by pixel or number by number, against what the
//! tests work out themselves from images, logs and checkpoints.

#[path = "../common/mod.rs"]
mod common;

mod filters;
mod fonts;
mod gradient;
mod inside;
mod plot;
mod run_folder;
mod sheets;
mod show;

use common::World;
use std::collections::BTreeMap;

/// A picture.
struct Picture(image::RgbImage);

impl Picture {
    fn open(world: &World, name: &str) -> Picture {
        Picture(image::open(world.path(name)).unwrap_or_else(|e| panic!("{name}: {e}")).to_rgb8())
    }
    fn at(&self, x: usize, y: usize) -> [u8; 3] {
        self.0.get_pixel(x as u32, y as u32).0
    }
    /// How many pixels are of this colour.
    fn count(&self, color: [u8; 3]) -> usize {
        self.0.pixels().filter(|pixel| pixel.0 == color).count()
    }
}

/// All tensors of a checkpoint, as the safetensors library reads them: shapes and values.
fn checkpoint(world: &World, name: &str) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let float = |bytes: &[u8]| f32::from_le_bytes(bytes.try_into().unwrap());
    let values = |bytes: Vec<u8>| bytes.chunks_exact(4).map(float).collect();
    let all = common::tensors(&world.path(name)).into_iter();
    all.map(|(name, shape, bytes)| (name, (shape, values(bytes)))).collect()
}

/// The grey of `value` where `most` is white, -`most` black and zero 128.
fn shade(value: f64, most: f64) -> u8 {
    (127.5 + 127.5 * value / most).round() as u8
}

fn largest(values: &[f32]) -> f64 {
    values.iter().fold(0.0, |most, v| f64::from(v.abs()).max(most))
}
