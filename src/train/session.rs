//! What a run has open while it trains.

use super::clock::Clock;
use super::drawing::Drawing;
use super::events::{self, Events};
use super::feed::Cropping;
use super::metrics::{Line, Metrics};
use super::saving::Saver;
use super::telling::Recent;
use crate::config::Train;
use crate::engine::Engine;
use crate::note;
use crate::progress::Progress;
use anyhow::Result;

/// What a run has open while it trains.
pub struct Session {
    /// How its images are cropped.
    pub cropping: Cropping,
    /// Running since the epoch began.
    pub clock: Clock,
    /// The last losses.
    pub recent: Recent,
    /// Whether the parameters are those of the state and of use: not within a step, and not once
    /// training has diverged.
    pub sound: bool,
    /// How long the last validation took.
    pub validation_seconds: f64,
    /// None: another rank writes them.
    pub files: Option<Files>,
}

/// The files of a run's folder.
pub struct Files {
    /// Its log.
    pub metrics: Metrics,
    /// The same for TensorBoard; None: it is not wanted.
    pub events: Option<Events>,
    /// Writes its checkpoints.
    pub saver: Saver,
    /// Draws how it goes.
    pub drawing: Drawing,
    /// The step of the checkpoint that a second signal's answer names.
    pub answered: Option<u64>,
}

impl Session {
    /// Adds a line to the log, and says what there is to be said of files.
    pub fn log(&mut self, line: &Line, progress: Option<&Progress>) -> Result<()> {
        self.files.as_mut().map_or(Ok(()), |files| files.log(line, progress))
    }

    /// Whether `last` is to be written now, after `step`, inside an epoch.
    pub fn is_due(&mut self, train: &Train, step: u64) -> bool {
        let due = self.files.as_mut().is_some_and(|files| files.saver.is_due(train, step));
        due && !self.recent.looks_diverged()
    }

    /// The first layer's kernels as they are after `step`, for TensorBoard.
    pub fn picture(&mut self, engine: &dyn Engine, step: u64) -> Result<()> {
        let Some(files) = &mut self.files else { return Ok(()) };
        let Some(events) = &mut files.events else { return Ok(()) };
        if let Some((layer, picture)) = events::first_kernels(engine)? {
            let news = events.picture(step, &format!("filters/{layer}"), picture);
            files.tell(news, None);
        }
        Ok(())
    }

    /// The end of training after `step`: what is in memory only is written. Err: what is lost.
    pub fn finish(&mut self, step: u64) -> Result<()> {
        self.files.as_mut().map_or(Ok(()), |files| files.finish(step))
    }
}

impl Files {
    fn log(&mut self, line: &Line, progress: Option<&Progress>) -> Result<()> {
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

    fn finish(&mut self, step: u64) -> Result<()> {
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
