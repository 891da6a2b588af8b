//! What a layer does on a GPU: kernels with its shape as constants, and the launches of its passes.
//!
//! A layer kind implements [`Launches`] in its own folder (`src/layers/KIND/cuda.rs`). Sizes are
//! known before anything is compiled or taken, so that too little memory is found first.

use super::{Rule, Run};
use crate::gpu::compile::Constant;
use crate::gpu::launch::{BOTH_TOWERS, Launch, Queue, constants};
use crate::gpu::memory::Buffer;
use crate::gpu::precision::Precision;
use crate::gpu::stream::Arguments;
use anyhow::{Context, Result, bail};

/// What a layer has to know of the GPU and the pass it is made for.
#[derive(Clone, Copy, Debug)]
pub struct LaunchContext {
    /// Images of the batch. All kernels work on as many; a smaller batch leaves the rest unused.
    pub images: usize,
    /// How many times as many there are in a batch, of which these are one portion: products are
    /// shared out as the whole batch's, so that their sums have the same order. Only the forward
    /// pass is made in portions.
    pub portions: usize,
    /// Multiprocessors of the GPU: how the work is shared out depends on them.
    pub multiprocessors: usize,
    /// Whether there will be a backward pass.
    pub training: bool,
    /// Whether each launch works for both towers of the layer.
    pub together: bool,
    /// Of the factors in products.
    pub precision: Precision,
    /// Apply ReLU to the output at once: the next layer is one and then has nothing left to do.
    pub relu: bool,
    /// The input is a ReLU's output, and the gradient to it is to be that to the ReLU's input,
    /// which then has nothing left to do.
    pub mask: bool,
    /// The input is stored as f32 whatever the precision.
    pub float_input: bool,
    /// The output is stored as f32 whatever the precision; its gradient is not.
    pub float_output: bool,
    /// Channels of the input as it is stored, where they are more than the layer has: those beyond
    /// are 0 ([`Layer::stored_channels`](super::Layer::stored_channels)).
    pub stored_channels: Option<usize>,
}

impl LaunchContext {
    /// For a layer on its own.
    pub fn new(images: usize, multiprocessors: usize, training: bool) -> LaunchContext {
        LaunchContext {
            images,
            portions: 1,
            multiprocessors,
            training,
            together: false,
            precision: Precision::F32,
            relu: false,
            mask: false,
            float_input: false,
            float_output: false,
            stored_channels: None,
        }
    }

