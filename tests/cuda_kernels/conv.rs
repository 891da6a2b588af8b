//! The three products of a convolution, locally or fully connected layer (`kernels/conv_*.cu`),
//! launched as the layers do or with a given tile, and compared with sums in f64.

use super::standin::to_tf32;
use super::{constants, each, launch, near, noise, read};
use alexnet::gpu::compile::Constant;
use alexnet::gpu::device::Device;
use alexnet::gpu::format::Format;
use alexnet::gpu::kernels::KernelSource;
use alexnet::gpu::memory::Buffer;
use alexnet::gpu::precision::Precision;
use alexnet::gpu::product::{ProductShape, TILES, Tiling};
use alexnet::kernel_source;
use alexnet::layers::window::cuda::{wide_windows, windows_depth};

/// A convolution as the config has it; `local`: weights of its own at every place.
#[derive(Clone, Copy, Debug)]
pub struct Conv {
    pub images: usize,
    pub input: [usize; 3], // height, width, channels
    pub output: [usize; 3],
    pub kernel: [usize; 2], // height, width
    pub stride: usize,
    pub padding: [usize; 2], // top, left
    pub groups: usize,
    pub local: bool,
    pub relu: bool,
}

impl Conv {
    /// A fully connected layer.
    pub fn fc(images: usize, inputs: usize, outputs: usize) -> Conv {
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
    pub fn square(
        images: usize,
        size: usize,
        channels: usize,
        kernels: usize,
        kernel: usize,
    ) -> Conv {
        let mut conv = Conv::fc(images, channels, kernels);
        conv.input = [size, size, channels];
        conv.kernel = [kernel, kernel];
        conv.with(1, [0, 0, 0, 0])
    }

    /// This stride, and padding top, bottom, left, right.
    pub fn with(mut self, stride: usize, [top, bottom, left, right]: [usize; 4]) -> Conv {
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

impl Conv {
    /// The constants of `kernels/patches.cuh`.
    fn shape(&self) -> Vec<Constant> {
        constants(&[
            ("IMAGES", self.images),
            ("IN_H", self.input[0]),
            ("IN_W", self.input[1]),
            ("IN_C", self.input[2]),
            ("OUT_H", self.output[0]),
            ("OUT_W", self.output[1]),
            ("OUT_C", self.output[2]),
            ("KERNEL_H", self.kernel[0]),
            ("KERNEL_W", self.kernel[1]),
            ("STRIDE", self.stride),
            ("PAD_TOP", self.padding[0]),
            ("PAD_LEFT", self.padding[1]),
            ("GROUPS", self.groups),
            ("LOCAL", self.local.into()),
            ("RELU", self.relu.into()),
        ])
    }

    /// Of the forward pass, the gradient to the input, and the gradient to the weights.
    fn products(&self, precision: Precision) -> [ProductShape; 3] {
        let [ih, iw, ic] = self.input;
        let (gi, go) = (ic / self.groups, self.output[2] / self.groups);
        let (left, pack) = (self.padding[1], precision.pack());
        let depth = windows_depth(self.kernel, [iw, ic], self.groups, self.stride, left, pack);
        let (pixels, outputs) = (self.images * ih * iw, self.images * self.places());
        let product = |lines: usize, columns, depth| ProductShape {
            lines: if self.local { self.images } else { lines },
            columns,
            depth,
            count: self.groups * if self.local { self.places() } else { 1 },
            wide: wide_windows([iw, ic], self.groups, self.stride, left, pack),
            may_split: !self.local,
            precision,
        };
        let input = ProductShape {
            count: self.groups * if self.local { ih * iw } else { 1 },
            wide: self.output[2].is_multiple_of(pack) && go.is_multiple_of(pack),
            ..product(pixels, gi, self.kernel[0] * self.kernel[1] * go)
        };
        let over = if self.local { self.images } else { outputs };
        let weights = ProductShape { lines: depth, ..product(depth, go, over) };
        [product(outputs, go, depth), input, weights]
    }

    /// What they should give: y, dx and dw, from x, weights, biases and dy.
    fn expected(&self, [x, w, b, dy]: [&[f32]; 4]) -> [Vec<f64>; 3] {
        let of = |v: &[f32], i: usize| f64::from(v[i]);
        let mut y: Vec<f64> = (0..self.outputs()).map(|i| of(b, i % self.biases())).collect();
        let (mut dx, mut dw) = (vec![0f64; x.len()], vec![0f64; w.len()]);
        self.each(|i, k, o| {
            y[o] += of(x, i) * of(w, k);
            dx[i] += of(dy, o) * of(w, k);
            dw[k] += of(dy, o) * of(x, i);
        });
        if self.relu {
            y.iter_mut().for_each(|y| *y = y.max(0.0));
        }
        [y, dx, dw]
    }
}

/// A product's launch on a device: the layer, the kernel, and how it is shared out.
struct Product<'a> {
    device: &'a Device,
    conv: &'a Conv,
    source: KernelSource,
    name: &'static str,
    tiling: Tiling,
}

impl Product<'_> {
    /// Its `out` values from `inputs`, with the reduction of its parts, where it leaves some, which
    /// ends in `bias` if there is one. `format`: how they are written.
    fn run(
        &self,
        inputs: &[&Input<'_>],
        bias: Option<&Buffer<f32>>,
        out: usize,
        format: Format,
    ) -> Vec<f32> {
        let (device, splits) = (self.device, self.tiling.splits);
        let mut all = self.conv.shape();
        all.extend(self.tiling.constants());
        let grid = self.tiling.grid();
        let bytes = if splits == 1 { out * format.bytes() } else { out * splits * 4 };
        let parts = device.buffer::<u8>(bytes).unwrap();
        let kernel = device.kernel(self.source, &all, self.name).unwrap();
        kernel.allow_shared(self.tiling.shared()).unwrap();
        let queued = inputs.iter().fold(kernel.arguments(), |a, input| match input {
            Input::Real(buffer) => a.buffer(buffer),
            Input::Float(buffer) => a.buffer(buffer),
        });
        let queued = queued.buffer(&parts).with_shared(self.tiling.shared());
        // SAFETY: the callers give the kernel's inputs in its order, of the layer's sizes; `parts`
        // has room for the result or its parts.
        unsafe { queued.on(&device.compute, grid, self.tiling.block()).unwrap() };
        let read = |buffer: &Buffer<u8>, format: Format| {
            let mut bytes = vec![0; out * format.bytes()];
            device.compute.read(buffer, &mut bytes).unwrap();
            format.decode(&bytes)
        };
        if splits == 1 {
            return read(&parts, format);
        }
        let mut reduce = constants(&[
            ("COUNT", out),
            ("SPLITS", splits),
            ("BIAS", bias.is_some().into()),
            ("RELU", (bias.is_some() && self.conv.relu).into()),
            ("BIAS_LENGTH", self.conv.biases()),
            ("OUT_REAL", 1),
        ]);
        if format == Format::Bf16 {
            reduce.extend(constants(&[("BF16", 1)]));
        }
        let sum = device.buffer::<u8>(out * format.bytes()).unwrap();
        launch(device, (kernel_source!("reduce.cu"), &reduce, "reduce_splits"), each(out), |a| {
            a.buffer(&parts).optional(bias).nothing().buffer(&sum)
        });
        read(&sum, format)
    }
}

impl Product<'_> {
    /// The gradients to weights and biases from x and dy.
    fn with_biases(&self, inputs: &[&Input<'_>; 2]) -> [Vec<f32>; 2] {
        let (device, splits) = (self.device, self.tiling.splits);
        let sizes @ [weights, biases] = [self.conv.weights(), self.conv.biases()];
        let mut all = self.conv.shape();
        all.extend(self.tiling.constants());
        all.extend(constants(&[("BIASES", biases)]));
        let [dw, db] = sizes.map(|len| device.buffer_of(&vec![f32::NAN; len]).unwrap());
        let parts = device.buffer::<f32>(splits * (weights + biases)).unwrap();
        let kernel = device.kernel(self.source, &all, self.name).unwrap();
        kernel.allow_shared(self.tiling.shared()).unwrap();
        let queued = inputs.iter().fold(kernel.arguments(), |a, input| match input {
            Input::Real(buffer) => a.buffer(buffer),
            Input::Float(buffer) => a.buffer(buffer),
        });
        let queued = queued.buffer(if splits == 1 { &dw } else { &parts }).buffer(&db);
        let grid = self.tiling.grid_with_biases(self.conv.local);
        let queued = queued.with_shared(self.tiling.shared());
        // SAFETY: x, dy, the results or their parts, and the biases' gradient, of the layer's
        // sizes.
        unsafe { queued.on(&device.compute, grid, self.tiling.block()).unwrap() };
        if splits > 1 {
            let reduce = [("COUNT", weights), ("SPLITS", splits), ("BIASES", biases)];
            let blocks = weights.div_ceil(4).div_ceil(256) + biases.div_ceil(256);
            let kernel = (kernel_source!("reduce.cu"), &constants(&reduce)[..], "reduce_splits");
            launch(device, kernel, ((blocks, 1, 1), (256, 1, 1)), |a| {
                a.buffer(&parts).nothing().nothing().buffer(&dw).buffer(&db)
            });
        }
        [dw, db].map(|buffer| read(device, &buffer))
    }
}

/// What a product reads.
enum Input<'a> {
    Real(&'a Buffer<u8>),
    Float(&'a Buffer<f32>),
}

/// Runs the three products of `c` and compares them with sums in f64. `tile`: this one of the tiles
/// with this many splits, instead of the chosen plan.
pub fn check(device: &Device, c: Conv, tile: Option<(usize, usize)>) {
    check_in(tile.map_or(Precision::F32, |(tile, _)| TILES[tile].precision()), device, c, tile);
}

/// As [`check`], with factors in `precision`: the sums in f64 are of factors rounded the same way.
pub fn check_in(precision: Precision, device: &Device, c: Conv, tile: Option<(usize, usize)>) {
    check_way(precision, device, c, (tile, false));
}

/// As [`check_in`], with places along x.
pub fn check_along_x(precision: Precision, device: &Device, c: Conv) {
    check_way(precision, device, c, (None, true));
}

/// The forward pass alone, in f32.
pub fn check_forward(device: &Device, c: Conv) {
    let [x, w, b] =
        [(c.inputs(), 1), (c.weights(), 2), (c.biases(), 3)].map(|(len, seed)| noise(len, seed));
    let [forward, _, _] = c.products(Precision::F32);
    let tiling = Tiling::choose(forward, 108);
    let (source, name) = (kernel_source!("conv_forward.cu"), "conv_forward");
    let product = Product { device, conv: &c, source, name, tiling };
    let [x_gpu, w_gpu] =
        [&x, &w].map(|values| device.buffer_of(&Format::Float.encode(values)).unwrap());
    let b_gpu = device.buffer_of(&b).unwrap();
    let inputs = [Input::Real(&x_gpu), Input::Real(&w_gpu), Input::Float(&b_gpu)];
    let y = product.run(&inputs.each_ref(), Some(&b_gpu), c.outputs(), Format::Float);
    let [want, ..] = c.expected([&x, &w, &b, &vec![0.0; c.outputs()]]);
    near(&format!("forward of {c:?}"), &y, &want, 2e-6);
}

/// `way`: the tile with its splits, if a certain one is meant, and whether places stand along x, as
/// where there are more than fit along z.
fn check_way(
    precision: Precision,
    device: &Device,
    c: Conv,
    (tile, along_x): (Option<(usize, usize)>, bool),
) {
    let format = precision.format();
    let rounded = |values: Vec<f32>| match precision {
        Precision::F32 => values,
        Precision::Tf32 => values.iter().map(|&v| to_tf32(v)).collect(),
        Precision::Bf16 => format.decode(&format.encode(&values)),
    };
    let b = noise(c.biases(), 3);
    let [x, w, dy] =
        [(c.inputs(), 1), (c.weights(), 2), (c.outputs(), 4)].map(|(len, seed)| noise(len, seed));
    let [x_gpu, w_gpu, dy_gpu] =
        [&x, &w, &dy].map(|values| device.buffer_of(&format.encode(values)).unwrap());
    let b_gpu = device.buffer_of(&b).unwrap();
    let [x_gpu, w_gpu, dy_gpu] = [&x_gpu, &w_gpu, &dy_gpu].map(Input::Real);
    let tiling = |product| match tile {
        Some((tile, splits)) => Tiling::new(product, TILES[tile], if c.local { 1 } else { splits }),
        None => Tiling::choose(product, 108),
    };
    let product = |source, name, product| Product {
        device,
        conv: &c,
        source,
        name,
        tiling: if along_x { tiling(product).along_x() } else { tiling(product) },
    };
    let [forward, input, weights] = c.products(precision);
    let y = product(kernel_source!("conv_forward.cu"), "conv_forward", forward).run(
        &[&x_gpu, &w_gpu, &Input::Float(&b_gpu)],
        Some(&b_gpu),
        c.outputs(),
        format,
    );
    let dx = product(kernel_source!("conv_backward_input.cu"), "conv_backward_input", input).run(
        &[&dy_gpu, &w_gpu, &x_gpu],
        None,
        c.inputs(),
        format,
    );
    let weights =
        product(kernel_source!("conv_backward_weights.cu"), "conv_backward_weights", weights);
    let dw = weights.run(&[&x_gpu, &dy_gpu], None, c.weights(), Format::Float);
    let [dw_with, db] = weights.with_biases(&[&x_gpu, &dy_gpu]);

    let mut want_db = vec![0f64; db.len()];
    let stored_dy = format.decode(&format.encode(&dy));
    stored_dy.iter().enumerate().for_each(|(i, &dy)| want_db[i % c.biases()] += f64::from(dy));
    let [x, w, dy] = [x, w, dy].map(rounded);
    let [want_y, want_dx, want_dw] = c.expected([&x, &w, &b, &dy]);
    let what = |product: &str| format!("{product} of {c:?} in {precision:?} with tile {tile:?}");
    // Tensor cores cut sums off where multiply-add units round them; a result in bfloat16 is
    // rounded to 8 bits.
    let tolerance = if precision == Precision::F32 { 2e-6 } else { 1e-5 };
    let stored = if format == Format::Bf16 { 4e-3 } else { tolerance };
    near(&what("forward"), &y, &want_y, stored);
    near(&what("gradient to the input"), &dx, &want_dx, stored);
    near(&what("gradient to the weights"), &dw, &want_dw, tolerance);
    // Beside the sums over the columns of dy the product keeps its bits.
    assert!(dw == dw_with, "{}", what("gradient to the weights with biases"));
    // Not a product: what is stored is added up as it is.
    near(&what("gradient to the biases"), &db, &want_db, tolerance);
}
