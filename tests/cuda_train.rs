//! The built binary on the stand-in for GPU and NVRTC (`tests/standin`): training on one and on two
//! devices against the CPU, what crosses between them, and what can go wrong. What runs here are the
//! kernels and the host code that a GPU would run; no GPU is involved.

mod common;
mod standin;

use common::{World, sentence, stderr, tensors};
use serde_json::Value;
use std::fs;
use std::process::Output;

/// A world whose commands run on the stand-in; `None` where it cannot be built.
struct Gpus {
    world: World,
    environment: Vec<(String, String)>,
}

/// Runs of a few steps: 30 images of two classes, batches of 8 with a short last one.
const TRAIN: &str = "train --config net.toml --set train.batch=8 --set train.epochs=1";

impl Gpus {
    fn new() -> Option<Gpus> {
        let environment = standin::environment(&standin::build()?);
        let world = World { folder: tempfile::tempdir().unwrap() };
        world.photos("photos/train", ["down", "level", "slant"], 10);
        world.photos("photos/val", ["down", "level", "slant"], 3);
        world.write("net.toml", common::NETWORK);
        world.ok("prepare image-folder photos --out set --size 16");
        Some(Gpus { world, environment })
    }

    fn run(&self, args: &str, switches: &[(&str, &str)]) -> Output {
        let mut command = self.world.command(args);
        command.envs(self.environment.iter().cloned()).envs(switches.iter().copied());
        command.output().unwrap()
    }

    #[track_caller]
    fn ok(&self, args: &str, switches: &[(&str, &str)]) -> Output {
        let output = self.run(args, switches);
        assert_eq!(output.status.code(), Some(0), "{args}: {}", stderr(&output));
        output
    }

    #[track_caller]
    fn fails(&self, args: &str, switches: &[(&str, &str)], code: i32, words: &[&str]) {
        let output = self.run(args, switches);
        assert_eq!(output.status.code(), Some(code), "{args}: {}", stderr(&output));
        let sentence = sentence(&output);
        for word in words {
            assert!(sentence.contains(word), "no {word:?} in: {sentence}");
        }
    }

    fn losses(&self, run: &str) -> Vec<f64> {
        let lines = self.world.metrics(run);
        let steps = lines.iter().filter(|line| line["kind"] == "step");
        steps.map(|line| line["loss"].as_f64().unwrap()).collect()
    }

    /// Everything in a run's checkpoint, as numbers.
    fn weights(&self, run: &str) -> Vec<(String, Vec<f32>)> {
        let all = tensors(&self.world.path(run).join("last.safetensors"));
        let floats = |bytes: Vec<u8>| {
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
        };
        all.into_iter().map(|(name, _, bytes)| (name, floats(bytes))).collect()
    }

    /// What the stand-in counted in a process: the copies between devices and their bytes.
    fn peer_copies(&self, name: &str) -> (u64, u64) {
        let text = self.world.text(name);
        let counters: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        (counters["peer_copies"].as_u64().unwrap(), counters["peer_bytes"].as_u64().unwrap())
    }
}

#[track_caller]
fn assert_near(what: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{what}[{i}]: {a} and {b}");
    }
}

#[test]
fn two_devices_train_as_one_does_and_as_the_cpu() {
    let Some(gpus) = Gpus::new() else { return };
    gpus.ok(&format!("{TRAIN} --device cpu --run cpu"), &[]);
    let output = gpus.ok(&format!("{TRAIN} --device cuda:0,1 --run two"), &[]);
    assert!(stderr(&output).contains("on GPU 0 ("), "{}", stderr(&output));
    gpus.ok(&format!("{TRAIN} --device cuda:1 --run one"), &[("STANDIN_ORDER", "random")]);

    let (cpu, two, one) = (gpus.losses("cpu"), gpus.losses("two"), gpus.losses("one"));
    assert_eq!(cpu.len(), 4, "three batches of 8 and one of 6");
    assert_eq!(one, two);
    for (a, b) in cpu.iter().zip(&two) {
        assert!((a - b).abs() < 1e-4, "losses {cpu:?} and {two:?}");
    }
    let (cpu, two, one) = (gpus.weights("cpu"), gpus.weights("two"), gpus.weights("one"));
    for ((theirs, ours), single) in cpu.iter().zip(&two).zip(&one) {
        assert_near(&theirs.0, &ours.1, &theirs.1);
        assert_eq!(ours, single, "one device and two");
    }
    let values = |run: &str| {
        let lines = gpus.world.metrics(run);
        lines.last().unwrap()["validation"]["loss"].as_f64().unwrap()
    };
    assert!((values("cpu") - values("two")).abs() < 1e-4);
}

#[test]
fn auto_takes_a_gpu_for_each_tower() {
    let Some(gpus) = Gpus::new() else { return };
    let said = |switches: &[(&str, &str)]| {
        let output = gpus.ok(&format!("{TRAIN} --set train.epochs=1"), switches);
        stderr(&output)
    };
    let two = said(&[]);
    assert!(two.contains("GPU 0") && two.contains("GPU 1") && two.contains("a tower each"), "{two}");
    let one = said(&[("STANDIN_DEVICES", "1")]);
    assert!(one.contains("GPU 0") && one.contains("the only one"), "{one}");
    let none = said(&[("STANDIN_DEVICES", "0")]);
    assert!(none.contains("on the CPU") && none.contains("finds no GPU"), "{none}");
    let old = said(&[("STANDIN_CAPABILITY", "5.2")]);
    assert!(old.contains("on the CPU") && old.contains("too old"), "{old}");
}
