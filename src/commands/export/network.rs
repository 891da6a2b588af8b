//! A network as other programs compute it: layer by layer, on the maps of all towers side by side.
//!
//! A convolution that stays on its tower is one in groups; what else differs by tower is done to
//! the towers' maps apart, which are then joined again. Weights keep their names, shapes and bits.

use crate::config_error;
use crate::layers::dropout::Dropout;
use crate::layers::lrn::{Lrn, Region};
use crate::layers::pool::Pool;
use crate::layers::window::Window;
use crate::layers::{Shape, Stage};
use crate::network::{Part, Plan, PlannedLayer};
use anyhow::{Context, Result};
use std::ops::Range;

/// One layer.
#[derive(Debug)]
pub struct Step<'a> {
    /// The layer's name.
    pub name: &'a str,
    /// What it does.
    pub work: Work<'a>,
    /// What it makes of one image, all towers side by side.
    pub output: Shape,
}

/// What a layer does to the maps of all towers side by side.
#[derive(Debug)]
pub enum Work<'a> {
    /// A convolution; the window is that of one tower.
    Convolve(&'a Window, Spread),
    /// A fully connected layer on so many values.
    Connect(usize, Spread),
    /// The larger of a value and 0.
    Relu,
    /// tanh.
    Tanh,
    /// Response normalisation, within these numbers of maps each.
    Normalise(&'a Lrn, Vec<usize>),
    /// Pooling.
    Pool(&'a Pool),
    /// Dropout, as it is in evaluation.
    Drop(&'a Dropout),
    /// All maps once more behind themselves: two towers that have seen the same.
    Repeat(usize),
    /// Probabilities.
    Softmax,
}

/// How a layer with weights reads the towers.
#[derive(Clone, Debug, PartialEq)]
pub enum Spread {
    /// As one, in so many groups.
    Whole(usize),
    /// Tower by tower; the outputs are then side by side.
    Towers {
        /// Maps of each tower in what the layer reads.
        maps: Vec<usize>,
        /// One for each tower that it lives on.
        parts: Vec<Reading>,
    },
}

/// A layer on one tower.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Which of the towers' maps it reads; none: all of them.
    pub tower: Option<usize>,
    /// Its outputs, which are the rows of its weights.
    pub rows: Range<usize>,
}

/// What the towers hold between two layers.
struct Held {
    /// Towers in order, each with its maps.
    towers: Vec<(usize, usize)>,
    /// Whether all of them have the same, as they have the image.
    same: bool,
}

/// The layers of a plan. `file` is what its network comes from.
///
/// # Errors
/// A sentence with the first layer that other programs do not know.
pub fn steps<'a>(plan: &'a Plan, file: &str) -> Result<Vec<Step<'a>>> {
    let image = |tower| (tower, plan.input.channels);
    let mut held = Held { towers: (0..plan.devices.len()).map(image).collect(), same: true };
    let mut steps = Vec::new();
    for layer in &plan.layers {
        let of_layer = || format!("{file}: layer {}", layer.name);
        let joins = layer.parts.iter().any(|part| part.join.is_some());
        if held.same && joins {
            let count = held.towers.len();
            let shape = layer.parts[0].input;
            steps.push(Step { name: &layer.name, work: Work::Repeat(count), output: shape });
            held.same = false;
        }
        let work = work(layer, &held).with_context(of_layer)?;
        let stays = matches!(work, Work::Relu | Work::Tanh | Work::Pool(_) | Work::Drop(_));
        let stays = stays || matches!(work, Work::Normalise(..));
        held.same &= stays && layer.parts.len() > 1;
        held.towers = layer.parts.iter().map(|p| (p.tower, p.layer.output().channels)).collect();
        let output = if held.same { layer.parts[0].layer.output() } else { layer.output() };
        steps.push(Step { name: &layer.name, work, output });
    }
    Ok(steps)
}

fn work<'a>(layer: &'a PlannedLayer, held: &Held) -> Result<Work<'a>> {
    let part = &layer.parts[0];
    let kind = layer.kind.name;
    let Some(stage) = part.layer.stage() else {
        return Err(config_error!(
            "neither ONNX nor PyTorch has an operator for layers of kind {kind:?}, so this network \
             cannot be exported; `predict`, `eval` and `features` go on working with it"
        ));
    };
    Ok(match stage {
        Stage::Convolve(window) => {
            let spread = spread(layer, held, Some(window));
            Work::Convolve(window, spread)
        }
        Stage::Connect(fc) => Work::Connect(fc.input.len(), spread(layer, held, None)),
        Stage::Relu => Work::Relu,
        Stage::Tanh => Work::Tanh,
        Stage::Normalise(lrn) if lrn.region == Region::WithinMap => {
            return Err(config_error!(
                "neither ONNX nor PyTorch has an operator for normalisation with region = \
                 \"within-map\", so this network cannot be exported; `predict`, `eval` and \
                 `features` go on working with it"
            ));
        }
        Stage::Normalise(lrn) if held.same => Work::Normalise(lrn, vec![lrn.shape.channels]),
        Stage::Normalise(lrn) => {
            let maps = layer.parts.iter().map(|part| part.input.channels);
            Work::Normalise(lrn, maps.collect())
        }
        Stage::Pool(pool) => Work::Pool(pool),
        Stage::Drop(dropout) => Work::Drop(dropout),
        Stage::Softmax if part.input.pixels() > 1 => {
            return Err(config_error!(
                "it reads maps of {}, not one value a class; train with an fc layer below it to \
                 export the network",
                part.input
            ));
        }
        Stage::Softmax => Work::Softmax,
    })
}

/// How a layer with weights, and a `window` if it is a convolution, reads what is `held`.
fn spread(layer: &PlannedLayer, held: &Held, window: Option<&Window>) -> Spread {
    let parts: Vec<Reading> = layer.parts.iter().map(|part| reading(part, held)).collect();
    let groups = window.map_or(1, |window| window.groups);
    let reads_all = parts.iter().all(|part| part.tower.is_none());
    if reads_all && (groups == 1 || parts.len() == 1) {
        return Spread::Whole(groups);
    }
    let maps: Vec<usize> = held.towers.iter().map(|&(_, maps)| maps).collect();
    let own = parts.iter().enumerate().all(|(index, part)| part.tower == Some(index));
    let even = maps.iter().all(|&count| count == maps[0])
        && parts.iter().all(|part| part.rows.len() == parts[0].rows.len());
    if window.is_some() && own && even && parts.len() == maps.len() {
        return Spread::Whole(groups * parts.len());
    }
    Spread::Towers { maps, parts }
}

fn reading(part: &Part, held: &Held) -> Reading {
    let all = held.same || part.join.is_some() || held.towers.len() == 1;
    let own = || held.towers.iter().position(|&(tower, _)| tower == part.tower);
    Reading { tower: if all { None } else { own() }, rows: part.channels.clone() }
}

impl Work<'_> {
    /// Whether the layer has weights and biases.
    pub fn has_weights(&self) -> bool {
        matches!(self, Work::Convolve(..) | Work::Connect(..))
    }
}
