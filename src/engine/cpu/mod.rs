//! The CPU backend: all towers in main memory, tasks one after the other, each spread over rayon's
//! threads. Sums have a fixed order, so that the number of threads changes no bit.

mod fused;
mod parameters;

use super::{Engine, LayerTime, Rates, Slot, Tensor};
use crate::data::form::{CropView, Form};
use crate::files::mapped::MappedFloats;
use crate::layers::softmax::{Tally, tally};
use crate::layers::{Role, Rule, Run};
use crate::network::{Fusion, Mode, Part, Plan, Task};
use anyhow::{Result, bail};
use parameters::Parameters;
use rayon::prelude::*;
use std::mem::take;
use std::time::Instant;

/// A network in main memory.
pub struct Cpu {
    plan: Plan,
    forward: Vec<Task>,
    backward: Vec<Task>,
    fusions: Vec<Fusion>,
    /// One for each of the plan's buffers, [batch, values].
    buffers: Vec<Vec<f32>>,
    workspace: Vec<f32>,
    /// [layer][part]
    parameters: Vec<Vec<Parameters>>,
    /// Images of the last forward pass.
    last_batch: usize,
    /// While a backward pass updates weights where it can: the rule for each layer's.
    at_once: Vec<Option<Rule>>,
    /// One a layer, while times are taken.
    times: Vec<LayerTime>,
}

impl Cpu {
    /// Takes all memory that the plan names; parameters are zero until they are written.
    pub fn new(plan: Plan) -> Cpu {
        let training = plan.mode == Mode::Training;
        let own = |part: &Part| Parameters::new(part.layer.parameters(), training);
        let fusions = plan.fusions();
        Cpu {
            forward: plan.forward(),
            backward: if training { plan.backward() } else { Vec::new() },
            buffers: fused::buffers(&plan, &fusions),
            fusions,
            workspace: vec![0.0; if training { plan.workspace(0) } else { 0 }],
            parameters: plan.layers.iter().map(|l| l.parts.iter().map(own).collect()).collect(),
            last_batch: 0,
            at_once: Vec::new(),
            times: Vec::new(),
            plan,
        }
    }

    /// Adds the time since `begun` to one of the layer's.
    fn spent(&mut self, layer: usize, begun: Instant, on: impl Fn(&mut LayerTime) -> &mut f64) {
        if let Some(times) = self.times.get_mut(layer) {
            *on(times) += begun.elapsed().as_secs_f64();
        }
    }

    fn run(&mut self, task: Task, run: &Run, labels: &[u32]) {
        let begun = Instant::now();
        self.carry_out(task, run, labels);
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
            Task::Forward { layer, part } if self.is_fused(layer, part) => {
                self.forward_fused(layer, part, run)
            }
            Task::Backward { layer, part } if self.is_fused(layer, part) => {
                self.backward_fused(layer, part, run)
            }
            Task::Forward { layer, part } => self.forward_part(layer, part, run),
            Task::Backward { layer, part } => self.backward_part(layer, part, run, labels),
            Task::Split { layer, below } => self.split(layer, below, run.batch),
        }
    }

    fn forward_part(&mut self, layer: usize, index: usize, run: &Run) {
        let part = &self.plan.layers[layer].parts[index];
        let mut y = take(&mut self.buffers[part.y]);
        let x = &self.buffers[part.x];
        match part.layer.role() {
            Role::Map(map) => map.forward(run, &mut y, x),
            Role::Learn(learn) => {
                let Parameters { value: [weight, bias], adopted, .. } =
                    &self.parameters[layer][index];
                match (adopted, learn.forward_few()) {
                    (Some(weight), Some(few)) => few.forward_few(run, &mut y, x, weight, bias),
                    _ => learn.forward(run, &mut y, x, weight, bias),
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
        }
        self.buffers[part.y] = y;
    }

    fn backward_part(&mut self, layer: usize, index: usize, run: &Run, labels: &[u32]) {
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
                let own = &mut self.parameters[layer][index];
                if let Some(dx) = &mut dx {
                    learn.backward_input(run, dx, dy, &own.value[0]);
                }
                let begun = Instant::now();
                let rule = self.at_once.get(layer).copied().flatten();
                own.backward(learn, run, rule, dy, x, &mut self.workspace);
                if let Some(times) = self.times.get_mut(layer) {
                    let seconds = begun.elapsed().as_secs_f64();
                    times.backward_weights += seconds;
                    // The task's whole time is counted as the input's.
                    times.backward_input -= seconds;
                }
            }
            Role::Pointwise(pointwise) => {
                if let Some(dx) = &mut dx {
                    pointwise.backward(run, dx, y);
                }
            }
            Role::Loss(softmax) => {
                if let Some(dx) = &mut dx {
                    softmax.backward(run, dx, y, labels);
                }
            }
        }
        if let (Some(id), Some(dx)) = (part.dx, dx) {
            self.buffers[id] = dx;
        }
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

    fn load_input(&mut self, run: &Run, images: CropView<'_>) -> Result<()> {
        let CropView::Floats(images) = images else {
            bail!("the CPU is given bytes where it takes floats; this is an error in the program");
        };
        let n = run.batch * self.plan.input.len();
        if run.batch == 0 || run.batch > self.plan.batch || images.len() != n {
            bail!(
                "a batch of {} images with {} values does not fit the plan: at most {} of {} values",
                run.batch,
                images.len(),
                self.plan.batch,
                self.plan.input.len()
            );
        }
        self.buffers[self.plan.data[0]][..n].copy_from_slice(images);
        Ok(())
    }

    /// The forward pass and its loss.
    fn loss(&mut self, run: &Run, images: CropView<'_>, labels: &[u32]) -> Result<Tally> {
        let classes = self.plan.classes;
        if labels.len() != run.batch {
            bail!("{} labels for a batch of {} images", labels.len(), run.batch);
        }
        if let Some(label) = labels.iter().find(|&&l| l as usize >= classes) {
            bail!("label {label} is out of range: the network has {classes} classes");
        }
        self.forward(run, images)?;
        let probabilities = &self.buffers[self.plan.probabilities()];
        Ok(tally(&probabilities[..run.batch * classes], labels))
    }

    fn backward(&mut self, run: &Run, labels: &[u32]) {
        for index in 0..self.backward.len() {
            self.run(self.backward[index], run, labels);
        }
    }
}

