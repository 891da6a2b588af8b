//! What a run's folder says for a report. What cannot be read is a problem that the page tells.

use crate::config::Config;
use crate::errors::sentence;
use crate::files::text;
use crate::train::checkpoint::Checkpoint;
use crate::train::events::{self, kernels_picture};
use crate::train::history::History;
use crate::train::runs::RunFolder;
use crate::train::survey::{Survey, survey};
use std::path::Path;

/// A larger config is none of ours.
const MOST_TEXT: u64 = 4 << 20;

/// A run.
pub struct Facts {
    /// Its folder's name.
    pub name: String,
    /// What `alexnet runs` says of it.
    pub survey: Survey,
    /// Its settings as TOML; empty where there are none.
    pub config: String,
    /// How its epochs ended.
    pub history: History,
    /// The first layer's kernels as PNG, and after which step, in order.
    pub filters: Vec<(u64, Vec<u8>)>,
    /// Images that it was trained on; None: no checkpoint says.
    pub images: Option<u64>,
}

impl Facts {
    /// Reads the folder.
    pub fn of(run: &RunFolder) -> Facts {
        let mut survey = survey(run.clone());
        let log = run.metrics();
        let history = if log.exists() { History::read(&log) } else { Ok(History::default()) };
        let history = history.unwrap_or_else(|error| {
            survey.problems.push(sentence(&error));
            History::default()
        });
        survey.problems.dedup();
        let newest = [run.last(), run.best()].into_iter().find_map(|f| Checkpoint::open(&f).ok());
        let own = text::read(&run.config(), MOST_TEXT).ok();
        let name = run.0.file_name().map(|name| name.to_string_lossy().into_owned());
        Facts {
            name: name.unwrap_or_else(|| run.0.display().to_string()),
            config: own.or_else(|| Some(newest.as_ref()?.config.clone())).unwrap_or_default(),
            history,
            filters: filters(run),
            images: newest.map(|checkpoint| checkpoint.state.training_images),
            survey,
        }
    }

    /// The epoch with the lowest top-1 error on validation.
    pub fn best(&self) -> Option<u32> {
        let errors = || self.history.points("val_top1_error").into_iter();
        let lowest = || errors().reduce(|best, next| if next.1 < best.1 { next } else { best });
        let kept = self.survey.best.map(|(epoch, _)| epoch);
        kept.or_else(|| lowest().map(|(epoch, _)| epoch as u32))
    }

    /// The value of `key` in the line of `epoch`.
    pub fn at(&self, epoch: u32, key: &str) -> Option<f64> {
        let points = self.history.points(key).into_iter();
        points.rev().find(|point| point.0 == f64::from(epoch)).map(|point| point.1)
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
        let ends = self.history.points("step").into_iter();
        let mut ends = ends.map(|(epoch, end)| (epoch as u32, end as u64));
        ends.find(|(_, end)| *end >= step).map(|(epoch, _)| epoch)
    }
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
