//! A network divided among processes in two ways (Krizhevsky, "One weird trick for parallelizing
//! convolutional neural networks", 2014). Convolutions have few weights and many activations, fully
//! connected layers many weights and few activations: so below the first fully connected layer each
//! process computes its own images of a batch with all weights, and from there on its own neurons
//! for the images of all processes. Only activations, and their gradients, go from one to another
//! there, never the gradients of the weights.
//!
//! Each of the two halves is a plan of its own. In the upper one a tower is no more than another
//! share of neurons, since its layers read both towers: there it has one.

use super::build::{Output, image};
use super::plan::{BufferId, Mode, Plan};
use super::share::Share;
use crate::config::{Config, LayerConfig};
use crate::config_error;
use crate::layers::{Classes, Input, Outputs, Role, Shape};
use anyhow::Result;
use std::ops::Range;

/// What a layer reads of all processes' neurons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gathered {
    /// The output of this process's neurons in the layer below, [batch, own].
    pub from: BufferId,
    /// Those of all processes, in the reading layer's input [batch, all].
    pub all: usize,
    /// Its own among them.
    pub own: Range<usize>,
    /// Whether what reads them does so alike in all processes, so that each has the whole gradient
    /// at its input: the loss.
    pub alike: bool,
}

/// What one tower of the lower half gives to the upper one's input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its output.
    pub y: BufferId,
    /// Where the gradient at it belongs; `None` where nothing below learns.
    pub dy: Option<BufferId>,
    /// Its channels in the upper half's input.
    pub channels: Range<usize>,
}

/// The two plans of one process.
#[derive(Debug)]
pub struct Halves {
    /// The layers below the first fully connected one: all neurons, this process's images.
    pub below: Plan,
    /// The others: this process's neurons, all images.
    pub above: Plan,
    /// Which part of neurons and images is this process's.
    pub share: Share,
    /// Images of a whole batch; the plans have room for as many as processes validate at once.
    pub batch: usize,
    /// The tops of the towers of `below`.
    pub sources: Vec<Source>,
}

impl Halves {
    /// Those for training `batch` images at each step, those of all processes.
    ///
    /// # Errors
    /// If the network cannot be divided in this way among so many processes.
    pub fn new(config: &Config, batch: usize, share: Share, classes: Classes) -> Result<Halves> {
        let classes = match config.data.classes.map_or(classes, Classes::Known) {
            Classes::Any => Classes::Known(Classes::ASSUMED.max(share.ranks)),
            known => known,
        };
        let first = config.layers.iter().position(is_fc).ok_or_else(|| {
            config_error!(
                "train.distribute = \"hybrid\": the network has no layer of kind \"fc\" to divide \
                 among processes; say distribute = \"data\""
            )
        })?;
        let (lower, upper) = config.layers.split_at(first);
        check_inputs(upper)?;
        check_neurons(upper, share.ranks, classes)?;
        let at_once = batch.div_ceil(share.ranks);
        let towers = vec![0; config.towers];
        let mut below = Plan::empty(config, at_once, Mode::Training, &towers, image(config));
        let outputs = below.add_all(config, lower, classes)?;
        let learns = below.layers.iter().any(|layer| layer.learns());
        if learns {
            below.plan_gradients(false);
        }
        let (sources, input) = sources(&below, &outputs);
        let room = at_once * share.ranks;
        let mut above = Plan::empty(config, room, Mode::Training, &[0], input);
        above.share = Some(share);
        // Nothing is loaded for it.
        above.pieces.own = 0;
        above.add_all(config, upper, classes)?;
        above.classes = above.layers.last().map_or(0, |layer| layer.output().len());
        check_layers(&above, &config.layers[first].name)?;
        above.plan_gradients(learns);
        Ok(Halves { below, above, share, batch, sources })
    }
}

impl Halves {
    /// Bytes of both, as [`Plan::memory_bytes`] counts them, in one process.
    pub fn memory_bytes(&self) -> Vec<u64> {
        let halves = [&self.below, &self.above].map(|half| half.memory_bytes()[0]);
        vec![halves[0].saturating_add(halves[1])]
    }
}

impl Plan {
    /// Whether the layer of that index reads what all processes' neurons in the one below make.
    pub fn gathered(&self, layer: usize) -> Option<Gathered> {
        let below = &self.layers[layer.checked_sub(1)?].parts[0];
        let part = &self.layers[layer].parts[0];
        let apart = self.share.is_some() && part.x != below.y;
        let alike = matches!(part.layer.role(), Role::Loss(_));
        let takes = alike || matches!(part.layer.role(), Role::Learn(_));
        (apart && takes).then(|| Gathered {
            from: below.y,
            all: part.input.len(),
            own: below.channels.clone(),
            alike,
        })
    }
}

fn is_fc(layer: &LayerConfig) -> bool {
    layer.kind.name == "fc"
}

/// The tops of the towers, and their shape side by side.
fn sources(below: &Plan, outputs: &[Output]) -> (Vec<Source>, Shape) {
    let top = below.layers.last();
    // Without a layer all towers see the same images.
    let outputs = if top.is_none() { &outputs[..1] } else { outputs };
    let mut first = 0;
    let of = |(part, output): (usize, &Output)| {
        let channels = first..first + output.shape.channels;
        first = channels.end;
        Source { y: output.buffer, dy: top.and_then(|top| top.parts[part].dy), channels }
    };
    let sources: Vec<Source> = outputs.iter().enumerate().map(of).collect();
    (sources, Shape { channels: first, ..outputs[0].shape })
}

/// Refuses layers that read one tower.
fn check_inputs(upper: &[LayerConfig]) -> Result<()> {
    let one = |layer: &&LayerConfig| {
        let input = layer.weights.as_ref().and_then(|weights| weights.input);
        input.is_some_and(|input| input != Input::AllTowers)
    };
    upper.iter().find(one).map_or(Ok(()), |layer| {
        Err(config_error!(
            "layer {}: it reads its own tower only, and with train.distribute = \"hybrid\" the \
             neurons of fully connected layers are divided among processes, not towers: say input = \
             \"all-towers\" there, or distribute = \"data\"",
            layer.name
        ))
    })
}

/// Refuses more processes than a layer has neurons.
fn check_neurons(upper: &[LayerConfig], ranks: usize, classes: Classes) -> Result<()> {
    for layer in upper {
        let neurons = match layer.settings.outputs() {
            Some(Outputs::Count(count)) => count,
            Some(Outputs::Classes) => classes.count(),
            None => continue,
        };
        if neurons < ranks {
            return Err(config_error!(
                "layer {}: its {neurons} neurons cannot be divided among {ranks} processes \
                 (train.distribute = \"hybrid\"); start {neurons} at most, or say distribute = \
                 \"data\"",
                layer.name
            ));
        }
    }
    Ok(())
}

/// Refuses layers whose neurons are not independent of each other.
fn check_layers(above: &Plan, first: &str) -> Result<()> {
    for layer in &above.layers {
        let part = &layer.parts[0];
        let divides = match part.layer.role() {
            Role::Learn(_) => layer.kind.name == "fc",
            Role::Pointwise(_) | Role::Loss(_) => true,
            Role::Map(_) | Role::Reconstruction(_) => false,
        };
        if !divides {
            return Err(config_error!(
                "layer {}: with train.distribute = \"hybrid\" what stands above {first}, the first \
                 fully connected layer, is divided among processes by neurons: layers of kind \
                 \"fc\", layers that work value by value and softmax, but not {:?}; say distribute \
                 = \"data\"",
                layer.name,
                layer.kind.name
            ));
        }
    }
    Ok(())
}
