//! Several layers of the plan carried out as one pass ([`Fusion`]).

use super::Cpu;
use crate::layers::{Map, Run};
use crate::network::{Fusion, Plan};
use std::mem::take;

/// Buffers for `plan` with each of `fusions` in place of its layers: the output of normalisation is
/// never there. A pass reads a gradient from the buffer that its own result belongs in, writes to the
/// tower's other one, and the two change places; so both are of one size.
pub(super) fn buffers(plan: &Plan, fusions: &[Fusion]) -> Vec<Vec<f32>> {
    let mut values: Vec<usize> = plan.buffers.iter().map(|b| b.values).collect();
    for fusion in fusions {
        values[plan.layers[fusion.lrn].parts[fusion.part].y] = 0;
        let pooled = &plan.layers[fusion.pool].parts[fusion.part];
        if let (Some(dy), Some(dx)) = (pooled.dy, pooled.dx) {
            let most = values[dy].max(values[dx]);
            (values[dy], values[dx]) = (most, most);
        }
    }
    values.into_iter().map(|values| vec![0.0; values * plan.batch]).collect()
}

impl Cpu {
    /// Whether a pass computes that part of a layer.
    pub(super) fn is_fused(&self, layer: usize, part: usize) -> bool {
        self.fusions.iter().any(|fusion| fusion.covers(layer, part))
    }

    /// All of a pass when it is normalisation's turn, so that its time counts as that layer's.
    pub(super) fn forward_fused(&mut self, layer: usize, part: usize, run: &Run) {
        let found = self.fusions.iter().find(|f| f.lrn == layer && f.part == part);
        let Some(fusion) = found else { return };
        let x = self.plan.layers[layer].parts[part].x;
        let y = self.plan.layers[fusion.pool].parts[part].y;
        let mut output = take(&mut self.buffers[y]);
        fusion.pass.forward(run, &mut output, &self.buffers[x]);
        self.buffers[y] = output;
    }

    pub(super) fn backward_fused(&mut self, layer: usize, part: usize, run: &Run) {
        let found = self.fusions.iter().find(|f| f.lrn == layer && f.part == part);
        let Some(fusion) = found else { return };
        let normalised = &self.plan.layers[layer].parts[part];
        let pooled = &self.plan.layers[fusion.pool].parts[part];
        let (Some(dy), Some(dx), Some(between)) = (pooled.dy, normalised.dx, normalised.dy) else {
            return;
        };
        let x = normalised.x;
        let mut gradient = take(&mut self.buffers[between]);
        fusion.pass.backward(run, &mut gradient, &self.buffers[dy], &self.buffers[x]);
        self.buffers[between] = gradient;
        if dx != between {
            self.buffers.swap(dx, between);
        }
    }
}
