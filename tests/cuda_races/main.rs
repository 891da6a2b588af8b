//! The stand-in for driver and GPU (`tests/standin`) sees what nothing puts in order, whatever ran
//! first: copies and launches on several streams (`order.rs`), threads and blocks of one launch
//! (`blocks.rs`), calls that a driver refuses (`driver.rs`). Every fault is planted next to its
//! corrected twin, of which nothing must be said. `engine.rs` trains under the same watch.

mod blocks;
#[path = "../common/mod.rs"]
mod common;
mod driver;
mod engine;
mod order;
#[path = "../standin/mod.rs"]
mod standin;

use alexnet::gpu::compile::Compiler;
use alexnet::gpu::device::Device;
use alexnet::gpu::kernels::KernelSource;
use alexnet::gpu::library::driver_version;
use alexnet::gpu::memory::Buffer;
use alexnet::gpu::stream::{Kernel, Stream};
use std::sync::Arc;

fn device(index: usize) -> Device {
    let compiler = Compiler::new(driver_version().unwrap(), None).unwrap();
    Device::open(index, Arc::new(compiler)).unwrap()
}

/// What the tests launch. Most are for blocks of 64 threads and 256 floats, and do wrong what their
/// name says where `fault` is not 0.
const SOURCE: KernelSource = KernelSource { name: "races.cu", text: include_str!("races.cu") };

fn kernel(device: &Device, name: &str) -> Kernel {
    device.kernel(SOURCE, &[], name).unwrap()
}

/// Queues `to = from + 1` for the values `first..end`.
fn add_one(
    stream: &Stream,
    kernel: &Kernel,
    (from, to): (&Buffer<f32>, &Buffer<f32>),
    (first, end): (u32, u32),
) {
    let arguments = kernel.arguments().buffer(from).buffer(to).word(first).word(end);
    // SAFETY: `add_one` takes these four, and the tests' ranges lie within their buffers.
    let queued = unsafe { arguments.on(stream, (1, 1, 1), (256, 1, 1)) };
    // After a fault that was seen the stand-in refuses all else.
    let _ = queued;
}

/// Runs `body(true)`, of which the stand-in has to say `words`, and `body(false)`, of which it has
/// to say nothing; each in a process of its own with these switches.
#[track_caller]
fn planted(test: &str, switches: &[(&str, &str)], words: &[&str], body: fn(bool)) {
    for fault in ["1", "0"] {
        let switches = [switches, &[("PLANTED_FAULT", fault)]].concat();
        let run = || body(std::env::var("PLANTED_FAULT").unwrap() == "1");
        let Some(output) = standin::outcome(test, &switches, run) else { return };
        let text = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = text.lines().filter(|line| line.starts_with("stand-in: ")).collect();
        if fault == "1" {
            for word in words {
                let found = said.iter().any(|line| line.contains(word));
                assert!(found, "no {word:?} in: {text}");
            }
        } else {
            assert!(said.is_empty() && output.status.success(), "the corrected twin: {text}");
        }
    }
}
