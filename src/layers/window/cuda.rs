//! Launches of the tiled product: convolution, locally connected and fully connected layers, which
//! differ in their shapes alone (`kernels/conv_*.cu`).

use super::Window;
use crate::gpu::compile::Constant;
use crate::gpu::kernels::KernelSource;
use crate::gpu::launch::{Launch, constants};
use crate::gpu::memory::Buffer;
use crate::gpu::product::{ProductShape, Tiling};
use crate::kernel_source;
use crate::layers::cuda::{Call, LaunchContext, Launches};
use anyhow::Result;

/// The kernels of one layer.
pub struct Convolution {
    forward: Step,
    backward: Option<Backward>,
}

struct Backward {
    input: Step,
    weights: Step,
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
        let backward = || Backward {
            input: products.backward_input(),
            weights: products.backward_weights(),
            bias: products.backward_bias(),
        };
        Convolution { forward: products.forward(), backward: context.training.then(backward) }
    }

    fn backward(&self) -> Result<&Backward> {
        let backward = self.backward.as_ref();
        backward.ok_or_else(|| anyhow::anyhow!("a backward pass in evaluation"))
    }

    fn steps(&self) -> impl Iterator<Item = &Step> {
        let backward = self.backward.iter().flat_map(|b| [&b.input, &b.weights, &b.bias]);
        std::iter::once(&self.forward).chain(backward)
    }
}

/// The matrix products of one layer: what all of them have in common, and each one's shape.
struct Products<'a> {
    window: &'a Window,
    local: bool,
    context: &'a LaunchContext,
    /// Elements of a window as the kernels count them.
    depth: usize,
    /// Biases of the layer: one for each kernel, at every place of a local layer.
    biases: usize,
    /// The convolution's shape, for `kernels/patches.cuh`.
    shape: Vec<Constant>,
}

impl Products<'_> {
    fn new<'a>(w: &'a Window, local: bool, context: &'a LaunchContext) -> Products<'a> {
        let Window { input, output, size, stride, top, left, groups } = *w;
        let shape = constants(&[
            ("IMAGES", context.images),
            ("IN_H", input.height),
            ("IN_W", input.width),
            ("IN_C", input.channels),
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
        let row = [input.width, input.channels];
        let depth = windows_depth([size, size], row, groups, stride, left);
        let biases = output.channels * if local { output.pixels() } else { 1 };
        Products { window: w, local, context, depth, biases, shape }
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
            wide: wide_windows([w.input.width, w.input.channels], w.groups, w.stride, w.left),
            may_split: !self.local,
            precision: self.context.precision,
        }
    }

    /// `out` values by the kernel `name`; what a whole sum ends in is said by the constants
    /// `finish`.
    fn step(
        &self,
        source: KernelSource,
        name: &'static str,
        product: ProductShape,
        out: usize,
        finish: &[Constant],
    ) -> Step {
        let tiling = Tiling::choose(product, self.context.multiprocessors);
        let mut all = self.shape.clone();
        all.extend_from_slice(finish);
        all.extend(tiling.constants());
        let work = Launch::new(source, all, name, tiling.grid(), tiling.block());
        Step::new(work, out, tiling.splits, finish)
    }

    /// Lines are the output's pixels, columns the kernels of a group.
    fn forward(&self) -> Step {
        let w = self.window;
        let product = self.product(w.output.pixels(), w.group_outputs(), self.depth);
        let relu = self.context.relu.into();
        let finish = constants(&[("BIAS", 1), ("RELU", relu), ("BIAS_LENGTH", self.biases)]);
        let outputs = self.context.images * w.output.len();
        self.step(kernel_source!("conv_forward.cu"), "conv_forward", product, outputs, &finish)
    }

    /// Lines are the input's pixels, columns the input channels of a group.
    fn backward_input(&self) -> Step {
        let (w, kernels) = (self.window, self.window.group_outputs());
        let product = ProductShape {
            wide: w.output.channels.is_multiple_of(4) && kernels.is_multiple_of(4),
            ..self.product(w.input.pixels(), w.group_inputs(), w.size * w.size * kernels)
        };
        let inputs = self.context.images * w.input.len();
        let source = kernel_source!("conv_backward_input.cu");
        self.step(source, "conv_backward_input", product, inputs, &[])
    }

    /// Lines are the elements of a window, columns the kernels of a group; the sum is over pixels.
    fn backward_weights(&self) -> Step {
        let w = self.window;
        let over = self.product(w.output.pixels(), w.group_outputs(), 0);
        let product = ProductShape { lines: self.depth, depth: over.lines, ..over };
        let weights = w.patch() * self.biases;
        let source = kernel_source!("conv_backward_weights.cu");
        self.step(source, "conv_backward_weights", product, weights, &[])
    }

    /// The sums of the columns of dy as [rows, biases].
    fn backward_bias(&self) -> Step {
        let rows = self.context.images * self.window.output.len() / self.biases;
        let columns = self.biases;
        // A thread of a block adds up an eighth of its rows: some 32 of them.
        let splits = rows.div_ceil(256).min(256);
        let all = constants(&[("ROWS", rows), ("COLUMNS", columns), ("SPLITS", splits)]);
        let grid = (columns.div_ceil(32), splits, 1);
        let work = Launch::new(REDUCE, all, "column_sums", grid, (32, 8, 1));
        Step::new(work, columns, splits, &[])
    }
}

