//! Going on with an old run: its checkpoint, and what may have changed since.

use crate::config::Config;
use crate::config_error;
use crate::network::Plan;
use crate::note;
use crate::schedules::Past;
use crate::train::checkpoint::{Checkpoint, DataFacts, TrainingState, same_classes};
use crate::train::runs::RunFolder;
use anyhow::{Context, Result, bail};
use std::path::Path;

/// The run to go on with, and its last checkpoint.
pub fn open(run: Option<&Path>) -> Result<(RunFolder, Checkpoint)> {
    let run = match run {
        Some(path) => RunFolder(path.to_path_buf()),
        None => RunFolder::newest()?,
    };
    if !run.last().exists() {
        let run = run.0.display();
        bail!(
            "{run}: there is no last.safetensors to go on from; the first is written after an \
            epoch, or when a run is interrupted; start anew in another folder"
        );
    }
    let checkpoint = Checkpoint::open(&run.last())?;
    Ok((run, checkpoint))
}

/// The state to go on from; what was changed by hand takes effect. `images` are those to train on.
pub fn state(
    config: &Config,
    facts: &DataFacts,
    checkpoint: &Checkpoint,
    run: &RunFolder,
    images: u64,
) -> Result<TrainingState> {
    let name = checkpoint.path.display().to_string();
    same_classes((&name, &checkpoint.facts.classes), ("the data set", &facts.classes))?;
    let old = Config::parse(&checkpoint.config, &[], &name)?;
    let mut state = checkpoint.state.clone();
    if state.batches > 0 {
        within_epoch(config, &old, &name)?;
        if state.training_images != images {
            bail!(
                "{name} stands inside an epoch of {} training images, the data set has {images}; \
                go on with the data set it was trained on",
                state.training_images
            );
        }
    }
    if state.epoch > config.train.epochs {
        bail!(
            "{}: the run is finished, it has trained {} epochs; more with --set train.epochs={}",
            run.0.display(),
            state.epoch - 1,
            2 * config.train.epochs
        );
    }
    let past = Past { epoch: state.epoch, inside: state.batches > 0, best: state.best };
    config
        .schedule
        .resume(&old.schedule, &mut state.schedule, &past)
        .with_context(|| name.clone())?;
    if state.finished && old.schedule == config.schedule && old.train.epochs == config.train.epochs
    {
        bail!(
            "{}: the run is finished, its validation error had stopped improving; go on with a \
            rate of your own (--set schedule.rate=…)",
            run.0.display()
        );
    }
    state.finished = false;
    note!("going on with {} from step {}, epoch {}", run.0.display(), state.step, state.epoch);
    Ok(state)
}

/// Refuses a network that is not the checkpoint's, or one of other classes.
pub fn same_network(checkpoint: &Checkpoint, facts: &DataFacts, plan: &Plan) -> Result<()> {
    let name = checkpoint.path.display().to_string();
    same_classes((&name, &checkpoint.facts.classes), ("the data set", &facts.classes))?;
    checkpoint.fits(plan, true)
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
