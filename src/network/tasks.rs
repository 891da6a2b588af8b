//! The order of work in one pass, as data. A device runs the tasks of its towers in this order; a
//! task that reads another device's memory waits for what wrote it.

use super::fusion::{Fusion, Pass};
use super::plan::{Part, Plan};

/// One piece of work; `layer` and `part` are indices into the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Copies one source's channels into a joined input.
    Join {
        /// That reads all towers.
        layer: usize,
        /// Whose input it is.
        part: usize,
        /// Index of the source among those of the join.
        from: usize,
    },
    /// From input to output.
    Forward {
        /// Of the plan.
        layer: usize,
        /// Of the layer.
        part: usize,
        /// Index into what the tasks were made with: the work of that pass, so of the layer and of
        /// the others that it takes in, which have no task.
        fusion: Option<usize>,
    },
    /// Gradients at the input and of the parameters.
    Backward {
        /// Of the plan.
        layer: usize,
        /// Of the layer.
        part: usize,
        /// As in `Forward`.
        fusion: Option<usize>,
    },
    /// Gradient at the output of a part of the layer under `layer`: its channels in the joined
    /// gradients of all parts of `layer`, added in their order.
    Split {
        /// That reads all towers.
        layer: usize,
        /// The part of the layer under it.
        below: usize,
    },
}

/// Who does the work of one part of a layer.
enum Worker {
    /// The layer, alone or for the pass.
    Layer { fusion: Option<usize> },
    /// A pass at another layer.
    Elsewhere,
}

fn worker<P>(
    fusions: &[Fusion<P>],
    works: impl Fn(&P) -> bool,
    layer: usize,
    part: usize,
) -> Worker {
    let takes_in = |fusion: &Fusion<P>| fusion.covers(layer, part) && works(&fusion.pass);
    match fusions.iter().position(takes_in) {
        Some(fusion) if fusions[fusion].at != layer => Worker::Elsewhere,
        fusion => Worker::Layer { fusion },
    }
}

impl Plan {
    /// From the input to the probabilities, with those of `fusions` (of [`Plan::fusions`]) that go
    /// forward in their layers' place.
    pub fn forward<P: Pass>(&self, fusions: &[Fusion<P>]) -> Vec<Task> {
        let mut tasks = Vec::new();
        for (layer, planned) in self.layers.iter().enumerate() {
            for (part, p) in planned.parts.iter().enumerate() {
                let sources = p.join.as_ref().map_or(0, |join| join.from.len());
                tasks.extend((0..sources).map(|from| Task::Join { layer, part, from }));
            }
            for part in 0..planned.parts.len() {
                if let Worker::Layer { fusion } = worker(fusions, P::goes_forward, layer, part) {
                    tasks.push(Task::Forward { layer, part, fusion });
                }
            }
        }
        tasks
    }

    /// From the loss to every parameter's gradient, with those of `fusions` that go back in
    /// their layers' place. Layers below the first that learns have no work.
    pub fn backward<P: Pass>(&self, fusions: &[Fusion<P>]) -> Vec<Task> {
        let mut tasks = Vec::new();
        for (layer, planned) in self.layers.iter().enumerate().rev() {
            let working = |p: &Part| p.dx.is_some() || planned.learns();
            for (part, _) in planned.parts.iter().enumerate().filter(|(_, p)| working(p)) {
                if let Worker::Layer { fusion } = worker(fusions, P::goes_back, layer, part) {
                    tasks.push(Task::Backward { layer, part, fusion });
                }
            }
            let joined = planned.parts[0].join.as_ref().filter(|_| planned.parts[0].dx.is_some());
            let below = joined.map_or(0, |join| join.from.len());
            tasks.extend((0..below).map(|below| Task::Split { layer, below }));
        }
        tasks
    }
}
