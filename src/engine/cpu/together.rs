//! A layer's towers computed at once where they read one input, as the paper's conv1 does: what is
//! made of the input is made once.

use super::Cpu;
use crate::layers::{Gradients, Role, Run, Together};
use crate::network::{Plan, PlannedLayer};
use std::mem::take;
use std::time::Instant;

/// Images a thread from which on; with fewer the towers' work by itself is divided more finely.
const IMAGES: usize = 4;

/// The pass of all parts of a layer, if it has one.
fn of(layer: &PlannedLayer) -> Option<&dyn Together> {
    let [first, others @ ..] = &layer.parts[..] else { return None };
    let Role::Learn(learn) = first.layer.role() else { return None };
    let same = others.iter().all(|part| {
        part.x == first.x && part.dx.is_none() && part.layer.output() == first.layer.output()
    });
    learn.together().filter(|_| !others.is_empty() && same && first.dx.is_none())
}

/// Values of scratch space that all passes need.
pub(super) fn workspace(plan: &Plan, batch: usize) -> usize {
    let together = plan.layers.iter().filter_map(|layer| Some((of(layer)?, layer.parts.len())));
    let most = together.map(|(pass, parts)| pass.workspace(batch, parts)).max();
    most.unwrap_or(0).max(plan.workspace_of(0, batch))
}

impl Cpu {
    fn together(&self, layer: usize, run: &Run) -> Option<&dyn Together> {
        let enough = run.batch >= IMAGES * rayon::current_num_threads();
        of(&self.plan.layers[layer]).filter(|_| enough && !self.rounded.is_on())
    }

    /// The forward pass of all parts at the turn of the first; `false`: each has its own.
    pub(super) fn forward_together(&mut self, layer: usize, part: usize, run: &Run) -> bool {
        if self.together(layer, run).is_none() {
            return false;
        }
        if part > 0 {
            return true;
        }
        let parts = &self.plan.layers[layer].parts;
        let mut ys: Vec<Vec<f32>> = parts.iter().map(|p| take(&mut self.buffers[p.y])).collect();
        if let Some(pass) = self.together(layer, run) {
            let own = self.parameters[layer].iter();
            let parameters: Vec<[&[f32]; 2]> =
                own.map(|own| own.value.each_ref().map(|values| &values[..])).collect();
            let mut ys: Vec<&mut [f32]> = ys.iter_mut().map(|y| &mut y[..]).collect();
            pass.forward(run, &mut ys, &self.buffers[parts[0].x], &parameters);
        }
        for (part, y) in parts.iter().zip(ys) {
            self.buffers[part.y] = y;
        }
        true
    }

    /// The gradients of all parts' weights at the turn of the first; `false`: each has its own.
    pub(super) fn weights_together(&mut self, layer: usize, part: usize, run: &Run) -> bool {
        if self.together(layer, run).is_none() {
            return false;
        }
        if part > 0 {
            return true;
        }
        let begun = Instant::now();
        let own = self.parameters[layer].iter_mut();
        let mut gradients: Vec<[Vec<f32>; 2]> = own.map(|own| take(&mut own.gradient)).collect();
        let mut workspace = take(&mut self.workspace);
        if let Some(pass) = self.together(layer, run) {
            let parts = &self.plan.layers[layer].parts;
            let dys = parts.iter().map(|p| p.dy.map_or(&[][..], |id| &self.buffers[id][..]));
            let mut to: Vec<Gradients<'_>> =
                gradients.iter_mut().map(|[w, b]| (&mut w[..], &mut b[..])).collect();
            let (dys, x) = (dys.collect::<Vec<_>>(), &self.buffers[parts[0].x]);
            pass.backward_weights(run, &mut to, &dys, x, &mut workspace);
        }
        self.workspace = workspace;
        for (own, gradient) in self.parameters[layer].iter_mut().zip(gradients) {
            own.gradient = gradient;
        }
        self.spent(layer, begun, |t| &mut t.backward_weights);
        true
    }
}
