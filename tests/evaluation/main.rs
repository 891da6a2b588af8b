//! What the built program finds out about trained networks: errors of one and of several averaged,
//! class by class, features, neighbours and codes; each compared with what the tests compute from
//! other outputs in f64.

#[path = "../common/mod.rs"]
mod common;
#[path = "../standin/mod.rs"]
mod standin;

mod codes;
mod ensemble;
mod features;
mod gpu;
mod neighbours;
mod tables;

use common::World;
use image::RgbImage;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::sync::{Arc, Mutex, Weak};

/// Names that CSV has to quote among them.
const CLASSES: [&str; 7] = ["ant", "bee", "cat,tom", "dog", "elk", "fox\"red", "gnu"];

/// `photos` and from it `set`: 20 training, 10 validation and 10 test images of 16×16 of each of seven
/// classes; runs `a`, `b` and, with smaller crops, `c`. Tests that run at the same time share it, and
/// write files of their own names.
fn world() -> Arc<World> {
    static SHARED: Mutex<Weak<World>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    shared.upgrade().unwrap_or_else(|| {
        let world = Arc::new(made());
        *shared = Arc::downgrade(&world);
        world
    })
}

fn made() -> World {
    let world = World { folder: tempfile::tempdir().unwrap() };
    for (split, count, from) in [("train", 20, 0), ("val", 10, 100), ("test", 10, 200)] {
        for (class, name) in CLASSES.iter().enumerate() {
            let folder = world.path(&format!("photos/{split}/{name}"));
            fs::create_dir_all(&folder).unwrap();
            for i in 0..count {
                picture(class as u32, from + i).save(folder.join(format!("{i:03}.png"))).unwrap();
            }
        }
    }
    world.write("net.toml", common::NETWORK);
    world.ok("prepare image-folder photos --out set --size 16");
    world.ok("train --config net.toml --set train.epochs=4 --run a");
    world.ok("train --config net.toml --set train.epochs=4 --set seed=4 --run b");
    world
        .ok("train --config net.toml --set train.epochs=3 --set seed=5 --set data.crop=10 --run c");
    world
}

/// A colour that goes with the class under so much noise that networks err.
fn picture(class: u32, i: u32) -> RgbImage {
    let mut state = class * 1000 + i + 1;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as i32 - 128
    };
    let shift = [noise() / 3, noise() / 3, noise() / 3];
    RgbImage::from_fn(16, 16, |x, y| {
        let stripe = if (x * (class % 3) + y * (class % 2 + 1)) % 6 < 3 { 25 } else { -25 };
        let color = [0, 1, 2].map(|c| {
            let base = if (class + 1) >> c & 1 == 1 { 150 } else { 100 };
            (base + stripe + shift[c as usize] + noise() / 2).clamp(0, 255) as u8
        });
        image::Rgb(color)
    })
}

/// The images of a split, `class/number`, in the order of the data set: by class and name.
fn images(split: &str) -> Vec<String> {
    let count = if split == "train" { 20 } else { 10 };
    let of = |class: &&str| {
        let class = class.to_string();
        (0..count).map(move |i| format!("photos/{split}/{class}/{i:03}.png"))
    };
    CLASSES.iter().flat_map(of).collect()
}

/// The class of image number `i` of [`images`].
fn label(split: &str, i: usize) -> usize {
    i / if split == "train" { 20 } else { 10 }
}

/// The probabilities of all classes, [images][classes], as `predict` prints them.
fn probabilities(world: &World, run: &str, split: &str, options: &str) -> Vec<Vec<f64>> {
    let args = format!("predict --json --top 7 --checkpoint {run}/best.safetensors {options}");
    let output = world.command(&args).args(images(split)).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", common::stderr(&output));
    let answers: Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |answer: &Value| {
        let mut all = vec![f64::NAN; CLASSES.len()];
        for one in answer["top"].as_array().unwrap() {
            all[one["index"].as_u64().unwrap() as usize] = one["probability"].as_f64().unwrap();
        }
        all
    };
    answers.as_array().unwrap().iter().map(of).collect()
}

/// Σ weights · members, image by image.
fn averaged(members: &[Vec<Vec<f64>>], weights: &[f64]) -> Vec<Vec<f64>> {
    let image = |i: usize| {
        let class = |c| members.iter().zip(weights).map(|(m, w)| w * m[i][c]).sum();
        (0..CLASSES.len()).map(class).collect()
    };
    (0..members[0].len()).map(image).collect()
}

/// Top-1 error, top-5 error and mean log-loss.
fn errors(probabilities: &[Vec<f64>], split: &str) -> [f64; 3] {
    let (mut top1, mut top5, mut loss) = (0, 0, 0.0);
    for (i, p) in probabilities.iter().enumerate() {
        let label = label(split, i);
        let before = p.iter().filter(|q| **q > p[label]).count();
        top1 += usize::from(before >= 1);
        top5 += usize::from(before >= 5);
        loss -= p[label].ln();
    }
    let n = probabilities.len() as f64;
    [top1 as f64 / n, top5 as f64 / n, loss / n]
}

/// The same three of what `eval --json` printed.
fn printed(value: &Value) -> [f64; 3] {
    ["top1_error", "top5_error", "log_loss"].map(|key| value[key].as_f64().unwrap())
}

#[track_caller]
fn near(a: [f64; 3], b: [f64; 3]) {
    assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5), "{a:?}, {b:?}");
}

/// A tensor file's metadata.
fn metadata(world: &World, file: &str) -> BTreeMap<String, String> {
    let bytes = world.bytes(file);
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    header.metadata().clone().unwrap().into_iter().collect()
}

/// Shape and values of an F32 tensor of a file.
fn floats(world: &World, file: &str, name: &str) -> (Vec<usize>, Vec<f64>) {
    let bytes = world.bytes(file);
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = tensors.tensor(name).unwrap();
    assert_eq!(tensor.dtype(), safetensors::Dtype::F32);
    let (values, _) = tensor.data().as_chunks::<4>();
    let values = values.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect();
    (tensor.shape().to_vec(), values)
}
