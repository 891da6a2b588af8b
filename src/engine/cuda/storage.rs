//! How activations and gradients are stored on a GPU.

use super::places::shared;
use crate::gpu::format::Format;
use crate::network::{BufferPlan, Fusion, OnGpu, Part, Pass, Plan, PlannedLayer};

/// How a buffer of activations or gradients is stored.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    /// Each number.
    pub format: Format,
    /// Numbers for each image of the batch, with those that fill packs.
    pub values: usize,
}

impl Stored {
    /// Bytes of a batch of so many images.
    pub fn bytes(self, images: usize) -> usize {
        images * self.values * self.format.bytes()
    }
}

/// As how many channels the input is stored, if not as many as it has: what all its readers want.
pub fn stored_channels(plan: &Plan) -> Option<usize> {
    let parts = plan.layers.iter().flat_map(|layer| &layer.parts);
    let mut readers = parts.filter(|part| plan.data.contains(&part.x));
    let wish = |part: &Part| part.layer.stored_channels(plan.precision);
    let first = wish(readers.next()?)?;
    readers.all(|part| wish(part) == Some(first)).then_some(first)
}

/// The buffers in the plan's precision; but what the loss reads of a layer with weights, and what
/// it makes of it, are f32. What passes hand on within themselves is not there, nor a joined input
/// that another stands for.
pub fn stored(plan: &Plan, channels: Option<usize>, fusions: &[Fusion<OnGpu>]) -> Vec<Stored> {
    let format = plan.precision.format();
    let stored = |buffer: &BufferPlan| Stored { format, values: buffer.values };
    let mut all: Vec<Stored> = plan.buffers.iter().map(stored).collect();
    if let Some(channels) = channels {
        let values = plan.input.pixels() * channels;
        plan.data.iter().for_each(|&id| all[id].values = values);
    }
    shared(plan).for_each(|(of, _)| all[of].values = 0);
    for fusion in fusions.iter().filter(|f| f.pass.goes_back()) {
        fusion.between(plan).for_each(|id| all[id].values = 0);
        if let (_, Part { dy: Some(dy), dx: Some(dx), .. }) = fusion.ends(plan) {
            // They change places below.
            let most = all[*dy].values.max(all[*dx].values);
            (all[*dy].values, all[*dx].values) = (most, most);
        }
    }
    if !plan.has_loss() {
        return all;
    }
    all[plan.probabilities()].format = Format::Float;
    // Not where it is joined from several towers: copies are in one format.
    let below = plan.layers.len().checked_sub(2).map(|l| &plan.layers[l]);
    let writes_it = |layer: &PlannedLayer| layer.parts.iter().any(|p| p.y == plan.logits());
    if below.is_some_and(|layer| layer.weights.is_some() && writes_it(layer)) {
        all[plan.logits()].format = Format::Float;
    }
    // Where it is gathered from all processes both ends are.
    if let Some(layer) = below.filter(|layer| plan.share.is_some() && layer.weights.is_some()) {
        [layer.parts[0].y, plan.logits()].into_iter().for_each(|y| all[y].format = Format::Float);
    }
    all
}
