//! One batch computed in parts: by several ranks, one after the other, or both.
//!
//! A batch of B images is cut by their places in it: into `train.parts` = P parts, or, where P is
//! 1, into as many as there are ranks N. A rank has P / N parts that follow one another. What is
//! random of an image depends on its place in the batch, so that parts are what one process would
//! compute.
//!
//! With P > 1 gradients are joined by a tree over the parts ([`sums`]), whoever has computed them,
//! so that every N gives the same bits. With P = 1 the library adds them up in its own order, MPI
//! in main memory or NCCL on GPUs, while the gradients of lower layers are still computed
//! ([`mod@exchanged`]).

mod agreement;
mod exchanged;
pub mod forecast;
mod sums;

use crate::config::{Config, Distribute, Optimizer, Train};
use crate::config_error;
use crate::data::loader::Batch;
use crate::engine::{Engine, Rates};
use crate::interrupt::Interrupt;
use crate::layers::softmax::Tally;
use crate::layers::{Classes, Run};
use crate::mpi::{Team, Travelling};
use crate::network::{Halves, Pieces, Share};
use agreement::Agreed;
use anyhow::Result;
use std::ops::Range;
use sums::Sums;

/// How a run's batches are shared.
pub struct Joint {
    team: Team,
    /// Images of a whole batch.
    batch: usize,
    /// `train.parts`.
    parts: usize,
    /// Updates want whole gradients first.
    lars: bool,
    /// Each rank has a share of some layers only.
    hybrid: bool,
    /// On rank 0: a checkpoint is to be written after the next step.
    due: bool,
    sums: Sums,
    /// Once it has been used.
    travelling: Option<Travelling>,
    /// Bytes that had been sent when this was last asked.
    sent: u64,
    agreed: Agreed,
}

/// What one update is made with: the momentum and the rates of the plan's layers.
pub type Update<'a> = (f32, &'a [Option<Rates>]);

/// Whether so many ranks can share a batch.
///
/// # Errors
/// If the batch or its parts cannot be divided among so many.
pub fn check(ranks: usize, train: &Train) -> Result<()> {
    let (ranks, batch, parts) = (ranks, train.batch, train.parts);
    if parts > 1 && !parts.is_multiple_of(ranks) {
        return Err(config_error!(
            "train.parts = {parts}: {ranks} processes cannot have as many parts each; start a \
             number of processes that divides it, or set it to a multiple of {ranks}"
        ));
    }
    if ranks > batch {
        return Err(config_error!(
            "train.batch = {batch}: it is the batch of all processes together, and there are \
             {ranks}; start fewer, or say --batch {ranks} or more"
        ));
    }
    Ok(())
}

impl Joint {
    /// For the ranks of `team`.
    ///
    /// # Errors
    /// If the batch or its parts cannot be divided among so many.
    pub fn new(team: Team, train: &Train) -> Result<Joint> {
        check(team.size(), train)?;
        let (batch, parts) = (train.batch, train.parts);
        let lars = train.optimizer == Optimizer::Lars;
        Ok(Joint {
            team,
            batch,
            parts,
            lars,
            hybrid: team.is_several() && train.distribute == Distribute::Hybrid,
            due: false,
            sums: Sums::default(),
            travelling: None,
            sent: 0,
            agreed: Agreed::default(),
        })
    }

    /// Whether each rank has a share of some layers only, so that checkpoints are the work of all.
    pub fn is_hybrid(&self) -> bool {
        self.hybrid
    }

    /// The two halves that this rank computes of the network of `config`; None: it has all layers.
    ///
    /// # Errors
    /// If the network cannot be divided in this way.
    pub fn halves(&self, config: &Config, classes: Classes) -> Result<Option<Halves>> {
        let share = Share { rank: self.team.rank(), ranks: self.team.size() };
        self.hybrid.then(|| Halves::new(config, self.batch, share, classes)).transpose()
    }

    /// Whether a checkpoint is to be written after the next step, by rank 0's clock; told to all
    /// with it.
    pub fn announce(&mut self, due: bool) {
        self.due = due;
    }

    /// What rank 0 has announced.
    pub fn take_due(&mut self) -> bool {
        std::mem::take(&mut self.agreed.due)
    }

    /// The ranks.
    pub fn team(&self) -> &Team {
        &self.team
    }

    /// Parts that a batch is cut into.
    fn pieces(&self) -> usize {
        if self.parts > 1 { self.parts } else { self.team.size() }
    }

    /// The places of one part in a whole batch.
    fn piece(&self, number: usize) -> Range<usize> {
        let at = |number: usize| number * self.batch / self.pieces();
        at(number)..at(number + 1)
    }

    /// This rank's parts.
    fn own(&self) -> Range<usize> {
        let each = self.pieces() / self.team.size();
        let first = self.team.rank() * each;
        first..first + each
    }

    /// The places in a batch whose images this rank has.
    pub fn share(&self) -> Range<usize> {
        let own = self.own();
        self.piece(own.start).start..self.piece(own.end - 1).end
    }

