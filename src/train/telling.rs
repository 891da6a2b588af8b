//! What training says to a person: a line an epoch, the schedule's verdict, the layers' times, and
//! what is wrong and what to do about it when the loss diverges or stays where it is.

use super::checkpoint::TrainingState;
use super::clock::Clock;
use super::runs::RunFolder;
use crate::config::Config;
use crate::detail;
use crate::engine::Engine;
use crate::engine::profile::Profile;
use crate::layers::softmax::{ALWAYS_AMONG, Tally};
use crate::log;
use crate::note;
use crate::progress::{Progress, duration, grouped};
use crate::quoting;
use crate::schedules::{Schedule, Verdict};
use anyhow::Result;
use console::style;
use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Steps after which a loss that has not left ln(classes) is spoken of, and over how many it is
/// averaged.
const STUCK_AFTER: u64 = 400;
const OVER: usize = 100;
/// Fewer steps say nothing about whether training has diverged.
const FEWEST: usize = 5;
/// A mean loss so many times that of chance is one of a run that has diverged.
const DIVERGED: f64 = 10.0;

/// An epoch that has ended.
pub struct Epoch {
    /// From 1, and how many there are to be.
    pub epoch: (u32, u32),
    /// Of its training images.
    pub tally: Tally,
    /// Of the validation images, and whether no epoch before had as low an error.
    pub validation: Option<(Tally, bool)>,
    /// Of its last step.
    pub rate: f64,
    /// What it took, validation apart, and how much of it was waiting for data.
    pub seconds: f64,
    /// See `seconds`.
    pub wait: f64,
    /// Trained on, validation apart.
    pub images_per_second: f64,
}

/// A share of all that waits for data has to have to be spoken of.
const WORTH_SAYING: f64 = 0.05;

/// The end of an epoch of a network with so many classes, in lines of at most 80 characters.
pub fn epoch(ended: &Epoch, classes: usize) {
    let &Epoch { epoch: (epoch, epochs), tally, rate, seconds, wait, .. } = ended;
    note!(
        "epoch {epoch}/{epochs}: loss {:.4}, {}; learning rate {}; {}",
        tally.mean_loss(),
        error(1, tally.top1_error()),
        short(rate),
        duration(seconds)
    );
    let share = wait / seconds.max(1e-9);
    if share >= WORTH_SAYING || log::is_verbose() {
        note!("  {:.1} % of this time it waited for data", 100.0 * share);
    }
    detail!("  {:.0} images/s", ended.images_per_second);
    if let Some((tally, is_best)) = ended.validation {
        let mut line =
            format!("  validation loss {:.4}, {}", tally.mean_loss(), error(1, tally.top1_error()));
        if classes > ALWAYS_AMONG {
            line += &format!(", {}", error(5, tally.top5_error()));
        }
        if is_best {
            line += &format!("; {}", style("a new best").for_stderr().green());
        }
        note!("{line}");
    }
}

fn error(top: u8, error: f64) -> String {
    format!("top-{top} error {:.2} %", 100.0 * error)
}

/// A learning rate in at most four digits.
fn short(rate: f64) -> f64 {
    format!("{rate:.3e}").parse().unwrap_or(rate)
}

/// What the schedule made of the epoch; `rate` is the learning rate from now on.
pub fn verdict(verdict: Verdict, rate: f64) {
    match verdict {
        Verdict::Dropped => {
            note!("  validation error has stopped improving; learning rate now {}", short(rate))
        }
        Verdict::Finished => note!("  validation error has stopped improving after the last drop"),
        Verdict::GoOn => {}
    }
}

/// The layers' times in the steps since the clock began, and how long other processes' gradients were
/// `waited` for, with the bytes that were sent to them.
pub fn profile(engine: &dyn Engine, clock: &Clock, others: Option<(Duration, u64)>) {
    let times = engine.times();
    let profile =
        Profile { plan: engine.plan(), times: &times, steps: clock.steps, images: clock.images };
    note!(
        "milliseconds a step over {} steps:\n{}",
        grouped(profile.steps),
        profile.table().trim_end()
    );
    if engine.gpus() > 1 {
        let bytes = grouped(profile.bytes_between_devices());
        note!("  between GPUs: {bytes} bytes a step");
    }
    if let Some((waited, sent)) = others {
        let (steps, waited) = (clock.steps.max(1), 1e3 * waited.as_secs_f64());
        let each = waited / steps as f64;
        note!("  waited for the other processes' gradients: {each:.1} ms a step");
        note!("  sent to the other processes: {} bytes a step", sent / steps);
    }
}

/// An error that leaves the network alone has ended training; the error itself is said next.
pub fn kept_before_error(run: &RunFolder, step: u64) {
    note!(
        "all up to step {step} is kept in {}; once the error below is mended go on with: {}",
        run.last().display(),
        run.resume()
    );
}

/// What is kept of `run`, whose last checkpoint is of `step`, and how to go on.
pub fn kept(run: &RunFolder, step: u64) -> String {
    format!("{} holds step {step}; go on with: {}", run.last().display(), run.resume())
}

