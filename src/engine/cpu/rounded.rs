//! A test mode, no promise to users: with `ALEXNET_TEST_CPU_BF16=1` in the environment the CPU
//! rounds to bfloat16 where GPUs with `[gpu] precision = "bf16"` do, so that what they make of a
//! network can be told from an error.
//!
//! Rounded are the input, every layer's output and the gradient to its input as they are stored,
//! joined gradients after each addition, and the weights as products read them. Sums, the weights
//! that are trained, their gradients and momenta stay f32, and so do what the loss reads of a layer
//! with weights and what it makes of it. Each layer is then a pass of its own: what passes of
//! several layers keep in the cache has no place where it is stored. Products round nothing else,
//! in whichever way they are computed: ways that transform factors first do so in f32.

use super::Cpu;
use super::parameters::BLOCK;
use crate::gpu::format::{of_bf16, to_bf16};
use crate::network::{BufferId, Plan, PlannedLayer, Task};
use rayon::prelude::*;
use std::borrow::Cow;

/// The variable that asks for it.
const VARIABLE: &str = "ALEXNET_TEST_CPU_BF16";

/// The buffers that stay f32; none where nothing is rounded.
pub(super) struct Rounded {
    floats: Option<Vec<BufferId>>,
}

/// Whether the environment asks for it.
pub(super) fn is_asked() -> bool {
    std::env::var(VARIABLE).is_ok_and(|value| value == "1")
}

/// To the nearest bfloat16.
fn round(value: f32) -> f32 {
    of_bf16(to_bf16(value))
}

impl Rounded {
    /// As the environment says.
    pub fn new(plan: &Plan) -> Rounded {
        Rounded { floats: is_asked().then(|| floats(plan)) }
    }

    /// Whether anything is.
    pub fn is_on(&self) -> bool {
        self.floats.is_some()
    }

    /// The weights as products read them.
    pub fn weights<'a>(&self, weights: &'a [f32]) -> Cow<'a, [f32]> {
        match self.is_on() {
            true => Cow::Owned(weights.par_iter().map(|&w| round(w)).collect()),
            false => Cow::Borrowed(weights),
        }
    }
}

impl Cpu {
    /// Rounds what is stored in a buffer.
    pub(super) fn round(&mut self, buffer: BufferId) {
        let Some(floats) = &self.rounded.floats else { return };
        if !floats.contains(&buffer) {
            let blocks = self.buffers[buffer].par_chunks_mut(BLOCK);
            blocks.for_each(|block| block.iter_mut().for_each(|value| *value = round(*value)));
        }
    }

    /// Rounds what a task has stored.
    pub(super) fn round_task(&mut self, task: Task) {
        if !self.rounded.is_on() {
            return;
        }
        let part = |layer: usize, part: usize| &self.plan.layers[layer].parts[part];
        let stored = match task {
            // A copy of what was rounded.
            Task::Join { .. } => None,
            Task::Forward { layer, part: own, .. } => Some(part(layer, own).y),
            Task::Backward { layer, part: own, .. } => part(layer, own).dx,
            Task::Split { layer, below } => {
                let join = part(layer, 0).join.as_ref();
                join.and_then(|join| part(layer - 1, join.from[below].part).dy)
            }
        };
        stored.into_iter().for_each(|buffer| self.round(buffer));
    }
}

/// The probabilities, and what they are made of where a layer with weights writes that.
fn floats(plan: &Plan) -> Vec<BufferId> {
    let below = plan.layers.len().checked_sub(2).map(|layer| &plan.layers[layer]);
    let writes_it = |layer: &PlannedLayer| {
        layer.weights.is_some() && layer.parts.iter().any(|part| part.y == plan.logits())
    };
    let logits = below.filter(|layer| writes_it(layer)).map(|_| plan.logits());
    logits.into_iter().chain([plan.probabilities()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::engine::cuda::layout::Layout;
    use crate::gpu::format::Format;
    use crate::gpu::precision::Precision;
    use crate::layers::Classes;
    use crate::network::Mode;
    use std::path::Path;

    #[test]
    fn what_gpus_store_as_f32_is_not_rounded() {
        for name in ["demo.toml", "ilsvrc2010.toml", "cifar10-local.toml"] {
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(name);
            let config = Config::read(&file, &[]).unwrap();
            let devices = vec![0; config.towers];
            let mut plan = Plan::new(&config, 4, Mode::Training, &devices, Classes::Any).unwrap();
            plan.precision = Precision::Bf16;
            let layout = Layout::new(&plan, 4, &[108]).unwrap();
            let is_float = |id: &usize| layout.buffers[*id].format == Format::Float;
            let mut own = floats(&plan);
            own.sort();
            own.dedup();
            assert_eq!(own, (0..plan.buffers.len()).filter(is_float).collect::<Vec<_>>(), "{name}");
        }
    }
}
