//! The passes of a network that processes share, on GPUs, and what goes between them. What travels
//! is that of the CPU (`engine/cpu/hybrid/step.rs`), labels with the images; but all is queued at
//! once, and the host waits for the loss alone.
//!
//! Parts of sums go from each process to each, and are added up in the order of processes: the sums
//! are the same bits in every run, in f32, whatever they are stored as. The upper half's weights
//! are updated as their gradients come into being, since those stay where they are: not by a loss
//! that is no number, which is the same in all processes. The lower half's gradients are added up
//! by NCCL as without shares.

use super::Hybrid;
use crate::data::form::CropView;
use crate::engine::batch::check_labels;
use crate::engine::cuda::pass::{Step, Update};
use crate::engine::{Exchange, Rates};
use crate::gpu::watch::{ending, watched};
use crate::layers::Run;
use crate::layers::softmax::Tally;
use anyhow::{Context, Result};
use std::sync::Arc;

impl Hybrid {
    /// A forward pass of evaluation over the images of all processes, this one's among them.
    pub(super) fn evaluate(&mut self, run: &Run, images: CropView<'_>) -> Result<()> {
        self.images = self.owned.images_of_all(run.batch)?;
        let all = Run { batch: self.images.last().map_or(0, |last| last.end), ..*run };
        self.climb(run, images, None)?;
        let step = self.step_of(&all, false);
        self.queue(|hybrid| {
            let (travel, _, spans) = hybrid.travel()?;
            travel.upward(&step, spans)
        })
    }

    /// See [`Engine::exchanged_step`](crate::engine::Engine::exchanged_step). The loss is that of
    /// all images, the same in every process.
    pub(super) fn shared_step(
        &mut self,
        run: &Run,
        (images, labels, whole): (CropView<'_>, &[u32], usize),
        (momentum, rates): (f32, &[Option<Rates>]),
        exchange: &mut dyn Exchange,
    ) -> Result<Tally> {
        check_labels(&self.plan, run, labels)?;
        self.images = self.owned.images_of_step(self.batch, whole);
        self.updates += 1;
        let (lower, upper) = rates.split_at(self.below.network.plan.layers.len());
        let number = self.updates;
        let update = |rates: &[Option<Rates>], sums| Update {
            momentum,
            rates: rates.to_vec(),
            number,
            sums,
        };
        let sums = self.way()?.sums.clone();
        self.climb(run, images, Some(labels))?;
        // Who cannot go on says so here, before others wait for what it has.
        exchange.agree(Tally::default()).inspect_err(|_| self.failed = true)?;
        exchange.begins();
        let all = Run { batch: whole, first_image: 0, ..*run };
        let upper = Arc::new(update(upper, None));
        // While times are taken an update is work by itself.
        let by_itself = self.above.spans.get_mut().are_taken();
        let at_once = (!by_itself).then(|| upper.clone());
        let above = Step { update: at_once, ..self.step_of(&all, true) };
        let below = Step { sums: Some(sums.clone()), ..self.step_of(run, true) };
        self.queue(|hybrid| {
            let (travel, of_below, of_above) = hybrid.travel()?;
            travel.upward(&above, of_above)?;
            travel.above.score()?;
            travel.downward((&below, of_below), (&above, of_above))
        })?;
        let tally = self.above.network.tally(whole)?;
        if tally.loss.is_finite() {
            let lower = update(lower, Some(sums));
            self.queue(|Hybrid { below, above, .. }| {
                if by_itself {
                    above.network.updates(0, &upper, above.spans.get_mut())?;
                }
                below.network.updates(0, &lower, below.spans.get_mut())
            })?;
        }
        Ok(tally)
    }

    /// Sends this process's batch off, waits until it has left the host's memory, and queues the
    /// lower half's forward pass.
    fn climb(&mut self, run: &Run, images: CropView<'_>, labels: Option<&[u32]>) -> Result<()> {
        if run.batch == 0 {
            return Ok(());
        }
        self.steps += 1;
        let floats = matches!(images, CropView::Floats(_));
        let step = Step { floats, ..self.step_of(run, labels.is_some()) };
        let device = self.below.network.devices[0].clone();
        let queued = self.queue(|Hybrid { below, host, graphs, .. }| {
            below.network.upload(host, run, images, labels)?;
            let graph = &mut graphs[usize::from(step.backward)];
            below.network.up(0, &step, below.spans.get_mut(), graph)
        });
        let sent = device.upload.wait();
        queued.and(sent)
    }

    fn step_of(&self, run: &Run, backward: bool) -> Step {
        let (run, number, whole) = (*run, self.steps, run.batch);
        Step { run, number, backward, floats: true, update: None, whole, sums: None }
    }

    /// Queues `work`.
    fn queue(&mut self, work: impl FnOnce(&mut Hybrid) -> Result<()>) -> Result<()> {
        let gpu = self.below.network.devices[0].index;
        let queued = watched(gpu, || work(self)).with_context(|| format!("on GPU {gpu}"));
        queued.inspect_err(|error| {
            self.failed = true;
            ending(error);
        })
    }
}
