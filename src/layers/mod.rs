//! The layer kinds. One folder each, with all there is to know about that kind: its settings, its
//! output shape and parameters, its forward and backward on the CPU, its launches on a GPU.
//!
//! To add a kind: write its folder, add its line to [`KINDS`] and its row to the table of cases in
//! `tests/cases`.
//!
//! From config to work in three steps: a [`Kind`] reads its [`Settings`]; [`Settings::plan`] fits
//! them to an input shape on one tower and gives a [`Layer`]; the layer's [`Role`] says how the pass
//! has to call it. Activations are NHWC, `[batch, height, width, channels]`, one tower's channels
//! together; parameters lie in the order that the layer likes best and are converted from and to the
//! order of the outside world, (out, in, height, width), when they are loaded and stored.

pub mod activation;
pub mod conv;
pub mod cuda;
pub mod dropout;
pub mod fc;
pub mod local;
pub mod lrn;
pub mod normalised_pooling;
pub mod pool;
pub mod softmax;
pub mod window;

pub use crate::vectors::kernel::Rule;

use crate::config_error;
use crate::keys;
use anyhow::Result;
use cuda::{LaunchContext, Launches};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;
use std::ops::Range;
use toml::Table;

/// Every layer kind, one line each.
pub static KINDS: &[Kind] = &[
    conv::KIND,
    local::KIND,
    fc::KIND,
    lrn::KIND,
    pool::MAX,
    pool::AVERAGE,
    activation::RELU,
    activation::TANH,
    dropout::KIND,
    softmax::KIND,
];

/// What a layer kind is called and how its settings are read.
#[derive(Debug)]
pub struct Kind {
    /// As it is written in a config.
    pub name: &'static str,
    /// What it reads of the layer below, and whether it has weights.
    pub family: Family,
    /// Its own keys.
    pub keys: fn() -> &'static [&'static str],
    /// Reads its own keys out of the layer's table; checks their ranges.
    pub read: fn(&Table) -> Result<Box<dyn Settings>>,
}

/// How the layers of a kind stand in a network of several towers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Neurons: they have weights and biases, and so the keys of [`Weights`], live on all towers, and read
    /// this where the key `input` does not say.
    Learns(Input),
    /// The end of the network: it lives on the first tower and reads all.
    Loss,
    /// Everything else works on each tower that the layer below lives on, by itself.
    Plain,
}

/// Output channels over all towers, for kinds that do not keep their input's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// So many.
    Count(usize),
    /// As many as there are classes.
    Classes,
}

/// How many classes there are to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classes {
    /// So many: the config says so, or the data set has them.
    Known(usize),
    /// Nobody has said yet, and any number will do: [`Classes::ASSUMED`].
    Any,
}

impl Classes {
    /// What stands in for a number that is not known.
    pub const ASSUMED: usize = 10;

    /// The number, assumed where it is not known.
    pub fn count(self) -> usize {
        match self {
            Classes::Known(count) => count,
            Classes::Any => Classes::ASSUMED,
        }
    }
}

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

/// Where a layer that learns takes its input from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    /// The output of the layer below on its own tower.
    SameTower,
    /// The outputs of all towers, their channels side by side.
    AllTowers,
}

/// The keys that every layer with weights has.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Weights {
    /// Default: fc reads all towers ("connected to all neurons in the previous layer", paper
    /// section 3.5), convolutions their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
    /// Standard deviation of the initial weights (paper section 5: 0.01).
    #[serde(default = "sigma")]
    pub weight_sigma: f64,
    /// The initial bias.
    #[serde(default)]
    pub bias: f64,
    /// Factor on the learning rate for the weights.
    #[serde(default = "unit")]
    pub weight_rate: f64,
    /// Factor on the biases' learning rate.
    #[serde(default = "unit")]
    pub bias_rate: f64,
    /// In place of `train.weight_decay` for this layer's weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Weight decay of the biases.
    #[serde(default)]
    pub bias_decay: f64,
}

fn sigma() -> f64 {
    0.01
}
fn unit() -> f64 {
    1.0
}

