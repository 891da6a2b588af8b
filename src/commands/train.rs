//! `alexnet train`: a new run, or an old one taken further.

use super::print;
use crate::config::{Config, Prepare};
use crate::config_error;
use crate::data::dataset::{Dataset, HEADER_FILE};
use crate::data::loader::Images;
use crate::data::prepare::{idx, writer};
use crate::engine::Choice;
use crate::files;
use crate::network::{Mode, Plan};
use crate::note;
use crate::progress::duration;
use crate::train::checkpoint::{Checkpoint, DataFacts, TrainingState, same_classes};
use crate::train::feed;
use crate::train::interrupt::Interrupt;
use crate::train::runs::RunFolder;
use crate::train::trainer::{End, Splits, Trainer, check_schedule};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

/// Train a network as a config describes it, or go on with a run.
///
/// Writes a folder with config.toml (all defaults filled in), metrics.jsonl (a line a step and an
/// epoch), last.safetensors and best.safetensors (the lowest validation top-1 error). Ctrl-C finishes
/// the step, writes last.safetensors and ends; --resume goes on from there as if nothing had happened.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// What to train: network, data, schedule.
    #[arg(long, value_name = "FILE", required_unless_present = "resume")]
    config: Option<PathBuf>,
    /// Where to compute: auto, cpu, cuda:0, or cuda:0,1 for a tower each.
    #[arg(long, default_value = "auto")]
    device: Choice,
    /// The prepared data set, in place of the config's data.path.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Change a value of the config, such as train.batch=64 or layer.conv1.weight_sigma=0.03; repeat
    /// for more. Together with --resume it changes a run by hand: schedule.rate=0.001.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The run's folder; by default runs/NAME, or runs/NAME-2 … where that is taken.
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Go on with the run of --run, or with the newest.
    #[arg(long)]
    resume: bool,
    /// After each epoch print the time of each layer and direction, on GPUs from their own clocks.
    #[arg(long)]
    profile: bool,
}

pub fn run(args: Args) -> Result<()> {
    let old = args.resume.then(|| open_old(args.run.as_deref())).transpose()?;
    let mut config = match (&args.config, &old) {
        (Some(file), _) => Config::read(file, &args.set)?,
        (None, Some((_, checkpoint))) => {
            let source = checkpoint.path.display().to_string();
            Config::parse(&checkpoint.config, &args.set, &source)?
        }
        (None, None) => return Err(config_error!("--config FILE is missing")),
    };
    if let Some(data) = &args.data {
        config.data.path = Some(data.clone());
    }
    let place = args.device.resolve(config.towers)?;
    let source = args.config.as_ref().or(old.as_ref().map(|(_, checkpoint)| &checkpoint.path));
    let source = source.map_or(String::new(), |path| path.display().to_string());
    check_network(&config).with_context(|| source.clone())?;
    let path = data_path(&config);
    let prepare = config.data.prepare.take().filter(|_| args.data.is_none());
    let dataset = open_data(prepare.as_ref(), &path)?;
    // The checkpoint shall find its data again from any folder.
    config.data.path = Some(std::path::absolute(&path)?);
    let facts = DataFacts::of(&dataset);
    config.data.channels.get_or_insert(facts.channels);
    feed::augmentation(&config.data, &facts).with_context(|| source.clone())?;
    let plan = Plan::new(
        &config,
        config.train.batch,
        Mode::Training,
        &place.towers,
        Some(facts.classes.len()),
    )
    .with_context(|| source.clone())?;
    let images = open_splits(&dataset)?;
    check_schedule(&config, images.validation.is_some()).with_context(|| source)?;
    let parameters = plan.parameters();
    let memory: u64 = plan.memory_bytes().iter().sum();
    let engine = place.engine(plan)?;

    let (run, state, checkpoint) = match old {
        None => (
            RunFolder::create(args.run.as_deref(), &config.name)?,
            TrainingState::new(&config),
            None,
        ),
        Some((run, checkpoint)) => {
            let state = continued(&config, &facts, &checkpoint, &run, images.train.len() as u64)?;
            (run, state, Some(checkpoint))
        }
    };
    note!(
        "{}: {} parameters, {} {}, {:.1} GiB; {} training images; {}",
        config.name,
        parameters,
        if config.towers == 1 { "1 tower" } else { "2 towers" },
        place.words,
        memory as f64 / (1u64 << 30) as f64,
        images.train.len(),
        run.0.display()
    );
    let _lock = run.lock()?;
    let is_new = checkpoint.is_none();
    let mut trainer = Trainer {
        config: &config,
        facts,
        images,
        engine,
        run: run.clone(),
        state,
        interrupt: Interrupt::listen()?,
        profile: args.profile,
    };
    match checkpoint {
        Some(checkpoint) => checkpoint.load(trainer.engine.as_mut(), true)?,
        None => trainer.initialise()?,
    }
    run.remove_leftovers();
    files::write_text(&run.config(), &config.to_toml())?;
    let begun = Instant::now();
    match trainer.train()? {
        End::Interrupted => bail!(
            "interrupted; all is kept in {}, go on with: alexnet train --resume --run {}",
            run.last().display(),
            run.0.display()
        ),
        End::Finished => tell(&run, is_new.then(|| begun.elapsed().as_secs_f64())),
    }
}

