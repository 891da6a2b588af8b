//! What there is to say of a run from its files alone, whoever wrote them and whatever has become
//! of them: each piece that cannot be read is a problem of that run and hides nothing else.

use super::checkpoint::Glance;
use super::runs::RunFolder;
use super::tail::{self, Tail};
use crate::errors::sentence;
use crate::files::{lock, text};
use anyhow::{Context, Result};
use rayon::prelude::*;
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::time::SystemTime;

/// A larger `config.toml` or `diverged.txt` is none of ours.
const MOST_TEXT: u64 = 4 << 20;

/// What a run is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// A process holds its folder.
    Running,
    /// It has ended before its last epoch, or has not begun the first; `--resume` goes on.
    Interrupted,
    /// Training has diverged, and nobody has gone on with it.
    Diverged,
    /// All epochs, or the plateau after the last drop.
    Finished,
    /// Its newest checkpoint cannot be read, so that it is not known.
    Damaged,
}

impl RunState {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            RunState::Running => "running",
            RunState::Interrupted => "interrupted",
            RunState::Diverged => "diverged",
            RunState::Finished => "finished",
            RunState::Damaged => "damaged",
        }
    }
}

/// A run as its folder shows it. What the files do not say is None. Errors are fractions.
#[derive(Debug)]
pub struct Survey {
    /// The folder.
    pub run: RunFolder,
    /// The data set's path.
    pub data: Option<String>,
    /// Epochs that have ended.
    pub epochs_done: u32,
    /// Epochs that the config asks for.
    pub epochs: Option<u32>,
    /// Steps done.
    pub step: u64,
    /// The epoch of the lowest top-1 error on validation, and that error.
    pub best: Option<(u32, f64)>,
    /// Top-1 error of the last epoch on validation.
    pub last: Option<f64>,
    /// Top-1 error of the last epoch's training.
    pub last_training: Option<f64>,
    /// The learning rate of the last step.
    pub rate: Option<f64>,
    /// What it is doing.
    pub state: RunState,
    /// Why it has diverged.
    pub why: Option<String>,
    /// When a checkpoint or the log was changed last.
    pub changed: Option<SystemTime>,
    /// What could not be read, a sentence each.
    pub problems: Vec<String>,
}

/// The runs that are folders in `folder`, or `folder` itself where it is one, newest first. Err:
/// the folder cannot be read.
pub fn runs_in(folder: &Path) -> Result<Vec<Survey>> {
    let itself = RunFolder(folder.to_path_buf());
    let found = if itself.is_run() {
        vec![itself]
    } else {
        let unreadable = || format!("the folder {} cannot be read", folder.display());
        let entries: Vec<_> = fs::read_dir(folder)
            .and_then(|entries| entries.collect::<std::io::Result<_>>())
            .with_context(unreadable)?;
        entries.iter().map(|entry| RunFolder(entry.path())).collect()
    };
    let mut surveys: Vec<Survey> =
        found.into_par_iter().filter(RunFolder::is_run).map(survey).collect();
    surveys.sort_by(|a, b| b.changed.cmp(&a.changed).then_with(|| a.run.0.cmp(&b.run.0)));
    Ok(surveys)
}

/// What the config says that a list shows.
#[derive(Default)]
struct Wanted {
    data: Option<String>,
    epochs: Option<u32>,
}

impl Wanted {
    /// Reads no more of the TOML than is shown: a run of another version may have other keys.
    fn of(toml: &str) -> Result<Wanted> {
        let table: toml::Table = toml.parse()?;
        let at = |section: &str, key: &str| table.get(section)?.get(key);
        Ok(Wanted {
            data: at("data", "path").and_then(|path| path.as_str()).map(String::from),
            epochs: at("train", "epochs").and_then(|n| n.as_integer()?.try_into().ok()),
        })
    }
}

/// Looks at the files of `run`.
pub fn survey(run: RunFolder) -> Survey {
    let mut problems = Vec::new();
    // Before its files are looked at: of a run that ends meanwhile they are then the last ones.
    let running = lock::is_held(&run.0);
    let file = [run.last(), run.best()].into_iter().find(|file| file.exists());
    let glance = file.map(|file| Glance::of(&file));
    let damaged = glance.as_ref().is_some_and(|glance| glance.is_err());
    let glance = glance.and_then(|glance| kept(glance, &mut problems));
    let tail = kept(log(&run, glance.as_ref()), &mut problems).unwrap_or_default();
    if tail.damaged {
        problems.push(format!(
            "{} is damaged: its end has lines that are none of a run, or none",
            run.metrics().display()
        ));
    }
    let wanted = wanted(&run, glance.as_ref(), &mut problems);
    let why = text::read(&run.diverged(), MOST_TEXT).ok().map(|why| why.trim().to_string());
    let state = glance.map(|glance| glance.state);
    let of_state = |get: fn(&super::checkpoint::TrainingState) -> u64| state.as_ref().map(get);
    let ended = tail.epoch.as_ref();
    Survey {
        data: wanted.data,
        epochs_done: ended
            .map(|line| line.epoch)
            .or_else(|| of_state(|state| u64::from(state.epoch) - 1).map(|n| n as u32))
            .unwrap_or(0),
        epochs: wanted.epochs,
        step: tail
            .last
            .as_ref()
            .map(|line| line.step)
            .or_else(|| of_state(|state| state.step))
            .unwrap_or(0),
        best: state.as_ref().and_then(|state| state.best),
        last: ended.and_then(|line| line.val_top1_error),
        last_training: ended.and_then(|line| line.top1_error),
        rate: tail
            .last
            .and_then(|line| line.learning_rate)
            .or_else(|| state.as_ref().map(|state| state.schedule.rate)),
        state: match (running, &why, &state) {
            (true, ..) => RunState::Running,
            (_, Some(_), _) => RunState::Diverged,
            _ if damaged => RunState::Damaged,
            (_, _, Some(state)) if state.finished => RunState::Finished,
            _ => RunState::Interrupted,
        },
        why: why.filter(|_| !running),
        changed: changed(&run),
        problems,
        run,
    }
}

/// What was read, or None and the problem.
fn kept<T>(read: Result<T>, problems: &mut Vec<String>) -> Option<T> {
    read.map_err(|error| problems.push(sentence(&error))).ok()
}

/// The end of the log. Err: there should be one, and it cannot be read.
fn log(run: &RunFolder, glance: Option<&Glance>) -> Result<Tail> {
    let path = run.metrics();
    if !path.exists() && glance.is_none_or(|glance| glance.state.step == 0) {
        return Ok(Tail::default());
    }
    let mut tail =
        tail::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    // A step that is in the checkpoint was in the log.
    tail.damaged |= tail.last.is_none() && glance.is_some_and(|glance| glance.state.step > 0);
    Ok(tail)
}

/// What the folder's config says, or where there is none the checkpoint's.
fn wanted(run: &RunFolder, glance: Option<&Glance>, problems: &mut Vec<String>) -> Wanted {
    let path = run.config();
    let own =
        path.exists().then(|| text::read(&path, MOST_TEXT).and_then(|text| Wanted::of(&text)));
    let own = own.and_then(|own| {
        kept(own.with_context(|| format!("{} cannot be read", path.display())), problems)
    });
    own.or_else(|| Wanted::of(&glance?.config).ok()).unwrap_or_default()
}

fn changed(run: &RunFolder) -> Option<SystemTime> {
    let time = |file| fs::metadata(file).and_then(|data| data.modified()).ok();
    [run.last(), run.best(), run.metrics(), run.config()].into_iter().filter_map(time).max()
}
