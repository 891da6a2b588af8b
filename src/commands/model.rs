//! A network ready to use: what `eval` and `predict` make of a checkpoint.

use crate::config::Config;
use crate::engine::{Choice, Engine};
use crate::errors::TooLarge;
use crate::gpu::library;
use crate::layers::Classes;
use crate::network::{Mode, Plan};
use crate::note;
use crate::quoting::Typed;
use crate::train::checkpoint::{Checkpoint, open_sound};
use crate::train::features::counts_classes;
use crate::train::feed::{self, Cropping};
use crate::train::runs::{FOLDER, RunFolder};
use anyhow::{Context, Result, ensure};
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
        Model::open_cut(path, device, batch, |_| Ok(()))
    }

    /// As [`Model::open`], but `cut` may take layers off the end of the network before it is made;
    /// their parameters are left in the file.
    pub fn open_cut(
        path: &Path,
        device: &Choice,
        batch: Option<usize>,
        cut: impl FnOnce(&mut Config) -> Result<()>,
    ) -> Result<Model> {
        let checkpoint = Checkpoint::open(path)?;
        let mut config = Config::parse(&checkpoint.config, &[], &path.display().to_string())?;
        let batch = batch.unwrap_or(config.train.batch);
        let place = device.resolve(config.towers)?;
        // Where there is no driver, nobody expects anything but the CPU.
        let chosen = matches!(device, Choice::Cpu | Choice::Cuda(_));
        if !chosen && library::driver_version().is_ok() {
            note!("computing {}", place.words);
        }
        let known = Classes::Known(checkpoint.facts.classes.len());
        let plan = |config: &Config, batch, classes| {
            Plan::new(config, batch, Mode::Evaluation, &place.towers, classes)
        };
        let of_file = || path.display().to_string();
        // Before any memory is taken for what the config says.
        checkpoint.fits(&plan(&config, 1, known).with_context(of_file)?, false)?;
        feed::augmentation(&config.data, &checkpoint.facts).with_context(of_file)?;
        cut(&mut config)?;
        let classes = if counts_classes(&config) { known } else { Classes::Any };
        let engine = |batch| place.engine(plan(&config, batch, classes)?).with_context(of_file);
        let mut engine = engine(batch).or_else(|error| match error.downcast_ref::<TooLarge>() {
            // The result does not depend on how many images go at once.
            Some(TooLarge { fits, why, .. }) if *fits > 0 => {
                note!("{fits} images at once instead of {batch}: {why}");
                engine(*fits)
            }
            _ => Err(error),
        })?;
        checkpoint.put(engine.as_mut(), false)?;
        let cropping = Cropping::new(&config.data, &checkpoint.facts, engine.as_mut())?;
        Ok(Model { checkpoint, config, engine, cropping })
    }
}

/// What a person names for a network: a checkpoint's file, a run's folder or its name in `runs/`.
enum Named {
    File(PathBuf),
    Run(RunFolder),
}

impl Named {
    /// Err: a folder that is no run, or a run that has ended no epoch.
    fn find(path: &Path) -> Result<Named> {
        let in_runs = RunFolder(Path::new(FOLDER).join(path));
        let run = match path.is_dir() {
            true if in_runs.has_checkpoint() && !RunFolder(path.into()).has_checkpoint() => in_runs,
            true => RunFolder(path.to_path_buf()),
            false if !path.exists() && in_runs.has_checkpoint() => in_runs,
            false => return Ok(Named::File(path.to_path_buf())),
        };
        let name = run.0.display();
        ensure!(
            run.has_checkpoint(),
            "{name} is a folder without a run: neither best.safetensors nor last.safetensors is in \
             it; name a checkpoint or a run's folder ({} lists those that there are)",
            Typed::new("runs")
        );
        ensure!(
            run.best().exists(),
            "{name} has no best.safetensors, since the run has ended no epoch yet; {} is what it \
             has come to: name it to use it",
            run.last().display()
        );
        Ok(Named::Run(run))
    }
}

/// Whether a person may mean a run by `path`: its folder, or its name in `runs/`.
pub fn is_run(path: &Path) -> bool {
    [path.to_path_buf(), Path::new(FOLDER).join(path)]
        .into_iter()
        .any(|f| RunFolder(f).has_checkpoint())
}

/// Opens the checkpoints named (of a run its best), or the best of the newest run, which is said;
/// where a best one is damaged, the run's newest sound one, which is said too.
pub fn open(named: &[PathBuf], device: &Choice, batch: Option<usize>) -> Result<Vec<Model>> {
    if !named.is_empty() {
        let open = |path: &PathBuf| match Named::find(path)? {
            Named::File(file) => Model::open(&file, device, batch),
            Named::Run(run) => open_best(&run, device, batch),
        };
        return named.iter().map(open).collect();
    }
    let run = RunFolder::newest_with_best()?;
    note!("checkpoint: {}", run.best().display());
    Ok(vec![open_best(&run, device, batch)?])
}

/// The file of the one checkpoint that is named, or of the best of the newest run, which is said.
pub fn file(named: Option<&Path>) -> Result<PathBuf> {
    let Some(path) = named else {
        let best = RunFolder::newest_with_best()?.best();
        note!("checkpoint: {}", best.display());
        return Ok(best);
    };
    Ok(match Named::find(path)? {
        Named::File(file) => file,
        Named::Run(run) => run.best(),
    })
}

fn open_best(run: &RunFolder, device: &Choice, batch: Option<usize>) -> Result<Model> {
    let best = run.best();
    Model::open(&best, device, batch).or_else(|error| {
        // Verified only here, where something is wrong: it takes as long as a prediction.
        match open_sound(run, &best)?.path {
            other if other == best => Err(error),
            other => Model::open(&other, device, batch),
        }
    })
}
