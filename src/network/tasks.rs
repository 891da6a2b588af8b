//! The order of work in one pass, as data. A device runs the tasks of its towers in this order; a task
//! that reads another device's memory waits for what wrote it.

use super::plan::Plan;

/// One piece of work; `layer` and `part` are indices into the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Copies source `from`'s channels into the part's joined input.
    Join {
        layer: usize,
        part: usize,
        from: usize,
    },
    Forward {
        layer: usize,
        part: usize,
    },
    /// Gradients at the input and of the parameters.
    Backward {
        layer: usize,
        part: usize,
    },
    /// Gradient at the output of part `below` of the layer under `layer`: its channels in the joined
    /// gradients of all parts of `layer`, added in their order.
    Split {
        layer: usize,
        below: usize,
    },
}

impl Plan {
    /// From the input to the probabilities.
    pub fn forward(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        for (layer, planned) in self.layers.iter().enumerate() {
            for (part, p) in planned.parts.iter().enumerate() {
                let sources = p.join.as_ref().map_or(0, |join| join.from.len());
                tasks.extend((0..sources).map(|from| Task::Join { layer, part, from }));
            }
            tasks.extend((0..planned.parts.len()).map(|part| Task::Forward { layer, part }));
        }
        tasks
    }

    /// From the loss to every parameter's gradient. Layers below the first that learns have no work.
    pub fn backward(&self) -> Vec<Task> {
        let mut tasks = Vec::new();
        for (layer, planned) in self.layers.iter().enumerate().rev() {
            let working = |p: &super::Part| p.dx.is_some() || planned.weights.is_some();
            let parts = planned.parts.iter().enumerate().filter(|(_, p)| working(p));
            tasks.extend(parts.map(|(part, _)| Task::Backward { layer, part }));
            let joined = planned.parts[0].join.as_ref().filter(|_| planned.parts[0].dx.is_some());
            let below = joined.map_or(0, |join| join.from.len());
            tasks.extend((0..below).map(|below| Task::Split { layer, below }));
        }
        tasks
    }
}
