//! Launches of the tiled product: convolution, locally connected and fully connected layers, which
//! differ in their shapes alone (`kernels/conv_*.cu`).

use super::Window;
use crate::gpu::compile::Constant;
use crate::gpu::format::Format;
use crate::gpu::kernels::KernelSource;
use crate::gpu::launch::{Launch, constants};
use crate::gpu::memory::Buffer;
use crate::gpu::precision::Precision;
use crate::gpu::product::{ProductShape, Tiling};
use crate::gpu::stream::Arguments;
use crate::kernel_source;
use crate::layers::Rule;
use crate::layers::cuda::{Call, Factors, LaunchContext, Launches, When};
use anyhow::{Context, Result};
use cudarc::driver::DeviceRepr;

/// The kernels of one layer.
pub struct Convolution {
    forward: Step,
    backward: Option<Backward>,
    factors: Option<Factors>,
}

struct Backward {
    input: Step,
    weights: Step,
    /// The weights' gradient and their update, where one block makes a whole sum.
    update: Option<Launch>,
    bias: Step,
}

/// A kernel that writes its result, or parts of it that a second one adds up.
struct Step {
    work: Launch,
    reduce: Option<Launch>,
    /// Values of scratch space that the parts take; 0 where there are none.
    parts: usize,
}

impl Convolution {
    /// `window`'s layer; `local`: weights of its own at every place.
    pub fn new(window: &Window, local: bool, context: &LaunchContext) -> Convolution {
        let products = Products::new(window, local, context);
        let backward = || {
            let (weights, update) = products.backward_weights();
            let (input, bias) = (products.backward_input(), products.backward_bias());
            Backward { input, weights, update, bias }
        };
        let factors = || Factors {
            columns: window.output.channels,
            channels: window.group_inputs(),
            stored: products.stored / window.groups,
        };
        Convolution {
            forward: products.forward(),
            backward: context.training.then(backward),
            factors: (context.precision == Precision::Bf16).then(factors),
        }
    }

    fn backward(&self) -> Result<&Backward> {
        let backward = self.backward.as_ref();
        backward.ok_or_else(|| anyhow::anyhow!("a backward pass in evaluation"))
    }
}

/// The matrix products of one layer: what all of them have in common, and each one's shape.
struct Products<'a> {
    window: &'a Window,
    local: bool,
    context: &'a LaunchContext,
    /// Elements of a window as the kernels count them.
    depth: usize,
    /// Channels of the input as they are stored.
    stored: usize,
    /// Biases of the layer: one for each kernel, at every place of a local layer.
    biases: usize,
    /// The convolution's shape, for `kernels/patches.cuh`.
    shape: Vec<Constant>,
}

