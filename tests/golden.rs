//! Our numbers against PyTorch's: logits, loss, every gradient, and all parameters after five
//! steps.
//!
//! `tests/golden/generate.py` builds the same networks in PyTorch, in float64, and writes what it
//! gets; its head says what is in the files and how to make them anew.

use alexnet::config::Config;
use alexnet::data::form::CropView;
use alexnet::engine::cpu::Cpu;
use alexnet::engine::{Engine, Slot};
use alexnet::layers::{Classes, Run};
use alexnet::network::{Mode, Plan};
use alexnet::train::rates::rates;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use std::path::{Path, PathBuf};

/// Differences allowed, as a fraction of the tensor's largest value.
const TOLERANCE: f32 = 1e-4;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn floats(view: &TensorView<'_>) -> Vec<f32> {
    view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn assert_close(name: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let most = theirs.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!(
            (a - b).abs() <= TOLERANCE * most,
            "{name}[{i}]: ours {a}, PyTorch's {b}, largest {most}"
        );
    }
}

/// [n, channels, height, width] to [n, height, width, channels].
fn to_nhwc(values: &[f32], shape: &[usize]) -> Vec<f32> {
    let [n, c, h, w] = shape.try_into().unwrap();
    let mut out = Vec::with_capacity(values.len());
    for image in 0..n {
        for pixel in 0..h * w {
            out.extend((0..c).map(|channel| values[(image * c + channel) * h * w + pixel]));
        }
    }
    out
}

fn log_softmax(logits: &[f32], classes: usize) -> Vec<f32> {
    let mut out = Vec::new();
    for row in logits.chunks_exact(classes) {
        let most = row.iter().fold(f64::MIN, |m, &v| m.max(v.into()));
        let sum: f64 = row.iter().map(|&v| (f64::from(v) - most).exp()).sum();
        out.extend(row.iter().map(|&v| (f64::from(v) - most - sum.ln()) as f32));
    }
    out
}

fn check(name: &str) {
    let config = Config::read(&folder().join(format!("{name}.toml")), &[]).unwrap();
    let bytes = std::fs::read(folder().join(format!("{name}.safetensors"))).unwrap();
    let golden = SafeTensors::deserialize(&bytes).unwrap();
    let get = |name: &str| floats(&golden.tensor(name).unwrap());

    let input = golden.tensor("input").unwrap();
    let images = to_nhwc(&floats(&input), input.shape());
    let labels: Vec<u32> = golden
        .tensor("labels")
        .unwrap()
        .data()
        .chunks_exact(4)
        .map(|b| u32::from_le_bytes(b.try_into().unwrap()))
        .collect();
    let batch = labels.len();
    let devices = vec![0; config.towers];
    let plan = Plan::new(&config, batch, Mode::Training, &devices, Classes::Any).unwrap();
    let tensors = plan.tensors();
    let classes = plan.classes;
    let mut engine = Cpu::new(plan).unwrap();
    for (index, tensor) in tensors.iter().enumerate() {
        assert_eq!(golden.tensor(&tensor.name).unwrap().shape(), tensor.shape, "{}", tensor.name);
        engine.write(Slot::Value, index, &get(&tensor.name)).unwrap();
    }

    let run = |step: u32, training: bool| Run {
        batch,
        training,
        seed: config.seed,
        step,
        first_image: 0,
    };
    if golden.names().contains(&"test_logits") {
        engine.forward(&run(0, false), CropView::Floats(&images)).unwrap();
        let ours: Vec<f32> = engine.probabilities().unwrap().iter().map(|p| p.ln()).collect();
        assert_close("test_logits", &ours, &log_softmax(&get("test_logits"), classes));
    }
    let state = config.schedule.begin();
    for step in 1..=5 {
        let tally = engine.gradients(&run(step, true), CropView::Floats(&images), &labels).unwrap();
        if step == 1 {
            let ours: Vec<f32> = engine.probabilities().unwrap().iter().map(|p| p.ln()).collect();
            assert_close("logits", &ours, &log_softmax(&get("logits"), classes));
            assert_close("loss", &[tally.mean_loss() as f32], &get("loss"));
            for (index, tensor) in tensors.iter().enumerate() {
                let ours = engine.read(Slot::Gradient, index).unwrap().values;
                assert_close(
                    &format!("grad/{}", tensor.name),
                    &ours,
                    &get(&format!("grad/{}", tensor.name)),
                );
            }
        }
        let rates = rates(engine.plan(), &state, &config.train);
        engine.update(config.train.momentum as f32, &rates).unwrap();
    }
    for (index, tensor) in tensors.iter().enumerate() {
        let ours = engine.read(Slot::Value, index).unwrap().values;
        let name = format!("step5/{}", tensor.name);
        assert_close(&name, &ours, &get(&name));
    }
}

/// Two towers, conv1's window hanging over the edge, response normalisation as printed, conv3 and
/// the fully connected layers reading both towers, fc8 on one.
#[test]
fn the_papers_network() {
    check("paper");
}

/// torchvision's conv1, groups, both kinds of normalisation divided and not, average pooling, tanh,
/// local layers, ReLU after pooling.
#[test]
fn every_other_layer_and_option() {
    check("variants");
}

/// The CIFAR-10 net of the paper's footnote 3, one tower, with locally connected layers.
#[test]
fn one_tower_with_local_layers() {
    check("one-tower");
}

/// Masks by an independent Philox; training and evaluation.
#[test]
fn dropout() {
    check("dropout");
}
