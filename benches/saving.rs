//! What saving costs training: the time of a step of a whole network, with a checkpoint every so
//! many steps and without. The images are random numbers in memory, so no data is waited for.
//! Rounds of steps with and without saving take turns, and each round is as long as the steps
//! between two checkpoints: a copy of the parameters is taken before the round's first step and
//! written beside the others. Figures are means of the rounds' steps, medians over the rounds. What
//! a write still has to do when its round ends counts as saving's, and is told. The processor's time
//! (of all threads, where Linux tells it) says the same where other programs run beside.
//!
//! `cargo bench --bench saving [-- --config FILE] [--rounds N] [--every STEPS] [--folder DIR]`. The
//! checkpoints go to a temporary folder in DIR (the current one), whose disk is measured too.

mod common;

use alexnet::commands::bench::random_batch;
use alexnet::config::Config;
use alexnet::data::dataset::Class;
use alexnet::data::form::CropBuffer;
use alexnet::data::preparation::{Orientation, Preparation};
use alexnet::data::statistics::Statistics;
use alexnet::engine::{Choice, Engine};
use alexnet::layers::{Classes, Run};
use alexnet::network::{Mode, Plan};
use alexnet::train::checkpoint::{DataFacts, Snapshot, TrainingState};
use alexnet::train::rates::rates;
use alexnet::train::runs::RunFolder;
use alexnet::train::saving::Saver;
use anyhow::{Context, Result, bail};
use common::{SIDE, cpu};
use std::path::PathBuf;
use std::time::Instant;

/// What is asked for on the command line.
struct Wanted {
    config: PathBuf,
    rounds: usize,
    every: u32,
    folder: PathBuf,
}

fn wanted() -> Result<Wanted> {
    let mut wanted = Wanted {
        config: "configs/ilsvrc2010.toml".into(),
        rounds: 5,
        every: 10,
        folder: ".".into(),
    };
    // Cargo adds --bench.
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    while let Some(arg) = args.next() {
        let value = args.next().with_context(|| format!("{arg} needs a value"))?;
        match arg.as_str() {
            "--config" => wanted.config = value.into(),
            "--rounds" => wanted.rounds = value.parse().context("--rounds is a number")?,
            "--every" => wanted.every = value.parse().context("--every is a number of steps")?,
            "--folder" => wanted.folder = value.into(),
            _ => bail!("unknown argument {arg}; there are --config, --rounds, --every, --folder"),
        }
    }
    Ok(wanted)
}

/// A network in training, and what goes into its checkpoints.
struct Training {
    config: Config,
    facts: DataFacts,
    state: TrainingState,
    engine: Box<dyn Engine>,
    images: CropBuffer,
    labels: Vec<u32>,
}

impl Training {
    fn new(config: Config) -> Result<Training> {
        let place = Choice::Auto.resolve(config.towers)?;
        let plan =
            Plan::new(&config, config.train.batch, Mode::Training, &place.towers, Classes::Any)?;
        let (batch, classes) = (plan.batch, plan.classes);
        let channels = plan.input.channels;
        let mut engine = place.engine(plan)?;
        let (images, labels) = random_batch(engine.as_mut(), config.seed)?;
        let class = |n: usize| Class { id: format!("{n}"), name: format!("{n}"), number: None };
        let facts = DataFacts {
            classes: (0..classes).map(class).collect(),
            preparation: Preparation::photographs(SIDE, Orientation::Apply),
            channels,
            statistics: Statistics {
                mean: vec![127.5; SIDE * SIDE * channels],
                components: vec![0.0; channels * channels],
                deviations: vec![0.0; channels],
            },
            identity: None,
        };
        println!("{}; {}, batch {batch}\n", cpu(), place.words);
        let state = TrainingState::new(&config);
        Ok(Training { config, facts, state, engine, images, labels })
    }

