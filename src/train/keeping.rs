//! What a run keeps: its checkpoints, at a step's border, after an epoch, and at its end.

use super::checkpoint::{Snapshot, lend};
use super::metrics::Line;
use super::session::Session;
use super::telling::{self, diverged};
use super::trainer::Trainer;
use crate::progress;
use anyhow::Result;
use std::path::PathBuf;

impl Trainer<'_> {
    /// At a step's border: saves where a signal asks for that and not for the end, and keeps in
    /// mind what the disk holds, for a second signal's answer.
    pub(super) fn heed(&mut self, session: &mut Session) -> Result<()> {
        let asked = self.joint.take_save(&self.interrupt) && !self.wanted();
        if asked {
            self.save_last(session)?;
        }
        let Some(files) = &mut session.files else { return Ok(()) };
        if asked {
            files.saver.wait();
            let (last, step) = (self.run.last(), self.state.step);
            progress::say(&match files.saver.held() == Some(step) {
                true => format!("saved as asked: {}, step {step}", last.display()),
                false => format!("not saved as asked: {}", files.saver.trouble()),
            });
        }
        let held = files.saver.held();
        if let Some(step) = held.filter(|_| held != files.answered) {
            self.interrupt.keeps(telling::kept(&self.run, step));
            files.answered = held;
        }
        Ok(())
    }

    /// The checkpoints after `epoch`; none where training seems to diverge and the network is not
    /// the best on validation, so that there stays a good one to go on from.
    pub(super) fn keep(&self, epoch: u32, is_best: bool, session: &mut Session) -> Result<()> {
        let chosen = is_best && self.images.validation.is_some();
        if session.recent.looks_diverged() && !chosen {
            telling::not_saved(&self.run, epoch);
            return Ok(());
        }
        let mut paths = Vec::new();
        if is_best {
            paths.push(self.run.best());
        }
        let keep = self.config.train.keep;
        if keep > 0 && epoch.is_multiple_of(keep) {
            paths.push(self.run.epoch(epoch));
        }
        // `last` comes last: killed before, the run repeats the epoch and writes the others again.
        paths.push(self.run.last());
        self.save(session, paths)
    }

    /// Begins to draw the run as it is after the epoch of `line`. Pictures give way to checkpoints
    /// that find no room.
    pub(super) fn draw(&self, line: &Line, session: &mut Session) {
        let Some(files) = &mut session.files else { return };
        files.drawing.add(line);
        if files.saver.has_failed() {
            files.drawing.give_way();
            return;
        }
        let news = files.drawing.begin(line.epoch, self.engine.as_ref());
        files.tell(news, None);
    }

    /// Begins to save where training stands as `last.safetensors`, after a write that is under way.
    pub(super) fn save_last(&self, session: &mut Session) -> Result<()> {
        self.save(session, vec![self.run.last()])
    }

    /// Begins to save where training stands as `paths`, where this process writes files. A copy is
    /// taken of all that a checkpoint holds, after a write under way; none of a network that can do
    /// nothing any more. Of a network that ranks share the copy is the work of all.
    fn save(&self, session: &mut Session, paths: Vec<PathBuf>) -> Result<()> {
        if self.joint.is_hybrid() {
            // All are there, or none lends anything.
            self.joint.team().round("a checkpoint", Vec::new(), |_| Ok(Vec::new()))?;
        }
        let Some(files) = &mut session.files else {
            return if self.joint.is_hybrid() { lend(self.engine.as_ref()) } else { Ok(()) };
        };
        let (engine, old) = (self.engine.as_ref(), files.saver.spare());
        let snapshot = Snapshot::take(self.config, &self.facts, &self.state, engine, old)?;
        if let Some(tensor) = snapshot.not_finite() {
            session.sound = false;
            let step = self.state.step;
            let seen = format!("{tensor} has values that are no numbers after step {step}");
            return Err(diverged(&seen, &self.run, &self.config.schedule, &self.state));
        }
        files.saver.begin(snapshot, paths);
        Ok(())
    }

    /// Whether training seems to diverge, so that the network is not to take the place of what
    /// `last.safetensors` holds.
    pub(super) fn is_spoilt(&self, session: &Session) -> bool {
        session.recent.looks_diverged() && (session.files.is_none() || self.run.last().exists())
    }
}
