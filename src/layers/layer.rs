//! A layer fitted to its input on one tower, and how a pass calls it on the CPU.

use super::beside::{Channels, Gradient};
use super::cuda::{LaunchContext, Launches};
use super::{Rule, dropout, fc, lrn, pool, softmax, squared_error, window};
use crate::gpu::precision::Precision;
use anyhow::{Result, bail};
use serde::Serialize;
use std::fmt::Debug;

/// The shape of one image's activations on one tower.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Shape {
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
    /// Kernel maps.
    pub channels: usize,
}

/// Values that one image's activations on a tower, or a layer's weights there, have at most: 4 TiB
/// of floats. Sums over layers and batches are then far from the ends of their types.
pub const MOST_VALUES: u128 = 1 << 40;

/// Refuses more than [`MOST_VALUES`]: `what`, as in `its weights`, of these sizes.
pub(crate) fn check_values(what: &str, sizes: &[usize]) -> Result<()> {
    let values = sizes.iter().fold(1u128, |all, &size| all.saturating_mul(size as u128));
    if values <= MOST_VALUES {
        return Ok(());
    }
    let sizes = sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
    bail!(
        "{what}, {sizes}, would be more than the {} TiB that a machine may have",
        MOST_VALUES >> 38
    )
}

impl Shape {
    /// Values of one image.
    pub fn len(&self) -> usize {
        self.height * self.width * self.channels
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Positions of one map.
    pub fn pixels(&self) -> usize {
        self.height * self.width
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}×{}×{}", self.height, self.width, self.channels)
    }
}

/// Sizes of a layer's parameters on one tower, in the order of the outside world. The first
/// dimension of both is the one along which towers are joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterShapes {
    /// conv: [out, in per group, height, width]; fc: [out, in]; local: [out, out height, out width,
    /// in per group, height, width].
    pub weight: Vec<usize>,
    /// conv and fc: `[out]`; local: `[out, out height, out width]`.
    pub bias: Vec<usize>,
}

impl ParameterShapes {
    /// Numbers of weights and of biases.
    pub fn sizes(&self) -> [usize; 2] {
        [self.weight.iter().product(), self.bias.iter().product()]
    }
}

/// A layer fitted to its input on one tower.
pub trait Layer: Debug + Send + Sync {
    /// What it makes of one image on its tower.
    fn output(&self) -> Shape;
    /// Sizes of its weights and biases, if it learns.
    fn parameters(&self) -> Option<ParameterShapes> {
        None
    }
    /// Multiply-adds of one image's forward pass; counted for conv, local and fc only.
    fn multiply_adds(&self) -> u64 {
        0
    }
    /// How a pass on the CPU calls it.
    fn role(&self) -> Role<'_>;
    /// The same layer with the ReLU above it on the CPU: applied to each output as it is stored,
    /// with the ReLU's own bits. None: it has no such way.
    fn with_relu(&self) -> Option<Box<dyn Layer>> {
        None
    }
    /// Its gradient as far as the input of the ReLU below it, on the CPU, where it has that way.
    fn past_relu(&self) -> Option<&dyn PastRelu> {
        None
    }
    /// What it is to those who look at several layers at once; none: they leave it alone.
    fn stage(&self) -> Option<Stage<'_>> {
        None
    }
    /// How many channels its input wants to be stored with on a GPU in this precision, if not as
    /// many as it has: those beyond are 0.
    fn stored_channels(&self, _: Precision) -> Option<usize> {
        None
    }
    /// Its kernels and launches on a GPU. Err: the sentence why it cannot run there.
    fn cuda(&self, context: &LaunchContext) -> Result<Box<dyn Launches>>;
}

