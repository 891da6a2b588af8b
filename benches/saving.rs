//! What saving costs training: the time of a step of a whole network, with a checkpoint every so
//! many steps and without. The images are random numbers in memory, so no data is waited for.
//! Rounds of steps with and without saving take turns, and each round is as long as the steps
//! between two checkpoints: a copy of the parameters is taken before the round's first step and
//! written beside the others. Figures are means of the rounds' steps, medians over the rounds. What
//! a write still has to do when its round ends counts as saving's, and is told.
//!
//! `cargo bench --bench saving [-- --config FILE] [--rounds N] [--every STEPS] [--folder DIR]`. The
//! checkpoints go to a temporary folder in DIR (the current one), whose disk is measured too.

mod common;

use alexnet::config::Config;
use alexnet::data::augment::{Augmentation, Geometry};
use alexnet::data::dataset::Class;
use alexnet::data::form::CropBuffer;
use alexnet::data::preparation::{Orientation, Preparation};
use alexnet::data::statistics::Statistics;
use alexnet::engine::{Choice, Engine};
use alexnet::layers::{Classes, Run};
use alexnet::network::{Mode, Plan};
use alexnet::random::{Purpose, Stream};
use alexnet::train::checkpoint::{DataFacts, Snapshot, TrainingState};
use alexnet::train::initial;
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
        let (channels, crop) = (plan.input.channels, plan.input.height);
        let mut engine = place.engine(plan)?;
        initial::initialise(engine.as_mut())?;
        let geometry = Geometry { height: crop, width: crop, channels, crop };
        let mean = vec![127.5; geometry.crop_len()];
        let form = engine.form(&mean)?;
        let a = Augmentation { geometry, flip: false, noise: None, shared_crops: 1, mean };
        let mut stream = Stream::new(config.seed, Purpose::Test, 0, 0);
        let mut images = CropBuffer::new(&form, &geometry, batch)?;
        images.resize(batch);
        let mut image = vec![0; geometry.image_len()];
        for crop in 0..batch {
            image.fill_with(|| (stream.word() >> 24) as u8);
            images.view_mut().write(crop, &image, &a.centre(), &a);
        }
        let labels = (0..batch).map(|_| stream.below(classes as u32)).collect();
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

    /// Seconds of `steps` steps.
    fn steps(&mut self, steps: u32) -> Result<f64> {
        let begun = Instant::now();
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
            let rates = rates(self.engine.plan(), &schedule, self.config.train.weight_decay);
            self.engine.step(&run, self.images.view(), &self.labels, 0.9, &rates)?;
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    /// As the trainer copies it.
    fn snapshot(&self) -> Result<Snapshot> {
        let snapshot =
            Snapshot::take(&self.config, &self.facts, &self.state, self.engine.as_ref())?;
        match snapshot.not_finite() {
            None => Ok(snapshot),
            Some(tensor) => bail!("{tensor} is not finite"),
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
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
        without.push(training.steps(every)? / f64::from(every));
        let begun = Instant::now();
        let snapshot = training.snapshot()?;
        let copy = begun.elapsed().as_secs_f64();
        saver.begin(snapshot, vec![run.last()]);
        let seconds = training.steps(every)?;
        let begun = Instant::now();
        saver.wait();
        let rest = begun.elapsed().as_secs_f64();
        with.push((copy + seconds + rest) / f64::from(every));
        (copies.push(copy), rests.push(rest));
    }
    saver.finish(training.state.step)?;
    let bytes = std::fs::metadata(run.last())?.len();
    let (without, with) = (median(without), median(with));
    println!("| a step without saving, ms | with, every {every} steps, ms | more |");
    println!("| ---: | ---: | ---: |");
    let more = 100.0 * (with / without - 1.0);
    println!("| {:.1} | {:.1} | {more:.1} % |", 1e3 * without, 1e3 * with);
    println!(
        "\n{:.0} MB a checkpoint; copying {:.0} ms, left to write when the steps were done {:.0} \
         ms; {rounds} rounds",
        bytes as f64 / 1e6,
        1e3 * median(copies),
        1e3 * median(rests)
    );
    Ok(())
}
