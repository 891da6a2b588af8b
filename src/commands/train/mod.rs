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
use crate::log;
use crate::mpi::Team;
use crate::network::{Halves, Mode, Plan};
use crate::note;
use crate::progress::{count, duration, grouped, memory};
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
use std::path::{Path, PathBuf};
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
    /// What to train (network, data, schedule): a file, or the name of a config that comes with the
    /// program.
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
    #[command(flatten)]
    short: Short,
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
    /// Go on with the run of --run, or with the newest of --config, or with the newest. What --set says counts first, then
    /// --config, then the folder's config.toml, then the checkpoint.
    #[arg(long)]
    resume: bool,
    /// Train as one of several processes though no launcher is known: MPI says how many there are.
    #[arg(long)]
    pub mpi: bool,
    /// Add all that is said, with the time of each line, to this file too.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// After each epoch print the time of each layer and direction, on GPUs from their own clocks.
    #[arg(long)]
    profile: bool,
}

/// Keys that are set most, by their own names.
#[derive(clap::Args, Debug)]
struct Short {
    /// How many epochs; short for --set train.epochs=N.
    #[arg(long, value_name = "N")]
    epochs: Option<String>,
    /// Images of a step; short for --set train.batch=N.
    #[arg(long, value_name = "N")]
    batch: Option<String>,
    /// Learning rate at the start, or with --resume from now on; short for --set schedule.rate=RATE.
    #[arg(long, value_name = "RATE")]
    rate: Option<String>,
    /// What everything random follows from; short for --set seed=N.
    #[arg(long, value_name = "N")]
    seed: Option<String>,
    /// The run's name; short for --set name=NAME.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl Short {
    /// As `--set` takes them.
    fn sets(&self) -> impl Iterator<Item = String> {
        let all = [
            ("train.epochs", &self.epochs),
            ("train.batch", &self.batch),
            ("schedule.rate", &self.rate),
            ("seed", &self.seed),
        ];
        let plain = all.map(|(key, value)| value.as_ref().map(|value| format!("{key}={value}")));
        let is_toml = |name: &str| format!("value = {name}").parse::<toml::Table>().is_ok();
        // A name of digits is one, too.
        let name = self.name.as_ref().map(|name| match is_toml(name) {
            true => format!("name={name:?}"),
            false => format!("name={name}"),
        });
        plain.into_iter().chain([name]).flatten()
    }
}

const EXAMPLES: &str = "Examples:
  alexnet train --config configs/demo.toml
  alexnet train --config configs/demo.toml --epochs 3 --name short
  alexnet train --resume --set schedule.rate=0.001
  mpirun -n 4 alexnet train --config configs/demo.toml --set train.parts=4
  mpirun -n 4 alexnet train --config configs/demo.toml --set train.distribute=hybrid";

/// Reads, checks, opens, and trains; every way that is wrong is found before the first step.
pub fn run(mut args: Args, team: Team) -> Result<()> {
    if !args.freeze.is_empty() {
        args.set.push(format!("train.freeze={:?}", args.freeze));
    }
    args.set.extend(args.short.sets());
    let leads = team.leads();
    if let Some(file) = args.log.as_ref().filter(|_| leads) {
        log::keep_in(file).map_err(|error| {
            config_error!("--log {}: the file cannot be written: {error}", file.display())
        })?;
    }
    let goes_on = args.resume && leads;
    let old = goes_on.then(|| resume::open(args.run.as_deref(), args.config.as_deref(), &args.set));
    let old = old.transpose()?;
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
    let samples = samples(&config);
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
    let trained = images.train.len();
    let gone_on = old.as_ref().map(|old| {
        let again = again(&args).option("--run", &old.run.0);
        resume::state(old, &config, &facts, trained as u64, &again, &args.set)
    });
    let mut state = gone_on.transpose()?.unwrap_or_else(|| TrainingState::new(&config));
    let bytes = halves.as_ref().map_or_else(|| plan.memory_bytes(), Halves::memory_bytes);
    let greeting = Greeting {
        parameters: plan.parameters(),
        bytes: bytes.iter().sum(),
        images: [Some(trained), images.validation.as_ref().map(|images| images.len())],
        classes: facts.classes.len(),
    };
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
    greet(&config, &greeting, &place, &run);
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
    train(trainer, checkpoint, begin, samples.as_deref())
}

/// The folder of pictures to try the network on that lies beside the files its data set is made of,
/// if there is one.
fn samples(config: &Config) -> Option<PathBuf> {
    let source = &config.data.prepare.as_ref()?.source;
    Some(source.join("pictures")).filter(|folder| folder.is_dir())
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

/// What the first words are about, besides the config.
struct Greeting {
    parameters: u64,
    /// Memory of all devices.
    bytes: u64,
    /// To train and to validate on.
    images: [Option<usize>; 2],
    classes: usize,
}

/// The first words: what is trained, on what, where.
fn greet(config: &Config, greeting: &Greeting, place: &Placement, run: &RunFolder) {
    let [training, validation] = greeting.images.map(|n| n.map(|n| grouped(n as u64)));
    note!(
        "{}: {} parameters in {}, {} of memory",
        config.name,
        grouped(greeting.parameters),
        count(config.towers as u64, "tower", "towers"),
        memory(greeting.bytes)
    );
    note!(
        "  {} training images, {} for validation, {} classes",
        training.unwrap_or_default(),
        validation.unwrap_or("none".into()),
        grouped(greeting.classes as u64)
    );
    note!("  into {}, {}", run.0.display(), place.words);
}

/// Trains from the start, with what it is to `begin` with, or from where `checkpoint` stands.
fn train(
    mut trainer: Trainer<'_>,
    checkpoint: Option<Checkpoint>,
    begin: Option<(Origin, Transfer)>,
    samples: Option<&Path>,
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
        End::Finished => tell(&run, is_new.then(|| begun.elapsed().as_secs_f64()), samples),
    }
}

/// A network that cannot work is refused before any data is looked at.
fn check_network(config: &Config, joint: &Joint) -> Result<()> {
    let devices = vec![0; config.towers];
    Plan::new(config, 1, Mode::Training, &devices, Classes::Any)?;
    joint.halves(config, Classes::Any).map(|_| ())
}

/// The last words: where the result is and what to try with it.
fn tell(run: &RunFolder, seconds: Option<f64>, samples: Option<&Path>) -> Result<()> {
    let checkpoint = open_sound(run, &run.best())?;
    let result = match checkpoint.state.best {
        Some((epoch, error)) => {
            format!("best top-1 error {:.2} % on validation, after epoch {epoch}", 100.0 * error)
        }
        None => "no validation".to_string(),
    };
    // The folder stands for its best checkpoint.
    let best = if checkpoint.path == run.best() { &run.0 } else { &checkpoint.path };
    let predict = match samples {
        Some(folder) => Typed::new("predict").path(folder),
        None => Typed::new("predict IMAGE"),
    };
    let time = seconds.map_or(String::new(), |s| format!(" in {}", duration(s)));
    let text = format!(
        "trained{time}: {result}\ncheckpoint: {}\ntry next:\n  {}\n  {}\n  {}",
        checkpoint.path.display(),
        Typed::new("eval").path(best).word("--ten-crop"),
        predict.option("--checkpoint", best),
        Typed::new("inspect").path(best)
    );
    log::keep(&text);
    print(&text)
}
