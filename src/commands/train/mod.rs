//! `alexnet train`: a new run, or an old one taken further.

mod connect;
mod data;
mod init;
mod other_data;
mod resume;
mod together;

use super::print;
use super::same_data::same_data;
use crate::config::Config;
use crate::config_error;
use crate::engine::{Choice, Engine, Placement};
use crate::errors::Stopped;
use crate::interrupt::Interrupt;
use crate::layers::{Classes, squared_error};
use crate::mpi::Team;
use crate::network::{Halves, Mode, Plan};
use crate::note;
use crate::progress::duration;
use crate::quoting::Typed;
use crate::train::checkpoint::{Checkpoint, DataFacts, TrainingState, open_sound};
use crate::train::feed;
use crate::train::joint::Joint;
use crate::train::runs::RunFolder;
use crate::train::trainer::{End, Trainer};
use crate::train::transfer::Transfer;
use anyhow::{Context, Error, Result};
use init::Origin;
use resume::Old;
use std::path::PathBuf;
use std::time::Instant;

/// Train a network as a config describes it, or go on with a run.
///
/// Writes a folder with config.toml (all defaults filled in), metrics.jsonl (a line a step and an
/// epoch), last.safetensors and best.safetensors (the lowest validation top-1 error). Ctrl-C
/// finishes the step, writes last.safetensors and ends, as do SIGTERM, SIGHUP, SIGQUIT and SIGXCPU;
/// --resume goes on from there as if nothing had happened. SIGUSR1 writes last.safetensors and goes
/// on. A run that a signal has ended has the exit code 128 and the signal's number.
///
/// Under mpirun, mpiexec or srun all processes train one network: train.batch is the batch of all
/// together, rank 0 writes the folder. With train.parts = P any number of processes that divides P
/// gives the same bits. With train.distribute=hybrid the gradients of fully connected layers, most
/// of all, do not travel: each process has its share of their neurons.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
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
    /// Change a value of the config, such as train.batch=64 or layer.conv1.weight_sigma=0.03;
    /// repeat for more. Together with --resume it changes a run by hand: schedule.rate=0.001.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The run's folder; by default runs/NAME, or runs/NAME-2 … where that is taken.
    #[arg(long, value_name = "DIR")]
    run: Option<PathBuf>,
    /// Begin with the weights of this checkpoint, layer by layer by name, in place of the config's
    /// init.from (fine-tuning).
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    init: Option<PathBuf>,
    /// Leave these layers as they are, such as conv1,conv2; short for --set train.freeze=[...].
    #[arg(long, value_name = "LAYERS", value_delimiter = ',')]
    freeze: Vec<String>,
    /// Go on with the run of --run, or with the newest. What --set says counts first, then
    /// --config, then the folder's config.toml, then the checkpoint.
    #[arg(long)]
    resume: bool,
    /// Train as one of several processes though no launcher is known: MPI says how many there are.
    #[arg(long)]
    pub mpi: bool,
    /// After each epoch print the time of each layer and direction, on GPUs from their own clocks.
    #[arg(long)]
    profile: bool,
}

const EXAMPLES: &str = "Examples:
  alexnet train --config configs/demo.toml
  alexnet train --resume --set schedule.rate=0.001
  mpirun -n 4 alexnet train --config configs/demo.toml --set train.parts=4
  mpirun -n 4 alexnet train --config configs/demo.toml --set train.distribute=hybrid";

