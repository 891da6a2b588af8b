//! Launches of the tiled product: convolution, locally connected and fully connected layers, which
//! differ in their shapes alone (`kernels/conv_*.cu`).

mod products;

pub use products::{wide_windows, windows_depth};

use super::Window;
use crate::gpu::launch::Launch;
use crate::gpu::memory::Buffer;
use crate::gpu::precision::Precision;
use crate::gpu::stream::Arguments;
use crate::layers::Rule;
use crate::layers::cuda::{Call, Factors, LaunchContext, Launches, When};
use anyhow::{Context, Result};
use cudarc::driver::DeviceRepr;
use products::Products;

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
        // SAFETY: `conv_backward_update` takes x, dy, weights, momenta of the same size, the rule's
        // three numbers and the loss.
        unsafe {
            update.run(call.stream, |a| {
                let a = a.buffer(call.x).buffer(dy);
                let a = a.buffer(&parameters.value[0]).buffer(&momentum[0]);
                a.float(rule.momentum).float(rule.decay).float(rule.rate).buffer(loss)
            })?;
        }
        backward.bias_gradient(call, dbias)
    }
}
