//! Launches of the tiled product: convolution, locally connected and fully connected layers, which
//! differ in their shapes alone (`kernels/conv_*.cu`).

use super::Window;
use crate::gpu::compile::Constant;
use crate::gpu::kernels;
use crate::gpu::launch::{Launch, constants};
use crate::gpu::product::{ProductShape, Tiling};
use crate::layers::cuda::{Call, LaunchContext, Launches};
use anyhow::Result;

/// The kernels of one layer.
pub struct Convolution {
    forward: Step,
    backward: Option<Backward>,
    scratch: usize,
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
}

impl Convolution {
    /// `window`'s layer; `local`: weights of its own at every place.
    pub fn new(window: &Window, local: bool, context: &LaunchContext) -> Convolution {
        let w = window;
        let (images, places) = (context.images, w.output.pixels());
        let (gi, go) = (w.group_inputs(), w.group_outputs());
        let kernel = [w.size, w.size];
        let depth =
            windows_depth(kernel, [w.input.width, w.input.channels], w.groups, w.stride, w.left);
        let wide = wide_windows([w.input.width, w.input.channels], w.groups, w.stride, w.left);
        let count = w.groups * if local { places } else { 1 };
        let product = |lines: usize, columns, depth| ProductShape {
            lines: if local { images } else { lines },
            columns,
            depth,
            count,
            wide,
            may_split: !local,
        };
        let shape = constants(&[
            ("IMAGES", images),
            ("IN_H", w.input.height),
            ("IN_W", w.input.width),
            ("IN_C", w.input.channels),
            ("OUT_H", w.output.height),
            ("OUT_W", w.output.width),
            ("OUT_C", w.output.channels),
            ("KERNEL_H", w.size),
            ("KERNEL_W", w.size),
            ("STRIDE", w.stride),
            ("PAD_TOP", w.top),
            ("PAD_LEFT", w.left),
            ("GROUPS", w.groups),
            ("LOCAL", local.into()),
        ]);
        let biases = w.output.channels * if local { places } else { 1 };
        let weights = w.patch() * biases;
        let (inputs, outputs) = (images * w.input.len(), images * w.output.len());
        let mut scratch = 0;
        let mut step = |source, name, product: ProductShape, out: usize, finish: &[Constant]| {
            let plan = Tiling::choose(product, context.multiprocessors);
            let mut all = shape.clone();
            let relu = finish.iter().find(|c| c.0 == "RELU").map_or("0", |c| &c.1);
            all.push(("RELU", relu.to_string()));
            all.extend(plan.constants());
            let work = Launch::new(source, all, name, plan.grid(), plan.block());
            let reduce = (plan.splits > 1).then(|| {
                scratch = scratch.max(plan.splits * out);
                reduction(out, plan.splits, finish)
            });
            Step { work, reduce }
        };
        let finish =
            constants(&[("BIAS", 1), ("RELU", context.relu.into()), ("BIAS_LENGTH", biases)]);
        let forward = step(
            kernels::CONV_FORWARD,
            "conv_forward",
            product(images * places, go, depth),
            outputs,
            &finish,
        );
        let backward = context.training.then(|| {
            let pixels = w.input.pixels();
            let input = ProductShape {
                count: w.groups * if local { pixels } else { 1 },
                wide: w.output.channels.is_multiple_of(4) && go.is_multiple_of(4),
                ..product(images * pixels, gi, w.size * w.size * go)
            };
            let of_weights = ProductShape {
                lines: depth,
                ..product(depth, go, if local { images } else { images * places })
            };
            let input =
                step(kernels::CONV_BACKWARD_INPUT, "conv_backward_input", input, inputs, &[]);
            let weights = step(
                kernels::CONV_BACKWARD_WEIGHTS,
                "conv_backward_weights",
                of_weights,
                weights,
                &[],
            );
            Backward { input, weights, bias: column_sums(outputs / biases, biases) }
        });
        if let Some(backward) = &backward {
            scratch = scratch.max(backward.bias.work.grid.1 * biases);
        }
        Convolution { forward, backward, scratch }
    }