impl Products<'_> {
    fn new<'a>(w: &'a Window, local: bool, context: &'a LaunchContext) -> Products<'a> {
        let Window { input, output, size, stride, top, left, groups } = *w;
        let stored = context.stored_channels.unwrap_or(input.channels);
        // How activations are stored is among the constants of a tiling.
        let shape = constants(&[
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
    /// whole sum ends in is said by the constants `finish`.
    fn step(
        &self,
        source: KernelSource,
        name: &'static str,
        product: ProductShape,
        (reads, out, bytes): (usize, usize, usize),
        finish: &[Constant],
    ) -> Step {
        let tiling = Tiling::choose(product, self.context.multiprocessors);
        let mut all = self.shape.clone();
        all.extend_from_slice(finish);
        all.extend(tiling.constants());
        let work = Launch::new(source, all, name, tiling.grid(), tiling.block());
        let work = work.with_shared(tiling.shared()).moving(reads);
        self.reduced(work, (out, bytes), tiling.splits, finish)
    }

    /// Lines are the output's pixels, columns the kernels of a group.
    fn forward(&self) -> Step {
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
        self.step(kernel_source!("conv_forward.cu"), "conv_forward", product, moves, &finish)
    }

    /// Lines are the input's pixels, columns the input channels of a group.
    fn backward_input(&self) -> Step {
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
        self.step(source, "conv_backward_input", product, moves, &finish)
    }

    /// Lines are the elements of a window, columns the kernels of a group; the sum is over pixels.
    fn backward_weights(&self) -> (Step, Option<Launch>) {
        let w = self.window;
        let over = self.product(w.output.pixels(), w.group_outputs(), 0);
        let product = ProductShape { lines: self.depth, depth: over.lines, ..over };
        let weights = w.patch() * self.biases;
        let source = kernel_source!("conv_backward_weights.cu");
        let (reads, float) = (self.activations().iter().sum(), size_of::<f32>());
        let moves = (reads, weights, weights * float);
        // Groups of columns are updated at once, and factors lie as the weights do.
        let alike = self.stored == w.input.channels && w.group_outputs().is_multiple_of(4);
        let step = self.step(source, "conv_backward_weights", product, moves, &[]);
        if step.reduce.is_some() || self.local || !alike {
            return (step, None);
        }
        let (work, source) = (&step.work, kernel_source!("conv_backward_update.cu"));
        let all = work.constants.clone();
        let update = Launch::new(source, all, "conv_backward_update", work.grid, work.block);
        let factors = self.context.precision.format() == Format::Bf16;
        let factors = if factors { self.context.bytes(weights) } else { 0 };
        let update = update.with_shared(work.shared).moving(reads + 4 * weights * float + factors);
        (step, Some(update))
    }

    /// The sums of the columns of dy as [rows, biases].
    fn backward_bias(&self) -> Step {
        let rows = self.context.images * self.window.output.len() / self.biases;
        let columns = self.biases;
        // A thread of a block adds up an eighth of its rows: some 32 of them.
        let splits = rows.div_ceil(256).min(256);
        let all =
            self.context.constants(&[("ROWS", rows), ("COLUMNS", columns), ("SPLITS", splits)]);
        let grid = (columns.div_ceil(32), splits, 1);
        let work = Launch::new(REDUCE, all, "column_sums", grid, (32, 8, 1));
        let work = work.moving(self.activations()[1]);
        self.reduced(work, (columns, columns * size_of::<f32>()), splits, &[])
    }

    /// `out` values of so many `bytes`, which `work` shares out to so many `splits`.
    fn reduced(
        &self,
        work: Launch,
        (out, bytes): (usize, usize),
        splits: usize,
        finish: &[Constant],
    ) -> Step {
        let reads = work.moves;
        if splits == 1 {
            return Step { work: work.moving(reads + bytes), reduce: None, parts: 0 };
        }
        let parts = splits * out * size_of::<f32>();
        let mut all = self.context.constants(&[("COUNT", out), ("SPLITS", splits)]);
        all.extend_from_slice(finish);
        let reduce = Launch::each(REDUCE, all, "reduce_splits", out.div_ceil(4));
        let reduce = Some(reduce.moving(parts + bytes));
        Step { work: work.moving(reads + parts), reduce, parts: splits * out }
    }
}

/// Adds up the parts of a sum, and adds up columns.
const REDUCE: KernelSource = kernel_source!("reduce.cu");

impl Backward {
    fn bias_gradient(&self, call: &Call<'_>, dbias: &Buffer<f32>) -> Result<()> {
        let dy = call.dy()?;
        // SAFETY: `column_sums` takes dy and dbias; ROWS * COLUMNS are the values of dy, COLUMNS
        // those of the biases.
        unsafe { self.bias.run(call, |a| a.buffer(dy), None, None, dbias) }
    }
}

impl Step {
    fn launches(&self) -> impl Iterator<Item = &Launch> {
        std::iter::once(&self.work).chain(&self.reduce)
    }

    /// Queues both: `inputs` adds the first kernel's inputs, `bias` is what the sums end in and
    /// `mask` what they are masked by, if they are.
    ///
    /// # Safety
    /// The inputs and `out` must be those of the kernel and have the sizes that the layer's plan
    /// gives them.
    unsafe fn run<'a, T: DeviceRepr>(
        &'a self,
        call: &Call<'_>,
        inputs: impl FnOnce(Arguments<'a>) -> Arguments<'a>,
        bias: Option<&Buffer<f32>>,
        mask: Option<&Buffer<u8>>,
        out: &Buffer<T>,
    ) -> Result<()> {
        // SAFETY: the caller promises inputs and result; scratch has room for all parts
        // (`scratch`).
        unsafe {
            self.work.run(call.stream, |a| {
                let a = inputs(a);
                if self.reduce.is_some() { a.buffer(call.scratch) } else { a.buffer(out) }
            })?;
        }
        let Some(reduce) = &self.reduce else { return Ok(()) };
        // SAFETY: the first kernel has written all parts; `out` holds as many values as each of
        // them. Only sums that end in a bias or are masked read one, and it is the layer's.
        unsafe {
            reduce.run(call.stream, |a| {
                let a = a.buffer(call.scratch);
                a.optional(bias).optional(mask).buffer(out)
            })
        }
    }
}

impl Launches for Convolution {
    fn launches(&self) -> Vec<(When, &Launch)> {
        use When::{Evaluation, Forward, Input, Update, Weights};
        let forward = [(Forward, &self.forward), (Evaluation, &self.forward)];
        let backward = self.backward.iter();
        let backward =
            backward.flat_map(|b| [(Input, &b.input), (Weights, &b.weights), (Weights, &b.bias)]);
        let all = forward.into_iter().chain(backward);
        let all = all.flat_map(|(when, s)| s.launches().map(move |work| (when, work)));
        let update = self.backward.iter().flat_map(|b| &b.update);
        all.chain(update.map(|work| (Update, work))).collect()
    }

    fn scratch(&self, weights: bool) -> usize {
        let backward = self.backward.as_ref();
        let of_weights = || backward.into_iter().flat_map(|b| [&b.weights, &b.bias]);
        let others = || backward.map(|b| &b.input).into_iter().chain([&self.forward]);
        let parts = |step: &Step| step.parts;
        let most = if weights { of_weights().map(parts).max() } else { others().map(parts).max() };
        most.unwrap_or(0)
    }

    fn factors(&self) -> Option<Factors> {
        self.factors
    }

    fn forward(&self, call: &Call<'_>) -> Result<()> {
        let parameters = call.parameters()?;
        let bias = &parameters.value[1];
        // SAFETY: `conv_forward` takes x, weights, biases and y, which the plan sized by the window
        // that the constants are from.
        unsafe {
            let step = &self.forward;
            step.run(
                call,
                |a| parameters.weights(a.buffer(call.x)).buffer(bias),
                Some(bias),
                None,
                call.y,
            )
        }
    }

    fn backward_input(&self, call: &Call<'_>) -> Result<()> {
        let (parameters, dy, dx) = (call.parameters()?, call.dy()?, call.dx()?);
        // SAFETY: `conv_backward_input` takes dy, weights, x and dx; gradients are as large as the
        // layer's output and input.
        unsafe {
            let step = &self.backward()?.input;
            step.run(
                call,
                |a| parameters.weights(a.buffer(dy)).buffer(call.x),
                None,
                Some(call.x),
                dx,
            )
        }
    }

    fn backward_weights(&self, call: &Call<'_>) -> Result<()> {
        let [dweight, dbias] = call.gradients()?;
        let (backward, dy) = (self.backward()?, call.dy()?);
        // SAFETY: `conv_backward_weights` takes x, dy and dweight, which is as large as the
        // weights.
        unsafe {
            backward.weights.run(call, |a| a.buffer(call.x).buffer(dy), None, None, dweight)?
        };
        backward.bias_gradient(call, dbias)
    }

    fn backward_update(&self, call: &Call<'_>, rule: Rule, loss: &Buffer<f32>) -> Result<()> {
        let (backward, [_, dbias]) = (self.backward()?, call.gradients()?);
        let parameters = call.parameters()?;
        let update = backward.update.as_ref().context("a layer that updates no weights")?;
        let momentum = parameters.momentum.as_ref().context("an update in evaluation")?;
        let dy = call.dy()?;
        // SAFETY: `conv_backward_update` takes x, dy, weights, momenta, the rule's three numbers,
        // factors and the loss; all but the last have the weights' size.
        unsafe {
            update.run(call.stream, |a| {
                let a = a.buffer(call.x).buffer(dy);
                let a = a.buffer(&parameters.value[0]).buffer(&momentum[0]);
                let a = a.float(rule.momentum).float(rule.decay).float(rule.rate);
                a.optional(parameters.factors.as_ref()).buffer(loss)
            })?;
        }
        backward.bias_gradient(call, dbias)
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
