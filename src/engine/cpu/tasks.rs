//! The plan's tasks, one after the other, each on all threads.

use super::fused::ahead;
use super::parameters::Parameters;
use super::{Cpu, memory};
use crate::engine::LayerTime;
use crate::layers::beside::{Channels, Gradient};
use crate::layers::{Role, Run};
use crate::network::{Mode, Task};
use rayon::prelude::*;
use std::mem::take;
use std::time::Instant;

impl Cpu {
    /// Adds the time since `begun` to one of the layer's.
    pub(super) fn spent(
        &mut self,
        layer: usize,
        begun: Instant,
        on: impl Fn(&mut LayerTime) -> &mut f64,
    ) {
        if let Some(times) = self.times.get_mut(layer) {
            *on(times) += begun.elapsed().as_secs_f64();
        }
    }

    /// Does one task and adds its time to its layer's.
    pub(super) fn run(&mut self, task: Task, run: &Run, labels: &[u32]) {
        let begun = Instant::now();
        self.carry_out(task, run, labels);
        self.round_task(task);
        match task {
            Task::Forward { layer, .. } => self.spent(layer, begun, |t| &mut t.forward),
            Task::Join { layer, .. } | Task::Split { layer, .. } => {
                self.spent(layer, begun, |t| &mut t.copies)
            }
            Task::Backward { layer, .. } => {
                self.spent(layer, begun, |t| &mut t.backward_input);
            }
        }
    }

    fn carry_out(&mut self, task: Task, run: &Run, labels: &[u32]) {
        match task {
            Task::Join { layer, part, from } => self.join(layer, part, from, run.batch),
            Task::Forward { layer, part, fusion } => {
                if fusion.is_none_or(|fusion| !self.forward_fused(fusion, run)) {
                    self.forward_part(layer, part, fusion, run);
                }
            }
            Task::Backward { layer, part, fusion } => {
                if fusion.is_none_or(|fusion| !self.backward_fused(fusion, run)) {
                    self.backward_part((layer, part), fusion.is_some(), run, labels);
                }
            }
            Task::Split { layer, below } => self.split(layer, below, run.batch),
        }
    }

    /// One part, with the ReLU above it if that is its fusion.
    fn forward_part(&mut self, layer: usize, index: usize, fusion: Option<usize>, run: &Run) {
        if self.forward_together((layer, index), fusion, run)
            || self.forward_beside((layer, index), run)
        {
            return;
        }
        let part = &self.plan.layers[layer].parts[index];
        let ahead = ahead(part, fusion.map(|fusion| &self.fusions[fusion]));
        let mut y = take(&mut self.buffers[part.y]);
        let x = &self.buffers[part.x];
        match ahead.role() {
            Role::Map(map) => map.forward(run, &mut y, x),
            Role::Learn(learn) => {
                let own = &mut self.parameters[layer][index];
                let keeps = self.plan.mode == Mode::Evaluation
                    && memory::keeps(run.batch)
                    && !self.rounded.is_on();
                if keeps && own.forward_kept(learn, run, &mut y, x) {
                    self.buffers[part.y] = y;
                    return;
                }
                let Parameters { value: [weight, bias], adopted, .. } = &*own;
                match (adopted, learn.forward_few()) {
                    (Some(weight), Some(few)) => few.forward_few(run, &mut y, x, weight, bias),
                    _ => learn.forward(run, &mut y, x, &self.rounded.weights(weight), bias),
                }
            }
            Role::Pointwise(pointwise) => {
                if part.x != part.y {
                    let n = run.batch * part.input.len();
                    y[..n].copy_from_slice(&x[..n]);
                }
                pointwise.forward(run, &mut y);
            }
            Role::Loss(softmax) => softmax.forward(run, &mut y, x),
            Role::Reconstruction(loss) => loss.forward(run, &mut y, x),
        }
        self.buffers[part.y] = y;
    }

    /// Gradients of the weights and biases of one part, where they are wanted.
    pub(super) fn backward_weights(&mut self, layer: usize, index: usize, run: &Run) {
        let learns = self.plan.mode != Mode::Explanation && self.plan.layers[layer].learns();
        if !learns || self.weights_together(layer, index, run) {
            return;
        }
        let part = &self.plan.layers[layer].parts[index];
        let Role::Learn(learn) = part.layer.role() else { return };
        let begun = Instant::now();
        let dy = part.dy.map_or(&[][..], |id| &self.buffers[id]);
        let rule = self.at_once.get(layer).copied().flatten();
        let own = &mut self.parameters[layer][index];
        own.backward(learn, run, rule, dy, &self.buffers[part.x], &mut self.workspace);
        self.spent(layer, begun, |t| &mut t.backward_weights);
    }

