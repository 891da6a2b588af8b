//! What a layer does on a GPU: kernels with its shape as constants, and the launches of its passes.
//!
//! A layer kind implements [`Launches`] in its own folder (`src/layers/KIND/cuda.rs`). Sizes are
//! known before anything is compiled or taken, so that too little memory is found first.

use super::Run;
use crate::gpu::launch::Launch;
use crate::gpu::memory::Buffer;
use crate::gpu::product::Precision;
use crate::gpu::stream::Stream;
use anyhow::{Context, Result};

/// What a layer has to know of the GPU and the pass it is made for.
#[derive(Clone, Copy, Debug)]
pub struct LaunchContext {
    /// Images of the batch. All kernels work on as many; a smaller batch leaves the rest unused.
    pub images: usize,
    /// Multiprocessors of the GPU: how the work is shared out depends on them.
    pub multiprocessors: usize,
    /// Whether there will be a backward pass.
    pub training: bool,
    /// Of the factors in products.
    pub precision: Precision,
    /// Apply ReLU to the output at once: the next layer is one and then has nothing left to do.
    pub relu: bool,
}

/// A layer's work on one GPU.
pub trait Launches: Send + Sync {
    /// Every kernel it may launch.
    fn launches(&self) -> Vec<&Launch>;
    /// Values of scratch space that one of its passes needs; shared with other layers.
    fn scratch(&self) -> usize {
        0
    }
    /// Bytes of memory of its own, which the forward pass leaves for the backward pass.
    fn saved(&self) -> usize {
        0
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
}

/// The memory of one pass through one layer; activations are [images, height, width, channels].
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Where it is queued.
    pub stream: &'a Stream,
    /// The batch, and what its random numbers depend on.
    pub run: &'a Run,
    /// The input.
    pub x: &'a Buffer<f32>,
    /// The output; the same as `x` for a layer that works in place.
    pub y: &'a Buffer<f32>,
    /// The gradient at the output, where one comes.
    pub dy: Option<&'a Buffer<f32>>,
    /// The gradient to the input, where one goes on; the same as `dy` for pointwise layers.
    pub dx: Option<&'a Buffer<f32>>,
    /// Of a layer that learns.
    pub parameters: Option<&'a ParameterBuffers>,
    /// At least [`Launches::scratch`] values, for the length of one pass.
    pub scratch: &'a Buffer<f32>,
    /// [`Launches::saved`] bytes, the layer's own.
    pub saved: &'a Buffer<u8>,
    /// For a loss, where there are labels.
    pub loss: Option<&'a Loss>,
    /// What the network reads, on this GPU: an auto-encoder's target.
    pub input: &'a Buffer<f32>,
}

/// Weights and biases in the layer's own order; gradients and momenta in training.
pub struct ParameterBuffers {
    /// What the layer computes with.
    pub value: [Buffer<f32>; 2],
    /// Sums over the batch.
    pub gradient: Option<[Buffer<f32>; 2]>,
    /// The last update.
    pub momentum: Option<[Buffer<f32>; 2]>,
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
    pub fn dy(&self) -> Result<&'a Buffer<f32>> {
        self.dy.context("a backward pass without a gradient; this is an error in the program")
    }
    /// Where the gradient to the input goes. Err: nowhere, an error in the program.
    pub fn dx(&self) -> Result<&'a Buffer<f32>> {
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
