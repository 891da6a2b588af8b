//! What training says to a person: a line an epoch, the schedule's verdict, the layers' times, and
//! what is wrong and what to do about it when the loss diverges or stays where it is.

use super::clock::Clock;
use super::runs::RunFolder;
use crate::engine::Engine;
use crate::engine::profile::Profile;
use crate::layers::softmax::Tally;
use crate::note;
use crate::progress::{Progress, duration};
use crate::schedules::Verdict;

/// Steps after which a loss that has not left ln(classes) is spoken of, and over how many it is
/// averaged.
const STUCK_AFTER: u64 = 400;
const STUCK_OVER: u64 = 100;

/// The end of an epoch that took `seconds`, of which `wait` for data.
pub fn epoch(epoch: u32, tally: Tally, validation: Option<Tally>, seconds: f64, wait: f64) {
    let mut line = format!(
        "epoch {epoch:>3}: loss {:.4}, top-1 error {:.2} %",
        tally.mean_loss(),
        100.0 * tally.top1_error()
    );
    if let Some(validation) = validation {
        line += &format!(
            "; validation loss {:.4}, top-1 {:.2} %, top-5 {:.2} %",
            validation.mean_loss(),
            100.0 * validation.top1_error(),
            100.0 * validation.top5_error()
        );
    }
    let share = 100.0 * wait / seconds.max(1e-9);
    note!("{line}; {}, {share:.1} % of it waiting for data", duration(seconds));
}

/// What the schedule made of the epoch; `rate` is the learning rate from now on.
pub fn verdict(verdict: Verdict, rate: f64) {
    match verdict {
        Verdict::Dropped => {
            note!("validation error has stopped improving; learning rate now {rate}")
        }
        Verdict::Finished => note!("validation error has stopped improving after the last drop"),
        Verdict::GoOn => {}
    }
}

/// The layers' times in the steps since the clock began.
pub fn profile(engine: &dyn Engine, clock: &Clock) {
    let times = engine.times();
    let profile =
        Profile { plan: engine.plan(), times: &times, steps: clock.steps, images: clock.images };
    let bytes = profile.bytes_between_devices();
    note!(
        "milliseconds a step over {} steps:\n{}  between GPUs: {bytes} bytes a step",
        profile.steps,
        profile.table()
    );
}

/// An error that leaves the network alone has ended training; the error itself is said next.
pub fn kept(run: &RunFolder, step: u64) {
    note!(
        "all up to step {step} is kept in {}; once the error below is mended go on with: alexnet \
         train --resume --run {}",
        run.last().display(),
        run.0.display()
    );
}

/// What has happened and what to do about it.
pub fn diverged(run: &RunFolder, rate: f64) -> String {
    // Two digits of a tenth, without the tail of binary fractions.
    let smaller: f64 = format!("{:.1e}", rate / 10.0).parse().unwrap_or(rate / 10.0);
    let way_out = if run.last().exists() {
        let command = run.resume().set("schedule.rate", format!("{smaller:?}"));
        format!("go on from the last checkpoint with a smaller one: {command}")
    } else {
        format!("start anew with a smaller one: --set schedule.rate={smaller:?}")
    };
    format!("training has diverged with the learning rate {rate:?}; {way_out}")
}

/// Watches for a loss that does not leave ln(classes), which the paper's initialisation is prone
/// to.
#[derive(Default)]
pub struct Recent {
    sum: Tally,
}

impl Recent {
    /// `tally` is that of step `step`, from 1.
    pub fn add(&mut self, tally: &Tally, step: u64, classes: usize, progress: &Progress) {
        if step > STUCK_AFTER - STUCK_OVER && step <= STUCK_AFTER {
            self.sum.add(*tally);
        }
        let chance = (classes as f64).ln();
        if step == STUCK_AFTER && self.sum.images > 0 && self.sum.mean_loss() > 0.99 * chance {
            progress.say(&format!(
                "the loss has not left ln({classes}) = {chance:.2} in {STUCK_AFTER} steps. Likely \
                causes: weight_sigma = 0.01 in every layer together with biases of 1 \
                (configs/ilsvrc2012.toml starts with 0.03 in the middle layers and does not get \
                stuck), a learning rate too low, or labels that do not belong to the images. It \
                may yet leave."
            ));
        }
    }
}
