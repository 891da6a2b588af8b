//! Consecutive layers that an engine carries out as one pass. An engine names the [`Pass`] that it
//! has; the plan finds the layers for it, and the tasks ([`Plan::forward`], [`Plan::backward`])
//! hold one for the pass in the place of the layers' own.

use super::plan::{Part, Plan};
use crate::layers::normalised_pooling::NormalisedPooling;
use crate::layers::{Role, Stage};
use std::ops::Range;

/// A pass in the place of several layers'.
pub trait Pass: Sized {
    /// Whether backward is one pass too; else the layers go back one by one.
    const BACKWARD: bool;
    /// The pass over the lowest of `stack`, one part a layer from the bottom up, each of which
    /// reads what the one below wrote; `None` if the lowest is not where one begins.
    fn over(stack: &[&Part]) -> Option<Found<Self>>;
}

/// What [`Pass::over`] finds.
pub struct Found<P> {
    /// How many layers it takes in.
    pub layers: usize,
    /// Which of them, counted from 0, it stands for: see [`Fusion::at`].
    pub at: usize,
    /// What is carried out.
    pub pass: P,
}

/// A pass and the layers that it takes in, on one tower.
#[derive(Debug)]
pub struct Fusion<P> {
    /// The layers by their indices in the plan.
    pub layers: Range<usize>,
    /// The same part of each.
    pub part: usize,
    /// The layer whose place among the tasks the pass takes, and as whose time it counts.
    pub at: usize,
    /// What is carried out.
    pub pass: P,
}

impl<P> Fusion<P> {
    /// Whether the pass takes in that part of a layer.
    pub fn covers(&self, layer: usize, part: usize) -> bool {
        part == self.part && self.layers.contains(&layer)
    }
}

impl Plan {
    /// Every place for the pass, from the input up; none overlap.
    pub fn fusions<P: Pass>(&self) -> Vec<Fusion<P>> {
        let mut fusions: Vec<Fusion<P>> = Vec::new();
        for (layer, planned) in self.layers.iter().enumerate() {
            for part in 0..planned.parts.len() {
                if fusions.iter().any(|fusion| fusion.covers(layer, part)) {
                    continue;
                }
                if let Some(Found { layers, at, pass }) = P::over(&self.stack(layer, part)) {
                    fusions.push(Fusion {
                        layers: layer..layer + layers,
                        part,
                        at: layer + at,
                        pass,
                    });
                }
            }
        }
        fusions
    }

    /// That part of a layer and of those above it, as far as each reads what the one below wrote.
    fn stack(&self, layer: usize, part: usize) -> Vec<&Part> {
        let mut below = &self.layers[layer].parts[part];
        let mut stack = vec![below];
        for above in self.layers[layer + 1..].iter().map_while(|above| above.parts.get(part)) {
            if above.x != below.y {
                break;
            }
            stack.push(above);
            below = above;
        }
        stack
    }
}

/// Whether it is a ReLU that changes its input in place.
fn is_relu(part: &Part) -> bool {
    part.x == part.y && matches!(part.layer.stage(), Some(Stage::Relu))
}

/// ReLU, if there is one in place, normalisation and max-pooling over the same maps; counts as
/// normalisation. The CPU has it.
impl Pass for NormalisedPooling {
    const BACKWARD: bool = true;

    fn over(stack: &[&Part]) -> Option<Found<Self>> {
        let relu = is_relu(stack[0]);
        let at = usize::from(relu);
        let [normalised, pooled, ..] = &stack[at..] else { return None };
        match (normalised.layer.stage(), pooled.layer.stage()) {
            (Some(Stage::Normalise(lrn)), Some(Stage::Pool(pool))) => {
                let pass = NormalisedPooling::new(relu, lrn, pool)?;
                Some(Found { layers: at + 2, at, pass })
            }
            _ => None,
        }
    }
}

/// A layer with weights that applies the ReLU above it as it writes its output. GPUs have it.
#[derive(Debug)]
pub struct WithRelu;

impl Pass for WithRelu {
    const BACKWARD: bool = false;

    fn over(stack: &[&Part]) -> Option<Found<Self>> {
        let [learns, above, ..] = stack else { return None };
        let suits = matches!(learns.layer.role(), Role::Learn(_)) && is_relu(above);
        suits.then_some(Found { layers: 2, at: 0, pass: WithRelu })
    }
}