/// Reads, checks, opens, and trains; every way that is wrong is found before the first step.
pub fn run(mut args: Args, team: Team) -> Result<()> {
    if !args.freeze.is_empty() {
        args.set.push(format!("train.freeze={:?}", args.freeze));
    }
    let leads = team.leads();
    let goes_on = args.resume && leads;
    let old = goes_on.then(|| resume::open(args.run.as_deref())).transpose()?;
    // What a run was is known in its folder, which rank 0 alone has.
    let reads = leads || !args.resume;
    let read = reads.then(|| read_config(&args, old.as_ref())).transpose()?;
    let (mut config, source) = together::settings(&team, &args, read)?;
    let joint = Joint::new(team, &config.train).with_context(|| source.clone())?;
    let place = together::device(&team, &config, &args.device)?.resolve(config.towers)?;
    check_network(&config, &joint).with_context(|| source.clone())?;
    let origin = match &old {
        None if leads => Origin::open(&mut config, args.init.as_deref())?,
        _ => None,
    };
    let dataset = together::in_turn(&team, || data::open(&mut config, args.data.as_deref()))?;
    let mut facts = DataFacts::of(&dataset);
    config.data.channels.get_or_insert(facts.channels);
    if let Some(old) = &old {
        other_data::check_kind(&old.checkpoint, &dataset.path, &facts)?;
    }
    let checkpoint = old.as_ref().map(|old| &old.checkpoint);
    init::settle_mean(&config, &mut facts, origin.as_ref(), checkpoint)?;
    let plan = fitted(&config, &facts, &place, &joint).with_context(|| source.clone())?;
    let classes = Classes::Known(facts.classes.len());
    let halves = joint.halves(&config, classes).with_context(|| source.clone())?;
    if let Some(old) = &old {
        resume::check_network(old, &config, &plan)?;
    }
    let begin = origin.map(|origin| {
        let transfer = origin.fit(&config, &plan, &facts)?;
        Ok::<_, Error>((origin, transfer))
    });
    let begin = begin.transpose()?;
    let (images, identity) = data::splits(&dataset)?;
    same_data(&team, &dataset, &identity)?;
    facts.identity = Some(identity);
    config.schedule.check_training(images.validation.is_some()).with_context(|| source)?;
    let count = images.train.len();
    let gone_on = old.as_ref().map(|old| {
        let again = again(&args).option("--run", &old.run.0);
        resume::state(old, &config, &facts, count as u64, &again, &args.set)
    });
    let mut state = gone_on.transpose()?.unwrap_or_else(|| TrainingState::new(&config));
    let bytes = halves.as_ref().map_or_else(|| plan.memory_bytes(), Halves::memory_bytes);
    let size = Size { parameters: plan.parameters(), bytes: bytes.iter().sum() };
    let mut engine: Box<dyn Engine> = match halves {
        Some(halves) => place.hybrid(plan, halves, team)?,
        None => place.engine(plan)?,
    };

    let (mut run, _lock, checkpoint) = match old {
        None if leads => {
            let (run, lock) = RunFolder::create(args.run.as_deref(), &config.name, &again(&args))?;
            (run, Some(lock), None)
        }
        None => (RunFolder::default(), None, None),
        Some(Old { run, checkpoint, lock }) => (run, Some(lock), Some(checkpoint)),
    };
    let saved = checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.path == run.last());
    let saved = together::stand(&team, &mut state, &mut run, &mut facts, saved)?;
    greet(&config, &size, &place, count, &run);
    together::greet(&team);
    connect::gpus(&team, engine.as_mut())?;
    let trainer = Trainer {
        config: &config,
        facts,
        images,
        engine,
        joint,
        run,
        state,
        saved,
        interrupt: Interrupt::listen(),
        profile: args.profile,
    };
    train(trainer, checkpoint, begin)
}

impl Args {
    /// What must be the same in all processes of a run, in words: all but the data set's place and
    /// the files that rank 0 alone looks at, whose content counts.
    fn alike(&self) -> String {
        let mut words = vec![format!("--device {}", self.device)];
        words.extend(self.set.iter().map(|set| format!("--set {}", set.trim())));
        words.extend(self.init.iter().map(|init| format!("--init {}", init.display())));
        for (given, word) in [(self.resume, "--resume"), (self.profile, "--profile")] {
            words.extend(given.then(|| word.to_string()));
        }
        words.join(" ")
    }
}

/// The command at hand, to be typed with something else in it; without its folder.
fn again(args: &Args) -> Typed {
    let mut typed = Typed::new(if args.resume { "train --resume" } else { "train" });
    if let Some(config) = &args.config {
        typed = typed.option("--config", config);
    }
    if args.device != Choice::Auto {
        typed = typed.word("--device").word(&args.device.to_string());
    }
    if let Some(data) = &args.data {
        typed = typed.option("--data", data);
    }
    if let Some(init) = &args.init {
        typed = typed.option("--init", init);
    }
    for set in &args.set {
        let (key, value) = set.split_once('=').unwrap_or((set, ""));
        typed = typed.set(key.trim(), value.trim());
    }
    typed
}

