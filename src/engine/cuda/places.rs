//! Which of the plan's buffers each layer's pass on a GPU reads and writes. They are the plan's
//! own, but where a pass stands for several layers, and where both towers are on one GPU and read
//! one joined input.

use crate::network::{BufferId, Fusion, OnGpu, Part, Pass, Plan};

/// Of one part of a layer, and of the pass that it stands for.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// Its input.
    pub x: BufferId,
    /// Its output.
    pub y: BufferId,
    /// The gradient at its output.
    pub dy: Option<BufferId>,
    /// The gradient at its input.
    pub dx: Option<BufferId>,
}

/// `[layer][part]`. The two gradients of a tower take turns from layer to layer
/// (`Plan::plan_gradients`), and a pass over two layers is one turn in place of two: below it they
/// have changed places.
pub fn places(plan: &Plan, fusions: &[Fusion<OnGpu>]) -> Vec<Vec<Places>> {
    let mut turns = vec![Turn::default(); plan.devices.len()];
    let mut all: Vec<Vec<Places>> = Vec::new();
    for (index, layer) in plan.layers.iter().enumerate().rev() {
        let mut of_layer = Vec::new();
        for (number, part) in layer.parts.iter().enumerate() {
            let turn = &mut turns[part.tower];
            let pass = fusions.iter().find(|f| f.part == number && f.at == index);
            let (lowest, highest) = pass.map_or((part, part), |pass| pass.ends(plan));
            let dy = if pass.is_some_and(|f| f.pass.goes_back()) { highest.dy } else { part.dy };
            let dy = turn.of(dy);
            if pass.is_some_and(|f| f.pass.goes_back()) {
                turn.skip(highest);
            }
            of_layer.push(Places { x: lowest.x, y: highest.y, dy, dx: turn.of(part.dx) });
        }
        all.push(of_layer);
    }
    all.reverse();
    for (of, instead) in shared(plan) {
        let parts = all.iter_mut().flatten().filter(|places| places.x == of);
        parts.for_each(|places| places.x = instead);
    }
    all
}

/// Joined inputs, each with another that stands for it: on one GPU all parts of a layer read the
/// first one's.
pub fn shared(plan: &Plan) -> impl Iterator<Item = (BufferId, BufferId)> + '_ {
    let layers = plan.layers.iter().filter(|_| plan.data.len() == 1);
    layers.flat_map(|layer| {
        let [first, others @ ..] = &layer.parts[..] else { return Vec::new() };
        let joined = others.iter().filter(|part| part.join.is_some());
        joined.map(|part| (part.x, first.x)).collect()
    })
}

/// Whether a tower's two gradients have changed places.
#[derive(Clone, Default)]
struct Turn {
    both: Option<(BufferId, BufferId)>,
    changed: bool,
}

impl Turn {
    /// A layer's backward pass is left out.
    fn skip(&mut self, layer: &Part) {
        self.both = layer.dy.zip(layer.dx);
        self.changed = !self.changed;
    }

    /// What stands for the plan's buffer.
    fn of(&self, id: Option<BufferId>) -> Option<BufferId> {
        let (Some(id), Some((a, b)), true) = (id, self.both, self.changed) else { return id };
        Some(if id == a { b } else { a })
    }
}