/// The network after `epoch` seems to be no good.
pub fn not_saved(run: &RunFolder, epoch: u32) {
    note!(
        "training seems to diverge; the network after epoch {epoch} is not saved over {}, where \
         there is a better one",
        run.last().display()
    );
}

/// The network of a run that ends here seems to be no good; `held` is the step of its checkpoint.
pub fn left_as_it_is(run: &RunFolder, held: Option<u64>) {
    let step = held.map_or(String::new(), |step| format!(" of step {step}"));
    note!(
        "training seems to diverge; {}{step} is left as it is, since it is better",
        run.last().display()
    );
}

/// Training has diverged: what was seen, and what to do about it.
#[derive(Debug)]
pub struct Diverged(String);

impl fmt::Display for Diverged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Diverged {}

/// The error of a `run` of `schedule` that has diverged, standing at `state`: `seen`, and what to
/// do about it.
pub fn diverged(
    seen: &str,
    run: &RunFolder,
    schedule: &Schedule,
    state: &TrainingState,
) -> anyhow::Error {
    Diverged(format!("{seen}: {}", way_out(run, schedule, state))).into()
}

/// What has happened and what to do about it.
fn way_out(run: &RunFolder, schedule: &Schedule, state: &TrainingState) -> String {
    let rate = state.schedule.rate;
    // Two digits of a tenth, without the tail of binary fractions.
    let smaller: f64 = format!("{:.1e}", rate / 10.0).parse().unwrap_or(rate / 10.0);
    let (key, value) = schedule.slower(state.epoch, smaller);
    let way_out = if run.last().exists() {
        let command = run.resume().set(&key, value);
        format!("go on from the last checkpoint with a smaller one: {command}")
    } else {
        format!("start anew with a smaller one: {}", quoting::set(&key, &value))
    };
    format!("training has diverged with the learning rate {rate:?}; {way_out}")
}

/// Watches the loss for two ways of going wrong: it does not leave ln(classes), which the paper's
/// initialisation is prone to, or it is far above it, and training has diverged though all numbers
/// are finite.
pub struct Recent {
    classes: usize,
    /// Of the last steps, at most [`OVER`].
    steps: VecDeque<Tally>,
}

impl Recent {
    /// No steps yet of a network of so many classes.
    pub fn new(classes: usize) -> Recent {
        Recent { classes, steps: VecDeque::with_capacity(OVER) }
    }

    /// `tally` is that of step `step`, from 1.
    pub fn add(&mut self, tally: Tally, step: u64, progress: &Progress) {
        if self.steps.len() == OVER {
            self.steps.pop_front();
        }
        self.steps.push_back(tally);
        let (classes, chance) = (self.classes, self.chance());
        if step == STUCK_AFTER && self.steps.len() == OVER && self.last(OVER) > 0.99 * chance {
            progress.say(&format!(
                "the loss has not left ln({classes}) = {chance:.2} in {STUCK_AFTER} steps. Likely \
                causes: weight_sigma = 0.01 in every layer together with biases of 1 \
                (configs/ilsvrc2012.toml starts with 0.03 in the middle layers and does not get \
                stuck), a learning rate too low, or labels that do not belong to the images. It \
                may yet leave."
            ));
        }
    }

    /// Err: the mean loss of the last steps, enough of them, is that of a network that has
    /// diverged.
    pub fn check(&self, run: &RunFolder, config: &Config, state: &TrainingState) -> Result<()> {
        if self.steps.len() == OVER {
            self.judge(self.last(OVER), OVER, run, config, state)
        } else {
            Ok(())
        }
    }

    /// The same at the end of a run whose steps are fewer: of its last epoch alone, since a loss
    /// may begin high and fall.
    pub fn check_end(&self, run: &RunFolder, config: &Config, state: &TrainingState) -> Result<()> {
        let (ends, steps) = (state.epoch == config.train.epochs, state.batches as usize);
        let few = self.steps.len() < OVER && self.looks_diverged();
        if !(ends && few) {
            return Ok(());
        }
        self.judge(state.tally.mean_loss(), steps, run, config, state)
    }

    /// Whether the last steps, enough of them, look as if training were diverging: nothing to be
    /// saved over what was good, until they are better or more.
    pub fn looks_diverged(&self) -> bool {
        self.steps.len() >= FEWEST && self.last(FEWEST) > DIVERGED * self.chance()
    }

    /// `loss` is the mean over the last `steps`.
    fn judge(
        &self,
        loss: f64,
        steps: usize,
        run: &RunFolder,
        config: &Config,
        state: &TrainingState,
    ) -> Result<()> {
        let most = DIVERGED * self.chance();
        if loss <= most {
            return Ok(());
        }
        let seen = format!(
            "the mean loss over {steps} steps is {loss:.2} at step {}, above {DIVERGED}·ln({}) = \
             {most:.2}",
            state.step, self.classes
        );
        Err(diverged(&seen, run, &config.schedule, state))
    }

    fn chance(&self) -> f64 {
        (self.classes as f64).ln()
    }

    /// Mean loss of the last `steps`.
    fn last(&self, steps: usize) -> f64 {
        let mut sum = Tally::default();
        self.steps.iter().rev().take(steps).for_each(|tally| sum.add(*tally));
        sum.mean_loss()
    }
}
