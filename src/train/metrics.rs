//! `metrics.jsonl`: one JSON object a line, one line a step and one an epoch. [`Line`] has every key,
//! and src/train/README.md a table of them.

use super::lines::Lines;
use super::mend::mend;
use crate::layers::softmax::Tally;
use anyhow::{Context, Result};
use serde::Serialize;
use std::fs::OpenOptions;
use std::path::Path;

/// A line. Errors are fractions of images, losses nats; epochs and steps count from 1.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// `step` or `epoch`.
    pub kind: &'static str,
    /// Steps done.
    pub step: u64,
    /// The epoch at hand.
    pub epoch: u32,
    /// Of the weights, without factors of single layers; an epoch's is that of its last step.
    pub learning_rate: f64,
    /// Mean log-loss of the step or epoch.
    pub loss: f64,
    /// Share of images whose most probable class is wrong.
    pub top1_error: f64,
    /// Share of images whose label is not among the five most probable.
    pub top5_error: f64,
    /// Images a second that were trained on, validation apart.
    pub images_per_second: f64,
    /// Seconds that the step or epoch waited for data.
    pub wait_seconds: f64,
    /// For an epoch that ended in a validation.
    #[serde(flatten)]
    pub validation: Option<Validation>,
}

/// What an epoch's line says in addition.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Validation {
    /// Mean log-loss on the validation split.
    pub val_loss: f64,
    /// Top-1 error there.
    pub val_top1_error: f64,
    /// Top-5 error there.
    pub val_top5_error: f64,
}

impl From<Tally> for Validation {
    fn from(tally: Tally) -> Validation {
        Validation {
            val_loss: tally.mean_loss(),
            val_top1_error: tally.top1_error(),
            val_top5_error: tally.top5_error(),
        }
    }
}

/// The file, open for further lines.
pub struct Metrics {
    lines: Lines,
}

impl Metrics {
    /// Begins the file or goes on with it, after what [`mend`] leaves of it: lines up to `step`
    /// and of the first `epochs` epochs.
    pub fn open(path: &Path, step: u64, epochs: u32) -> Result<Metrics> {
        mend(path, step, epochs)?;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("{} cannot be written", path.display()))?;
        Ok(Metrics { lines: Lines::new(path, file)? })
    }

    /// Adds a line, now or once there is room. What is to be said of it.
    pub fn write(&mut self, line: &Line) -> Result<Option<String>> {
        Ok(self.lines.add(&serde_json::to_string(line)?))
    }

    /// Writes what had no room before. Err: there is none yet.
    pub fn finish(&mut self) -> Result<()> {
        self.lines.finish()
    }
}
