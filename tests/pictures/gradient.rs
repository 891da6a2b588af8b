//! The gradient of a score at the image against differences of scores.

use alexnet::config::Config;
use alexnet::data::form::CropView;
use alexnet::engine::cpu::Cpu;
use alexnet::engine::{Engine, Slot};
use alexnet::layers::{Classes, Run};
use alexnet::network::{Mode, Plan};

const CROP: usize = 9;
const CLASSES: usize = 4;

fn layer(name: &str, kind: &str, keys: &str) -> String {
    format!("[[layer]]\nname = \"{name}\"\nkind = \"{kind}\"\n{}\n", keys.replace("; ", "\n"))
}

/// Numbers between -1 and 1, the same ones each time.
fn numbers(n: usize, mut seed: u32) -> Vec<f32> {
    let next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    std::iter::repeat_with(next).take(n).collect()
}

fn engine(towers: usize, layers: &str) -> Cpu {
    let text = format!(
        "towers = {towers}\n[data]\ncrop = {CROP}\nchannels = 3\nclasses = {CLASSES}\n[schedule]\n\
         kind = \"steps\"\n{layers}[[layer]]\nname = \"softmax\"\nkind = \"softmax\""
    );
    let config = Config::parse(&text, &[], "test").unwrap();
    let devices = vec![0; towers];
    let plan = Plan::new(&config, 3, Mode::Explanation, &devices, Classes::Any).unwrap();
    let tensors = plan.tensors();
    let mut engine = Cpu::new(plan).unwrap();
    for (index, tensor) in tensors.iter().enumerate() {
        let scale = if tensor.is_bias { 0.3 } else { 0.35 };
        let values = numbers(tensor.len(), 7 + index as u32).into_iter().map(|v| v * scale);
        engine.write(Slot::Value, index, &values.collect::<Vec<f32>>()).unwrap();
    }
    engine
}

const RUN: Run = Run { batch: 3, training: false, seed: 0, step: 0, first_image: 0 };
const OF: [u32; 3] = [2, 0, 3];

/// The sum of the three images' scores for their classes.
fn score(engine: &mut Cpu, images: &[f32]) -> f64 {
    engine.forward(&RUN, CropView::Floats(images)).unwrap();
    let scores = engine.left_in(engine.plan().logits()).unwrap();
    OF.iter().enumerate().map(|(i, &c)| f64::from(scores[i * CLASSES + c as usize])).sum()
}

/// Asserts that the gradient tells how the scores change in random directions. `far`: how far to
/// go in one; `least`: how many of a hundred must be right within a hundredth (a network with kinks
/// is straight only between them).
fn check(towers: usize, layers: &str, far: f64, least: usize) {
    let mut engine = engine(towers, layers);
    let values = 3 * CROP * CROP * 3;
    let images = numbers(values, 1);
    let gradient = engine.gradient_at_image(&RUN, CropView::Floats(&images), &OF).unwrap();
    assert_eq!(gradient.len(), values);
    let size = gradient.iter().map(|g| f64::from(g * g)).sum::<f64>().sqrt();
    assert!(size > 0.01, "{size}");
    let mut right = 0;
    for turn in 0..100 {
        let direction = numbers(values, 1000 + turn);
        let moved = |by: f64| -> Vec<f32> {
            let by = by as f32;
            images.iter().zip(&direction).map(|(x, d)| x + by * d).collect()
        };
        let [more, less] = [far, -far].map(|by| score(&mut engine, &moved(by)));
        let seen = (more - less) / (2.0 * far);
        let told: f64 =
            gradient.iter().zip(&direction).map(|(g, d)| f64::from(*g) * f64::from(*d)).sum();
        right += usize::from((seen - told).abs() < 0.01 * size);
    }
    assert!(right >= least, "{right} of 100");
}

#[test]
fn of_smooth_layers_on_two_towers() {
    let layers = [
        layer("conv1", "conv", "kernels = 6; size = 3; padding = [1, 1, 1, 1]"),
        layer("tanh1", "tanh", ""),
        layer("lrn1", "lrn", "n = 3; alpha = 0.3"),
        layer("pool1", "average-pool", "size = 3; stride = 2"),
        layer("local2", "local", "kernels = 4; size = 3; input = \"all-towers\""),
        layer("tanh2", "tanh", ""),
        layer("fc3", "fc", "outputs = 6"),
        layer("tanh3", "tanh", ""),
        layer("drop3", "dropout", "rate = 0.25"),
        layer("fc4", "fc", "outputs = 4"),
    ];
    check(2, &layers.concat(), 3e-3, 100);
}

#[test]
fn of_the_papers_layers() {
    let layers = [
        layer("conv1", "conv", "kernels = 8; size = 3"),
        layer("relu1", "relu", ""),
        layer("lrn1", "lrn", ""),
        layer("pool1", "max-pool", "size = 3; stride = 2"),
        layer("conv2", "conv", "kernels = 8; size = 3; input = \"all-towers\""),
        layer("relu2", "relu", ""),
        layer("fc3", "fc", "outputs = 10"),
        layer("relu3", "relu", ""),
        layer("drop3", "dropout", "rate = 0.5"),
        layer("fc4", "fc", "outputs = 4; tower = 0"),
    ];
    check(2, &layers.concat(), 3e-4, 90);
}

/// Layers that do not learn, first: the gradient goes through them too.
#[test]
fn below_the_first_layer_that_learns() {
    let layers = [
        layer("tanh0", "tanh", ""),
        layer("pool0", "average-pool", "size = 2; stride = 2"),
        layer("fc1", "fc", "outputs = 4"),
    ];
    check(1, &layers.concat(), 3e-3, 100);
}
