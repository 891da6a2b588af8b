//! A step of several ranks, each with one part of the batch: they agree on the loss, then gradients
//! travel while those of lower layers are computed, and each layer is updated once its own are
//! there.

use super::{Joint, Update};
use crate::data::loader::Batch;
use crate::engine::{Engine, Exchange};
use crate::interrupt::Interrupt;
use crate::layers::Run;
use crate::layers::softmax::Tally;
use crate::mpi::Travelling;
use anyhow::{Context, Result};
use std::time::Duration;

impl Joint {
    /// See [`Joint::step`].
    pub(super) fn exchanged<F: FnOnce()>(
        &mut self,
        engine: &mut dyn Engine,
        (run, batch): (&Run, &Batch),
        update: Update<'_>,
        (interrupt, updates): (&Interrupt, F),
    ) -> Result<Tally> {
        let places = self.share();
        let end = places.end.min(batch.whole);
        let mine = places.start.min(end) - batch.first..end - batch.first;
        let run = Run { batch: mine.len(), first_image: places.start as u32, ..*run };
        let images = batch.images.view().slice(mine.clone(), engine.plan().input.len());
        let travelling = match self.travelling.take() {
            None if !engine.is_connected() => self.team.travelling()?,
            travelling => travelling,
        };
        let mut ranks = Ranks { joint: &mut *self, interrupt, updates: Some(updates), travelling };
        let batch = (images, &batch.labels[mine], batch.whole);
        let tally = engine.exchanged_step(&run, batch, update, &mut ranks);
        let Ranks { travelling, .. } = ranks;
        self.travelling = travelling;
        tally
    }

    /// How long gradients under way, and activations that ranks share, have been waited for since
    /// this was last asked, and the bytes of both that this rank has sent; None: there have been
    /// none.
    pub fn waited(&mut self) -> Option<(Duration, u64)> {
        let all = self.team.bytes_sent();
        let sent = all - std::mem::replace(&mut self.sent, all);
        self.travelling.as_mut().map(|travelling| (travelling.waited(), sent))
    }
}

/// The other ranks in one step.
struct Ranks<'a, F> {
    joint: &'a mut Joint,
    interrupt: &'a Interrupt,
    /// To be called when the first gradient is there to update with.
    updates: Option<F>,
    /// None: gradients go another way.
    travelling: Option<Travelling>,
}

impl<F> Ranks<'_, F> {
    fn travelling(&mut self) -> Result<&mut Travelling> {
        self.travelling.as_mut().context("one process alone exchanges nothing")
    }
}

impl<F: FnOnce()> Exchange for Ranks<'_, F> {
    fn agree(&mut self, tally: Tally) -> Result<Tally> {
        let mut all = Tally::default();
        let tallies = self.joint.agree("a step", self.interrupt, vec![tally])?;
        tallies.into_iter().for_each(|tally| all.add(tally));
        Ok(all)
    }

    fn send(&mut self, key: usize, gradient: Vec<f32>) {
        if let Some(travelling) = &mut self.travelling {
            travelling.send(key, gradient);
        }
    }

    fn flush(&mut self) {
        if let Some(travelling) = &mut self.travelling {
            travelling.flush();
        }
    }

    fn updates(&mut self) {
        if let Some(updates) = self.updates.take() {
            updates();
        }
    }

    fn waited(&mut self, time: Duration) {
        if let Some(travelling) = &mut self.travelling {
            travelling.add_wait(time);
        }
    }

    fn receive(&mut self, key: usize) -> Result<Vec<f32>> {
        let gradient = self.travelling()?.receive(key)?;
        self.updates();
        Ok(gradient)
    }
}
