//! Several layers of the plan carried out as one pass ([`Fusion`]).

use super::Cpu;
use crate::layers::beside::Gradient;
use crate::layers::normalised_pooling::NormalisedPooling;
use crate::layers::{Beside, Map, Run};
use crate::network::{Fusion, Plan};
use std::mem::take;

/// Values an image of `plan`'s buffers with each of `fusions` in place of its layers: what they hand
/// on among themselves is never there. A pass reads a gradient from the buffer that its own result
/// belongs in, writes to the tower's other one, and the two change places; so both are of one size.
pub(super) fn sizes(plan: &Plan, fusions: &[Fusion<NormalisedPooling>]) -> Vec<usize> {
    let mut values: Vec<usize> = plan.buffers.iter().map(|b| b.values).collect();
    for fusion in fusions {
        fusion.between(plan).for_each(|buffer| values[buffer] = 0);
        let (_, highest) = fusion.ends(plan);
        if let (Some(dy), Some(dx)) = (highest.dy, highest.dx) {
            let most = values[dy].max(values[dx]);
            (values[dy], values[dx]) = (most, most);
        }
    }
    values
}

impl Cpu {
    pub(super) fn forward_fused(&mut self, fusion: usize, run: &Run) {
        let fusion = &self.fusions[fusion];
        let (lowest, highest) = fusion.ends(&self.plan);
        let side = self.sides.get(&(fusion.layers.end - 1, fusion.part));
        let to = side.map_or(highest.y, |side| side.joined);
        let mut output = take(&mut self.buffers[to]);
        let x = &self.buffers[lowest.x];
        match side {
            Some(side) => fusion.pass.forward_beside(run, &mut output, &side.at, x),
            None => fusion.pass.forward(run, &mut output, x),
        }
        self.buffers[to] = output;
    }

    pub(super) fn backward_fused(&mut self, fusion: usize, run: &Run) {
        let fusion = &self.fusions[fusion];
        let (lowest, highest) = fusion.ends(&self.plan);
        let (Some(dy), Some(between), Some(dx)) = (highest.dy, highest.dx, lowest.dx) else {
            return;
        };
        let highest = fusion.layers.end - 1;
        if let Some(side) = self.sides.get(&(highest, fusion.part)) {
            // Between them is what towers yet to come read.
            let mut gradient = take(&mut self.buffers[dy]);
            let readers = self.of_readers(side);
            let of_readers = Gradient::new(&readers, &side.at);
            let x = &self.buffers[lowest.x];
            fusion.pass.backward_beside(run, &mut gradient, of_readers, x);
            self.buffers[dy] = gradient;
            return self.has_gone_back(highest, fusion.part);
        }
        let mut gradient = take(&mut self.buffers[between]);
        fusion.pass.backward(run, &mut gradient, &self.buffers[dy], &self.buffers[lowest.x]);
        self.buffers[between] = gradient;
        if dx != between {
            self.buffers.swap(dx, between);
        }
    }
}
