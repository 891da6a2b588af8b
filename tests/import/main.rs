//! `alexnet import`: networks that PyTorch, onnx and Caffe's published schema wrote, against what
//! those programs make of a photograph; and files that nobody should trust.
//!
//! The small networks and their answers are in `tests/data/import` (`generate.py` made them); those
//! of full size are made anew where Python has torch (module `full`).

#[path = "../common/mod.rs"]
mod common;

mod agreement;
mod checkpoint;
mod full;
mod hostile;
mod pickles;
mod refusals;
mod resaved;
mod step;

use common::World;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// A file of `tests/data/import`.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/import").join(name)
}

/// An empty folder with the photograph.
pub fn world() -> World {
    let world = World { folder: tempfile::tempdir().unwrap() };
    fs::copy(data("photo.png"), world.path("photo.png")).unwrap();
    world
}

/// Imports a file of `tests/data/import` as `to`, with `options`; what is said with `--json`.
pub fn import(world: &World, file: &str, to: &str, options: &str) -> Value {
    let file = data(file);
    world.json(&format!("import {} --out {to} --json {options}", file.display()))
}

/// The probabilities of all classes of `photo`, in the order of the outputs.
pub fn probabilities(world: &World, checkpoint: &str, photo: &str, options: &str) -> Vec<f64> {
    let answer = world.json(&format!(
        "predict {photo} --checkpoint {checkpoint} --device cpu --top 100000 --json {options}"
    ));
    let top = answer[0]["top"].as_array().unwrap();
    let mut found = vec![f64::NAN; top.len()];
    for label in top {
        found[label["index"].as_u64().unwrap() as usize] = label["probability"].as_f64().unwrap();
    }
    found
}

/// The numbers of a JSON list.
pub fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

/// The largest difference of two lists as a share of the largest magnitude in `theirs`.
pub fn difference(ours: &[f64], theirs: &[f64]) -> f64 {
    assert_eq!(ours.len(), theirs.len());
    let most = theirs.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    let far = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(far.is_finite() && most > 0.0);
    far / most
}

/// Logits less their mean, which probabilities do not tell.
pub fn centred(logits: &[f64]) -> Vec<f64> {
    let mean = logits.iter().sum::<f64>() / logits.len() as f64;
    logits.iter().map(|logit| logit - mean).collect()
}

/// Holds what `checkpoint` makes of `photo` against `expected`: the logits of the centre crop and
/// the mean probabilities of ten; both differences.
#[track_caller]
pub fn agrees(world: &World, checkpoint: &str, photo: &str, expected: &Value) -> [f64; 2] {
    let centre = probabilities(world, checkpoint, photo, "");
    let logits: Vec<f64> = centre.iter().map(|p| p.ln()).collect();
    let centre = difference(&centred(&logits), &centred(&numbers(&expected["centre"])));
    assert!(centre <= 1e-4, "{checkpoint}: the centre crop's logits differ by {centre:e}");
    let ten = probabilities(world, checkpoint, photo, "--ten-crop");
    let ten = difference(&ten, &numbers(&expected["ten"]));
    assert!(ten <= 1e-4, "{checkpoint}: ten crops' probabilities differ by {ten:e}");
    [centre, ten]
}

/// What PyTorch and onnxruntime made of the photograph.
pub fn expected() -> Value {
    serde_json::from_str(&fs::read_to_string(data("expected.json")).unwrap()).unwrap()
}
