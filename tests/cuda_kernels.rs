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

// ---- convolution, locally and fully connected -------------------------------------------------

/// A convolution as the config has it; `local`: weights of its own at every place.
#[derive(Clone, Copy, Debug)]
struct Conv {
    images: usize,
    input: [usize; 3], // height, width, channels
    output: [usize; 3],
    kernel: [usize; 2], // height, width
    stride: usize,
    padding: [usize; 2], // top, left
    groups: usize,
    local: bool,
    relu: bool,
}

impl Conv {
    /// A fully connected layer.
    fn fc(images: usize, inputs: usize, outputs: usize) -> Conv {
        Conv {
            images,
            input: [1, 1, inputs],
            output: [1, 1, outputs],
            kernel: [1, 1],
            stride: 1,
            padding: [0, 0],
            groups: 1,
            local: false,
            relu: false,
        }
    }

    /// Square input and kernel; output as large as fits, rounded down.
    fn square(images: usize, size: usize, channels: usize, kernels: usize, kernel: usize) -> Conv {
        let mut conv = Conv::fc(images, channels, kernels);
        conv.input = [size, size, channels];
        conv.kernel = [kernel, kernel];
        conv.with(1, [0, 0, 0, 0])
    }

    /// This stride, and padding top, bottom, left, right.
    fn with(mut self, stride: usize, [top, bottom, left, right]: [usize; 4]) -> Conv {
        self.stride = stride;
        self.padding = [top, left];
        self.output[0] = (self.input[0] + top + bottom - self.kernel[0]) / stride + 1;
        self.output[1] = (self.input[1] + left + right - self.kernel[1]) / stride + 1;
        self
    }

    fn places(&self) -> usize {
        self.output[0] * self.output[1]
    }
    fn inputs(&self) -> usize {
        self.images * self.input.iter().product::<usize>()
    }
    fn outputs(&self) -> usize {
        self.images * self.output.iter().product::<usize>()
    }
    fn weights(&self) -> usize {
        let places = if self.local { self.places() } else { 1 };
        places * self.kernel[0] * self.kernel[1] * self.input[2] / self.groups * self.output[2]
    }
    fn biases(&self) -> usize {
        self.output[2] * if self.local { self.places() } else { 1 }
    }

    /// Calls `visit(input, weight, output)` with indices for each multiplication there is.
    fn each(&self, mut visit: impl FnMut(usize, usize, usize)) {
        let ([ih, iw, ic], [oh, ow, oc]) = (self.input, self.output);
        let (gi, go) = (ic / self.groups, oc / self.groups);
        for n in 0..self.images {
            for (oy, ox) in (0..oh).flat_map(|y| (0..ow).map(move |x| (y, x))) {
                for (ky, kx) in
                    (0..self.kernel[0]).flat_map(|y| (0..self.kernel[1]).map(move |x| (y, x)))
                {
                    let (y, x) = (oy * self.stride + ky, ox * self.stride + kx);
                    let (Some(y), Some(x)) =
                        (y.checked_sub(self.padding[0]), x.checked_sub(self.padding[1]))
                    else {
                        continue;
                    };
                    if y >= ih || x >= iw {
                        continue;
                    }
                    let place = if self.local { oy * ow + ox } else { 0 };
                    for c in 0..gi {
                        let row = ((place * self.kernel[0] + ky) * self.kernel[1] + kx) * gi + c;
                        for o in 0..oc {
                            let i = ((n * ih + y) * iw + x) * ic + o / go * gi + c;
                            visit(i, row * oc + o, ((n * oh + oy) * ow + ox) * oc + o);
                        }
                    }
                }
            }
        }
    }
}

mod conv_host {
    //! How phase 2's layers launch the kernels, in short.
    use super::*;
    use alexnet::device::cuda::product::{Plan, Product, TILES};

