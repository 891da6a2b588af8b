//! Every kernel against plain loops in f64, on the stand-in for GPU and NVRTC (`tests/standin`), at
//! odd shapes and at the paper's with a small batch.

mod standin;

use alexnet::gpu::compile::{Compiler, Constant};
use alexnet::gpu::device::Device;
use alexnet::gpu::kernels;
use alexnet::gpu::library::driver_version;
use alexnet::gpu::memory::Buffer;
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
    use alexnet::gpu::product::{ProductShape, TILES, Tiling};

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
    pub fn plan(product: ProductShape, tile: Option<usize>, splits: usize) -> Tiling {
        match tile {
            Some(tile) => Tiling::new(product, TILES[tile], splits),
            None => Tiling::choose(product, 108),
        }
    }
}

/// Runs the three products of `c` and compares them with sums in f64. `tile`: this one of the tiles
/// with this many splits, instead of the chosen plan.
fn check_conv(device: &Device, c: Conv, tile: Option<(usize, usize)>) {
    use alexnet::gpu::product::ProductShape;
    use alexnet::layers::window::cuda::{wide_windows, windows_depth};
    let what = |product: &str| format!("{product} of {c:?} with tile {tile:?}");
    let (x, w, b, dy) =
        (noise(c.inputs(), 1), noise(c.weights(), 2), noise(c.biases(), 3), noise(c.outputs(), 4));
    let [x_gpu, w_gpu, b_gpu, dy_gpu] = [&x, &w, &b, &dy].map(|v| device.buffer_of(v).unwrap());
    let (tile, splits) = (tile.map(|t| t.0), tile.map_or(1, |t| t.1));
    let count = c.groups * if c.local { c.places() } else { 1 };
    let product = |lines: usize, columns, depth| ProductShape {
        lines: if c.local { c.images } else { lines },
        columns,
        depth,
        count,
        wide: wide_windows([c.input[1], c.input[2]], c.groups, c.stride, c.padding[1]),
        may_split: !c.local,
    };
    let splits = if c.local { 1 } else { splits };

    // Runs a kernel and, if it leaves parts, their reduction.
    let run = |source,
               name: &str,
               product: ProductShape,
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
        ProductShape {
            count: c.groups * if c.local { ih * iw } else { 1 },
            wide: c.output[2].is_multiple_of(4) && go.is_multiple_of(4),
            ..product(c.images * ih * iw, gi, c.kernel[0] * c.kernel[1] * go)
        },
        &[&dy_gpu, &w_gpu],
        c.inputs(),
        false,
    );
    let dw = run(
        kernels::CONV_BACKWARD_WEIGHTS,
        "conv_backward_weights",
        ProductShape {
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
        for tile in 0..alexnet::gpu::product::TILES.len() {
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

/// The paper's layers as they are on one of two towers, with a batch of one image (fc: two).
#[test]
fn the_papers_conv1() {
    standin::run("the_papers_conv1", &[], || {
        let conv1 = Conv::square(1, 224, 3, 48, 11).with(4, [0, 3, 0, 3]);
        let device = device(0);
        check_conv(&device, Conv { relu: true, ..conv1 }, None);
        check_conv(&device, conv1, Some((4, 3))); // the tile for a batch of 128
    });
}

#[test]
fn the_papers_conv2() {
    standin::run("the_papers_conv2", &[("STANDIN_ORDER", "reverse")], || {
        let (device, conv2) = (device(0), Conv::square(1, 27, 48, 128, 5).with(1, [2; 4]));
        check_conv(&device, conv2, None);
        check_conv(&device, conv2, Some((0, 2))); // the tile for a batch of 128
    });
}

#[test]
fn the_papers_conv3_4_5() {
    standin::run("the_papers_conv3_4_5", &[], || {
        let device = device(0);
        check_conv(&device, Conv::square(1, 13, 256, 192, 3).with(1, [1; 4]), None);
        check_conv(&device, Conv::square(1, 13, 256, 192, 3).with(1, [1; 4]), Some((1, 2)));
        check_conv(&device, Conv::square(1, 13, 192, 192, 3).with(1, [1; 4]), None);
        check_conv(&device, Conv::square(2, 13, 192, 128, 3).with(1, [1; 4]), None);
        // Both towers in one: two groups.
        let conv4 = Conv::square(1, 13, 384, 384, 3).with(1, [1; 4]);
        check_conv(&device, Conv { groups: 2, ..conv4 }, None);
    });
}

#[test]
fn the_papers_fc6_and_fc8() {
    standin::run("the_papers_fc6_and_fc8", &[], || {
        let device = device(0);
        check_conv(&device, Conv { relu: true, ..Conv::fc(2, 9216, 2048) }, None);
        check_conv(&device, Conv::fc(2, 4096, 1000), None);
    });
}

#[test]
fn gradient_to_a_bias() {
    standin::run("gradient_to_a_bias", &[("STANDIN_ORDER", "random")], || {
        let device = device(0);
        for (rows, columns, splits) in [(1, 1, 1), (37, 5, 3), (1000, 48, 7), (169, 192, 4)] {
            let x = noise(rows * columns, 1);
            let shape = constants(&[("ROWS", rows), ("COLUMNS", columns), ("SPLITS", splits)]);
            let kernel = |name| device.kernel(kernels::REDUCE, &shape, name).unwrap();
            let input = device.buffer_of(&x).unwrap();
            let parts = device.buffer::<f32>(splits * columns).unwrap();
            let out = device.buffer::<f32>(columns).unwrap();
            unsafe {
                let grid = (columns.div_ceil(32), splits, 1);
                let sums = kernel("column_sums");
                let launch = sums.arguments().buffer(&input).buffer(&parts);
                launch.on(&device.compute, grid, (32, 8, 1)).unwrap();
                let reduce = kernel("reduce_splits");
                let launch = reduce.arguments().buffer(&parts).nothing().buffer(&out);
                launch.on_each(&device.compute, columns).unwrap();
            }
            let mut want = vec![0f64; columns];
            x.iter().enumerate().for_each(|(i, x)| want[i % columns] += f64::from(*x));
            near("column sums", &read(&device, &out), &want, 1e-5);
        }
    });
}

// ---- the other layers -------------------------------------------------------------------------

#[test]
fn response_normalisation() {
    standin::run("response_normalisation", &[("STANDIN_ORDER", "random")], || {
        let device = device(0);
        // Paper: k 2, n 5, alpha 1e-4, beta 0.75 over conv1's 48 maps of a tower; the rest is odd.
        for (shape, size, within, k, alpha, beta) in [
            ([1, 55, 55, 48], 5, 0, 2.0, 1e-4, 0.75),
            ([2, 3, 4, 7], 5, 0, 1.0, 0.5, 0.75),
            ([1, 2, 3, 2], 9, 0, 2.0, 0.3, 0.5),
            ([2, 3, 3, 5], 4, 0, 1.5, 0.2, 1.25),
            ([2, 6, 5, 3], 5, 1, 1.0, 0.1, 0.75),
            ([1, 4, 4, 4], 3, 1, 2.0, 0.7, 0.75),
        ] {
            let [n, h, w, c] = shape;
            let len = n * h * w * c;
            let (x, dy) = (noise(len, 1), noise(len, 2));
            let mut all = constants(&[
                ("IMAGES", n),
                ("H", h),
                ("W", w),
                ("C", c),
                ("SIZE", size),
                ("WITHIN", within),
            ]);
            all.extend(
                [("K", k), ("ALPHA", alpha), ("BETA", beta)].map(|(n, v)| (n, format!("{v:?}"))),
            );
            let [x_gpu, dy_gpu] = [&x, &dy].map(|v| device.buffer_of(v).unwrap());
            let [scale, y, dx] = [(); 3].map(|()| device.buffer::<f32>(len).unwrap());
            let kernel = |name| device.kernel(kernels::LRN, &all, name).unwrap();
            unsafe {
                let forward = kernel("lrn_forward");
                let launch = forward.arguments().buffer(&x_gpu).buffer(&scale).buffer(&y);
                launch.on_each(&device.compute, len).unwrap();
                let backward = kernel("lrn_backward");
                let launch = backward.arguments().buffer(&x_gpu).buffer(&scale);
                launch.buffer(&dy_gpu).buffer(&dx).on_each(&device.compute, len).unwrap();
            }

            // neighbours(i): by the definition, asking every element of the image.
            let half = size / 2;
            let at = |i: usize| [i / c / w / h, i / c / w % h, i / c % w, i % c];
            let neighbours = |i: usize| {
                let [n0, y0, x0, c0] = at(i);
                let image = n0 * h * w * c..(n0 + 1) * h * w * c;
                let candidates = if within == 1 { image } else { i - c0..i - c0 + c };
                candidates.filter(move |&j| {
                    let [_, y1, x1, c1] = at(j);
                    if within == 1 {
                        c0 == c1 && y0.abs_diff(y1) <= half && x0.abs_diff(x1) <= half
                    } else {
                        c0.abs_diff(c1) <= half
                    }
                })
            };
            let f = |v: &[f32], i: usize| f64::from(v[i]);
            let d: Vec<f64> = (0..len)
                .map(|i| k + alpha * neighbours(i).map(|j| f(&x, j) * f(&x, j)).sum::<f64>())
                .collect();
            let want_y: Vec<f64> = (0..len).map(|i| f(&x, i) * d[i].powf(-beta)).collect();
            // The derivative of each y_j to x_i, by the quotient rule.
            let want_dx: Vec<f64> = (0..len)
                .map(|i| {
                    let through = |j: usize| {
                        -2.0 * alpha
                            * beta
                            * f(&x, i)
                            * f(&x, j)
                            * d[j].powf(-beta - 1.0)
                            * f(&dy, j)
                    };
                    f(&dy, i) * d[i].powf(-beta) + neighbours(i).map(through).sum::<f64>()
                })
                .collect();
            near("lrn forward", &read(&device, &y), &want_y, 1e-6);
            near("lrn backward", &read(&device, &dx), &want_dx, 1e-6);
        }
    });
}

#[test]
fn pooling() {
    standin::run("pooling", &[("STANDIN_ORDER", "random")], || {
        let device = device(0);
        // Images, height, width, channels, window, stride, padding; the first is the paper's pool1.
        for [n, h, w, c, size, stride, pad] in [
            [1, 55, 55, 48, 3, 2, 0],
            [2, 8, 7, 3, 3, 2, 0],
            [1, 5, 9, 2, 2, 2, 0],
            [2, 6, 6, 5, 3, 1, 1],
            [1, 7, 7, 1, 2, 3, 0],
            [1, 24, 24, 4, 3, 2, 0],
        ] {
            // Output rounded up, as long as the last window begins inside the padded map.
            let out = |extent: usize| (extent + 2 * pad - size).div_ceil(stride) + 1;
            let (oh, ow) = (out(h), out(w));
            let (inputs, outputs) = (n * h * w * c, n * oh * ow * c);
            // Few different values, so that equal maxima are common.
            let x: Vec<f32> = noise(inputs, 1).iter().map(|v| (v * 3.0).round()).collect();
            let dy = noise(outputs, 2);
            let all = constants(&[
                ("IMAGES", n),
                ("IN_H", h),
                ("IN_W", w),
                ("C", c),
                ("OUT_H", oh),
                ("OUT_W", ow),
                ("SIZE", size),
                ("STRIDE", stride),
                ("PAD_TOP", pad),
                ("PAD_LEFT", pad),
            ]);
            let kernel = |name| device.kernel(kernels::POOL, &all, name).unwrap();
            let [x_gpu, dy_gpu] = [&x, &dy].map(|v| device.buffer_of(v).unwrap());
            let choice = device.buffer::<u16>(outputs).unwrap();
            let [y_max, y_average] = [(); 2].map(|()| device.buffer::<f32>(outputs).unwrap());
            let [dx_max, dx_average] = [(); 2].map(|()| device.buffer::<f32>(inputs).unwrap());
            unsafe {
                let (on, k) = (&device.compute, kernel("max_forward"));
                let launch = k.arguments().buffer(&x_gpu).buffer(&y_max).buffer(&choice);
                launch.on_each(on, outputs).unwrap();
                let k = kernel("max_backward");
                let launch = k.arguments().buffer(&dy_gpu).buffer(&choice).buffer(&dx_max);
                launch.on_each(on, inputs).unwrap();
                let k = kernel("average_forward");
                k.arguments().buffer(&x_gpu).buffer(&y_average).on_each(on, outputs).unwrap();
                let k = kernel("average_backward");
                k.arguments().buffer(&dy_gpu).buffer(&dx_average).on_each(on, inputs).unwrap();
            }

            let (mut want_max, mut want_average) = (vec![0f64; outputs], vec![0f64; outputs]);
            let (mut want_dmax, mut want_daverage) = (vec![0f64; inputs], vec![0f64; inputs]);
            for o in 0..outputs {
                let (image, oy, ox, channel) =
                    (o / c / ow / oh, o / c / ow % oh, o / c % ow, o % c);
                let pixels: Vec<usize> = (0..size * size)
                    .filter_map(|k| {
                        let y = (oy * stride + k / size).checked_sub(pad).filter(|&y| y < h)?;
                        let x = (ox * stride + k % size).checked_sub(pad).filter(|&x| x < w)?;
                        Some(((image * h + y) * w + x) * c + channel)
                    })
                    .collect();
                let mut first = pixels[0];
                for &i in &pixels {
                    first = if x[i] > x[first] { i } else { first };
                    want_average[o] += f64::from(x[i]) / pixels.len() as f64;
                    want_daverage[i] += f64::from(dy[o]) / pixels.len() as f64;
                }
                want_max[o] = f64::from(x[first]);
                want_dmax[first] += f64::from(dy[o]);
            }
            near("max forward", &read(&device, &y_max), &want_max, 0.0);
            near("max backward", &read(&device, &dx_max), &want_dmax, 1e-6);
            near("average forward", &read(&device, &y_average), &want_average, 1e-6);
            near("average backward", &read(&device, &dx_average), &want_daverage, 1e-6);
        }
    });
}

#[test]
fn activations() {
    standin::run("activations", &[], || {
        let device = device(0);
        let len = 777;
        let x: Vec<f32> = noise(len, 1).iter().map(|v| v * 5.0).collect();
        let dy = noise(len, 2);
        let [x_gpu, dy_gpu] = [&x, &dy].map(|v| device.buffer_of(v).unwrap());
        let [y, dx] = [(); 2].map(|()| device.buffer::<f32>(len).unwrap());
        let kernel = |name: &str| {
            device.kernel(kernels::ELEMENTWISE, &constants(&[("COUNT", len)]), name).unwrap()
        };
        type Function = fn(f64) -> f64;
        let reference: [(&str, Function, Function); 2] = [
            ("relu", |x| x.max(0.0), |x| f64::from(u8::from(x > 0.0))),
            ("tanh", f64::tanh, |x| 1.0 - x.tanh() * x.tanh()),
        ];
        for (name, value, slope) in reference {
            unsafe {
                let k = kernel(&format!("{name}_forward"));
                k.arguments().buffer(&x_gpu).buffer(&y).on_each(&device.compute, len).unwrap();
                let k = kernel(&format!("{name}_backward"));
                let launch = k.arguments().buffer(&y).buffer(&dy_gpu).buffer(&dx);
                launch.on_each(&device.compute, len).unwrap();
            }
            let want_y: Vec<f64> = x.iter().map(|&x| value(x.into())).collect();
            let want_dx: Vec<f64> =
                x.iter().zip(&dy).map(|(&x, &d)| f64::from(d) * slope(x.into())).collect();
            near(name, &read(&device, &y), &want_y, 1e-6);
            near(name, &read(&device, &dx), &want_dx, 1e-6);
        }
        let k = kernel("scale");
        unsafe {
            let launch = k.arguments().buffer(&x_gpu).float(0.5).buffer(&y);
            launch.on_each(&device.compute, len).unwrap();
        }
        assert_eq!(read(&device, &y), x.iter().map(|x| x * 0.5).collect::<Vec<_>>());
    });
}

#[test]
fn dropout_keeps_what_the_cpu_keeps() {
    standin::run("dropout_keeps_what_the_cpu_keeps", &[], || {
        let device = device(0);
        // A tower with 5 of 12 channels from the third on, of a layer with 2 x 3 pixels.
        let (images, pixels, c, joined, channel) = (4, 6, 5, 12, 3);
        let (seed, step, first_image, purpose) = (0x1234_5678_9abc_def0u64, 17, 256, 0x0212_3456);
        let (threshold, len) = (1u32 << 30, images * pixels * c);
        let mut all = constants(&[
            ("IMAGES", images),
            ("PIXELS", pixels),
            ("C", c),
            ("JOINED_C", joined),
            ("CHANNEL", channel),
        ]);
        all.push(("PURPOSE", format!("{purpose}u")));
        let x = noise(len, 1);
        let x_gpu = device.buffer_of(&x).unwrap();
        let y = device.buffer::<f32>(len).unwrap();
        let kernel = device.kernel(kernels::DROPOUT, &all, "dropout").unwrap();
        let launch = kernel.arguments().buffer(&x_gpu).word(threshold);
        let launch =
            launch.word(seed as u32).word((seed >> 32) as u32).word(step).word(first_image);
        unsafe { launch.buffer(&y).on_each(&device.compute, len).unwrap() };
        let want: Vec<f32> = (0..len)
            .map(|i| {
                let (image, pixel) = (i / c / pixels, i / c % pixels);
                let neuron = (pixel * joined + channel + i % c) as u32;
                let counter = [neuron / 4, first_image + image as u32, step, purpose];
                let words = alexnet::random::philox(counter, [seed as u32, (seed >> 32) as u32]);
                if words[neuron as usize % 4] >= threshold { x[i] } else { 0.0 }
            })
            .collect();
        assert_eq!(read(&device, &y), want);
        let kept = want.iter().filter(|&&y| y != 0.0).count();
        assert!((60..=110).contains(&kept), "{kept} of {len} kept at a rate of a quarter");
    });
}

#[test]
fn softmax_loss_and_errors() {
    standin::run("softmax_loss_and_errors", &[("STANDIN_ORDER", "random")], || {
        let device = device(0);
        for (images, classes, real) in [(3, 10, 3), (5, 1000, 4), (40, 7, 40)] {
            // Coarse values, so that classes tie.
            let x: Vec<f32> =
                noise(images * classes, 1).iter().map(|v| (v * 20.0).round() / 2.0).collect();
            let labels: Vec<i32> = (0..images).map(|i| (i * 7 % classes) as i32).collect();
            let all =
                constants(&[("IMAGES", images), ("CLASSES", classes), ("TOP", 5), ("TRAINING", 1)]);
            let kernel = |name| device.kernel(kernels::SOFTMAX, &all, name).unwrap();
            let (x_gpu, label) =
                (device.buffer_of(&x).unwrap(), device.buffer_of(&labels).unwrap());
            let [p, dx] = [(); 2].map(|()| device.buffer::<f32>(images * classes).unwrap());
            let scores = device.buffer::<f32>(images * 3).unwrap();
            let totals = device.buffer::<f32>(3).unwrap();
            unsafe {
                let k = kernel("softmax");
                let launch = k.arguments().buffer(&x_gpu).buffer(&label).word(real as u32);
                let launch = launch.float(real as f32).buffer(&p).buffer(&dx).buffer(&scores);
                launch.on(&device.compute, (images, 1, 1), (256, 1, 1)).unwrap();
                let k = kernel("sum_scores");
                let launch = k.arguments().buffer(&scores).buffer(&totals);
                launch.on(&device.compute, (1, 1, 1), (32, 1, 1)).unwrap();
            }
            let (mut want_p, mut want_dx, mut want_totals) = (vec![], vec![], [0f64; 3]);
            for (image, row) in x.chunks(classes).enumerate() {
                let sum: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
                let right = labels[image] as usize;
                let before = (0..classes)
                    .filter(|&c| row[c] > row[right] || (row[c] == row[right] && c < right))
                    .count();
                for (c, &x) in row.iter().enumerate() {
                    let p = f64::from(x).exp() / sum;
                    want_p.push(p);
                    let gradient = (p - f64::from(u8::from(c == right))) / real as f64;
                    want_dx.push(if image < real { gradient } else { 0.0 });
                }
                if image < real {
                    want_totals[0] -= (f64::from(row[right]).exp() / sum).ln();
                    want_totals[1] += f64::from(u8::from(before >= 1));
                    want_totals[2] += f64::from(u8::from(before >= 5));
                }
            }
            near("probabilities", &read(&device, &p), &want_p, 1e-6);
            near("gradient", &read(&device, &dx), &want_dx, 1e-6);
            let got = read(&device, &totals);
            assert!((f64::from(got[0]) / want_totals[0] - 1.0).abs() < 1e-6, "{got:?}");
            assert_eq!([got[1], got[2]].map(f64::from), [want_totals[1], want_totals[2]]);
        }
    });
}

#[test]
fn joining_and_splitting_towers() {
    standin::run("joining_and_splitting_towers", &[], || {
        let device = device(0);
        let (pixels, c, joined_c, channel) = (13, 5, 12, 4);
        let all = constants(&[
            ("PIXELS", pixels),
            ("C", c),
            ("JOINED_C", joined_c),
            ("CHANNEL", channel),
        ]);
        let run = |name, from: &Buffer<f32>, to: &Buffer<f32>| {
            let kernel = device.kernel(kernels::TOWERS, &all, name).unwrap();
            let launch = kernel.arguments().buffer(from).buffer(to);
            unsafe { launch.on_each(&device.compute, pixels * c).unwrap() };
        };
        let (part, other, whole) =
            (noise(pixels * c, 1), noise(pixels * c, 2), noise(pixels * joined_c, 3));
        let inside = |i: usize| i / c * joined_c + channel + i % c;
        let [part_gpu, other_gpu, whole_gpu] =
            [&part, &other, &whole].map(|v| device.buffer_of(v).unwrap());

        let mut want = whole.clone();
        part.iter().enumerate().for_each(|(i, &v)| want[inside(i)] = v);
        run("join", &part_gpu, &whole_gpu);
        assert_eq!(read(&device, &whole_gpu), want);

        run("take_add", &whole_gpu, &other_gpu);
        let want: Vec<f32> = part.iter().zip(&other).map(|(a, b)| a + b).collect();
        assert_eq!(read(&device, &other_gpu), want);

        run("take", &whole_gpu, &other_gpu);
        assert_eq!(read(&device, &other_gpu), part);

        run("add", &part_gpu, &other_gpu);
        assert_eq!(read(&device, &other_gpu), part.iter().map(|v| v + v).collect::<Vec<_>>());
    });
}