    /// Constants from whole numbers, with how activations are stored and for how many towers a
    /// launch works (`kernels/real.cuh`).
    pub fn constants(&self, pairs: &[(&'static str, usize)]) -> Vec<Constant> {
        let mut all = constants(pairs);
        all.extend(self.precision.format().constant());
        all.extend(self.towers());
        all
    }

    /// For how many towers a launch works, if for more than one.
    pub fn towers(&self) -> Vec<Constant> {
        if self.together { constants(&[BOTH_TOWERS]) } else { Vec::new() }
    }

    /// Bytes of so many activations or gradients.
    pub fn bytes(&self, values: usize) -> usize {
        values * self.precision.format().bytes()
    }

    /// Numbers that a thread of a pointwise pass over rows of so many takes.
    pub fn pack_of(&self, width: usize) -> usize {
        let pack = self.precision.pack();
        if width.is_multiple_of(pack) { pack } else { 1 }
    }
}

/// How weights lie that products read in another form than they are trained in: rows of `channels`
/// channels with `columns` kernels each become rows of `stored` channels; what that adds is 0.
#[derive(Clone, Copy, Debug)]
pub struct Factors {
    /// Kernels.
    pub columns: usize,
    /// Channels of the input that a kernel sees.
    pub channels: usize,
    /// The same as they are stored.
    pub stored: usize,
}

/// In which of a layer's passes a kernel runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// [`Launches::forward`] in training.
    Forward,
    /// The same in evaluation.
    Evaluation,
    /// [`Launches::backward_input`].
    Input,
    /// [`Launches::backward_weights`].
    Weights,
    /// [`Launches::backward_update`].
    Update,
    /// [`Launches::backward_parts`].
    Parts,
}

/// A layer's work on one GPU.
pub trait Launches: Send + Sync {
    /// Every kernel that it launches and when, one for each launch.
    fn launches(&self) -> Vec<(When, &Launch)>;
    /// Values of scratch space that its gradients of weights need, or one of its other passes;
    /// shared with other layers.
    fn scratch(&self, _weights: bool) -> usize {
        0
    }
    /// Bytes of memory of its own, which the forward pass leaves for the backward pass.
    fn saved(&self) -> usize {
        0
    }
    /// Of a layer whose products read its weights as [`ParameterBuffers::factors`].
    fn factors(&self) -> Option<Factors> {
        None
    }
    /// `y` from `x`.
    fn forward(&self, call: &Call<'_>) -> Result<()>;
    /// `dx` from `dy` and what forward read and kept. `y` may have been changed by pointwise layers
    /// above; only pointwise layers read it.
    fn backward_input(&self, call: &Call<'_>) -> Result<()>;
    /// The gradients of the parameters from `dy` and `x`.
    fn backward_weights(&self, _: &Call<'_>) -> Result<()> {
        Ok(())
    }
    /// As [`Launches::backward_weights`], but what is left in the scratch space are
    /// [`Launches::parts`] of the gradients, those of the weights before those of the biases.
    fn backward_parts(&self, _: &Call<'_>) -> Result<()> {
        bail!("a layer whose gradients are whole is to leave parts; an error in the program")
    }
    /// In how many parts the gradients of the parameters are made.
    fn parts(&self) -> usize {
        1
    }
    /// As [`Launches::backward_weights`], but weights and biases are updated by a rule each as
    /// their gradients come into being, which are written nowhere; not by a `loss` that is no
    /// number. Biases without a rule stay. Only of a layer that [`Launches::updates`].
    fn backward_update(
        &self,
        _: &Call<'_>,
        _rules: (Rule, Option<Rule>),
        _loss: &Buffer<f32>,
    ) -> Result<()> {
        bail!("a layer that updates no weights is to update them; an error in the program")
    }
    /// Whether there is a [`Launches::backward_update`].
    fn updates(&self) -> bool {
        self.launches().iter().any(|(when, _)| *when == When::Update)
    }
}

/// [`Launches::launches`] of a layer with one kernel each way, the same in training and evaluation.
pub fn one_each_way<'a>(
    forward: &'a Launch,
    backward: &'a Option<Launch>,
) -> Vec<(When, &'a Launch)> {
    let both = [(When::Forward, forward), (When::Evaluation, forward)];
    both.into_iter().chain(backward.iter().map(|work| (When::Input, work))).collect()
}

/// Of a layer whose work another one's pass does.
pub struct Elsewhere;

impl Launches for Elsewhere {
    fn launches(&self) -> Vec<(When, &Launch)> {
        Vec::new()
    }
    fn forward(&self, _: &Call<'_>) -> Result<()> {
        bail!("a layer that is part of another's pass is called; this is an error in the program")
    }
    fn backward_input(&self, call: &Call<'_>) -> Result<()> {
        self.forward(call)
    }
}

/// The memory of one pass through one layer; activations are [images, height, width, channels], as
/// [`LaunchContext`] says how they are stored.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Where it is queued.
    pub queue: Queue<'a>,
    /// The batch, and what its random numbers depend on.
    pub run: &'a Run,
    /// Images that the loss is the mean of: those of all processes that share the batch.
    pub whole: usize,
    /// The input.
    pub x: &'a Buffer<u8>,
    /// The output; the same as `x` for a layer that works in place.
    pub y: &'a Buffer<u8>,
    /// The gradient at the output, where one comes.
    pub dy: Option<&'a Buffer<u8>>,
    /// The gradient to the input, where one goes on; the same as `dy` for pointwise layers.
    pub dx: Option<&'a Buffer<u8>>,
    /// Of a layer that learns.
    pub parameters: Option<&'a ParameterBuffers>,
    /// At least [`Launches::scratch`] values, for the length of one pass, which nothing else that
    /// runs beside it uses.
    pub scratch: &'a Buffer<f32>,
    /// [`Launches::saved`] bytes, the layer's own.
    pub saved: &'a Buffer<u8>,
    /// For a loss, where there are labels.
    pub loss: Option<&'a Loss>,
    /// What the network reads, on this GPU: an auto-encoder's target.
    pub input: &'a Buffer<u8>,
}

/// Weights and biases in the layer's own order; gradients and momenta in training.
pub struct ParameterBuffers {
    /// What is trained and kept.
    pub value: [Buffer<f32>; 2],
    /// The weights as the products read them, where that is not f32 (`kernels/update.cu`).
    pub factors: Option<Buffer<u8>>,
    /// Sums over the batch.
    pub gradient: Option<[Buffer<f32>; 2]>,
    /// The last update.
    pub momentum: Option<[Buffer<f32>; 2]>,
}

impl ParameterBuffers {
    /// Adds the weights as products read them to a kernel's arguments.
    pub fn weights<'a>(&self, arguments: Arguments<'a>) -> Arguments<'a> {
        match &self.factors {
            Some(factors) => arguments.buffer(factors),
            None => arguments.buffer(&self.value[0]),
        }
    }
}

/// What the loss is made of.
pub struct Loss {
    /// `[images]`
    pub labels: Buffer<i32>,
    /// Sum of the losses, images whose first class is wrong, images whose label is not among five.
    pub totals: Buffer<f32>,
}

impl<'a> Call<'a> {
    /// The gradient at the output. Err: none, an error in the program.
    pub fn dy(&self) -> Result<&'a Buffer<u8>> {
        self.dy.context("a backward pass without a gradient; this is an error in the program")
    }
    /// Where the gradient to the input goes. Err: nowhere, an error in the program.
    pub fn dx(&self) -> Result<&'a Buffer<u8>> {
        self.dx.context("a backward pass without a target; this is an error in the program")
    }
    /// Weights and biases. Err: none, an error in the program.
    pub fn parameters(&self) -> Result<&'a ParameterBuffers> {
        self.parameters.context("a layer without its parameters; this is an error in the program")
    }
    /// Gradients of weights and biases. Err: none, in evaluation, an error in the program.
    pub fn gradients(&self) -> Result<&'a [Buffer<f32>; 2]> {
        let gradients = self.parameters()?.gradient.as_ref();
        gradients.context("a backward pass in evaluation; this is an error in the program")
    }
}