    pub fn shape(c: &Conv) -> Vec<Constant> {
        constants(&[
            ("IMAGES", c.images),
            ("IN_H", c.input[0]),
            ("IN_W", c.input[1]),
            ("IN_C", c.input[2]),
            ("OUT_H", c.output[0]),
            ("OUT_W", c.output[1]),
            ("OUT_C", c.output[2]),
            ("KERNEL_H", c.kernel[0]),
            ("KERNEL_W", c.kernel[1]),
            ("STRIDE", c.stride),
            ("PAD_TOP", c.padding[0]),
            ("PAD_LEFT", c.padding[1]),
            ("GROUPS", c.groups),
            ("LOCAL", c.local.into()),
            ("RELU", c.relu.into()),
        ])
    }
    pub fn plan(product: Product, tile: Option<usize>, splits: usize) -> Plan {
        match tile {
            Some(tile) => Plan::new(product, TILES[tile], splits),
            None => Plan::choose(product, 108),
        }
    }
}

/// Runs the three products of `c` and compares them with sums in f64. `tile`: this one of the tiles
/// with this many splits, instead of the chosen plan.
fn check_conv(device: &Device, c: Conv, tile: Option<(usize, usize)>) {
    use alexnet::device::cuda::product::{Product, windows_depth};
    let what = |product: &str| format!("{product} of {c:?} with tile {tile:?}");
    let (x, w, b, dy) =
        (noise(c.inputs(), 1), noise(c.weights(), 2), noise(c.biases(), 3), noise(c.outputs(), 4));
    let [x_gpu, w_gpu, b_gpu, dy_gpu] = [&x, &w, &b, &dy].map(|v| device.buffer_of(v).unwrap());
    let (tile, splits) = (tile.map(|t| t.0), tile.map_or(1, |t| t.1));
    let count = c.groups * if c.local { c.places() } else { 1 };
    let product = |lines: usize, columns, depth| Product {
        lines: if c.local { c.images } else { lines },
        columns,
        depth,
        count,
        may_split: !c.local,
    };
    let splits = if c.local { 1 } else { splits };

    // Runs a kernel and, if it leaves parts, their reduction.
    let run = |source,
               name: &str,
               product: Product,
               inputs: &[&Buffer<f32>],
               out: usize,
               finish: bool| {
        let plan = conv_host::plan(product, tile, splits);
        let mut all = conv_host::shape(&c);
        all.extend(plan.constants());
        let kernel = device.kernel(source, &all, name).unwrap();
        let parts = device.buffer::<f32>(out * plan.splits).unwrap();
        let mut launch = kernel.arguments();
        for input in inputs {
            launch = launch.buffer(input);
        }
        unsafe { launch.buffer(&parts).on(&device.compute, plan.grid(), plan.block()).unwrap() };
        if plan.splits == 1 {
            return read(device, &parts);
        }
        let reduce = constants(&[
            ("COUNT", out),
            ("SPLITS", plan.splits),
            ("BIAS", finish.into()),
            ("RELU", (finish && c.relu).into()),
            ("BIAS_LENGTH", c.biases()),
        ]);
        let kernel = device.kernel(kernels::REDUCE, &reduce, "reduce_splits").unwrap();
        let sum = device.buffer::<f32>(out).unwrap();
        let launch = kernel.arguments().buffer(&parts);
        let launch = if finish { launch.buffer(&b_gpu) } else { launch.nothing() };
        unsafe { launch.buffer(&sum).on_each(&device.compute, out).unwrap() };
        read(device, &sum)
    };

    let [ih, iw, ic] = c.input;
    let (gi, go) = (ic / c.groups, c.output[2] / c.groups);
    let depth = windows_depth(c.kernel, [iw, ic], c.groups, c.stride, c.padding[1]);
    let y = run(
        kernels::CONV_FORWARD,
        "conv_forward",
        product(c.images * c.places(), go, depth),
        &[&x_gpu, &w_gpu, &b_gpu],
        c.outputs(),
        true,
    );
    let dx = run(
        kernels::CONV_BACKWARD_INPUT,
        "conv_backward_input",
        Product {
            count: c.groups * if c.local { ih * iw } else { 1 },
            ..product(c.images * ih * iw, gi, c.kernel[0] * c.kernel[1] * go)
        },
        &[&dy_gpu, &w_gpu],
        c.inputs(),
        false,
    );
    let dw = run(
        kernels::CONV_BACKWARD_WEIGHTS,
        "conv_backward_weights",
        Product {
            lines: depth,
            ..product(depth, go, if c.local { c.images } else { c.images * c.places() })
        },
        &[&x_gpu, &dy_gpu],
        c.weights(),
        false,
    );

    let mut want_y: Vec<f64> = (0..c.outputs()).map(|i| f64::from(b[i % c.biases()])).collect();
    let (mut want_dx, mut want_dw) = (vec![0f64; x.len()], vec![0f64; w.len()]);
    c.each(|i, k, o| {
        want_y[o] += f64::from(x[i]) * f64::from(w[k]);
        want_dx[i] += f64::from(dy[o]) * f64::from(w[k]);
        want_dw[k] += f64::from(dy[o]) * f64::from(x[i]);
    });
    if c.relu {
        want_y.iter_mut().for_each(|y| *y = y.max(0.0));
    }
    near(&what("forward"), &y, &want_y, 2e-6);
    near(&what("gradient to the input"), &dx, &want_dx, 2e-6);
    near(&what("gradient to the weights"), &dw, &want_dw, 2e-6);
}