    /// As many steps.
    fn steps(&mut self, steps: u32) -> Result<()> {
        for _ in 0..steps {
            self.state.step += 1;
            let run = Run {
                batch: self.labels.len(),
                training: true,
                seed: self.config.seed,
                step: self.state.step as u32,
                first_image: 0,
            };
            // Random labels are nothing to learn; a small rate keeps the numbers where they are.
            let mut schedule = self.state.schedule.clone();
            (schedule.rate, schedule.bias_rate) = (1e-12, 1e-12);
            let rates = rates(self.engine.plan(), &schedule, &self.config.train);
            self.engine.step(&run, self.images.view(), &self.labels, 0.9, &rates)?;
        }
        Ok(())
    }

    /// As the trainer copies it.
    fn snapshot(&self, old: Option<Snapshot>) -> Result<Snapshot> {
        let engine = self.engine.as_ref();
        let snapshot = Snapshot::take(&self.config, &self.facts, &self.state, engine, old)?;
        match snapshot.not_finite() {
            None => Ok(snapshot),
            Some(tensor) => bail!("{tensor} is not finite"),
        }
    }
}

/// Seconds by the clock and of all cores since some moment.
#[derive(Clone, Copy)]
struct Time {
    clock: f64,
    cores: f64,
}

impl Time {
    fn now(begun: Instant) -> Time {
        // User and system time, in hundredths of a second, behind the name in brackets.
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or("").split_whitespace();
        let ticks: f64 =
            fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
        Time { clock: begun.elapsed().as_secs_f64(), cores: ticks / 100.0 }
    }
}

/// The median of each.
fn medians(times: &[Time]) -> Time {
    let median = |of: fn(&Time) -> f64| {
        let mut values: Vec<f64> = times.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Time { clock: median(|time| time.clock), cores: median(|time| time.cores) }
}

/// What `work` takes.
fn timed(work: impl FnOnce() -> Result<()>) -> Result<Time> {
    let begun = Instant::now();
    let before = Time::now(begun);
    work()?;
    let after = Time::now(begun);
    Ok(Time { clock: after.clock - before.clock, cores: after.cores - before.cores })
}

fn main() -> Result<()> {
    let Wanted { config, rounds, every, folder } = wanted()?;
    let folder = tempfile::tempdir_in(folder)?;
    let run = RunFolder(folder.path().to_path_buf());
    let mut training = Training::new(Config::read(&config, &[])?)?;
    let mut saver = Saver::new(&run, 0, training.config.to_toml());
    training.steps(1)?;
    let (mut without, mut with, mut copies, mut rests) = (vec![], vec![], vec![], vec![]);
    for _ in 0..rounds {
        without.push(timed(|| training.steps(every))?);
        with.push(timed(|| {
            copies.push(timed(|| {
                let old = saver.spare();
                saver.begin(training.snapshot(old)?, vec![run.last()]);
                Ok(())
            })?);
            training.steps(every)?;
            rests.push(timed(|| {
                saver.wait();
                Ok(())
            })?);
            Ok(())
        })?);
    }
    saver.finish(training.state.step)?;
    let (without, with) = (medians(&without), medians(&with));
    println!("| a step | without saving, ms | with, every {every} steps, ms | more |");
    println!("| --- | ---: | ---: | ---: |");
    let row = |name: &str, without: f64, with: f64| {
        let (ms, more) = (1e3 / f64::from(every), 100.0 * (with / without - 1.0));
        println!("| {name} | {:.1} | {:.1} | {more:.1} % |", ms * without, ms * with);
    };
    row("by the clock", without.clock, with.clock);
    row("of all cores", without.cores, with.cores);
    println!(
        "\n{:.0} MB a checkpoint; copying {:.0} ms, left to write when the steps were done {:.0} \
         ms; {rounds} rounds",
        std::fs::metadata(run.last())?.len() as f64 / 1e6,
        1e3 * medians(&copies).clock,
        1e3 * medians(&rests).clock
    );
    Ok(())
}
