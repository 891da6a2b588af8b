//! `alexnet bench`: how fast a network trains and evaluates on this machine, layer by layer, held
//! against what its multiply-add units can do.

use super::print;
use crate::config::Config;
use crate::data::augment::{Augmentation, Geometry};
use crate::data::form::CropBuffer;
use crate::engine::profile::Profile;
use crate::engine::{Choice, Engine, LayerTime, Rates};
use crate::errors::TooLarge;
use crate::layers::{Classes, Run, Shape};
use crate::network::{Mode, Plan};
use crate::note;
use crate::progress::{Progress, Rest, grouped};
use crate::random::{self, Stream};
use crate::train::initial;
use crate::vectors::peak;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Instant;

/// Measure how fast a network trains and evaluates, layer by layer.
///
/// The images are random numbers in memory: of the data pipeline only the way to a GPU is measured,
/// from pinned memory. Each figure is the median over the steps. GFLOP/s count the multiply-adds of
/// direct convolution, twice, whatever way they are done; the peak is measured from registers just
/// before and after. On the CPU, ReLU and pooling that go with response normalisation in one pass
/// are in its time, ReLU's way forward behind other convolutions is in theirs and its way back before
/// max-pooling in that one's, and the update of large fully connected layers is in their weights'
/// gradient's.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The network: a config's file, or the name of one that comes with the program.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Images of a batch; by default the config's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch: Option<u32>,
    /// Steps that are timed, after one that is not.
    #[arg(
        long,
        default_value_t = 5,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    steps: u32,
    /// cpu, auto, cuda:0 or cuda:0,1.
    #[arg(long, default_value = "auto")]
    device: Choice,
    /// Change a value of the config; repeat for more.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  alexnet bench --config ilsvrc2012
  alexnet bench --config configs/demo.toml --batch 32 --steps 20";

/// Measures, and prints what was measured.
pub fn run(args: Args) -> Result<()> {
    let config = Config::read(&args.config, &args.set)?;
    let batch = args.batch.map_or(config.train.batch, |b| b as usize);
    let place = args.device.resolve(config.towers)?;
    let plan = |mode| {
        Plan::new(&config, batch, mode, &place.towers, Classes::Any)
            .with_context(|| args.config.display().to_string())
    };
    let threads = rayon::current_num_threads();
    // What a GPU can do is not measured.
    let measure = || place.gpus.is_empty().then(|| peak::measure(threads));
    let before = measure();
    let engine = |mode| {
        place.engine(plan(mode)?).map_err(|mut error| {
            if let Some(TooLarge { option, .. }) = error.downcast_mut() {
                *option = "--batch ";
            }
            error
        })
    };
    let mut training = Bench::new(engine(Mode::Training)?, config.seed)?;
    let train = training.time(args.steps, true)?;
    let times = training.engine.times();
    drop(training);
    let mut evaluation = Bench::new(engine(Mode::Evaluation)?, config.seed)?;
    let eval = evaluation.time(args.steps, false)?;
    let peak = before.zip(measure()).map(|(before, after)| before.max(after));
    let report =
        Report { plan: evaluation.engine.plan(), times, steps: args.steps, train, eval, peak };
    if args.json && report.plan.assumes_classes {
        note!("{} classes assumed: the data set says how many", report.plan.classes);
    }
    print(&if args.json { report.json()? } else { report.table(&config.name, &place.words) })
}

/// Initialises the network, and gives it a batch of random grey levels with random labels.
pub fn random_batch(engine: &mut dyn Engine, seed: u64) -> Result<(CropBuffer, Vec<u32>)> {
    initial::initialise(engine)?;
    // Grey levels, centred on the device or before, as images are.
    let Shape { height, width, channels } = engine.plan().input;
    let geometry = Geometry { height, width, channels, crop: height };
    let mean = vec![127.5; geometry.crop_len()];
    let form = engine.form(&mean)?;
    let a = Augmentation {
        geometry,
        flip: false,
        noise: None,
        random_crops: true,
        shared_crops: 1,
        scale: [1.0; 4],
        mean,
    };
    a.check()?;
    let (batch, classes) = (engine.plan().batch, engine.plan().classes);
    let mut stream = Stream::new(seed, random::Purpose::Test, 0, 0);
    let mut images = CropBuffer::new(&form, &geometry, batch)?;
    images.resize(batch);
    let mut image = vec![0; geometry.image_len()];
    for crop in 0..batch {
        image.fill_with(|| (stream.word() >> 24) as u8);
        images.view_mut().write(crop, &image, &a.centre(), &a);
    }
    let labels = (0..batch).map(|_| stream.below(classes as u32)).collect();
    Ok((images, labels))
}

/// Rates that work as much as real ones but leave the numbers where they are.
pub fn idle_rates(plan: &Plan) -> Vec<Option<Rates>> {
    let (weight, bias) = (1e-12, 1e-12);
    let rates = Rates { weight, weight_decay: 1e-12, bias, bias_decay: 1e-12, trust: None };
    plan.layers.iter().map(|layer| layer.weights.as_ref().map(|_| rates)).collect()
}

struct Bench {
    engine: Box<dyn Engine>,
    images: CropBuffer,
    labels: Vec<u32>,
}

