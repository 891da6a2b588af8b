//! Every kernel against plain loops in f64, on the stand-in for GPU and NVRTC (`tests/standin`), at
//! odd shapes and at the paper's with a small batch.

mod standin;

use alexnet::device::cuda::compile::{Compiler, Constant};
use alexnet::device::cuda::device::Device;
use alexnet::device::cuda::kernels;
use alexnet::device::cuda::library::driver_version;
use alexnet::device::cuda::memory::Buffer;
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

#[test]
fn update_agrees_in_every_bit() {
    standin::run("update_agrees_in_every_bit", &[], || {
        let device = device(0);
        let len = 1000;
        let (w, v, g) = (noise(len, 1), noise(len, 2), noise(len, 3));
        let (momentum, decay, rate) = (0.9f32, 0.0005 * 0.01f32, 0.01f32);
        let [w_gpu, v_gpu, g_gpu] = [&w, &v, &g].map(|x| device.buffer_of(x).unwrap());
        let kernel =
            device.kernel(kernels::ELEMENTWISE, &constants(&[("COUNT", len)]), "update").unwrap();
        let launch = kernel.arguments().buffer(&w_gpu).buffer(&v_gpu).buffer(&g_gpu);
        unsafe {
            launch.float(momentum).float(decay).float(rate).on_each(&device.compute, len).unwrap();
        }
        let want_v: Vec<f32> =
            (0..len).map(|i| (momentum * v[i] - decay * w[i]) - rate * g[i]).collect();
        let want_w: Vec<f32> = (0..len).map(|i| w[i] + want_v[i]).collect();
        assert_eq!(read(&device, &v_gpu), want_v);
        assert_eq!(read(&device, &w_gpu), want_w);
    });
}