/// The config with what the command line changes in it, and the file that it comes from.
fn read_config(args: &Args, old: Option<&Old>) -> Result<(Config, String)> {
    let (mut config, source) = match (&args.config, old) {
        (file, Some(old)) => resume::config(old, file.as_deref(), &args.set)?,
        (Some(file), None) => (Config::read(file, &args.set)?, file.display().to_string()),
        (None, None) => return Err(config_error!("--config FILE is missing")),
    };
    if let Some(data) = &args.data {
        config.data.path = Some(data.clone());
    }
    if config.layers.last().is_some_and(|layer| layer.kind.name == squared_error::KIND.name) {
        return Err(config_error!(
            "{source}: a network that ends in a layer of kind \"squared-error\" is an auto-encoder, \
             which alexnet codes trains on features; end it in \"softmax\" to tell classes apart"
        ));
    }
    Ok((config, source))
}

/// The plan of the network for what the data set holds and this process's share of each batch. Err:
/// they do not suit each other.
fn fitted(config: &Config, facts: &DataFacts, place: &Placement, joint: &Joint) -> Result<Plan> {
    feed::augmentation(&config.data, facts)?;
    let classes = facts.classes.len();
    let classes = Classes::Known(classes);
    let plan = Plan::new(config, joint.at_once(), Mode::Training, &place.towers, classes)?;
    Ok(Plan { pieces: joint.held(), ..plan })
}

/// How large a network is.
struct Size {
    parameters: u64,
    /// Memory of all devices.
    bytes: u64,
}

/// The first words: what is trained, where, on what.
fn greet(config: &Config, size: &Size, place: &Placement, images: usize, run: &RunFolder) {
    note!(
        "{}: {} parameters, {} {}, {:.1} GiB; {images} training images; {}",
        config.name,
        size.parameters,
        if config.towers == 1 { "1 tower" } else { "2 towers" },
        place.words,
        size.bytes as f64 / (1u64 << 30) as f64,
        run.0.display()
    );
}

/// Trains from the start, with what it is to `begin` with, or from where `checkpoint` stands.
fn train(
    mut trainer: Trainer<'_>,
    checkpoint: Option<Checkpoint>,
    begin: Option<(Origin, Transfer)>,
) -> Result<()> {
    let (run, team) = (trainer.run.clone(), *trainer.joint.team());
    let is_new = checkpoint.is_none();
    match checkpoint {
        Some(checkpoint) => checkpoint.load(trainer.engine.as_mut(), true)?,
        // Other ranks get what rank 0 begins with.
        None if !team.leads() => {}
        None => trainer.initialise()?,
    }
    if let Some((origin, transfer)) = begin {
        origin.give(&transfer, trainer.engine.as_mut())?;
    }
    together::parameters(&team, trainer.engine.as_mut())?;
    if team.leads() {
        run.remove_leftovers();
    }
    let begun = Instant::now();
    match trainer.train()? {
        End::Interrupted { all_kept, signal } => Err(Error::new(Stopped {
            signal,
            sentence: format!(
                "interrupted; {} in {}, go on with: {}",
                if all_kept { "all is kept" } else { "what is kept is" },
                run.last().display(),
                run.resume()
            ),
        })),
        End::Finished if !team.leads() => Ok(()),
        End::Finished => tell(&run, is_new.then(|| begun.elapsed().as_secs_f64())),
    }
}

/// A network that cannot work is refused before any data is looked at.
fn check_network(config: &Config, joint: &Joint) -> Result<()> {
    let devices = vec![0; config.towers];
    Plan::new(config, 1, Mode::Training, &devices, Classes::Any)?;
    joint.halves(config, Classes::Any).map(|_| ())
}

/// The last words: where the result is and what to try with it.
fn tell(run: &RunFolder, seconds: Option<f64>) -> Result<()> {
    let checkpoint = open_sound(run, &run.best())?;
    let result = match checkpoint.state.best {
        Some((epoch, error)) => {
            format!("best top-1 error {:.2} % on validation, after epoch {epoch}", 100.0 * error)
        }
        None => "no validation".to_string(),
    };
    let best = &checkpoint.path;
    let time = seconds.map_or(String::new(), |s| format!(" in {}", duration(s)));
    print(&format!(
        "trained{time}: {result}\ncheckpoint: {}\ntry next:\n  {}\n  {}\n  {}",
        best.display(),
        Typed::new("eval").path(best).word("--ten-crop"),
        Typed::new("predict IMAGE").option("--checkpoint", best),
        Typed::new("inspect").path(best)
    ))
}
