//! What ranks tell each other after each step: how their parts went, and what signals they have
//! heard, so that all end, or save, after the same one.

use super::Joint;
use crate::engine::{Engine, Slot};
use crate::errors::OfRank;
use crate::interrupt::Interrupt;
use crate::layers::softmax::Tally;
use crate::progress;
use crate::train::evaluate::Exact;
use anyhow::{Error, Result, ensure};
use serde::{Deserialize, Serialize};

/// What all have agreed on.
#[derive(Default)]
pub(super) struct Agreed {
    /// The signal that ends the run.
    pub signal: Option<i32>,
    /// A checkpoint is wanted.
    pub save: bool,
    /// Rank 0 finds that it is time for one.
    pub due: bool,
}

/// What one rank says; and rank 0's answer, with the tallies of all.
#[derive(Serialize, Deserialize)]
struct Said {
    signal: Option<i32>,
    save: bool,
    due: bool,
    tallies: Vec<Exact>,
}

impl Joint {
    /// Tells all ranks this one's `tallies`, and what signals it has heard; all ranks' tallies, in
    /// their order. `what` says what of.
    ///
    /// # Errors
    /// What has ended another rank; a rank that does not answer.
    pub fn agree(
        &mut self,
        what: &'static str,
        interrupt: &Interrupt,
        tallies: Vec<Tally>,
    ) -> Result<Vec<Tally>> {
        if !self.team.is_several() {
            return Ok(tallies);
        }
        let said = Said {
            signal: interrupt.signal(),
            save: interrupt.take_save(),
            due: std::mem::take(&mut self.due),
            tallies: tallies.into_iter().map(Exact::from).collect(),
        };
        let answer = self.team.round(what, serde_json::to_vec(&said)?, |said| {
            let mut all = Said { signal: None, save: false, due: false, tallies: Vec::new() };
            for said in said {
                let said: Said = serde_json::from_slice(&said)?;
                all.signal = all.signal.or(said.signal);
                all.save |= said.save;
                all.due |= said.due;
                all.tallies.extend(said.tallies);
            }
            Ok(serde_json::to_vec(&all)?)
        })?;
        let all: Said = serde_json::from_slice(&answer)?;
        if self.agreed.signal.is_none() && all.signal.is_some() && !interrupt.wanted() {
            progress::say("another rank was told to end: finishing the step and saving");
        }
        self.agreed.signal = self.agreed.signal.or(all.signal);
        self.agreed.save |= all.save;
        self.agreed.due |= all.due;
        Ok(all.tallies.into_iter().map(Tally::from).collect())
    }

    /// Says to all ranks that this one cannot go on, unless it is another one that cannot.
    pub fn fail(&self, error: &Error) {
        if error.downcast_ref::<OfRank>().is_none() {
            self.team.fail(error);
        }
    }

    /// Compares all ranks' parameters, but for those that each has a share of: each rank updates
    /// its own, with the same gradient.
    ///
    /// # Errors
    /// If they differ, which memory or a processor that errs can do; as [`Joint::agree`].
    pub fn check_same(&self, engine: &dyn Engine) -> Result<()> {
        if !self.team.is_several() {
            return Ok(());
        }
        let mut sum = crc32fast::Hasher::new();
        let mut memory = Vec::new();
        for tensor in (0..engine.plan().tensors().len()).filter(|&t| !engine.is_shared(t)) {
            memory = engine.read_into(Slot::Value, tensor, memory)?.values;
            sum.update(bytemuck::cast_slice(&memory));
        }
        let mine = sum.finalize().to_le_bytes().to_vec();
        let same = |said: Vec<Vec<u8>>| {
            let other = said.iter().position(|sum| *sum != said[0]);
            ensure!(
                other.is_none(),
                "the parameters of {} are others than those of {}, after updates with the same \
                 gradients: one of the machines errs; go on from a checkpoint without it",
                self.team.name(other.unwrap_or_default()),
                self.team.name(0)
            );
            Ok(Vec::new())
        };
        self.team.round("the comparison of parameters", mine, same).map(|_| ())
    }
}
