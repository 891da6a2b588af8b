//! Going on with an old run: its checkpoint, its settings and those of the command line, and
//! whether they go together. What would break the run is refused before anything is changed.

use super::other_data;
use crate::config::{Change, Config, Stack, changes, name_in};
use crate::config_error;
use crate::files::lock::Lock;
use crate::network::Plan;
use crate::note;
use crate::quoting::Typed;
use crate::schedules::Past;
use crate::train::checkpoint::{Checkpoint, DataFacts, TrainingState, open_sound};
use crate::train::runs::{FOLDER, RunFolder};
use anyhow::{Context, Result, bail};
use std::path::Path;

/// A run that is gone on with, kept from other processes.
pub struct Old {
    /// Its folder.
    pub run: RunFolder,
    /// What it goes on from.
    pub checkpoint: Checkpoint,
    /// Holds the folder.
    pub lock: Lock,
}

/// The run to go on with, locked, and its last checkpoint; where that is damaged, its newest sound
/// one. It is `run`, or else the newest of the config `file`, as `set` changes it, or of all.
pub fn open(run: Option<&Path>, file: Option<&Path>, set: &[String]) -> Result<Old> {
    let run = match (run, file) {
        (Some(path), _) => RunFolder(path.to_path_buf()),
        (None, Some(file)) => newest_of(file, set)?,
        (None, None) => RunFolder::newest()?,
    };
    // The lock comes first: what a checkpoint is, and whether, may be changing right now.
    let lock = if run.0.is_dir() { Some(run.lock()?) } else { None };
    match lock.filter(|_| run.has_checkpoint()) {
        Some(lock) => {
            let checkpoint = open_sound(&run, &run.last())?;
            Ok(Old { run, checkpoint, lock })
        }
        None => bail!(
            "{}: there is no last.safetensors to go on from; the first is written before the \
             first step; start anew in another folder",
            run.0.display()
        ),
    }
}

/// The newest run of the config `file`; of one that states a few keys only, of any.
fn newest_of(file: &Path, set: &[String]) -> Result<RunFolder> {
    let (name, is_whole) = name_in(file)?;
    let given =
        set.iter().rev().find_map(|set| set.split_once('=').filter(|s| s.0.trim() == "name"));
    let name = given.map_or(name, |(_, name)| name.trim().trim_matches('"').to_string());
    if let Some(run) = RunFolder::newest_called(&name) {
        return Ok(run);
    }
    let newest = RunFolder::newest()?;
    if is_whole {
        bail!(
            "{}: no run of that config, called {name}, is in {FOLDER}/; begin one without --resume, \
             or name the folder of another with --run ({} is the newest)",
            file.display(),
            newest.0.display()
        );
    }
    Ok(newest)
}

/// The settings to go on with, and the uppermost file of those that they come from: over the
/// checkpoint's the folder's `config.toml`, over them `file`, over all `set`.
pub fn config(old: &Old, file: Option<&Path>, set: &[String]) -> Result<(Config, String)> {
    let checkpoint = &old.checkpoint;
    let mut stack = Stack::new(&checkpoint.config, &checkpoint.path.display().to_string())?;
    let own = old.run.config();
    if own.exists() {
        stack = stack.over(&own).context(
            "the run's own settings cannot be read; mend the file, or remove it to go on with \
             those of the checkpoint",
        )?;
    }
    if let Some(file) = file {
        stack = stack.over(file)?;
    }
    Ok((stack.config(set)?, stack.source().to_string()))
}

/// Keys of a layer that are about how it learns; the others make the network what it is.
const LEARNING: [&str; 7] = [
    "weight_sigma",
    "bias",
    "weight_rate",
    "bias_rate",
    "weight_decay",
    "bias_decay",
    "rate", // of dropout
];
/// Keys that have done their work once a run has begun.
const AT_THE_START: [&str; 3] = ["name", "weight_sigma", "bias"];

/// Refuses another network than the checkpoint's.
pub fn check_network(old: &Old, config: &Config, plan: &Plan) -> Result<()> {
    old.checkpoint.fits(plan, true)?;
    let name = old.checkpoint.path.display().to_string();
    let before = Config::parse(&old.checkpoint.config, &[], &name)?;
    let other = changes(&before, config).into_iter().find(|change| {
        let of_network = change.key == "towers" || change.key.split('.').next() == Some("layer");
        of_network && !LEARNING.contains(&last(&change.key))
    });
    match other {
        None => Ok(()),
        Some(change) => Err(config_error!(
            "{name} is of another network: {}; begin a new run for that",
            in_words(&change)
        )),
    }
}

/// The part of a key behind its last dot.
fn last(key: &str) -> &str {
    key.rsplit('.').next().unwrap_or(key)
}