impl Engine for Cpu {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn profile(&mut self) {
        self.times = vec![LayerTime::default(); self.plan.layers.len()];
    }

    fn times(&self) -> Vec<LayerTime> {
        self.times.clone()
    }

    fn read(&self, slot: Slot, tensor: usize) -> Result<Tensor> {
        let plan = &self.plan.tensors()[tensor];
        let mut values = Vec::with_capacity(plan.len());
        let parts = &self.plan.layers[plan.layer].parts;
        for (part, own) in parts.iter().zip(&self.parameters[plan.layer]) {
            let Role::Learn(learn) = part.layer.role() else { continue };
            let own_values = &own.of(slot)[usize::from(plan.is_bias)];
            let mut world = vec![0.0; own_values.len()];
            match &own.adopted {
                Some(adopted) if slot == Slot::Value && !plan.is_bias => {
                    world.copy_from_slice(adopted)
                }
                _ if plan.is_bias => learn.unpack((&mut [], &mut world), (&[], own_values)),
                _ => learn.unpack((&mut world, &mut []), (own_values, &[])),
            }
            values.append(&mut world);
        }
        Ok(Tensor { shape: plan.shape.clone(), values })
    }

    fn write(&mut self, slot: Slot, tensor: usize, values: &[f32]) -> Result<()> {
        let plan = &self.plan.tensors()[tensor];
        if values.len() != plan.len() {
            bail!("{} has {} values, not {}", plan.name, plan.len(), values.len());
        }
        let mut rest = values;
        let parts = &self.plan.layers[plan.layer].parts;
        for (part, own) in parts.iter().zip(&mut self.parameters[plan.layer]) {
            let Role::Learn(learn) = part.layer.role() else { continue };
            let target = &mut own.of_mut(slot)[usize::from(plan.is_bias)];
            let (mine, others) = rest.split_at(target.len());
            rest = others;
            if plan.is_bias {
                learn.pack((&mut [], target), (&[], mine));
            } else {
                learn.pack((target, &mut []), (mine, &[]));
                if slot == Slot::Value {
                    own.adopted = None;
                }
            }
        }
        Ok(())
    }

    fn adopt(&mut self, tensor: usize, values: &MappedFloats) -> Result<()> {
        let plan = &self.plan.tensors()[tensor];
        let parts = &self.plan.layers[plan.layer].parts;
        let reads = |part: &Part| match part.layer.role() {
            Role::Learn(learn) => learn.forward_few().is_some(),
            _ => false,
        };
        let serves = self.plan.mode == Mode::Evaluation && self.plan.batch <= FEW;
        if !serves || plan.is_bias || values.len() != plan.len() || !parts.iter().all(reads) {
            return self.write(Slot::Value, tensor, values);
        }
        let mut start = 0;
        for own in &mut self.parameters[plan.layer] {
            let end = start + own.value[0].len();
            own.adopted = Some(values.slice(start..end));
            start = end;
        }
        Ok(())
    }

    fn form(&mut self, _: &[f32]) -> Result<Form> {
        Ok(Form::Floats)
    }

    fn forward(&mut self, run: &Run, images: CropView<'_>) -> Result<()> {
        self.load_input(run, images)?;
        self.last_batch = run.batch;
        for index in 0..self.forward.len() {
            self.run(self.forward[index], run, &[]);
        }
        Ok(())
    }

    fn probabilities(&self) -> Result<Vec<f32>> {
        Ok(self.buffers[self.plan.probabilities()][..self.last_batch * self.plan.classes].to_vec())
    }

    fn gradients(&mut self, run: &Run, images: CropView<'_>, labels: &[u32]) -> Result<Tally> {
        let tally = self.loss(run, images, labels)?;
        self.backward(run, labels);
        Ok(tally)
    }

    fn update(&mut self, momentum: f32, rates: &[Option<Rates>]) -> Result<()> {
        for (layer, (own, rates)) in self.parameters.iter_mut().zip(rates).enumerate() {
            let Some(rates) = rates else { continue };
            let begun = Instant::now();
            let done = self.at_once.get(layer).copied().flatten().is_some();
            for (part, own) in self.plan.layers[layer].parts.iter().zip(own) {
                let Role::Learn(learn) = part.layer.role() else { continue };
                own.update(rates.rules(momentum), done && learn.update_at_once().is_some());
            }
            if let Some(times) = self.times.get_mut(layer) {
                times.update += begun.elapsed().as_secs_f64();
            }
        }
        Ok(())
    }

    fn step(
        &mut self,
        run: &Run,
        images: CropView<'_>,
        labels: &[u32],
        momentum: f32,
        rates: &[Option<Rates>],
    ) -> Result<Tally> {
        let tally = self.loss(run, images, labels)?;
        if tally.loss.is_finite() {
            let rules = |rates: &Option<Rates>| rates.and_then(|r| r.rules(momentum)[0]);
            self.at_once = rates.iter().map(rules).collect();
            self.backward(run, labels);
            let updated = self.update(momentum, rates);
            self.at_once.clear();
            updated?;
        }
        Ok(tally)
    }
}

/// Images up to which a network for evaluation uses weights where they lie: ten crops.
const FEW: usize = 10;
