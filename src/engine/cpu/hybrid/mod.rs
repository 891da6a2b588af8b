//! A network of which each process has all convolutions and its share of the fully connected
//! layers' neurons ([`Halves`]). The lower half computes this process's images of a batch, the
//! upper one its neurons for the images of all processes; between them, and between the layers of
//! the upper half, activations are gathered from all processes, and the sums of their gradients are
//! scattered back ([`mod@step`]). What is read of a parameter that is shared is this process's part
//! of it, zeros in the others' place.

mod columns;
mod step;

use super::Cpu;
use super::beside::shared;
use super::memory;
use crate::data::form::{CropView, Form};
use crate::engine::owned::{Left, Owned, left_in, steps_only};
use crate::engine::{Engine, Exchange, LayerTime, Rates, Slot, Tensor};
use crate::layers::Run;
use crate::layers::softmax::Tally;
use crate::mpi::Team;
use crate::network::{BufferId, Halves, Plan, Share, Source};
use anyhow::Result;
use std::ops::Range;

/// One process's part of a network.
pub struct Hybrid {
    /// The whole network, with this process's images at once: what the outside world sees.
    plan: Plan,
    /// All neurons of the layers below the first fully connected one.
    below: Cpu,
    /// This process's neurons of the others.
    above: Cpu,
    share: Share,
    /// Images of a whole batch.
    batch: usize,
    sources: Vec<Source>,
    team: Team,
    /// Values on their way, and room for those that come in.
    wire: Vec<f32>,
    room: Vec<f32>,
    /// Each process's images of the last pass, among those of all.
    images: Vec<Range<usize>>,
    owned: Owned,
}

impl Hybrid {
    /// Takes the memory of both halves of the network of `plan`.
    ///
    /// # Errors
    /// As [`Cpu::new`].
    pub fn new(plan: Plan, halves: Halves, team: Team) -> Result<Hybrid> {
        let Halves { mut below, above, share, batch, sources } = halves;
        // Its gradients travel.
        below.pieces = plan.pieces;
        let below = shared(below);
        memory::check_halves(&plan, &below, &above, team.leads())?;
        Ok(Hybrid {
            owned: Owned::new(team, share, &below),
            plan,
            below: Cpu::unchecked(below)?,
            above: Cpu::unchecked(above)?,
            share,
            batch,
            sources,
            team,
            wire: Vec::new(),
            room: Vec::new(),
            images: vec![0..0; share.ranks],
        })
    }

    /// This process's images among those of the last pass.
    fn own_images(&self) -> Range<usize> {
        self.images[self.share.rank].clone()
    }

    /// What the upper half has left of this process's images.
    fn own_rows(&self, buffer: BufferId) -> Vec<f32> {
        let values = self.above.plan.buffers[buffer].values;
        let own = self.own_images();
        self.above.buffers[buffer][own.start * values..own.end * values].to_vec()
    }
}

impl Engine for Hybrid {
    fn plan(&self) -> &Plan {
        &self.plan
    }

    fn profile(&mut self) {
        self.below.profile();
        self.above.profile();
    }

    fn times(&self) -> Vec<LayerTime> {
        [self.below.times(), self.above.times()].concat()
    }

    fn read_into(&self, slot: Slot, tensor: usize, memory: Vec<f32>) -> Result<Tensor> {
        if !self.is_shared(tensor) {
            return self.below.read_into(slot, tensor, memory);
        }
        self.owned.read(&self.plan, (slot, tensor), memory, |own| self.above.read(slot, own))
    }

    fn is_shared(&self, tensor: usize) -> bool {
        self.owned.is_shared(tensor)
    }

    fn collect_into(&self, slot: Slot, tensor: usize, memory: Vec<f32>) -> Result<Tensor> {
        let mut all = self.read_into(slot, tensor, memory)?;
        self.owned.collect(&self.plan, tensor, &mut all.values)?;
        Ok(all)
    }

    fn write(&mut self, slot: Slot, tensor: usize, values: &[f32]) -> Result<()> {
        if !self.is_shared(tensor) {
            return self.below.write(slot, tensor, values);
        }
        let own = self.owned.keep(&self.plan, (slot, tensor), values)?;
        self.above.write(slot, self.owned.above(tensor), own)
    }

    fn handed_out(&mut self) {
        self.owned.handed_out();
    }

    fn form(&mut self, _: &[f32]) -> Result<Form> {
        Ok(Form::Floats)
    }

    fn forward(&mut self, run: &Run, images: CropView<'_>) -> Result<()> {
        self.evaluate(run, images)
    }

    fn sit_out(&mut self) -> Result<()> {
        let nobody = Run { batch: 0, training: false, seed: 0, step: 0, first_image: 0 };
        self.evaluate(&nobody, CropView::Floats(&[]))
    }

    fn probabilities(&self) -> Result<Vec<f32>> {
        Ok(self.own_rows(self.above.plan.probabilities()))
    }

    fn left_in(&self, buffer: BufferId) -> Result<Vec<f32>> {
        match left_in(&self.plan, (&self.below.plan, &self.above.plan), buffer) {
            Left::Rows(buffer) => Ok(self.own_rows(buffer)),
            Left::Below(buffer) => self.below.left_in(buffer),
            Left::Above(buffer) => self.above.left_in(buffer),
            Left::Nowhere => Ok(Vec::new()),
        }
    }

    fn gradients(&mut self, _: &Run, _: CropView<'_>, _: &[u32]) -> Result<Tally> {
        steps_only()
    }

    fn exchanged_step(
        &mut self,
        run: &Run,
        batch: (CropView<'_>, &[u32], usize),
        update: (f32, &[Option<Rates>]),
        exchange: &mut dyn Exchange,
    ) -> Result<Tally> {
        self.shared_step(run, batch, update, exchange)
    }

    fn update(&mut self, _: f32, _: &[Option<Rates>]) -> Result<()> {
        steps_only()
    }
}