#[test]
fn convolutions_at_odd_shapes() {
    standin::run("convolutions_at_odd_shapes", &[("STANDIN_ORDER", "random")], || {
        let device = device(0);
        let relu = |c| Conv { relu: true, ..c };
        let groups = |c, groups| Conv { groups, ..c };
        for c in [
            Conv::square(2, 7, 5, 3, 3).with(1, [1, 1, 1, 1]), // nothing a multiple of 4
            relu(Conv::square(3, 9, 8, 12, 3).with(2, [1, 0, 0, 1])), // stride, uneven padding
            groups(Conv::square(2, 8, 12, 8, 5).with(1, [2, 2, 2, 2]), 2), // groups of 6 and 4
            groups(Conv::square(2, 6, 16, 24, 3).with(1, [1, 1, 1, 1]), 4), // groups of 4 and 6
            relu(Conv::square(1, 15, 3, 20, 11).with(4, [0, 3, 0, 3])), // conv1 in small
            Conv::square(2, 16, 3, 10, 4).with(4, [4, 0, 4, 0]), // runs of 12 floats
            Conv::square(1, 10, 4, 4, 2).with(3, [1, 1, 1, 1]), // stride beyond the kernel
            Conv { kernel: [2, 5], ..Conv::square(2, 9, 4, 5, 2) }.with(2, [1, 1, 2, 2]),
            Conv::fc(3, 37, 11),
            Conv::fc(5, 64, 40),
        ] {
            check_conv(&device, c, None);
        }
    });
}

#[test]
fn convolutions_with_every_tile() {
    standin::run("convolutions_with_every_tile", &[("STANDIN_ORDER", "reverse")], || {
        let device = device(0);
        let c = Conv::square(3, 9, 20, 52, 3).with(1, [1, 1, 1, 1]);
        for tile in 0..alexnet::device::cuda::product::TILES.len() {
            check_conv(&device, Conv { relu: tile % 2 == 0, ..c }, Some((tile, 1 + tile % 3)));
        }
    });
}

#[test]
fn locally_connected() {
    standin::run("locally_connected", &[("STANDIN_ORDER", "random")], || {
        let device = device(0);
        let local = |c| Conv { local: true, ..c };
        check_conv(&device, local(Conv::square(5, 6, 8, 12, 3).with(1, [1, 1, 1, 1])), None);
        check_conv(&device, local(Conv::square(2, 7, 3, 5, 3).with(2, [0, 1, 1, 0])), None);
        let c = Conv { groups: 2, relu: true, ..Conv::square(3, 4, 8, 8, 3).with(1, [1, 1, 1, 1]) };
        check_conv(&device, local(c), None);
    });
}
