//! Consecutive layers that an engine carries out as one pass. An engine names the [`Pass`] that it
//! has; the plan finds the layers for it, and the tasks ([`Plan::forward`], [`Plan::backward`])
//! hold one for the pass in the place of the layers' own.

use super::plan::{BufferId, Part, Plan};
use crate::layers::normalised_pooling::NormalisedPooling;
use crate::layers::{Layer, Role, Stage};
use std::ops::Range;

/// A pass in the place of several layers'.
pub trait Pass: Sized {
    /// Whether forward is one pass; else the layers go one by one.
    fn goes_forward(&self) -> bool {
        true
    }
    /// Whether backward is one pass; else the layers go back one by one.
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
    /// Every place for the pass, from the input up; none that go the same way overlap.
    pub fn fusions<P: Pass>(&self) -> Vec<Fusion<P>> {
        let mut fusions: Vec<Fusion<P>> = Vec::new();
        for (layer, planned) in self.layers.iter().enumerate() {
            for part in 0..planned.parts.len() {
                let Some(Found { layers, at, pass }) = P::over(&self.stack(layer, part)) else {
                    continue;
                };
                let taken = |fusion: &Fusion<P>| {
                    let ahead = fusion.pass.goes_forward() && pass.goes_forward();
                    let back = fusion.pass.goes_back() && pass.goes_back();
                    fusion.covers(layer, part) && (ahead || back)
                };
                if !fusions.iter().any(taken) {
                    let (layers, at) = (layer..layer + layers, layer + at);
                    fusions.push(Fusion { layers, part, at, pass });
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
/// normalisation.
fn normalised_pooling(stack: &[&Part]) -> Option<Found<NormalisedPooling>> {
    let relu = is_relu(stack.first()?);
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

/// What the CPU has.
#[derive(Debug)]
pub enum OnCpu {
    /// Normalisation and max-pooling, and a ReLU below.
    NormalisedPooling(NormalisedPooling),
    /// Forward: the lower layer with the ReLU above it ([`Layer::with_relu`]).
    WithRelu(Box<dyn Layer>),
    /// Backward: the upper layer, max-pooling, gives the gradient at the input of the ReLU below it
    /// ([`Layer::past_relu`]).
    PastRelu,
}

impl Pass for OnCpu {
    fn goes_forward(&self) -> bool {
        matches!(self, OnCpu::NormalisedPooling(_) | OnCpu::WithRelu(_))
    }

    fn goes_back(&self) -> bool {
        matches!(self, OnCpu::NormalisedPooling(_) | OnCpu::PastRelu)
    }

    fn over(stack: &[&Part]) -> Option<Found<Self>> {
        if let Some(Found { layers, at, pass }) = normalised_pooling(stack) {
            return Some(Found { layers, at, pass: OnCpu::NormalisedPooling(pass) });
        }
        let [lowest, above, ..] = stack else { return None };
        if is_relu(lowest) {
            let past = above.layer.past_relu().is_some() && above.dx == lowest.dy;
            return past.then_some(Found { layers: 2, at: 1, pass: OnCpu::PastRelu });
        }
        if !is_relu(above) || normalised_pooling(&stack[1..]).is_some() {
            return None;
        }
        let pass = OnCpu::WithRelu(lowest.layer.with_relu()?);
        Some(Found { layers: 2, at: 0, pass })
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
        let Found { layers, at, pass } = normalised_pooling(stack).filter(|_| normalised)?;
        let suits = pass.suits_gpus();
        suits.then_some(Found { layers, at, pass: OnGpu::NormalisedPooling(pass) })
    }
}