    fn backward(&self) -> Result<&Backward> {
        let backward = self.backward.as_ref();
        backward.ok_or_else(|| anyhow::anyhow!("a backward pass in evaluation"))
    }
}

/// Adds up `splits` parts of `count` values.
fn reduction(count: usize, splits: usize, finish: &[Constant]) -> Launch {
    let mut all = constants(&[("COUNT", count), ("SPLITS", splits)]);
    all.extend_from_slice(finish);
    Launch::each(kernels::REDUCE, all, "reduce_splits", count)
}

/// The gradient to the biases: the sums of the columns of [rows, columns].
fn column_sums(rows: usize, columns: usize) -> Step {
    // A thread of a block adds up an eighth of its rows: some 32 of them.
    let splits = rows.div_ceil(256).min(256);
    let all = constants(&[("ROWS", rows), ("COLUMNS", columns), ("SPLITS", splits)]);
    let grid = (columns.div_ceil(32), splits, 1);
    Step {
        work: Launch::new(kernels::REDUCE, all, "column_sums", grid, (32, 8, 1)),
        reduce: (splits > 1).then(|| reduction(columns, splits, &[])),
    }
}

impl Launches for Convolution {
    fn launches(&self) -> Vec<&Launch> {
        let backward = self.backward.iter().flat_map(|b| [&b.input, &b.weights, &b.bias]);
        let steps = std::iter::once(&self.forward).chain(backward);
        steps.flat_map(|s| std::iter::once(&s.work).chain(&s.reduce)).collect()
    }

    fn scratch(&self) -> usize {
        self.scratch
    }

    fn forward(&self, call: &Call<'_>) -> Result<()> {
        let [weight, bias] = &call.parameters()?.value;
        let Step { work, reduce } = &self.forward;
        let target = if reduce.is_some() { call.scratch } else { call.y };
        // SAFETY: the constants are those of the layer, whose plan sized the buffers.
        unsafe {
            work.run(call.stream, |a| a.buffer(call.x).buffer(weight).buffer(bias).buffer(target))?;
            if let Some(reduce) = reduce {
                reduce.run(call.stream, |a| a.buffer(call.scratch).buffer(bias).buffer(call.y))?;
            }
        }
        Ok(())
    }

    fn backward_input(&self, call: &Call<'_>) -> Result<()> {
        let [weight, _] = &call.parameters()?.value;
        let Step { work, reduce } = &self.backward()?.input;
        let (dx, dy) = (call.dx()?, call.dy()?);
        let target = if reduce.is_some() { call.scratch } else { dx };
        // SAFETY: as above.
        unsafe {
            work.run(call.stream, |a| a.buffer(dy).buffer(weight).buffer(target))?;
            if let Some(reduce) = reduce {
                reduce.run(call.stream, |a| a.buffer(call.scratch).nothing().buffer(dx))?;
            }
        }
        Ok(())
    }

    fn backward_weights(&self, call: &Call<'_>) -> Result<()> {
        let [dweight, dbias] = call.gradients()?;
        let (backward, dy) = (self.backward()?, call.dy()?);
        let target = |step: &Step, out| if step.reduce.is_some() { call.scratch } else { out };
        let finish = |step: &Step, out| match &step.reduce {
            // SAFETY: as above.
            Some(work) => unsafe {
                work.run(call.stream, |a| a.buffer(call.scratch).nothing().buffer(out))
            },
            None => Ok(()),
        };
        let (weights, bias) = (&backward.weights, &backward.bias);
        // SAFETY: as above.
        unsafe {
            let target = target(weights, dweight);
            weights.work.run(call.stream, |a| a.buffer(call.x).buffer(dy).buffer(target))?;
        }
        finish(weights, dweight)?;
        // SAFETY: as above.
        unsafe {
            let target = target(bias, dbias);
            bias.work.run(call.stream, |a| a.buffer(dy).buffer(target))?;
        }
        finish(bias, dbias)
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
/// group, rows of kernel width x channels, padded to a multiple of 4 where that allows 16-byte reads.
/// `kernel` height and width; `input` width and channels.
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