impl Bench {
    fn new(mut engine: Box<dyn Engine>, seed: u64) -> Result<Bench> {
        let (images, labels) = random_batch(engine.as_mut(), seed)?;
        Ok(Bench { engine, images, labels })
    }

    /// Median seconds of a step. A GPU is held up where times are taken, and lays work one after
    /// the other that runs side by side else; so its steps are timed first and then done again.
    fn time(&mut self, steps: u32, training: bool) -> Result<f64> {
        if self.engine.ahead() == 0 {
            return self.steps(steps, training, true);
        }
        let seconds = self.steps(steps, training, false)?;
        // The report has layers' times of training alone.
        if training {
            self.steps(steps, training, true)?;
        }
        Ok(seconds)
    }

    /// Median seconds of so many steps after one more; `profile`: with their layers' times.
    fn steps(&mut self, steps: u32, training: bool, profile: bool) -> Result<f64> {
        let mut seconds = Vec::new();
        let what = match (training, profile) {
            (true, true) => "training, layer by layer",
            (true, false) => "training",
            _ => "evaluation",
        };
        let progress = Progress::of(what, u64::from(steps) + 1, "steps", Rest::default());
        for step in 0..=steps {
            if step == 1 && profile {
                self.engine.profile();
            }
            let begun = Instant::now();
            let run =
                Run { batch: self.labels.len(), training, seed: 1, step: step + 1, first_image: 0 };
            if training {
                let rates = idle_rates(self.engine.plan());
                self.engine.step(&run, self.images.view(), &self.labels, 0.9, &rates)?;
            } else {
                self.engine.forward(&run, self.images.view())?;
                // As evaluation does: of the batch before, where it can still be at work.
                let ago = self.engine.ahead().min(step as usize);
                self.engine.left_by(ago, self.engine.plan().probabilities())?;
            }
            if step > 0 {
                seconds.push(begun.elapsed().as_secs_f64());
            }
            progress.advance(1);
        }
        seconds.sort_by(f64::total_cmp);
        Ok(seconds[seconds.len() / 2])
    }
}

struct Report<'a> {
    plan: &'a Plan,
    times: Vec<LayerTime>,
    steps: u32,
    /// Seconds a step.
    train: f64,
    eval: f64,
    /// Operations a second of the processor.
    peak: Option<f64>,
}

impl Report<'_> {
    /// Operations of one training step: forward, to the weights, and to the input where there is
    /// one.
    fn operations(&self) -> f64 {
        let mut all = 0;
        for (index, layer) in self.plan.layers.iter().enumerate() {
            all += layer.multiply_adds() * if index == 0 { 2 } else { 3 };
        }
        (2 * all) as f64 * self.plan.batch as f64
    }

    fn json(&self) -> Result<String> {
        let batch = self.plan.batch as f64;
        let layers: Vec<Value> = self
            .plan
            .layers
            .iter()
            .zip(&self.times)
            .map(|(layer, times)| {
                let [forward, input, weights, copies, update] = self.milliseconds(times);
                json!({
                    "name": layer.name, "kind": layer.kind.name,
                    "forward_ms": forward, "backward_input_ms": input,
                    "backward_weights_ms": weights, "copies_ms": copies, "update_ms": update,
                })
            })
            .collect();
        Ok(serde_json::to_string_pretty(&json!({
            "train_images_per_second": batch / self.train,
            "eval_images_per_second": batch / self.eval,
            "gflops": self.operations() / self.train / 1e9,
            "peak_gflops": self.peak.map(|peak| peak / 1e9),
            "batch": self.plan.batch,
            "layers": layers,
        }))?)
    }

    fn milliseconds(&self, t: &LayerTime) -> [f64; 5] {
        [t.forward, t.backward_input, t.backward_weights, t.copies, t.update]
            .map(|s| 1e3 * s / f64::from(self.steps))
    }

    fn table(&self, name: &str, device: &str) -> String {
        let (batch, steps) = (self.plan.batch, u64::from(self.steps));
        let images = steps * batch as u64;
        let profile = Profile { plan: self.plan, times: &self.times, steps, images };
        let gflops = self.operations() / self.train / 1e9;
        let of_peak = self.peak.map_or(String::new(), |peak| {
            let percent = 100.0 * gflops * 1e9 / peak;
            let counted = match self.plan.layers.iter().any(|l| l.kind.name == "conv") {
                true => {
                    "\n  (convolutions count as done directly; Winograd's way needs fewer \
                     operations,\n  so that more than 100 % is possible)"
                }
                false => "",
            };
            format!(", {percent:.0} % of the measured peak of {:.1}{counted}", peak / 1e9)
        });
        let classes = if self.plan.assumes_classes {
            format!(" {} classes assumed,", grouped(self.plan.classes as u64))
        } else {
            String::new()
        };
        format!(
            "{name},{classes} batch {batch}, milliseconds a step\n{device}\n\n{}\ntraining    \
             {:8.1} images/s  {gflops:7.1} GFLOP/s{of_peak}\nevaluation  {:8.1} images/s",
            profile.table(),
            batch as f64 / self.train,
            batch as f64 / self.eval
        )
    }
}