/// What a layer is, for the engine that may compute it in one pass with its neighbours
/// (`network::Fusion`) and for those who write the network down for other programs
/// (`commands::export`).
pub enum Stage<'a> {
    /// Convolution.
    Convolve(&'a window::Window),
    /// Fully connected.
    Connect(&'a fc::Fc),
    /// ReLU.
    Relu,
    /// tanh.
    Tanh,
    /// Response normalisation.
    Normalise(&'a lrn::Lrn),
    /// Pooling.
    Pool(&'a pool::Pool),
    /// Dropout.
    Drop(&'a dropout::Dropout),
    /// Probabilities.
    Softmax,
}

/// How a pass calls a layer on the CPU.
pub enum Role<'a> {
    /// From an input to an output of its own.
    Map(&'a dyn Map),
    /// As `Map`, with parameters.
    Learn(&'a dyn Learn),
    /// Value by value, in place.
    Pointwise(&'a dyn Pointwise),
    /// The end: probabilities and the loss.
    Loss(&'a softmax::Softmax),
    /// The end of an auto-encoder, whose target is the network's input.
    Reconstruction(&'a squared_error::SquaredError),
}

/// What holds for one batch on its way through the network.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// Images of this batch.
    pub batch: usize,
    /// Training or evaluation (dropout differs).
    pub training: bool,
    /// Of the run; with step and image it decides all random numbers.
    pub seed: u64,
    /// Counts from 1.
    pub step: u32,
    /// Index of the first image in the global batch, where several processes share one.
    pub first_image: u32,
}

/// A layer without parameters that writes to an output of its own.
pub trait Map: Sync {
    /// `y` [batch, output] from `x` [batch, input].
    fn forward(&self, run: &Run, y: &mut [f32], x: &[f32]);
    /// `dx` [batch, input], overwritten, from `dy` [batch, output] and what forward read. The
    /// output is not there any more: pointwise layers may have changed it in place.
    fn backward(&self, run: &Run, dx: &mut [f32], dy: &[f32], x: &[f32]);
    /// The passes whose output lies among that of other towers, where the layer has them.
    fn beside(&self) -> Option<&dyn Beside> {
        None
    }
}

/// See [`Map::beside`]; with the bits of [`Map`]'s passes and copies.
pub trait Beside {
    /// `at` of `y` [batch, pixels, all] from `x` [batch, input].
    fn forward_beside(&self, run: &Run, y: &mut [f32], at: &Channels, x: &[f32]);
    /// `dx` [batch, input], overwritten, from the gradient `dy`, whose pixels are those of all
    /// images, and what forward read.
    fn backward_beside(&self, run: &Run, dx: &mut [f32], dy: Gradient<'_>, x: &[f32]);
}

/// A layer with weights and biases, both in the layer's own order.
pub trait Learn: Sync {
    /// Values that a pass needs as scratch space.
    fn workspace(&self, batch: usize) -> usize;
    /// `y` [batch, output] from `x` [batch, input].
    fn forward(&self, run: &Run, y: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32]);
    /// `dx` [batch, input], overwritten.
    fn backward_input(&self, run: &Run, dx: &mut [f32], dy: &[f32], weight: &[f32]);
    /// `dweight` and `dbias`, overwritten with the sums over the batch.
    fn backward_weights(
        &self,
        run: &Run,
        gradients: (&mut [f32], &mut [f32]),
        dy: &[f32],
        x: &[f32],
        workspace: &mut [f32],
    );
    /// The forward pass for few images with the weights in the outside world's order, where the
    /// layer has one: what is used once is not worth putting into another order.
    fn forward_few(&self) -> Option<&dyn ForwardFew> {
        None
    }
    /// The forward pass with what it makes of the weights kept from one batch to the next, where it
    /// makes something of them.
    fn keeps(&self) -> Option<&dyn Keeps> {
        None
    }
    /// The passes of several such layers that read one input, where the layer has them.
    fn together(&self) -> Option<&dyn Together> {
        None
    }
    /// The weights' gradient and their update in one pass, where the layer has that: the gradient
    /// of a large layer is then never written to memory.
    fn update_at_once(&self) -> Option<&dyn UpdateAtOnce> {
        None
    }
    /// Puts weights and biases of the outside world's order into the layer's own; either pair may
    /// be empty and is then left out.
    fn pack(&self, own: (&mut [f32], &mut [f32]), world: (&[f32], &[f32]));
    /// The reverse of `pack`.
    fn unpack(&self, world: (&mut [f32], &mut [f32]), own: (&[f32], &[f32]));
    /// As `pack`, into the order of its kernels on a GPU.
    fn pack_for_gpu(&self, own: (&mut [f32], &mut [f32]), world: (&[f32], &[f32])) {
        self.pack(own, world);
    }
    /// The reverse of `pack_for_gpu`.
    fn unpack_for_gpu(&self, world: (&mut [f32], &mut [f32]), own: (&[f32], &[f32])) {
        self.unpack(world, own);
    }
}

/// See [`Layer::past_relu`]; the bits are those of the layer and the ReLU after each other.
pub trait PastRelu {
    /// As [`Beside::backward_beside`]; `x` is the ReLU's output, which is the layer's input, and
    /// `dx` the gradient at the ReLU's input.
    fn backward(&self, run: &Run, dx: &mut [f32], dy: Gradient<'_>, x: &[f32]);
}

/// See [`Learn::keeps`]; for evaluation, with the bits of [`Learn::forward`].
pub trait Keeps {
    /// Values that are kept for batches like one of so many images.
    fn len(&self, batch: usize) -> usize;
    /// `kept` ← what the forward pass of such a batch makes of the weights.
    fn keep(&self, batch: usize, kept: &mut [f32], weight: &[f32]);
    /// As [`Learn::forward`].
    fn forward(&self, run: &Run, y: &mut [f32], x: &[f32], kept: &[f32], bias: &[f32]);
}

/// The gradients of a layer's weights and biases.
pub type Gradients<'a> = (&'a mut [f32], &'a mut [f32]);

/// See [`Learn::together`]. Layers with the same settings and shapes, each with weights and biases
/// of its own; bits are those of one after the other.
pub trait Together {
    /// Values that `backward_weights` needs as scratch space for so many layers.
    fn workspace(&self, batch: usize, layers: usize) -> usize;
    /// As [`Learn::forward`], for each of `ys` with its weights and biases.
    fn forward(&self, run: &Run, ys: &mut [&mut [f32]], x: &[f32], parameters: &[[&[f32]; 2]]);
    /// As [`Learn::backward_weights`], for each of `dys`.
    fn backward_weights(
        &self,
        run: &Run,
        gradients: &mut [Gradients<'_>],
        dys: &[&[f32]],
        x: &[f32],
        workspace: &mut [f32],
    );
}

/// See [`Learn::update_at_once`].
pub trait UpdateAtOnce {
    /// As [`Learn::backward_weights`] and then the rule on the weights and their `v`, with the same
    /// bits; the biases' gradient is written and left to the caller.
    fn update_at_once(
        &self,
        run: &Run,
        rule: Rule,
        weights: (&mut [f32], &mut [f32]),
        dbias: &mut [f32],
        dy: &[f32],
        x: &[f32],
    );
}

/// See [`Learn::forward_few`].
pub trait ForwardFew {
    /// As [`Learn::forward`], equal but for rounding; `weight` in the outside world's order.
    fn forward_few(&self, run: &Run, y: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32]);
}

/// A layer that changes each value by itself.
pub trait Pointwise: Sync {
    /// Whether it may work in place on the output of another pointwise layer, and another on its
    /// own, where that one chains, too: both backward passes still find what they need there.
    fn chains(&self) -> bool;
    /// In place on `y` [batch, shape].
    fn forward(&self, run: &Run, y: &mut [f32]);
    /// In place on `dy`; `y` is what forward left (and later pointwise layers in the same place).
    fn backward(&self, run: &Run, dy: &mut [f32], y: &[f32]);
}
