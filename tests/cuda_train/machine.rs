//! What the program asks and says of the machine: its GPUs, their memory, compiled kernels, times.

use super::{Gpus, TRAIN};
use crate::common::{self, sentence, stderr};
use crate::standin;
use alexnet::config::Config;
use alexnet::engine::Engine;
use alexnet::engine::cuda::Cuda;
use alexnet::engine::cuda::layout::Layout;
use alexnet::gpu::compile::Compiler;
use alexnet::gpu::device::Device;
use alexnet::gpu::library::driver_version;
use alexnet::layers::Classes;
use alexnet::network::{Mode, Plan};
use serde_json::Value;
use std::sync::Arc;

#[test]
fn too_little_memory_is_refused_at_once() {
    let Some(gpus) = Gpus::on_standin("machine::too_little_memory_is_refused_at_once") else {
        return;
    };
    let args = "train --config net.toml --set train.batch=3000 --device cuda:0";
    let switches = [("STANDIN_MEMORY", "50000000")];
    let output = gpus.run(args, &switches);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let text = sentence(&output);
    for word in ["a batch of 3000", "GPU 0 needs", "of 48 MiB free", "train.batch="] {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
    // What it says would fit does, and one more does not.
    let digits = text.split("train.batch=").nth(1).unwrap();
    let fits: u32 = digits.trim_end().trim_end_matches(')').parse().unwrap();
    assert!((100..3000).contains(&fits), "{text}");
    let with = |n| format!("train --config net.toml --set train.batch={n} --device cuda:0");
    gpus.fails(&with(fits + 1), &switches, 2, &["would fit"]);
    gpus.ok(&format!("{} --set train.epochs=1", with(fits)), &switches);
}

#[test]
fn what_is_missing_is_said() {
    let Some(gpus) = Gpus::on_standin("machine::what_is_missing_is_said") else { return };
    let args = "train --config net.toml --device cuda:0,1";
    gpus.fails(args, &[("STANDIN_DEVICES", "1")], 2, &["there is no GPU 1", "this machine has 1"]);
    gpus.fails(args, &[("STANDIN_DEVICES", "0")], 1, &["finds no GPU", "--device cpu"]);
    gpus.fails(args, &[("STANDIN_CAPABILITY", "5.2")], 1, &["too old", "--device cpu"]);
    gpus.fails(
        &format!("{args} --set towers=1"),
        &[],
        2,
        &["the network has one tower", "--device cuda:0"],
    );
    gpus.fails(args, &[("STANDIN_FAIL_LAUNCH", "lrn_pool_backward")], 1, &["layer lrn1", "GPU"]);
    // Nowhere to find a driver; a machine that has one of its own is not asked.
    let output = gpus.world.run(args);
    if !output.status.success() {
        let text = sentence(&output);
        assert!(text.contains("driver") && text.contains("--device cpu"), "{text}");
    }
}

#[test]
fn a_second_run_compiles_nothing() {
    let Some(gpus) = Gpus::new() else { return };
    let cache = gpus.world.path("kernels");
    let switches = [("ALEXNET_KERNEL_CACHE", cache.to_str().unwrap())];
    let run = |name: &str| {
        let args = format!("{TRAIN} --device cuda:0,1 --run {name}");
        stderr(&gpus.ok(&args, &switches))
    };
    let first = run("first");
    assert!(first.contains("kernels compiled"), "{first}");
    let second = run("second");
    assert!(!second.contains("compiled"), "{second}");
    assert_eq!(gpus.weights("first"), gpus.weights("second"));
}

#[test]
fn bench_runs_on_devices() {
    let Some(gpus) = Gpus::new() else { return };
    let args = "bench --config net.toml --batch 4 --steps 1 --device cuda:0,1 --json";
    let report: Value = serde_json::from_slice(&gpus.ok(args, &[]).stdout).unwrap();
    let layers = report["layers"].as_array().unwrap();
    let time = |key: &str| layers.iter().all(|l| l[key].as_f64().unwrap() >= 0.0);
    assert!(time("forward_ms") && time("backward_weights_ms") && time("update_ms"));
}

#[test]
fn a_profile_names_every_layer() {
    let Some(gpus) = Gpus::new() else { return };
    let args = "train --config net.toml --set train.epochs=1 --profile --device";
    let text = stderr(&gpus.ok(&format!("{args} cuda:0,1"), &[]));
    assert!(text.contains("milliseconds a step over 3 steps"), "{text}");
    for layer in ["conv1", "lrn1", "pool1", "conv2", "fc3", "drop3", "fc4", "total"] {
        assert!(text.lines().any(|l| l.trim_start().starts_with(layer)), "no {layer}: {text}");
    }
    let plan = gpus.world.json("inspect net.toml --data set --json");
    let bytes =
        |c: &Value| c["bytes_forward"].as_u64().unwrap() + c["bytes_backward"].as_u64().unwrap();
    let bytes: u64 = plan["crossings"].as_array().unwrap().iter().map(bytes).sum();
    let bytes = alexnet::progress::grouped(bytes);
    assert!(text.contains(&format!("between GPUs: {bytes} bytes a step")), "{text}");
    let text = stderr(&gpus.ok(&format!("{args} cpu"), &[]));
    assert!(text.contains("conv1") && !text.contains("between GPUs"), "{text}");
}

#[test]
fn devices_are_listed() {
    let Some(gpus) = Gpus::on_standin("machine::devices_are_listed") else { return };
    let text = String::from_utf8(gpus.ok("devices", &[]).stdout).unwrap();
    for words in ["CPU: ", "NVIDIA driver: CUDA", "NVRTC: CUDA", "GPU 1 (--device cuda:1)"] {
        assert!(text.contains(words), "no {words:?}: {text}");
    }
    assert!(text.contains("    -  yes") && !text.contains("missing"), "{text}");
    let json = |switches: &[(&str, &str)]| -> Value {
        serde_json::from_slice(&gpus.ok("devices --json", switches).stdout).unwrap()
    };
    let two = json(&[("STANDIN_PEER", "0"), ("STANDIN_MEMORY", "5000000")]);
    let gpu = &two["gpus"][1];
    assert_eq!(
        (&gpu["memory_bytes"], &gpu["compute_capability"]),
        (&5_000_000.into(), &"8.0".into())
    );
    assert_eq!(gpu["peer_access"][0], false);
    assert!(two["driver"]["path"].as_str().unwrap().contains("libcuda.so.1"));
    assert!(two["nvrtc"]["path"].as_str().unwrap().contains("libnvrtc.so.12"));
    assert!(two["cpu"]["threads"].as_u64().unwrap() > 0);
    let none = json(&[("STANDIN_DEVICES", "0")]);
    assert!(none["missing"][0].as_str().unwrap().contains("finds no GPU"), "{none}");
    let old = json(&[("STANDIN_CAPABILITY", "5.2")]);
    assert!(old["missing"][0].as_str().unwrap().contains("too old"), "{old}");
    // With nothing there, the command still answers.
    assert!(gpus.world.json("devices --json")["cpu"]["threads"].as_u64().unwrap() > 0);
}

#[test]
fn memory_taken_is_memory_planned() {
    standin::only("machine::memory_taken_is_memory_planned", &[], || {
        let compiler = Arc::new(Compiler::new(driver_version().unwrap(), None).unwrap());
        let devices = [0, 1].map(|gpu| Device::open(gpu, compiler.clone()).unwrap());
        let free = || devices.each_ref().map(|d| d.memory().unwrap().0);
        let config = Config::parse(common::NETWORK, &[], "net.toml").unwrap();
        // Of a large batch some buffers take whole pieces of memory.
        let all = [(Mode::Training, [0, 1], 3000), (Mode::Evaluation, [0, 0], 10)];
        for (purpose, towers, batch) in all {
            let plan = Plan::new(&config, batch, purpose, &towers, Classes::Known(3)).unwrap();
            let multiprocessors = devices.each_ref().map(|d| d.multiprocessors);
            let layout = Layout::new(&plan, batch, &multiprocessors[..plan.data.len()]).unwrap();
            let planned = layout.bytes(&plan);
            let before = free();
            let engine = Cuda::new(plan, &[0, 1]).unwrap();
            let now = free();
            for (d, planned) in planned.iter().enumerate() {
                // A byte for each buffer that is empty.
                let taken = before[d] - now[d];
                assert!((*planned..planned + 50).contains(&taken), "{taken}, planned {planned}");
            }
            assert_eq!(engine.plan().batch, batch);
            drop(engine);
            assert_eq!(free(), before, "all is given back");
        }
    });
}
