//! The CPU backend: all towers in main memory, tasks one after the other, each spread over rayon's
//! threads. Sums have a fixed order, so that the number of threads changes no bit.

mod beside;
mod exchanged;
mod explain;
mod fused;
mod hybrid;
#[cfg(test)]
mod in_place;
mod lars;
mod memory;
mod parameters;
mod rounded;
#[cfg(test)]
mod small;
mod tasks;
#[cfg(test)]
mod tests;
mod together;
#[cfg(all(test, target_os = "linux"))]
mod touched;

use super::batch::{check_images, check_labels};
use super::tensors::{self, pair, pair_mut};
use super::{EachGradient, Engine, Exchange, LayerTime, Rates, Slot, Tensor};
use crate::data::form::{CropView, Form};
use crate::files::mapped::MappedFloats;
use crate::layers::softmax::{Tally, tally};
use crate::layers::{Role, Rule, Run};
use crate::machine::memory::zeros;
use crate::network::{BufferId, Fusion, Mode, OnCpu, Part, Plan, Task};
use anyhow::{Result, bail};
use beside::Sides;
pub use hybrid::Hybrid;
use memory::FEW;
use parameters::Parameters;
use rayon::prelude::*;
use rounded::Rounded;
use std::time::Instant;

/// A network in main memory.
pub struct Cpu {
    plan: Plan,
    forward: Vec<Task>,
    backward: Vec<Task>,
    fusions: Vec<Fusion<OnCpu>>,
    sides: Sides,
    /// One for each of the plan's buffers, [batch, values].
    buffers: Vec<Vec<f32>>,
    workspace: Vec<f32>,
    /// `[layer][part]`
    parameters: Vec<Vec<Parameters>>,
    /// Images of the last forward pass.
    last_batch: usize,
    /// Images that the loss is the mean over: those of the batch, or of the one that it is a part
    /// of.
    whole: usize,
    /// While a backward pass updates weights where it can: the rule for each layer's.
    at_once: Vec<Option<Rule>>,
    /// One a layer, while times are taken.
    times: Vec<LayerTime>,
    rounded: Rounded,
}

impl Cpu {
    /// Takes all memory that the plan names; parameters are zero until they are written.
    ///
    /// # Errors
    /// [`TooLarge`](crate::errors::TooLarge) where there is less memory than that, before any is
    /// taken.
    pub fn new(plan: Plan) -> Result<Cpu> {
        let plan = beside::shared(plan);
        memory::check(&plan, &fusions(&plan))?;
        Cpu::unchecked(plan)
    }

    /// As [`Cpu::new`] of a plan whose inputs are [`beside::shared`], without asking how much
    /// memory there is.
    fn unchecked(plan: Plan) -> Result<Cpu> {
        let fusions = fusions(&plan);
        let sides = beside::sides(&plan, &fusions);
        Cpu::with(plan, fusions, sides)
    }

    fn with(plan: Plan, fusions: Vec<Fusion<OnCpu>>, sides: Sides) -> Result<Cpu> {
        let training = plan.mode == Mode::Training;
        let own = |part: &Part| Parameters::new(part.layer.parameters(), training);
        let rounded = Rounded::new(&plan);
        let images = beside::sizes(&plan, &fusions, &sides).into_iter();
        let remaining = |mut tasks: Vec<Task>| {
            tasks.retain(|task| beside::remains(&plan, &sides, task));
            tasks
        };
        Ok(Cpu {
            forward: remaining(plan.forward(&fusions)),
            backward: match plan.mode {
                Mode::Evaluation => Vec::new(),
                Mode::Training | Mode::Explanation => remaining(plan.backward(&fusions)),
            },
            buffers: images.map(|values| zeros(values * plan.batch)).collect::<Result<_>>()?,
            fusions,
            sides,
            workspace: zeros(if training { together::workspace(&plan, plan.batch) } else { 0 })?,
            parameters: plan
                .layers
                .iter()
                .map(|layer| layer.parts.iter().map(own).collect())
                .collect::<Result<_>>()?,
            last_batch: 0,
            whole: 0,
            at_once: Vec::new(),
            times: Vec::new(),
            rounded,
            plan,
        })
    }

    fn load_input(&mut self, run: &Run, images: CropView<'_>) -> Result<()> {
        let CropView::Floats(images) = images else {
            bail!("the CPU is given bytes where it takes floats; this is an error in the program");
        };
        let values = self.plan.input.len();
        check_images(&self.plan, run, &[("values", images.len(), values)])?;
        let data = self.plan.data[0];
        // Each image by a thread, as the first layer takes them: a large batch is tens of
        // megabytes.
        self.buffers[data]
            .par_chunks_mut(values)
            .zip(images.par_chunks(values))
            .for_each(|(to, from)| to.copy_from_slice(from));
        self.round(data);
        Ok(())
    }

    /// The forward pass and its loss.
    fn loss(&mut self, run: &Run, images: CropView<'_>, labels: &[u32]) -> Result<Tally> {
        check_labels(&self.plan, run, labels)?;
        self.whole = run.batch;
        self.forward(run, images)?;
        Ok(self.tally(run, labels))
    }

    /// What the last forward pass came to.
    fn tally(&self, run: &Run, labels: &[u32]) -> Tally {
        let values = run.batch * self.plan.classes;
        let [output, logits] = [self.plan.probabilities(), self.plan.logits()];
        let output = &self.buffers[output][..values];
        let end = &self.plan.layers[self.plan.layers.len() - 1].parts[0];
        if let Role::Reconstruction(loss) = end.layer.role() {
            return loss.tally(run, output, &self.buffers[self.plan.data[end.device]]);
        }
        tally(output, &self.buffers[logits][..values], labels)
    }