    /// Images that go through the network at once.
    pub fn at_once(&self) -> usize {
        self.batch.div_ceil(self.pieces())
    }

    /// What a plan of [`Joint::at_once`] images has to hold for the others of a batch.
    pub fn held(&self) -> Pieces {
        held(self.parts, self.pieces(), self.own(), self.lars)
    }

    /// Of the first of `ranks` ranks: images that go through the network at once, and what it holds
    /// for the others of a batch.
    pub fn first_of(ranks: usize, train: &Train) -> (usize, Pieces) {
        let pieces = if train.parts > 1 { train.parts } else { ranks };
        let lars = train.optimizer == Optimizer::Lars;
        let own = 0..pieces / ranks;
        (train.batch.div_ceil(pieces), held(train.parts, pieces, own, lars))
    }

    /// The signal that ends the run: for several ranks the one that all have agreed on.
    pub fn signal(&self, interrupt: &Interrupt) -> Option<i32> {
        if self.team.is_several() { self.agreed.signal } else { interrupt.signal() }
    }

    /// Whether a checkpoint was asked for since this was last called.
    pub fn take_save(&mut self, interrupt: &Interrupt) -> bool {
        if self.team.is_several() {
            std::mem::take(&mut self.agreed.save)
        } else {
            interrupt.take_save()
        }
    }

    /// One batch through the network and the update rule; the tally is that of the whole batch. A
    /// loss that is no number updates nothing. `updates` is called once the parameters begin to
    /// change: an error before that leaves them as they were.
    ///
    /// # Errors
    /// Those of the engine; what has ended another rank; a rank that does not answer.
    pub fn step(
        &mut self,
        engine: &mut dyn Engine,
        (run, batch): (&Run, &Batch),
        (momentum, rates): Update<'_>,
        interrupt: &Interrupt,
        updates: impl FnOnce(),
    ) -> Result<Tally> {
        if self.pieces() == 1 && !engine.is_connected() {
            updates();
            return engine.step(run, batch.images.view(), &batch.labels, momentum, rates);
        }
        if self.parts == 1 {
            let update = (momentum, rates);
            return self.exchanged(engine, (run, batch), update, (interrupt, updates));
        }
        let mut tallies = Vec::new();
        for part in self.own() {
            tallies.push(self.part(engine, run, batch, part)?);
        }
        let mut tally = Tally::default();
        self.agree("a step", interrupt, tallies)?.into_iter().for_each(|part| tally.add(part));
        if tally.loss.is_finite() {
            self.join(engine, batch.whole)?;
            updates();
            engine.update(momentum, rates)?;
        }
        Ok(tally)
    }

    /// The gradients of one part, joined with those before it that this rank has.
    fn part(
        &mut self,
        engine: &mut dyn Engine,
        run: &Run,
        batch: &Batch,
        part: usize,
    ) -> Result<Tally> {
        let (own, places) = (self.own(), self.piece(part));
        let mut tally = Tally::default();
        if places.start < batch.whole {
            self.sums.free(engine)?;
            let mine = places.start - batch.first..places.end.min(batch.whole) - batch.first;
            let run = Run { batch: mine.len(), first_image: places.start as u32, ..*run };
            let values = engine.plan().input.len();
            let images = batch.images.view().slice(mine.clone(), values);
            tally = engine.part_gradients(&run, images, &batch.labels[mine], batch.whole)?;
            self.sums.computed(part);
        }
        for join in sums::tree(self.parts).filter(|join| join.end == part + 1) {
            if join.begin >= own.start && self.piece(join.middle).start < batch.whole {
                self.sums.join(engine, join.begin, join.middle)?;
            }
        }
        Ok(tally)
    }

    /// Joins the gradients of all ranks; then the engine of each has those of the batch, of `whole`
    /// images.
    fn join(&mut self, engine: &mut dyn Engine, whole: usize) -> Result<()> {
        let team = self.team;
        let each = self.parts / team.size();
        for join in sums::tree(self.parts) {
            let [left, right, end] = [join.begin, join.middle, join.end - 1].map(|p| p / each);
            if left == end || self.piece(join.middle).start >= whole {
                continue;
            }
            match (left == team.rank(), right == team.rank()) {
                (true, true) => self.sums.join(engine, join.begin, join.middle)?,
                (true, false) => self
                    .sums
                    .each(engine, join.begin, &mut |sums| team.receive_sums(sums, right))?,
                (false, true) => {
                    self.sums.each(engine, join.middle, &mut |sums| team.send_sums(sums, left))?;
                }
                (false, false) => {}
            }
        }
        if team.leads() {
            self.sums.give(engine, 0)?;
        }
        self.sums.forget();
        engine.each_gradient(&mut |gradient| team.spread(gradient))
    }
}

fn held(parts: usize, pieces: usize, own: Range<usize>, lars: bool) -> Pieces {
    let waiting = if parts > 1 { sums::most_waiting(parts, own.clone()) } else { 0 };
    Pieces { all: pieces, own: own.len(), waiting, gradients: pieces > 1 || lars }
}