/// A change as a person reads it.
fn in_words(change: &Change) -> String {
    let value = |value: &Option<String>| value.clone().unwrap_or("not set".into());
    let starts = AT_THE_START.contains(&last(&change.key)) || change.key.starts_with("init.");
    let late = match starts {
        true => " (counts for new runs only)",
        false => "",
    };
    format!("{}: {} → {}{late}", change.key, value(&change.old), value(&change.new))
}

/// The state to go on from; what was changed by hand takes effect and is said. `images` are those
/// to train on, `again` is the command at hand, `set` its changes.
pub fn state(
    old: &Old,
    config: &Config,
    facts: &DataFacts,
    images: u64,
    again: &Typed,
    set: &[String],
) -> Result<TrainingState> {
    let (run, checkpoint) = (&old.run, &old.checkpoint);
    let name = checkpoint.path.display().to_string();
    let mut before = Config::parse(&checkpoint.config, &[], &name)?;
    let changed = changes(&before, config);
    let mut state = checkpoint.state.clone();
    if state.batches > 0 {
        within_epoch(config, &before, &name)?;
    }
    let data = other_data::Difference::find(checkpoint, facts, images);
    data.check(&name, state.batches > 0)?;
    check_epochs(run, &state, config, again)?;
    // A run that had come to its end needs a rate, be it the one that it began with.
    let ended = state.finished && before.train.epochs == config.train.epochs;
    if ended && set.iter().any(|set| set.trim_start().starts_with("schedule.rate")) {
        before.schedule.start.rate = f64::NAN;
    }
    if ended && before.schedule == config.schedule {
        let rate = again.clone().set("schedule.rate", format!("{:?}", state.schedule.rate));
        bail!(
            "{}: the run is finished, its validation error had stopped improving; go on with a \
             rate of your own: {rate}",
            run.0.display()
        );
    }
    let past = Past { epoch: state.epoch, inside: state.batches > 0, best: state.best };
    config
        .schedule
        .resume(&before.schedule, &mut state.schedule, &past)
        .with_context(|| name.clone())?;
    state.finished = false;
    if !changed.is_empty() {
        note!("changed since {name} (key: old → new):");
        changed.iter().for_each(|change| note!("  {}", in_words(change)));
    }
    if before.schedule == config.schedule {
        rate_that_has_fallen(config, &state, set);
    }
    data.tell(run, config, &mut state)?;
    note!("going on with {} from step {}, epoch {}", run.0.display(), state.step, state.epoch);
    Ok(state)
}

/// Says that a rate given once more, as the run has had it, is no change.
fn rate_that_has_fallen(config: &Config, state: &TrainingState, set: &[String]) {
    let (written, now) = (config.schedule.start.rate, state.schedule.rate);
    let given = set.iter().any(|set| set.trim_start().starts_with("schedule.rate"));
    if given && written != now {
        note!(
            "schedule.rate = {written:?} is what the run has been told already; its learning rate \
             is {now:?} by now and stays so (another value would count from here on)"
        );
    }
}

/// Refuses a number of epochs of which none is left to train.
fn check_epochs(
    run: &RunFolder,
    state: &TrainingState,
    config: &Config,
    again: &Typed,
) -> Result<()> {
    let (wanted, trained) = (config.train.epochs, state.epoch - 1);
    if state.epoch <= wanted {
        return Ok(());
    }
    let more = again.clone().set("train.epochs", trained.max(1).saturating_mul(2));
    let run = run.0.display();
    if state.batches > 0 {
        bail!(
            "{run}: the run stands inside epoch {}, after all that train.epochs = {wanted} asks \
             for: it is finished; to the end of that epoch with: {}; more with: {more}",
            state.epoch,
            again.clone().set("train.epochs", state.epoch)
        );
    }
    bail!(
        "{run}: the run is finished, it has trained {trained} epochs{}; more with: {more}",
        if trained > wanted { format!(", and train.epochs is {wanted}") } else { String::new() }
    );
}

/// Inside an epoch the order of its images and their batches must stay.
fn within_epoch(config: &Config, old: &Config, checkpoint: &str) -> Result<()> {
    let order = |c: &Config| {
        [
            ("train.batch", c.train.batch.to_string()),
            ("seed", c.seed.to_string()),
            ("data.shuffle", format!("{:?}", c.data.shuffle).to_lowercase()),
        ]
    };
    for ((key, new), (_, old)) in order(config).into_iter().zip(order(old)) {
        if new != old {
            return Err(config_error!(
                "{key} = {new}: it can change between epochs only, and {checkpoint} stands inside \
                one that began with {key} = {old}"
            ));
        }
    }
    Ok(())
}