/// Adds up the parts of a sum, and adds up columns.
const REDUCE: KernelSource = kernel_source!("reduce.cu");

impl Step {
    /// `out` values, which `work` shares out to so many `splits`.
    fn new(work: Launch, out: usize, splits: usize, finish: &[Constant]) -> Step {
        if splits == 1 {
            return Step { work, reduce: None, parts: 0 };
        }
        let mut all = constants(&[("COUNT", out), ("SPLITS", splits)]);
        all.extend_from_slice(finish);
        let reduce = Launch::each(REDUCE, all, "reduce_splits", out);
        Step { work, reduce: Some(reduce), parts: splits * out }
    }

    /// Queues both: `inputs` are the first kernel's, `bias` what the sums end in, if they do.
    ///
    /// # Safety
    /// The inputs and `out` must be those of the kernel and have the sizes that the layer's plan
    /// gives them.
    unsafe fn run(
        &self,
        call: &Call<'_>,
        inputs: &[&Buffer<f32>],
        bias: Option<&Buffer<f32>>,
        out: &Buffer<f32>,
    ) -> Result<()> {
        let target = if self.reduce.is_some() { call.scratch } else { out };
        // SAFETY: the caller promises inputs and result; scratch has room for all parts
        // (`scratch`).
        unsafe {
            self.work.run(call.stream, |a| {
                inputs.iter().fold(a, |a, input| a.buffer(input)).buffer(target)
            })?;
        }
        let Some(reduce) = &self.reduce else { return Ok(()) };
        // SAFETY: the first kernel has written all parts; `out` holds as many values as each of
        // them. Only sums that end in a bias read one, and it is the layer's.
        unsafe {
            reduce.run(call.stream, |a| {
                let a = a.buffer(call.scratch);
                match bias {
                    Some(bias) => a.buffer(bias),
                    None => a.nothing(),
                }
                .buffer(out)
            })
        }
    }
}

impl Launches for Convolution {
    fn launches(&self) -> Vec<&Launch> {
        self.steps().flat_map(|s| std::iter::once(&s.work).chain(&s.reduce)).collect()
    }

    fn scratch(&self) -> usize {
        self.steps().map(|step| step.parts).max().unwrap_or(0)
    }

    fn forward(&self, call: &Call<'_>) -> Result<()> {
        let [weight, bias] = &call.parameters()?.value;
        // SAFETY: `conv_forward` takes x, weights, biases and y, which the plan sized by the window
        // that the constants are from.
        unsafe { self.forward.run(call, &[call.x, weight, bias], Some(bias), call.y) }
    }

    fn backward_input(&self, call: &Call<'_>) -> Result<()> {
        let [weight, _] = &call.parameters()?.value;
        // SAFETY: `conv_backward_input` takes dy, weights and dx; gradients are as large as the
        // layer's output and input.
        unsafe { self.backward()?.input.run(call, &[call.dy()?, weight], None, call.dx()?) }
    }

    fn backward_weights(&self, call: &Call<'_>) -> Result<()> {
        let [dweight, dbias] = call.gradients()?;
        let (backward, dy) = (self.backward()?, call.dy()?);
        // SAFETY: `conv_backward_weights` takes x, dy and dweight, which is as large as the
        // weights.
        unsafe { backward.weights.run(call, &[call.x, dy], None, dweight)? };
        // SAFETY: `column_sums` takes dy and dbias; ROWS * COLUMNS are the values of dy, COLUMNS
        // those of the biases.
        unsafe { backward.bias.run(call, &[dy], None, dbias) }
    }
}

/// Whether a convolution's windows are read 16 bytes at a time (`kernels/patches.cuh`).
pub fn wide_windows(
    [width, channels]: [usize; 2],
    groups: usize,
    stride: usize,
    pad_left: usize,
) -> bool {
    if groups > 1 {
        return channels.is_multiple_of(4) && (channels / groups).is_multiple_of(4);
    }
    [stride * channels, pad_left * channels, width * channels].iter().all(|n| n % 4 == 0)
}

/// Elements of a convolution's window as the kernels count them (`kernels/patches.cuh`): with one
/// group, rows of kernel width x channels, padded to a multiple of 4 where that allows 16-byte
/// reads. `kernel` height and width; `input` width and channels.
pub fn windows_depth(
    kernel: [usize; 2],
    [width, channels]: [usize; 2],
    groups: usize,
    stride: usize,
    pad_left: usize,
) -> usize {
    if groups > 1 {
        return kernel[0] * kernel[1] * channels / groups;
    }
    let run = kernel[1] * channels;
    let wide = wide_windows([width, channels], groups, stride, pad_left);
    kernel[0] * if wide { run.next_multiple_of(4) } else { run }
}
