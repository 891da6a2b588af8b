//! Every kernel against plain loops in f64, on the stand-in for GPU and NVRTC (`tests/standin`), at
//! odd shapes and at the paper's with a small batch. One file an operation, as in `kernels/`.

mod conv;
mod lrn;
mod lrn_pool;
mod pointwise;
mod pool;
mod products;
mod shares;
mod softmax;
#[path = "../standin/mod.rs"]
mod standin;
mod towers;

use alexnet::gpu::compile::{Compiler, Constant};
use alexnet::gpu::device::Device;
use alexnet::gpu::kernels::KernelSource;
use alexnet::gpu::library::driver_version;
use alexnet::gpu::memory::Buffer;
use alexnet::gpu::stream::Arguments;
use std::sync::Arc;

fn device(index: usize) -> Device {
    let compiler = Compiler::new(driver_version().unwrap(), None).unwrap();
    Device::open(index, Arc::new(compiler)).unwrap()
}

/// Numbers without a pattern, in -1..1.
fn noise(len: usize, seed: u32) -> Vec<f32> {
    (0..len as u32)
        .map(|i| {
            let word = alexnet::random::philox([i, seed, 0, 0], [1, 2])[0];
            (f64::from(word) / f64::from(u32::MAX) * 2.0 - 1.0) as f32
        })
        .collect()
}

fn read(device: &Device, buffer: &Buffer<f32>) -> Vec<f32> {
    let mut values = vec![0.0; buffer.len()];
    device.compute.read(buffer, &mut values).unwrap();
    values
}

/// Compares with the reference, relative to its largest value.
fn near(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(1e-30, |m: f64, w| m.max(w.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let error = (f64::from(*g) - w).abs() / scale;
        assert!(error <= tolerance, "{what}, element {i}: {g} instead of {w} (scale {scale})");
    }
}

fn constants(pairs: &[(&'static str, usize)]) -> Vec<Constant> {
    pairs.iter().map(|(name, value)| (*name, value.to_string())).collect()
}

/// A grid and its blocks.
type Shape = ((usize, usize, usize), (usize, usize, usize));

/// One thread for each of `count` elements.
fn each(count: usize) -> Shape {
    ((count.div_ceil(256), 1, 1), (256, 1, 1))
}

/// Queues the kernel `name` of a source with what `arguments` adds, in the kernel's order.
fn launch(
    device: &Device,
    (source, constants, name): (KernelSource, &[Constant], &str),
    (grid, block): Shape,
    arguments: impl FnOnce(Arguments<'_>) -> Arguments<'_>,
) {
    let kernel = device.kernel(source, constants, name).unwrap();
    // SAFETY: the tests give what the head of the kernel's file asks for, in buffers of the sizes
    // that the constants say; where one did not, the stand-in ends the process with a sentence
    // about it.
    unsafe { arguments(kernel.arguments()).on(&device.compute, grid, block).unwrap() };
}
