//! Whether the loader keeps a device busy: it reads a data set from disk and feeds a simulated
//! device, which sleeps for as long as a device of so many images per second would compute, batch
//! by batch of 128, 224×224×3 crops of 256×256 records with flips, colour noise and the mean image.
//! For each store (pixels, JPEG), each form of crops (floats as a CPU takes them, bytes as a GPU
//! does) and threads: how many images a second the loader makes for a device that never computes,
//! which is where the pipeline becomes the limit, and, for devices of several speeds, what they
//! reach and the share of the time that they wait for data.
//!
//! `cargo bench --bench feed [-- --images FOLDER] [--seconds N]`. FOLDER has a folder of images for
//! each class; without it photograph-like images are made. The data set lies in a temporary folder
//! and is read before it is measured, so the disk is not. Nor is the way to a GPU: sleeping costs
//! no CPU time and no memory traffic.

mod common;

use alexnet::data::area::Area;
use alexnet::data::augment::{Augmentation, Geometry, Noise};
use alexnet::data::dataset::{Dataset, Split};
use alexnet::data::form::{Bytes, Form};
use alexnet::data::loader::{Crops, Loader, Request};
use alexnet::data::order::{Order, Shuffle};
use anyhow::{Context, Result, bail, ensure};
use common::{SIDE, cpu, photograph_like};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Images that are made where none are given.
const IMAGES: usize = 640;
const BATCH: usize = 128;
/// Batches made ahead, the default of `data.prefetch`.
const PREFETCH: usize = 3;
/// Images per second of the simulated devices.
const SPEEDS: [u32; 3] = [5_000, 10_000, 20_000];

/// What a device saw: images per second, and the share of the time that it waited for data.
struct Fed {
    rate: f64,
    waited: f64,
}

fn main() -> Result<()> {
    let (mut images, mut seconds) = (None, 2.0);
    // Cargo adds --bench.
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    while let Some(arg) = args.next() {
        let value = args.next().with_context(|| format!("{arg} needs a value"))?;
        match arg.as_str() {
            "--images" => images = Some(PathBuf::from(value)),
            "--seconds" => seconds = value.parse().context("--seconds is a number")?,
            _ => bail!("unknown argument {arg}; usage: [--images FOLDER] [--seconds N]"),
        }
    }
    let folder = tempfile::tempdir()?;
    let images = match images {
        Some(images) => images,
        None => make_images(folder.path())?,
    };
    let cores = std::thread::available_parallelism()?.get();
    println!("{}, {cores} cores, {seconds} s a figure\n", cpu());
    print!("| store | crops | threads | loader alone, images/s |");
    SPEEDS.iter().for_each(|speed| print!(" device of {speed}: images/s, waits |"));
    println!("\n| --- | --- | ---: | ---: |{}", " ---: |".repeat(SPEEDS.len()));
    for store in ["raw", "jpeg"] {
        let split = prepare(&images, &folder.path().join(store), store)?;
        let take = |bytes| Ok(Box::new(vec![0u8; bytes]) as Bytes);
        for (name, form) in [("floats", Form::Floats), ("bytes", Form::Bytes(Arc::new(take)))] {
            let powers = (0..).map(|n| 1 << n).take_while(|&n| n < cores).chain([cores]);
            for threads in powers {
                let feed = |speed| feed(&split, form.clone(), threads, speed, seconds);
                print!("| {store} | {name} | {threads} | {:.0} |", feed(None)?.rate);
                for speed in SPEEDS {
                    let Fed { rate, waited } = feed(Some(speed))?;
                    print!(" {rate:.0}, {:.1} % |", 100.0 * waited);
                }
                println!();
            }
        }
    }
    Ok(())
}

/// Writes photograph-like images in two classes; the folder.
fn make_images(folder: &Path) -> Result<PathBuf> {
    let all = folder.join("images");
    for i in 0..IMAGES {
        let class = all.join(["even", "odd"][i % 2]);
        std::fs::create_dir_all(&class)?;
        let side = SIDE as u32;
        let image = image::RgbImage::from_raw(side, side, photograph_like(i));
        image.context("an image of another size")?.save(class.join(format!("{i}.png")))?;
    }
    Ok(all)
}

/// The training images of a data set that the program makes of `images`, all read once.
fn prepare(images: &Path, out: &Path, store: &str) -> Result<Arc<Split>> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alexnet"));
    command.args(["prepare", "image-folder"]).arg(images).arg("--out").arg(out);
    let output = command.args(["--store", store]).output().context("the program")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let split = Dataset::open(out)?.split("train")?;
    let mut pixels = vec![0; SIDE * SIDE * 3];
    let all = Area::all(SIDE, SIDE);
    (0..split.len()).try_for_each(|index| split.read(index, &all, &mut pixels))?;
    Ok(Arc::new(split))
}

/// Feeds a device of `speed` images per second, or one that never computes, for some seconds.
fn feed(
    split: &Arc<Split>,
    form: Form,
    threads: usize,
    speed: Option<u32>,
    seconds: f64,
) -> Result<Fed> {
    let geometry = Geometry { height: SIDE, width: SIDE, channels: 3, crop: 224 };
    let noise = Noise { sigma: 0.1, vectors: vec![30.0; 9], rescale: false };
    let mean = (0..geometry.crop_len()).map(|i| 100.0 + (i % 50) as f32).collect();
    let augmentation = Augmentation {
        geometry,
        flip: true,
        noise: Some(noise),
        random_crops: true,
        shared_crops: 1,
        scale: [1.0; 4],
        mean,
    };
    let mut loader = Loader::start(Request {
        images: split.clone(),
        augmentation: Arc::new(augmentation),
        crops: Crops::Random,
        form,
        batch: BATCH.min(split.len()),
        seed: 1,
        order: Order::Shuffled(Shuffle::Full),
        epochs: 0..u32::MAX,
        first_batch: 0,
        color_noise: Box::new(|_| true),
        prefetch: PREFETCH,
        threads,
    })?;
    // All buffers have gone round before the clock starts.
    for _ in 0..2 * (PREFETCH + 2) {
        let batch = loader.next()?.context("the loader has ended")?;
        loader.recycle(batch);
    }
    let (begun, waited) = (Instant::now(), loader.waited());
    let (mut images, mut done) = (0, begun);
    while begun.elapsed().as_secs_f64() < seconds {
        let before = loader.waited();
        let batch = loader.next()?.context("the loader has ended")?;
        images += batch.labels.len();
        if let Some(speed) = speed {
            // Without a wait from when it was free, so that sleeps that are too long do not add up.
            let from = if loader.waited() > before { Instant::now() } else { done };
            done = from + Duration::from_secs_f64(batch.labels.len() as f64 / f64::from(speed));
            std::thread::sleep(done.saturating_duration_since(Instant::now()));
        }
        loader.recycle(batch);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let waited = (loader.waited() - waited).as_secs_f64();
    Ok(Fed { rate: images as f64 / seconds, waited: waited / seconds })
}
