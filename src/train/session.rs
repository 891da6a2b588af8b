//! What a run has open while it trains.

use super::clock::Clock;
use super::drawing::Drawing;
use super::events::Events;
use super::feed::Cropping;
use super::metrics::{Line, Metrics};
use super::saving::Saver;
use super::telling::Recent;
use crate::note;
use crate::progress::Progress;
use anyhow::Result;

/// What a run has open while it trains.
pub struct Session {
    /// How its images are cropped.
    pub cropping: Cropping,
    /// Its log.
    pub metrics: Metrics,
    /// The same for TensorBoard; None: it is not wanted.
    pub events: Option<Events>,
    /// Running since the epoch began.
    pub clock: Clock,
    /// The last losses.
    pub recent: Recent,
    /// Writes its checkpoints.
    pub saver: Saver,
    /// Draws how it goes.
    pub drawing: Drawing,
    /// The step of the checkpoint that a second signal's answer names.
    pub answered: Option<u64>,
    /// Whether the parameters are those of the state and of use: not within a step, and not once
    /// training has diverged.
    pub sound: bool,
}

impl Session {
    /// Adds a line to the log, and says what there is to be said of files.
    pub fn log(&mut self, line: &Line, progress: Option<&Progress>) -> Result<()> {
        let news = self.metrics.write(line)?;
        self.tell(news, progress);
        let news = self.events.as_mut().and_then(|events| events.log(line));
        self.tell(news, progress);
        Ok(())
    }

    /// Says `more` and what has become of checkpoints.
    pub fn tell(&mut self, more: Option<String>, progress: Option<&Progress>) {
        for news in self.saver.news().into_iter().chain(more) {
            match progress {
                Some(progress) => progress.say(&news),
                None => note!("{news}"),
            }
        }
    }

    /// The end of training after `step`: what is in memory only is written. Err: what is lost.
    pub fn finish(&mut self, step: u64) -> Result<()> {
        let saved = self.saver.finish(step);
        let logged = self.metrics.finish();
        let all = saved.and(logged);
        let drawn = if all.is_ok() { self.drawing.finish() } else { None };
        self.tell(drawn, None);
        let flushed = self.events.as_mut().and_then(Events::flush);
        self.tell(flushed, None);
        all
    }
}