impl Weights {
    /// Refuses negative or infinite numbers.
    pub(crate) fn check(&self) -> Result<()> {
        let from_zero = [
            ("weight_sigma", self.weight_sigma),
            ("weight_rate", self.weight_rate),
            ("bias_rate", self.bias_rate),
            ("weight_decay", self.weight_decay.unwrap_or(0.0)),
            ("bias_decay", self.bias_decay),
        ];
        for (key, value) in from_zero {
            if !(value.is_finite() && value >= 0.0) {
                return Err(config_error!("{key} = {value}: it must be a number from 0 up"));
            }
        }
        if !self.bias.is_finite() {
            return Err(config_error!("bias = {}: it must be a finite number", self.bias));
        }
        Ok(())
    }
}

/// A layer as the config describes it, not yet fitted to an input.
pub trait Settings: Debug + Send + Sync {
    /// Output channels over all towers, for kinds that do not keep the input's.
    fn outputs(&self) -> Option<Outputs> {
        None
    }
    /// The layer on one tower. Err: a sentence without the layer's name.
    fn plan(&self, place: &Place<'_>) -> Result<Box<dyn Layer>>;
    /// The settings as they are written in a config.
    fn to_table(&self) -> Table;
}

/// Where a layer stands in the network.
pub struct Place<'a> {
    /// Of the layer.
    pub name: &'a str,
    /// What it reads, on its tower (the towers joined, if it reads all).
    pub input: Shape,
    /// Which of the layer's output channels, counted over all towers, are this tower's.
    pub channels: Range<usize>,
    /// Output channels over all towers.
    pub all_channels: usize,
    /// `[cpu]`: what a convolution may do there.
    pub cpu: &'a conv::CpuOptions,
}

/// Sizes of a layer's parameters on one tower, in the order of the outside world. The first
/// dimension of both is the one along which towers are joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterShapes {
    /// conv: [out, in per group, height, width]; fc: [out, in]; local: [out, out height, out width,
    /// in per group, height, width].
    pub weight: Vec<usize>,
    /// conv and fc: [out]; local: [out, out height, out width].
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
    /// What it is to its neighbours, for the kinds that a pass of several layers may take in.
    fn stage(&self) -> Option<Stage<'_>> {
        None
    }
    /// Its kernels and launches on a GPU. Err: the sentence why it cannot run there.
    fn cuda(&self, context: &LaunchContext) -> Result<Box<dyn Launches>>;
}

/// A layer that an engine may compute in one pass with its neighbours (`network::Fusion`).
pub enum Stage<'a> {
    Relu,
    Normalise(&'a lrn::Lrn),
    Pool(&'a pool::Pool),
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
    /// `dx` [batch, input], overwritten, from `dy` [batch, output] and what forward read. The output is
    /// not there any more: pointwise layers may have changed it in place.
    fn backward(&self, run: &Run, dx: &mut [f32], dy: &[f32], x: &[f32]);
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
    /// The forward pass for few images with the weights in the outside world's order, where the layer has
    /// one: what is used once is not worth putting into another order.
    fn forward_few(&self) -> Option<&dyn ForwardFew> {
        None
    }
    /// The weights' gradient and their update in one pass, where the layer has that: the gradient of a
    /// large layer is then never written to memory.
    fn update_at_once(&self) -> Option<&dyn UpdateAtOnce> {
        None
    }
    /// Puts weights and biases of the outside world's order into the layer's own; either pair may be
    /// empty and is then left out.
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

/// See [`Learn::update_at_once`].
pub trait UpdateAtOnce {
    /// As [`Learn::backward_weights`] and then the rule on the weights and their `v`, with the same bits;
    /// the biases' gradient is written and left to the caller.
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
    /// Whether it may work on the output of another pointwise layer: its backward pass and the other's
    /// still find what they need there.
    fn chains(&self) -> bool;
    /// In place on `y` [batch, shape].
    fn forward(&self, run: &Run, y: &mut [f32]);
    /// In place on `dy`; `y` is what forward left (and later pointwise layers in the same place).
    fn backward(&self, run: &Run, dy: &mut [f32], y: &[f32]);
}

/// The kind's own keys as its struct.
fn read_as<T: DeserializeOwned>(table: &Table) -> Result<T> {
    keys::settings(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_kinds_are_unique() {
        for (i, kind) in KINDS.iter().enumerate() {
            assert!(KINDS[..i].iter().all(|other| other.name != kind.name));
        }
    }
}
