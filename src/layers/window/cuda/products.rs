//! Each product of one layer: its shape, how it is shared out, and what its kernels are compiled
//! with.

use super::Step;
use crate::gpu::compile::Constant;
use crate::gpu::format::Format;
use crate::gpu::kernels::KernelSource;
use crate::gpu::launch::{Launch, constants};
use crate::gpu::product::{ProductShape, Tiling};
use crate::kernel_source;
use crate::layers::cuda::LaunchContext;
use crate::layers::window::Window;

/// Adds up the parts of a sum.
const REDUCE: KernelSource = kernel_source!("reduce.cu");

/// The matrix products of one layer: what all of them have in common, and each one's shape.
pub(super) struct Products<'a> {
    window: &'a Window,
    local: bool,
    context: &'a LaunchContext,
    /// Elements of a window as the kernels count them.
    depth: usize,
    /// Channels of the input as they are stored.
    pub(super) stored: usize,
    /// Biases of the layer: one for each kernel, at every place of a local layer.
    biases: usize,
    /// The convolution's shape, for `kernels/patches.cuh`.
    shape: Vec<Constant>,
}

impl Products<'_> {
    pub(super) fn new<'a>(w: &'a Window, local: bool, context: &'a LaunchContext) -> Products<'a> {
        let Window { input, output, size, stride, top, left, groups } = *w;
        let stored = context.stored_channels.unwrap_or(input.channels);
        // How activations are stored is among the constants of a tiling.
        let mut shape = constants(&[
            ("IMAGES", context.images),
            ("IN_H", input.height),
            ("IN_W", input.width),
            ("IN_C", stored),
            ("REAL_C", input.channels / groups),
            ("OUT_H", output.height),
            ("OUT_W", output.width),
            ("OUT_C", output.channels),
            ("KERNEL_H", size),
            ("KERNEL_W", size),
            ("STRIDE", stride),
            ("PAD_TOP", top),
            ("PAD_LEFT", left),
            ("GROUPS", groups),
            ("LOCAL", local.into()),
        ]);
        shape.extend(context.towers());
        let pack = context.precision.pack();
        let depth = windows_depth([size, size], [input.width, stored], groups, stride, left, pack);
        let biases = output.channels * if local { output.pixels() } else { 1 };
        Products { window: w, local, context, depth, stored, biases, shape }
    }

    /// One product a group, and a place of a local layer, whose lines are the images; else lines
    /// are `pixels` of every image.
    fn product(&self, pixels: usize, columns: usize, depth: usize) -> ProductShape {
        let (w, images) = (self.window, self.context.images);
        ProductShape {
            lines: if self.local { images } else { images * pixels },
            columns,
            depth,
            count: w.groups * if self.local { pixels } else { 1 },
            wide: wide_windows(
                [w.input.width, self.stored],
                w.groups,
                w.stride,
                w.left,
                self.pack(),
            ),
            may_split: !self.local,
            precision: self.context.precision,
        }
    }

    fn pack(&self) -> usize {
        self.context.precision.pack()
    }

    /// Bytes of the weights as products read them.
    fn factors(&self) -> usize {
        let w = self.window;
        self.context.bytes(w.size * w.size * self.stored / w.groups * self.biases)
    }

    /// Bytes of a batch's input, and of its output or the gradient there.
    fn activations(&self) -> [usize; 2] {
        let (w, images) = (self.window, self.context.images);
        let both = [w.input.pixels() * self.stored, w.output.len()];
        both.map(|values| self.context.bytes(images * values))
    }

    /// `out` values, in all so many `bytes`, by the kernel `name`, which reads so many bytes; what a
    /// whole sum ends in is said by the constants `finish`. With `biases` it sums up as many
    /// columns of the gradient beside the product.
    fn step(
        &self,
        source: KernelSource,
        name: &'static str,
        product: ProductShape,
        (reads, out, bytes): (usize, usize, usize),
        finish: &[Constant],
        biases: usize,
    ) -> Step {
        let lines = product.lines * self.context.portions;
        let whole = Tiling::choose(ProductShape { lines, ..product }, self.context.multiprocessors);
        let tiling = Tiling::new(product, whole.tile(), whole.splits);
        let mut all = self.shape.clone();
        all.extend_from_slice(finish);
        all.extend(tiling.constants());
        let grid = match biases {
            0 => tiling.grid(),
            _ => tiling.grid_with_biases(self.local),
        };
        let work = Launch::new(source, all, name, grid, tiling.block());
        let work = work.with_shared(tiling.shared()).moving(reads);
        self.reduced(work, (out, bytes), tiling.splits, finish, biases)
    }

    /// Lines are the output's pixels, columns the kernels of a group.
    pub(super) fn forward(&self) -> Step {
        let w = self.window;
        let product = self.product(w.output.pixels(), w.group_outputs(), self.depth);
        let relu = self.context.relu.into();
        let float = usize::from(self.context.float_output);
        let finish = constants(&[
            ("BIAS", 1),
            ("RELU", relu),
            ("BIAS_LENGTH", self.biases),
            ("OUT_FLOAT", float),
            ("OUT_REAL", 1 - float),
        ]);
        let outputs = self.context.images * w.output.len();
        let [input, output] = self.activations();
        let output = if float == 1 { outputs * size_of::<f32>() } else { output };
        let moves = (input + self.factors(), outputs, output);
        self.step(kernel_source!("conv_forward.cu"), "conv_forward", product, moves, &finish, 0)
    }

    /// Lines are the input's pixels, columns the input channels of a group.
    pub(super) fn backward_input(&self) -> Step {
        let (w, kernels) = (self.window, self.window.group_outputs());
        let product = ProductShape {
            wide: [w.output.channels, kernels].iter().all(|n| n.is_multiple_of(self.pack())),
            ..self.product(w.input.pixels(), self.stored / w.groups, w.size * w.size * kernels)
        };
        let inputs = self.context.images * w.input.pixels() * self.stored;
        let source = kernel_source!("conv_backward_input.cu");
        let finish = constants(&[("MASK", self.context.mask.into()), ("OUT_REAL", 1)]);
        let [input, output] = self.activations();
        let masks = if self.context.mask { input } else { 0 };
        let moves = (output + self.factors() + masks, inputs, input);
        self.step(source, "conv_backward_input", product, moves, &finish, 0)
    }

    /// Lines are the elements of a window, columns the kernels of a group; the sum is over pixels.
    /// The gradient to the biases comes with it, and its update.
    pub(super) fn backward_weights(&self) -> (Step, Option<Launch>) {
        let w = self.window;
        let over = self.product(w.output.pixels(), w.group_outputs(), 0);
        let product = ProductShape { lines: self.depth, depth: over.lines, ..over };
        let (weights, biases) = (w.patch() * self.biases, self.biases);
        let source = kernel_source!("conv_backward_weights.cu");
        let (reads, float) = (self.activations().iter().sum(), size_of::<f32>());
        let moves = (reads, weights, (weights + biases) * float);
        // Groups of columns are updated at once; in bfloat16 it would be slower.
        let suits = self.context.precision.format() == Format::Float
            && self.stored == w.input.channels
            && w.group_outputs().is_multiple_of(4);
        let finish = constants(&[("BIASES", biases)]);
        let step = self.step(source, "conv_backward_weights", product, moves, &finish, biases);
        if step.reduce.is_some() || self.local || !suits {
            return (step, None);
        }
        let (work, source) = (&step.work, kernel_source!("conv_backward_update.cu"));
        let all = work.constants.clone();
        let update = Launch::new(source, all, "conv_backward_update", work.grid, work.block);
        let update = update.with_shared(work.shared).moving(reads + 4 * (weights + biases) * float);
        (step, Some(update))
    }

    /// `out` values of so many `bytes`, which `work` shares out to so many `splits`, with `biases`
    /// more behind them.
    fn reduced(
        &self,
        work: Launch,
        (out, bytes): (usize, usize),
        splits: usize,
        finish: &[Constant],
        biases: usize,
    ) -> Step {
        let reads = work.moves;
        if splits == 1 {
            return Step { work: work.moving(reads + bytes), reduce: None, parts: 0, splits };
        }
        let values = splits * (out + biases);
        let parts = values * size_of::<f32>();
        let mut all = self.context.constants(&[("COUNT", out), ("SPLITS", splits)]);
        all.extend_from_slice(finish);
        let blocks = out.div_ceil(4).div_ceil(256) + biases.div_ceil(256);
        let reduce = Launch::new(REDUCE, all, "reduce_splits", (blocks, 1, 1), (256, 1, 1));
        let reduce = Some(reduce.moving(parts + bytes));
        Step { work: work.moving(reads + parts), reduce, parts: values, splits }
    }
}

/// Whether a convolution's windows are read 16 bytes at a time (`kernels/patches.cuh`): a `pack` of
/// values.
pub fn wide_windows(
    [width, channels]: [usize; 2],
    groups: usize,
    stride: usize,
    pad_left: usize,
    pack: usize,
) -> bool {
    if groups > 1 {
        return channels.is_multiple_of(pack) && (channels / groups).is_multiple_of(pack);
    }
    [stride * channels, pad_left * channels, width * channels].iter().all(|n| n % pack == 0)
}

/// Elements of a convolution's window as the kernels count them (`kernels/patches.cuh`): with one
/// group, rows of kernel width x channels, padded to whole packs where that allows 16-byte reads.
/// `kernel` height and width; `input` width and channels.
pub fn windows_depth(
    kernel: [usize; 2],
    [width, channels]: [usize; 2],
    groups: usize,
    stride: usize,
    pad_left: usize,
    pack: usize,
) -> usize {
    if groups > 1 {
        return kernel[0] * kernel[1] * channels / groups;
    }
    let run = kernel[1] * channels;
    let wide = wide_windows([width, channels], groups, stride, pad_left, pack);
    kernel[0] * if wide { run.next_multiple_of(pack) } else { run }
}
