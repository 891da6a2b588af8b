//! Consecutive layers that an engine carries out as one pass. An engine names the [`Pass`] that it
//! has; the plan finds the layers for it, and the tasks ([`Plan::forward`], [`Plan::backward`])
//! hold one for the pass in the place of the layers' own.

use super::plan::{BufferId, Part, Plan};
use crate::layers::normalised_pooling::NormalisedPooling;
use crate::layers::{Role, Stage};
use std::ops::Range;

/// A pass in the place of several layers'.
pub trait Pass: Sized {
    /// Whether backward is one pass too; else the layers go back one by one.
    fn goes_back(&self) -> bool;
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

impl<P> Fusion<P> {
    /// The lowest and the highest part that it takes in.
    pub fn ends<'a>(&self, plan: &'a Plan) -> (&'a Part, &'a Part) {
        let part = |layer: usize| &plan.layers[layer].parts[self.part];
        (part(self.layers.start), part(self.layers.end - 1))
    }

    /// What the layers hand on among themselves: their outputs but the highest's, where those are
    /// not the lowest's input, too.
    pub fn between<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = BufferId> + 'a {
        let (lowest, highest) = self.ends(plan);
        let layers = self.layers.start..self.layers.end - 1;
        let outputs = layers.map(|layer| plan.layers[layer].parts[self.part].y);
        outputs.filter(|&y| y != lowest.x && y != highest.y)
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
    fn goes_back(&self) -> bool {
        true
    }

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

/// What GPUs have.
#[derive(Debug)]
pub enum OnGpu {
    /// A layer with weights that applies the ReLU above it, in place, as it writes its output.
    WithRelu,
    /// Normalisation and max-pooling; a ReLU below is not part of it.
    NormalisedPooling(NormalisedPooling),
}

impl Pass for OnGpu {
    fn goes_back(&self) -> bool {
        matches!(self, OnGpu::NormalisedPooling(_))
    }

    fn over(stack: &[&Part]) -> Option<Found<Self>> {
        let [lowest, above, ..] = stack else { return None };
        if matches!(lowest.layer.role(), Role::Learn(_)) {
            return is_relu(above).then_some(Found { layers: 2, at: 0, pass: OnGpu::WithRelu });
        }
        let normalised = matches!(lowest.layer.stage(), Some(Stage::Normalise(_)));
        let Found { layers, at, pass } = NormalisedPooling::over(stack).filter(|_| normalised)?;
        let suits = pass.suits_gpus();
        suits.then_some(Found { layers, at, pass: OnGpu::NormalisedPooling(pass) })
    }
}
