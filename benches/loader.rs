//! How fast the loader makes training batches: 224×224×3 crops of 256×256 records in memory, with
//! flips, colour noise and the mean image, as f32: one crop after another, batches of 128 from 512
//! records, which go through main memory, and batches of 8 from 16 records, which stay in the
//! caches. Then the same from JPEG records in memory, each decoded for every crop.
//!
//! `cargo bench --bench loader`; for one core, `taskset -c 0 cargo bench --bench loader`. The same
//! with torchvision: `taskset -c 0 python3 benches/peers/loader_torchvision.py`. Run the two in
//! turn, several times, before comparing them.

mod common;

use alexnet::data::area::Area;
use alexnet::data::augment::{Augmentation, Geometry, Noise};
use alexnet::data::form::Form;
use alexnet::data::loader::{Crops, Images, Loader, Request};
use alexnet::data::order::{Order, Shuffle};
use alexnet::data::shard::Store;
use alexnet::data::shard::{RecordShape, jpeg};
use anyhow::Result;
use common::{SIDE, cpu, photograph_like};
use std::sync::Arc;
use std::time::Instant;

/// Records of a data set in memory.
struct Memory(Vec<u8>);

/// The same as JPEG records of quality 95, as `prepare --store jpeg` stores them.
struct Jpegs(Vec<Vec<u8>>);

const SHAPE: RecordShape =
    RecordShape { store: Store::Jpeg, height: SIDE, width: SIDE, channels: 3 };

impl Images for Jpegs {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn label(&self, index: usize) -> u32 {
        index as u32
    }
    fn read(&self, index: usize, window: &Area, pixels: &mut [u8]) -> Result<()> {
        jpeg::decode(&self.0[index], &SHAPE, window, pixels)
    }
}

/// Crops of one round.
const CROPS: usize = 8192;
const ROUNDS: usize = 5;
const GEOMETRY: Geometry = Geometry { height: SIDE, width: SIDE, channels: 3, crop: 224 };

impl Images for Memory {
    fn len(&self) -> usize {
        self.0.len() / GEOMETRY.image_len()
    }
    fn label(&self, index: usize) -> u32 {
        index as u32
    }
    fn read(&self, index: usize, _: &Area, pixels: &mut [u8]) -> Result<()> {
        pixels.copy_from_slice(&self.0[index * pixels.len()..][..pixels.len()]);
        Ok(())
    }
}

fn main() -> Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    println!("{}, {cores} cores in use", cpu());
    let noise = Noise { sigma: 0.1, vectors: vec![30.0; 9], rescale: false };
    let augmentation = Arc::new(Augmentation {
        geometry: GEOMETRY,
        flip: true,
        noise: Some(noise),
        random_crops: true,
        shared_crops: 1,
        scale: [1.0; 4],
        mean: (0..GEOMETRY.crop_len()).map(|i| 100.0 + (i % 50) as f32).collect(),
    });
    let memory = |records: usize| {
        let bytes = 0..(records * GEOMETRY.image_len()) as u32;
        Arc::new(Memory(bytes.map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()))
    };
    let (many, few) = (memory(512), memory(16));

    let mut out = vec![0.0; GEOMETRY.crop_len()];
    report("one crop after another", || {
        for image in 0..CROPS as u32 {
            let draw = augmentation.training(1, 1, image, image, true);
            augmentation.apply(&mut out, &few.0[..GEOMETRY.image_len()], &draw);
        }
        Ok(())
    })?;
    let encode = |i| jpeg::encode(&photograph_like(i), &SHAPE, jpeg::QUALITY);
    let jpegs = Arc::new(Jpegs((0..512).map(encode).collect::<Result<_>>()?));
    let size = jpegs.0.iter().map(Vec::len).sum::<usize>() / 512;
    let mut threads = 1;
    while threads <= cores {
        report(&format!("loader, {threads} threads, batches of 128, 512 records"), || {
            load(&many, &augmentation, 128, threads)
        })?;
        report(&format!("loader, {threads} threads, batches of 8, 16 records"), || {
            load(&few, &augmentation, 8, threads)
        })?;
        report(&format!("loader, {threads} threads, JPEGs of {size} bytes"), || {
            load(&jpegs, &augmentation, 128, threads)
        })?;
        threads *= 2;
    }
    Ok(())
}

/// Loads the crops of a round and throws them away.
fn load(
    images: &Arc<impl Images + 'static>,
    augmentation: &Arc<Augmentation>,
    batch: usize,
    threads: usize,
) -> Result<()> {
    let mut loader = Loader::start(Request {
        images: images.clone(),
        augmentation: augmentation.clone(),
        crops: Crops::Random,
        form: Form::Floats,
        batch,
        seed: 1,
        order: Order::Shuffled(Shuffle::Full),
        epochs: 0..(CROPS / images.len()) as u32,
        first_batch: 0,
        color_noise: Box::new(|_| true),
        prefetch: 2,
        threads,
    })?;
    while let Some(batch) = loader.next()? {
        loader.recycle(batch);
    }
    Ok(())
}

/// Prints the fastest and the median of some rounds, in crops per second.
fn report(name: &str, mut round: impl FnMut() -> Result<()>) -> Result<()> {
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let since = Instant::now();
        round()?;
        rates.push(CROPS as f64 / since.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    let (best, median) = (rates[ROUNDS - 1], rates[ROUNDS / 2]);
    println!("{name:<54} {best:8.0} crops/s at best, {median:8.0} median");
    Ok(())
}
