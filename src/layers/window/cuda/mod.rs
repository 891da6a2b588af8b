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
    /// To the weights and to the biases.
    weights: Step,
    /// The same and the update of both, where one block makes a whole sum.
    update: Option<Launch>,
}

/// A kernel that writes its result, or parts of it that a second one adds up.
struct Step {
    work: Launch,
    reduce: Option<Launch>,
    /// Values of scratch space that the parts take; 0 where there are none.
    parts: usize,
    /// How many there are.
    splits: usize,
}

impl Convolution {
    /// `window`'s layer; `local`: weights of its own at every place.
    pub fn new(window: &Window, local: bool, context: &LaunchContext) -> Convolution {
        let products = Products::new(window, local, context);
        let backward = || {
            let (weights, update) = products.backward_weights();
            Backward { input: products.backward_input(), weights, update }
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

impl Step {
    fn launches(&self) -> impl Iterator<Item = &Launch> {
        std::iter::once(&self.work).chain(&self.reduce)
    }

    /// Queues the first kernel alone.
    ///
    /// # Safety
    /// As for [`Step::run`].
    unsafe fn product<'a, T: DeviceRepr>(
        &'a self,
        call: &Call<'_>,
        inputs: impl FnOnce(Arguments<'a>) -> Arguments<'a>,
        out: &Buffer<T>,
        beside: Option<&Buffer<f32>>,
    ) -> Result<()> {
        // SAFETY: the caller promises inputs and result; scratch has room for all parts
        // (`scratch`).
        unsafe {
            self.work.run(call.queue, |a| {
                let a = inputs(a);
                let a = if self.reduce.is_some() { a.buffer(call.scratch) } else { a.buffer(out) };
                beside.into_iter().fold(a, |a, beside| a.buffer(beside))
            })
        }
    }

    /// Queues both: `inputs` adds the first kernel's inputs, `bias` is what the sums end in and
    /// `mask` what they are masked by, if they are; `beside` takes what the kernels make beside
    /// `out`, if they do.
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
        beside: Option<&Buffer<f32>>,
    ) -> Result<()> {
        // SAFETY: the caller promises inputs and result.
        unsafe { self.product(call, inputs, out, beside)? };
        let Some(reduce) = &self.reduce else { return Ok(()) };
        // SAFETY: the first kernel has written all parts; `out` holds as many values as each of
        // them. Only sums that end in a bias or are masked read one, and it is the layer's.
        unsafe {
            reduce.run(call.queue, |a| {
                let a = a.buffer(call.scratch).optional(bias).optional(mask).buffer(out);
                beside.into_iter().fold(a, |a, beside| a.buffer(beside))
            })
        }
    }
}

impl Launches for Convolution {
    fn launches(&self) -> Vec<(When, &Launch)> {
        use When::{Evaluation, Forward, Input, Parts, Update, Weights};
        let forward = [(Forward, &self.forward), (Evaluation, &self.forward)];
        let backward = self.backward.iter();
        let backward = backward.flat_map(|b| [(Input, &b.input), (Weights, &b.weights)]);
        let all = forward.into_iter().chain(backward);
        let all = all.flat_map(|(when, s)| s.launches().map(move |work| (when, work)));
        let update = self.backward.iter().flat_map(|b| &b.update);
        let parts = self.backward.iter().filter(|b| b.weights.reduce.is_some());
        let parts = parts.map(|b| (Parts, &b.weights.work));
        all.chain(update.map(|work| (Update, work))).chain(parts).collect()
    }

    fn scratch(&self, weights: bool) -> usize {
        let backward = self.backward.as_ref();
        match backward {
            Some(backward) if weights => backward.weights.parts,
            _ if weights => 0,
            _ => backward.map_or(0, |b| b.input.parts).max(self.forward.parts),
        }
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
                None,
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
                None,
            )
        }
    }

    fn backward_weights(&self, call: &Call<'_>) -> Result<()> {
        let [dweight, dbias] = call.gradients()?;
        let (backward, dy) = (self.backward()?, call.dy()?);
        // SAFETY: `conv_backward_weights` takes x, dy, dweight, which is as large as the weights,
        // and dbias, as large as the biases.
        unsafe {
            let step = &backward.weights;
            step.run(call, |a| a.buffer(call.x).buffer(dy), None, None, dweight, Some(dbias))
        }
    }

    fn parts(&self) -> usize {
        self.backward.as_ref().map_or(1, |b| b.weights.splits)
    }

    fn backward_parts(&self, call: &Call<'_>) -> Result<()> {
        let ([dweight, dbias], dy) = (call.gradients()?, call.dy()?);
        let step = &self.backward()?.weights;
        // SAFETY: as in `backward_weights`.
        unsafe { step.product(call, |a| a.buffer(call.x).buffer(dy), dweight, Some(dbias)) }
    }

    fn backward_update(
        &self,
        call: &Call<'_>,
        (rule, bias_rule): (Rule, Option<Rule>),
        loss: &Buffer<f32>,
    ) -> Result<()> {
        let (backward, dy, parameters) = (self.backward()?, call.dy()?, call.parameters()?);
        let update = backward.update.as_ref().context("a layer that updates no weights")?;
        let momentum = parameters.momentum.as_ref().context("an update in evaluation")?;
        let [[w, bias], [v, bias_v]] = [&parameters.value, momentum].map(|[a, b]| [a, b]);
        let given = bias_rule.is_some();
        let none = Rule { momentum: 0.0, decay: 0.0, rate: 0.0 };
        // SAFETY: `conv_backward_update` takes x, dy, weights, momenta of the same size, the rule's
        // three numbers, the same of the biases, which may be none, and the loss.
        unsafe {
            update.run(call.queue, |a| {
                let a = a.buffer(call.x).buffer(dy).buffer(w).buffer(v);
                let a = a.float(rule.momentum).float(rule.decay).float(rule.rate);
                let a = a.optional(given.then_some(bias)).optional(given.then_some(bias_v));
                let Rule { momentum, decay, rate } = bias_rule.unwrap_or(none);
                a.float(momentum).float(decay).float(rate).buffer(loss)
            })
        }
    }
}