    fn backward_part(
        &mut self,
        (layer, index): (usize, usize),
        past_relu: bool,
        run: &Run,
        labels: &[u32],
    ) {
        if self.backward_beside((layer, index), past_relu, run) {
            return;
        }
        match past_relu {
            true => self.backward_past_relu(layer, index, run),
            false => self.backward_values(layer, index, run, labels),
        }
        let begun = Instant::now();
        self.backward_weights(layer, index, run);
        if let Some(times) = self.times.get_mut(layer) {
            // The task's whole time is counted as the input's.
            times.backward_input -= begun.elapsed().as_secs_f64();
        }
    }

    /// The gradient at the input of one part, where it is wanted.
    pub(super) fn backward_values(
        &mut self,
        layer: usize,
        index: usize,
        run: &Run,
        labels: &[u32],
    ) {
        let part = &self.plan.layers[layer].parts[index];
        let mut dx = part.dx.map(|id| take(&mut self.buffers[id]));
        let dy = part.dy.map_or(&[][..], |id| &self.buffers[id]);
        let (x, y) = (&self.buffers[part.x], &self.buffers[part.y]);
        match part.layer.role() {
            Role::Map(map) => {
                if let Some(dx) = &mut dx {
                    map.backward(run, dx, dy, x);
                }
            }
            Role::Learn(learn) => {
                if let Some(dx) = &mut dx {
                    let weights = self.rounded.weights(&self.parameters[layer][index].value[0]);
                    learn.backward_input(run, dx, dy, &weights);
                }
            }
            Role::Pointwise(pointwise) => {
                if let Some(dx) = &mut dx {
                    pointwise.backward(run, dx, y);
                }
            }
            Role::Loss(softmax) => {
                if let Some(dx) = &mut dx {
                    softmax.backward_part(run, self.whole, dx, y, labels);
                }
            }
            Role::Reconstruction(loss) => {
                if let Some(dx) = &mut dx {
                    loss.backward(run, dx, y, &self.buffers[self.plan.data[part.device]]);
                }
            }
        }
        if let (Some(id), Some(dx)) = (part.dx, dx) {
            self.buffers[id] = dx;
        }
    }

    /// The gradient at the input of the ReLU below one part, where it is wanted.
    fn backward_past_relu(&mut self, layer: usize, index: usize, run: &Run) {
        let part = &self.plan.layers[layer].parts[index];
        let (Some(id), Some(pass)) = (part.dx, part.layer.past_relu()) else { return };
        let mut dx = take(&mut self.buffers[id]);
        let dy = part.dy.map_or(&[][..], |id| &self.buffers[id]);
        let channels = Channels::all(part.layer.output().channels);
        pass.backward(run, &mut dx, Gradient::new(&[dy], &channels), &self.buffers[part.x]);
        self.buffers[id] = dx;
    }

    /// Channels of one source, pixel by pixel, into the joined input.
    fn join(&mut self, layer: usize, part: usize, from: usize, batch: usize) {
        let part = &self.plan.layers[layer].parts[part];
        let source = &part.join.as_ref().expect("only joined parts have joins").from[from];
        let (all, n) = (part.input.channels, source.channels.len());
        let mut x = take(&mut self.buffers[part.x]);
        let y = &self.buffers[source.y];
        x.par_chunks_exact_mut(part.input.len())
            .zip(y.par_chunks_exact(part.input.pixels() * n))
            .take(batch)
            .for_each(|(x, y)| {
                for (x, y) in x.chunks_exact_mut(all).zip(y.chunks_exact(n)) {
                    x[source.channels.clone()].copy_from_slice(y);
                }
            });
        self.buffers[part.x] = x;
    }

    /// The gradient of one source: its channels in all readers' gradients, added in their order.
    fn split(&mut self, layer: usize, below: usize, batch: usize) {
        let parts = &self.plan.layers[layer].parts;
        let source = &parts[0].join.as_ref().expect("only joined layers are split").from[below];
        let under = &self.plan.layers[layer - 1].parts[source.part];
        let (Some(id), n) = (under.dy, source.channels.len()) else { return };
        let mut dy = take(&mut self.buffers[id]);
        let all = parts[0].input.channels;
        for (index, part) in parts.iter().enumerate() {
            let dx = &self.buffers[part.dx.expect("split only where gradients go on")];
            dy.par_chunks_exact_mut(part.input.pixels() * n)
                .zip(dx.par_chunks_exact(part.input.len()))
                .take(batch)
                .for_each(|(dy, dx)| {
                    for (dy, dx) in dy.chunks_exact_mut(n).zip(dx.chunks_exact(all)) {
                        let dx = &dx[source.channels.clone()];
                        if index == 0 {
                            dy.copy_from_slice(dx);
                        } else {
                            dy.iter_mut().zip(dx).for_each(|(dy, dx)| *dy += dx);
                        }
                    }
                });
        }
        self.buffers[id] = dy;
    }
}
