//! How long two GPUs wait for each other, by the stand-in's timeline (`tests/standin/timeline.rs`):
//! the paper's network, batch 128, with the times that an A100's kernels should take. And that no
//! more is copied than the plan says, and copies through the host go up while they come down.

#[path = "../standin/mod.rs"]
mod standin;
#[path = "../standin/timeline.rs"]
mod timeline;

use alexnet::config::Config;
use alexnet::data::form::CropView;
use alexnet::engine::cuda::Cuda;
use alexnet::engine::cuda::layout::Layout;
use alexnet::engine::{Engine, Rates};
use alexnet::gpu::compile::{Compiler, Constant};
use alexnet::gpu::device::Device;
use alexnet::gpu::kernels::KernelSource;
use alexnet::gpu::library::driver_version;
use alexnet::gpu::link::Link;
use alexnet::gpu::precision::Precision;
use alexnet::layers::{Classes, Run};
use alexnet::network::{Mode, Plan};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use timeline::{Gpu, simulate};

/// Bytes a second between two GPUs, one way.
const PACE: f64 = 12e9;

/// The paper's network on two GPUs.
fn plan(precision: &str, batch: usize, mode: Mode) -> Plan {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/ilsvrc2010.toml");
    let precision = format!("gpu.precision={precision}");
    let config = Config::read(&file, &[precision]).unwrap();
    let mut plan = Plan::new(&config, batch, mode, &[0, 1], Classes::Any).unwrap();
    plan.precision = plan.wanted.on((8, 0));
    plan
}

/// Multiply-adds a second, twice, of an A100's products: 80 % of what its multiply-add units can do,
/// half of what its tensor cores can.
fn speed(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 0.8 * 19.5e12,
        Precision::Tf32 => 0.5 * 156e12,
        Precision::Bf16 => 0.5 * 312e12,
    }
}

/// Of each launch, by its name and constants, the seconds on an A100: products at their [`speed`],
/// else the bytes that it moves at 1.4 TB/s; and 3 µs at least.
fn durations(plan: &Plan) -> HashMap<String, f64> {
    let layout = Layout::new(plan, plan.batch, &[108; 2]).unwrap();
    let value = |constants: &[Constant], name: &str| -> f64 {
        constants.iter().find(|(own, _)| *own == name).unwrap().1.parse().unwrap()
    };
    let seconds = layout.launches(plan).into_iter().map(|(_, launch)| {
        let all = &launch.constants;
        let options = all.iter().map(|(name, value)| format!(" -D{name}={value}"));
        let key = launch.name.to_string() + &options.collect::<String>();
        let sizes = ["IMAGES", "OUT_H", "OUT_W", "OUT_C", "KERNEL_H", "KERNEL_W", "REAL_C"];
        let flops = match launch.name.starts_with("conv_") {
            true => 2.0 * sizes.iter().map(|name| value(all, name)).product::<f64>(),
            false => 0.0,
        };
        let seconds = (flops / speed(plan.precision)).max(launch.moves as f64 / 1.4e12);
        (key, seconds.max(3e-6))
    });
    seconds.collect()
}

/// What the stand-in wrote down of `body`, which it did not execute.
fn written_down(test: &str, switches: &[(&str, &str)], body: impl FnOnce()) -> Option<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls.jsonl");
    let room = (16u64 << 30).to_string();
    let all = [("STANDIN_TIMELINE", file.to_str().unwrap()), ("STANDIN_MEMORY", &room)];
    standin::only(test, &[&all[..], switches].concat(), body);
    std::fs::read_to_string(&file).ok()
}

/// The same of steps of training.
fn steps(test: &str, precision: &str, count: u32) -> Option<String> {
    written_down(test, &[], || {
        let plan = plan(precision, 128, Mode::Training);
        let (values, colours) = (plan.input.len(), 2 * plan.input.channels);
        let rate = Rates { weight: 0.01, weight_decay: 1e-5, bias: 0.02, ..Rates::default() };
        let rates = vec![Some(rate); plan.layers.len()];
        let mut engine = Cuda::new(plan, &[0, 1]).unwrap();
        let (pixels, colours) = (vec![0; 128 * values], vec![1.0; 128 * colours]);
        for step in 1..=count {
            let run = Run { batch: 128, training: true, seed: 1, step, first_image: 0 };
            let images = CropView::Bytes { pixels: &pixels, colours: &colours };
            engine.step(&run, images, &[0; 128], 0.9, &rates).unwrap();
        }
    })
}

fn told(what: &str, gpus: &[Gpu]) {
    for (index, gpu) in gpus.iter().enumerate() {
        println!(
            "{what}, GPU {index}: {:.2} ms, {:.2} in kernels, {:.2} waiting: {:.2} %",
            1e3 * gpu.seconds,
            1e3 * gpu.busy,
            1e3 * gpu.waited,
            100.0 * gpu.waited / gpu.seconds
        );
        for (name, seconds) in &gpu.before {
            println!("    {:.3} ms before {name}", 1e3 * seconds);
        }
    }
}

/// What the stand-in wrote down of three steps of training in a precision, and how long each GPU
/// waited for the other.
fn waits(test: &str, precision: &str) -> Option<(String, Vec<Gpu>)> {
    let text = steps(test, precision, 3)?;
    let times = durations(&plan(precision, 128, Mode::Training));
    let gpus = simulate(&text, |launch| times[launch], PACE);
    told(precision, &gpus);
    assert!(gpus.len() == 2);
    Some((text, gpus))
}

