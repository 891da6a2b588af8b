//! A network ready to use: what `eval` and `predict` make of a checkpoint.

use crate::config::Config;
use crate::engine::{Choice, Engine};
use crate::gpu::library;
use crate::layers::Classes;
use crate::network::{Mode, Plan};
use crate::note;
use crate::train::checkpoint::Checkpoint;
use crate::train::feed::{self, Cropping};
use crate::train::runs::RunFolder;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// A checkpoint's network on a device, with the way images are cropped for it.
pub struct Model {
    /// Classes, preparation and state, read from the file.
    pub checkpoint: Checkpoint,
    /// What it was trained with.
    pub config: Config,
    /// The network with its parameters.
    pub engine: Box<dyn Engine>,
    /// How images become its input.
    pub cropping: Cropping,
}

impl Model {
    /// Loads `path` for evaluation; `batch` None is the batch it was trained with.
    pub fn open(path: &Path, device: &Choice, batch: Option<usize>) -> Result<Model> {
        let checkpoint = Checkpoint::open(path)?;
        let config = Config::parse(&checkpoint.config, &[], &path.display().to_string())?;
        let batch = batch.unwrap_or(config.train.batch);
        let place = device.resolve(config.towers)?;
        // Where there is no driver, nobody expects anything but the CPU.
        if *device == Choice::Auto && library::driver_version().is_ok() {
            note!("computing {}", place.words);
        }
        let classes = Classes::Known(checkpoint.facts.classes.len());
        let plan = Plan::new(&config, batch, Mode::Evaluation, &place.towers, classes)
            .with_context(|| path.display().to_string())?;
        // Before any memory is taken.
        checkpoint.fits(&plan, false)?;
        feed::augmentation(&config.data, &checkpoint.facts)
            .with_context(|| path.display().to_string())?;
        let mut engine = place.engine(plan)?;
        checkpoint.load(engine.as_mut(), false)?;
        let cropping = Cropping::new(&config.data, &checkpoint.facts, engine.as_mut())?;
        Ok(Model { checkpoint, config, engine, cropping })
    }
}

/// The checkpoints named, or the best of the newest run, which is said.
pub fn or_newest(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    let newest = RunFolder::newest()?.best_or_last();
    note!("checkpoint: {}", newest.display());
    Ok(vec![newest])
}