    fn backward(&mut self, run: &Run, labels: &[u32]) {
        for index in 0..self.backward.len() {
            self.run(self.backward[index], run, labels);
        }
    }

    /// The rules on weights and biases of a layer, as far as their backward pass has not done so;
    /// with the trust ratio that `trust` is the coefficient of.
    fn update_layer(&mut self, layer: usize, mut rules: [Option<Rule>; 2], trust: Option<f32>) {
        let begun = Instant::now();
        let own = &mut self.parameters[layer];
        if let Some((rule, trust)) = rules[0].as_mut().zip(trust) {
            lars::scale(rule, trust, own);
        }
        let done = self.at_once.get(layer).copied().flatten().is_some();
        for (part, own) in self.plan.layers[layer].parts.iter().zip(own) {
            let Role::Learn(learn) = part.layer.role() else { continue };
            own.update(rules, done && learn.update_at_once().is_some());
        }
        if let Some(times) = self.times.get_mut(layer) {
            times.update += begun.elapsed().as_secs_f64();
        }
    }
}

/// The rules for each layer's weights that may be applied as their gradient comes into being.
fn rules_at_once(momentum: f32, rates: &[Option<Rates>]) -> Vec<Option<Rule>> {
    // A trust ratio asks for the whole gradient first.
    let of = |rates: &Option<Rates>| {
        rates.filter(|r| r.trust.is_none()).and_then(|r| r.rules(momentum)[0])
    };
    rates.iter().map(of).collect()
}

/// The passes of several layers that are made at once.
fn fusions(plan: &Plan) -> Vec<Fusion<OnCpu>> {
    match plan.mode {
        // Every layer by itself, so that what each makes can be seen.
        Mode::Explanation => Vec::new(),
        _ if rounded::is_asked() => Vec::new(),
        Mode::Training | Mode::Evaluation => plan.fusions(),
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

    fn read_into(&self, slot: Slot, tensor: usize, memory: Vec<f32>) -> Result<Tensor> {
        tensors::read(&self.plan, tensor, memory, |of, part, learn, world| {
            let own = &self.parameters[of.layer][part];
            if let Some(adopted) = own.adopted.as_ref().filter(|_| slot == Slot::Value)
                && !of.is_bias
            {
                world.copy_from_slice(adopted);
                return Ok(());
            }
            let own = &own.of(slot)[usize::from(of.is_bias)];
            if own.len() != world.len() {
                bail!("in evaluation there are no gradients and momenta");
            }
            learn.unpack(pair_mut(of.is_bias, world), pair(of.is_bias, own));
            Ok(())
        })
    }

    fn write(&mut self, slot: Slot, tensor: usize, values: &[f32]) -> Result<()> {
        tensors::write(&self.plan, tensor, values, |of, part, learn, world| {
            let own = &mut self.parameters[of.layer][part];
            own.forget();
            let target = &mut own.of_mut(slot)[usize::from(of.is_bias)];
            if target.len() != world.len() {
                bail!("in evaluation there are no gradients and momenta");
            }
            learn.pack(pair_mut(of.is_bias, target), pair(of.is_bias, world));
            if slot == Slot::Value && !of.is_bias {
                own.adopted = None;
            }
            Ok(())
        })
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

    fn left_in(&self, buffer: BufferId) -> Result<Vec<f32>> {
        if let Some(values) = self.left_beside(buffer) {
            return Ok(values);
        }
        let all = &self.buffers[buffer];
        let values = self.last_batch * self.plan.buffers[buffer].values;
        Ok(all[..values.min(all.len())].to_vec())
    }

    fn gradients(&mut self, run: &Run, images: CropView<'_>, labels: &[u32]) -> Result<Tally> {
        self.part_gradients(run, images, labels, run.batch)
    }

    fn part_gradients(
        &mut self,
        run: &Run,
        images: CropView<'_>,
        labels: &[u32],
        whole: usize,
    ) -> Result<Tally> {
        let tally = self.loss(run, images, labels)?;
        self.whole = whole;
        self.backward(run, labels);
        Ok(tally)
    }

    fn each_gradient(&mut self, each: &mut EachGradient<'_>) -> Result<()> {
        let layers = self.plan.layers.iter().zip(&mut self.parameters);
        for (_, parts) in layers.filter(|(layer, _)| layer.learns()) {
            for gradient in parts.iter_mut().flat_map(|own| &mut own.gradient) {
                each(gradient)?;
            }
        }
        Ok(())
    }

    fn exchanged_step(
        &mut self,
        run: &Run,
        batch: (CropView<'_>, &[u32], usize),
        update: (f32, &[Option<Rates>]),
        exchange: &mut dyn Exchange,
    ) -> Result<Tally> {
        self.exchanged(run, batch, update, exchange)
    }

    fn update(&mut self, momentum: f32, rates: &[Option<Rates>]) -> Result<()> {
        for (layer, rates) in rates.iter().enumerate().take(self.parameters.len()) {
            if let Some(rates) = rates {
                self.update_layer(layer, rates.rules(momentum), rates.trust);
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
            self.at_once = rules_at_once(momentum, rates);
            self.backward(run, labels);
            let updated = self.update(momentum, rates);
            self.at_once.clear();
            updated?;
        }
        Ok(tally)
    }
}