/// What is left to wait for are the last portion of fc6's input, those of fc7 and fc8, and, on GPU 1,
/// the loss, which GPU 0 makes.
#[test]
fn gpus_hardly_wait_for_each_other() {
    let Some((text, gpus)) = waits("gpus_hardly_wait_for_each_other", "f32") else { return };
    // No more than the plan says goes from GPU to GPU, each way and each crossing once a step.
    let crossings = plan("f32", 128, Mode::Training).crossings();
    let planned: u64 = crossings.iter().map(|c| c.bytes_forward + c.bytes_backward).sum();
    let copies: Vec<u64> =
        text.lines().filter(|l| l.contains("between devices")).map(bytes).collect();
    let steps = copies.iter().filter(|&&bytes| bytes > 4096).copied();
    assert_eq!(steps.clone().sum::<u64>(), 3 * planned);
    // Of conv3 and fc6 in two portions there, and whole back, of fc7 whole, all both ways; of fc8
    // from and to the tower without it.
    assert_eq!(steps.count(), 3 * (2 * (2 + 1) * 2 + 2 * 2 + 2));
    for gpu in &gpus {
        assert!(gpu.busy > 0.97 * gpu.seconds && gpu.waited < 0.03 * gpu.seconds, "{gpu:?}");
    }
}

/// On tensor cores kernels take a third of the time or less, but copies as long as before, or half
/// as long: there is not enough work beside which they could go. Without portions it was 34 and
/// 31 %.
#[test]
fn in_tf32_copies_take_longer_than_what_is_beside_them() {
    let test = "in_tf32_copies_take_longer_than_what_is_beside_them";
    let Some((_, gpus)) = waits(test, "tf32") else { return };
    assert!(gpus.iter().all(|gpu| gpu.waited < 0.25 * gpu.seconds), "{gpus:?}");
}

#[test]
fn in_bfloat16_copies_take_longer_than_what_is_beside_them() {
    let test = "in_bfloat16_copies_take_longer_than_what_is_beside_them";
    let Some((_, gpus)) = waits(test, "bf16") else { return };
    assert!(gpus.iter().all(|gpu| gpu.waited < 0.22 * gpu.seconds), "{gpus:?}");
}

/// The bytes of a line of the stand-in.
fn bytes(line: &str) -> u64 {
    serde_json::from_str::<serde_json::Value>(line).unwrap()["bytes"].as_u64().unwrap()
}

/// Through the host a copy goes up in pieces while the next ones come down.
#[test]
fn copies_through_the_host_overlap() {
    const TWICE: KernelSource = KernelSource {
        name: "twice.cu",
        text: "extern \"C\" __global__ void twice(float* x) { x[0] *= 2.f; }",
    };
    let len = 8 << 20;
    let Some(text) =
        written_down("copies_through_the_host_overlap", &[("STANDIN_PEER", "0")], || {
            let compiler = Arc::new(Compiler::new(driver_version().unwrap(), None).unwrap());
            let [from, to] = [0, 1].map(|i| Arc::new(Device::open(i, compiler.clone()).unwrap()));
            let link = Link::open(&from, &to, len).unwrap();
            assert!(!link.is_direct());
            let [source, target] = [&from, &to].map(|d| d.buffer::<u8>(len).unwrap());
            let (kernel, arrived) =
                (to.kernel(TWICE, &[], "twice").unwrap(), link.event().unwrap());
            for _ in 0..2 {
                // SAFETY: the kernel is given one buffer of more than one float; it is not run.
                unsafe {
                    let launch = kernel.arguments().buffer(&target);
                    launch.on(&to.compute, (1, 1, 1), (1, 1, 1)).unwrap();
                }
                link.copy(&source, &target, &[], &arrived).unwrap();
                to.compute.wait_for(&arrived).unwrap();
            }
        })
    else {
        return;
    };
    let gpus = simulate(&text, |_| 1e-6, PACE);
    // From the first kernel to the second: all bytes one way, and one piece the other way.
    let alone = len as f64 / PACE;
    assert!(gpus[1].seconds > alone && gpus[1].seconds < 1.2 * alone, "{gpus:?}, {alone}");
}

/// A kernel of 10 s on GPU 0, a copy of 5 s of what it made, and two kernels on GPU 1, of 2 s and,
/// behind the copy, of 1 s.
#[test]
fn a_schedule_that_is_known() {
    let text = r#"{"work":"kernel a","device":0,"stream":1,"bytes":0}
{"record":7,"device":0,"stream":1}
{"wait":7,"device":0,"stream":3}
{"work":"a copy between devices","device":0,"stream":3,"bytes":50}
{"record":8,"device":0,"stream":3}
{"work":"kernel b","device":1,"stream":1,"bytes":0}
{"wait":8,"device":1,"stream":1}
{"work":"kernel c","device":1,"stream":1,"bytes":0}
{"host_waits_for":"stream","device":1,"stream":1}
{"work":"kernel b","device":0,"stream":1,"bytes":0}"#;
    let gpus = simulate(text, |launch| [10.0, 2.0, 1.0]["abc".find(launch).unwrap()], 10.0);
    let of = |gpu: &Gpu| (gpu.seconds, gpu.busy, gpu.waited);
    // GPU 0 waits for the host, which waits for GPU 1.
    assert_eq!(of(&gpus[0]), (18.0, 12.0, 0.0));
    assert_eq!(of(&gpus[1]), (16.0, 3.0, 13.0));
    assert_eq!(gpus[1].before, [("kernel c".to_string(), 13.0)]);
}
