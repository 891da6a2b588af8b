//! What a run's folder says for a report. What cannot be read is a problem that the page tells.

use crate::config::Config;
use crate::errors::sentence;
use crate::files::text;
use crate::train::checkpoint::Checkpoint;
use crate::train::events::{self, kernels_picture};
use crate::train::runs::RunFolder;
use crate::train::survey::{Survey, survey};
use anyhow::{Context, Result};
use serde::Deserialize;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// A larger config is none of ours.
const MOST_TEXT: u64 = 4 << 20;

/// The line of an epoch in `metrics.jsonl`; None: a number that was none, or no validation.
#[derive(Debug, Default, Deserialize)]
pub struct EpochLine {
    kind: String,
    pub epoch: u32,
    pub step: u64,
    pub learning_rate: Option<f64>,
    pub loss: Option<f64>,
    pub top1_error: Option<f64>,
    pub top5_error: Option<f64>,
    pub images_per_second: Option<f64>,
    pub wait_seconds: Option<f64>,
    pub val_loss: Option<f64>,
    pub val_top1_error: Option<f64>,
    pub val_top5_error: Option<f64>,
}

/// A run.
pub struct Facts {
    /// Its folder's name.
    pub name: String,
    /// What `alexnet runs` says of it.
    pub survey: Survey,
    /// Its settings as TOML; empty where there are none.
    pub config: String,
    /// The ends of epochs, in order.
    pub epochs: Vec<EpochLine>,
    /// The first layer's kernels as PNG, and after which step, in order.
    pub filters: Vec<(u64, Vec<u8>)>,
    /// Images that it was trained on; None: no checkpoint says.
    pub images: Option<u64>,
}

impl Facts {
    /// Reads the folder.
    pub fn of(run: &RunFolder) -> Facts {
        let mut survey = survey(run.clone());
        let epochs = epochs(&run.metrics()).unwrap_or_else(|error| {
            survey.problems.push(sentence(&error));
            Vec::new()
        });
        survey.problems.dedup();
        let newest = [run.last(), run.best()].into_iter().find_map(|f| Checkpoint::open(&f).ok());
        let own = text::read(&run.config(), MOST_TEXT).ok();
        let name = run.0.file_name().map(|name| name.to_string_lossy().into_owned());
        Facts {
            name: name.unwrap_or_else(|| run.0.display().to_string()),
            config: own.or_else(|| Some(newest.as_ref()?.config.clone())).unwrap_or_default(),
            epochs,
            filters: filters(run),
            images: newest.map(|checkpoint| checkpoint.state.training_images),
            survey,
        }
    }

    /// The line of the epoch with the lowest top-1 error on validation.
    pub fn best(&self) -> Option<&EpochLine> {
        let validated = self.epochs.iter().filter(|line| line.val_top1_error.is_some());
        match self.survey.best {
            Some((epoch, _)) => self.epochs.iter().find(|line| line.epoch == epoch),
            None => validated
                .min_by(|a, b| a.val_top1_error.unwrap().total_cmp(&b.val_top1_error.unwrap())),
        }
    }

    /// The data set's own name.
    pub fn data_name(&self) -> String {
        let Some(path) = &self.survey.data else { return "–".into() };
        Path::new(path).file_name().map_or(path.clone(), |name| name.to_string_lossy().into_owned())
    }

    /// The epoch that `step` belongs to: 0 before training.
    pub fn epoch_of(&self, step: u64) -> Option<u32> {
        if step == 0 {
            return Some(0);
        }
        self.epochs.iter().find(|line| line.step >= step).map(|line| line.epoch)
    }
}

/// The lines of epochs in a log, as far as they are whole. A log that is not there has none.
fn epochs(log: &Path) -> Result<Vec<EpochLine>> {
    if !log.exists() {
        return Ok(Vec::new());
    }
    let unreadable = || format!("{} cannot be read", log.display());
    let mut lines = BufReader::new(File::open(log).with_context(unreadable)?);
    let (mut epochs, mut line) = (Vec::new(), Vec::new());
    while lines.read_until(b'\n', &mut line).with_context(unreadable)? > 0 {
        let parsed = serde_json::from_slice::<EpochLine>(&line);
        epochs.extend(parsed.ok().filter(|line| line.kind == "epoch"));
        line.clear();
    }
    Ok(epochs)
}

/// Pictures of the first kernels: those of the event files, or else of the checkpoints there are.
fn filters(run: &RunFolder) -> Vec<(u64, Vec<u8>)> {
    let found = events::pictures(&run.0, "filters/");
    if !found.is_empty() {
        return found;
    }
    let mut files = run.kept();
    files.extend([run.best(), run.last()]);
    let mut all: Vec<(u64, Vec<u8>)> =
        files.iter().filter_map(|file| of_checkpoint(file)).collect();
    all.sort();
    all.dedup();
    all
}

/// The step of a checkpoint and its first kernels.
fn of_checkpoint(file: &Path) -> Option<(u64, Vec<u8>)> {
    let checkpoint = Checkpoint::open(file).ok()?;
    let config = Config::parse(&checkpoint.config, &[], "").ok()?;
    let layer = config.layers.iter().find(|layer| layer.kind.name == "conv")?;
    let kernels = checkpoint.tensor(&format!("{}.weight", layer.name)).ok()?;
    let picture = kernels_picture(&kernels).ok()??;
    Some((checkpoint.state.step, picture.png))
}