/// A network that cannot work is refused before any data is looked at.
fn check_network(config: &Config) -> Result<()> {
    let devices = vec![0; config.towers];
    let counts = config.layers.iter().all(|l| l.settings.outputs(None).is_ok());
    // Any number of classes serves to check the rest.
    let classes = if counts { None } else { Some(config.data.classes.unwrap_or(1000)) };
    Plan::new(config, 1, Mode::Training, &devices, classes).map(|_| ())
}

fn data_path(config: &Config) -> PathBuf {
    config.data.path.clone().unwrap_or_else(|| Path::new("data").join(&config.name))
}

/// Opens the data set; makes it first, where the config says from what and it is not there.
fn open_data(prepare: Option<&Prepare>, path: &Path) -> Result<Dataset> {
    if let Some(prepare) = prepare.filter(|_| !path.join(HEADER_FILE).exists()) {
        if prepare.kind != "idx" {
            return Err(config_error!(
                "data.prepare.kind = {:?}: only \"idx\" is prepared on first use",
                prepare.kind
            ));
        }
        note!("preparing {} from {}", path.display(), prepare.source.display());
        let source = idx::find(&prepare.source, None, prepare.val_fraction, 1)?;
        let options = writer::Options {
            out: path.to_path_buf(),
            max_bad: Some(0),
            workers: None,
            shard_bytes: writer::SHARD_BYTES,
            jpeg_quality: None,
        };
        return Ok(writer::write(&source, &options)?.dataset);
    }
    Dataset::open(path).context("the training data cannot be opened")
}

fn open_splits(dataset: &Dataset) -> Result<Splits> {
    let train: Arc<dyn Images> = Arc::new(dataset.split("train")?);
    if train.is_empty() {
        bail!("{}: the data set has no training images", dataset.path.display());
    }
    let name = ["val", "test"].into_iter().find(|s| dataset.header.splits.contains_key(*s));
    if name == Some("test") {
        note!("the data set has no split val; validating on test");
    }
    let validation = match name {
        Some(name) => {
            Some(Arc::new(dataset.split(name)?) as Arc<dyn Images>).filter(|s| !s.is_empty())
        }
        None => None,
    };
    Ok(Splits { train, validation })
}

/// The run to go on with, and its last checkpoint.
fn open_old(run: Option<&Path>) -> Result<(RunFolder, Checkpoint)> {
    let run = match run {
        Some(path) => RunFolder(path.to_path_buf()),
        None => RunFolder::newest()?,
    };
    if !run.last().exists() {
        let run = run.0.display();
        bail!(
            "{run}: there is no last.safetensors to go on from; the first is written after an epoch, or when a run is interrupted; start anew in another folder"
        );
    }
    let checkpoint = Checkpoint::open(&run.last())?;
    Ok((run, checkpoint))
}

/// The state to go on from; what was changed by hand takes effect.
fn continued(
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
                "{name} stands inside an epoch of {} training images, the data set has {images}; go on with the data set it was trained on",
                state.training_images
            );
        }
    }
    state.schedule.changed_by_hand(&old.schedule, &config.schedule, state.epoch);
    if state.epoch > config.train.epochs {
        bail!(
            "{}: the run is finished, it has trained {} epochs; more with --set train.epochs={}",
            run.0.display(),
            state.epoch - 1,
            2 * config.train.epochs
        );
    }
    if state.finished && old.schedule == config.schedule && old.train.epochs == config.train.epochs
    {
        bail!(
            "{}: the run is finished, its validation error had stopped improving; go on with a rate of your own (--set schedule.rate=…)",
            run.0.display()
        );
    }
    state.finished = false;
    note!("going on with {} from step {}, epoch {}", run.0.display(), state.step, state.epoch);
    Ok(state)
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
                "{key} = {new}: it can change between epochs only, and {checkpoint} stands inside one that began with {key} = {old}"
            ));
        }
    }
    Ok(())
}

/// The last words: where the result is and what to try with it.
fn tell(run: &RunFolder, seconds: Option<f64>) -> Result<()> {
    let best = run.best_or_last();
    let checkpoint = Checkpoint::open(&best)?;
    let result = match checkpoint.state.best {
        Some((epoch, error)) => {
            format!("best top-1 error {:.2} % on validation, after epoch {epoch}", 100.0 * error)
        }
        None => "no validation".to_string(),
    };
    let time = seconds.map_or(String::new(), |s| format!(" in {}", duration(s)));
    print(&format!(
        "trained{time}: {result}\ncheckpoint: {best}\ntry next:\n  alexnet eval {best} --ten-crop\n  alexnet predict IMAGE --checkpoint {best}\n  alexnet inspect {best}",
        best = best.display()
    ))
}
