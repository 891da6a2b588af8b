//! The training loop: batch in, gradients, update, numbers out; at the end of an epoch validation, the
//! schedule's verdict, checkpoints.

use super::checkpoint::{self, DataFacts, TrainingState};
use super::clock::Clock;
use super::evaluate::{evaluate, images_per_batch};
use super::feed::{self, Cropping};
use super::initial;
use super::interrupt::Interrupt;
use super::metrics::{Line, Metrics, Validation};
use super::runs::RunFolder;
use super::schedule::{self, Verdict};
use crate::config::{Config, ScheduleKind};
use crate::config_error;
use crate::data::loader::{Batch, Crops, Images};
use crate::engine::profile::Profile;
use crate::engine::{Engine, Rates, Slot};
use crate::layers::Run;
use crate::layers::softmax::Tally;
use crate::note;
use crate::progress::{Progress, duration};
use anyhow::{Result, bail, ensure};
use rayon::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a run trains on.
pub struct Splits {
    pub train: Arc<dyn Images>,
    /// None: nothing to validate on.
    pub validation: Option<Arc<dyn Images>>,
}

/// A run in progress.
pub struct Trainer<'a> {
    pub config: &'a Config,
    pub facts: DataFacts,
    pub images: Splits,
    pub engine: Box<dyn Engine>,
    pub run: RunFolder,
    pub state: TrainingState,
    pub interrupt: Interrupt,
    /// Print the layers' times after each epoch.
    pub profile: bool,
}

/// How a run came to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// All epochs, or the plateau after the last drop.
    Finished,
    /// The user wanted it; the checkpoint is written.
    Interrupted,
}

/// Steps after which a loss that has not left ln(classes) is spoken of, and over how many it is averaged.
const STUCK_AFTER: u64 = 400;
const STUCK_OVER: u64 = 100;

impl TrainingState {
    /// A new run.
    pub fn new(config: &Config) -> TrainingState {
        TrainingState {
            step: 0,
            epoch: 1,
            batches: 0,
            tally: Tally::default(),
            training_images: 0,
            schedule: schedule::State::new(&config.schedule),
            best: None,
            finished: false,
        }
    }
}

impl Trainer<'_> {
    /// Fills a new network's parameters.
    pub fn initialise(&mut self) -> Result<()> {
        initial::initialise(self.engine.as_mut())
    }

    /// Trains from where the state stands to the end.
    pub fn train(mut self) -> Result<End> {
        let config = self.config;
        let cropping = Cropping::new(&config.data, &self.facts, self.engine.as_mut())?;
        self.state.training_images = self.images.train.len() as u64;
        let mut metrics = Metrics::open(
            &self.run.metrics(),
            self.state.step,
            self.state.epoch.saturating_sub(1),
        )?;
        let mut batches = feed::training(
            &config.data,
            &config.schedule,
            self.images.train.clone(),
            &cropping,
            (config.train.batch, config.seed),
            self.state.epoch..config.train.epochs + 1,
            self.state.batches,
        )?;
        let (mut last_saved, mut clock) = (Instant::now(), Clock::start());
        let mut recent = Recent::default();
        // The run before was interrupted in the validation that ends an epoch.
        if self.state.tally.images == self.state.training_images {
            let ended = self.end_epoch(&cropping, &mut metrics, &mut clock)?;
            if self.interrupt.wanted() {
                return self.interrupted(!ended);
            }
            if self.state.finished {
                return Ok(End::Finished);
            }
        }
        let mut progress = self.new_epoch();
        self.begin_profile();
        while let Some(batch) = batches.next()? {
            if self.state.batches == 0 {
                self.state.schedule.begin_epoch(&config.schedule, batch.epoch);
            }
            let (tally, line) = self.step(&batch, batches.waited(), &mut clock)?;
            let mut unsaved = true;
            metrics.write(&line)?;
            let (epoch_loss, epoch_error) =
                (self.state.tally.mean_loss(), self.state.tally.top1_error());
            progress
                .message(format!("loss {epoch_loss:.3}  top-1 error {:.1} %", 100.0 * epoch_error));
            progress.advance(tally.images);
            recent.add(&tally, self.state.step, self.engine.plan().classes, &progress);
            let ends_epoch = batch.last;
            batches.recycle(batch);
            if ends_epoch {
                progress.finish();
                self.tell_profile(&clock);
                unsaved = !self.end_epoch(&cropping, &mut metrics, &mut clock)?;
                last_saved = Instant::now();
                if self.state.finished {
                    break;
                }
                if !self.interrupt.wanted() {
                    progress = self.new_epoch();
                    self.begin_profile();
                }
            } else if config.train.checkpoint_minutes > 0
                && last_saved.elapsed()
                    >= Duration::from_secs(60 * u64::from(config.train.checkpoint_minutes))
            {
                self.save(&self.run.last())?;
                last_saved = Instant::now();
            }
            if self.interrupt.wanted() {
                progress.finish();
                return self.interrupted(unsaved);
            }
        }
        Ok(End::Finished)
    }

    fn begin_profile(&mut self) {
        if self.profile {
            self.engine.profile();
        }
    }

    /// The layers' times in the steps since the clock began.
    fn tell_profile(&self, clock: &Clock) {
        if !self.profile {
            return;
        }
        let times = self.engine.times();
        let profile = Profile {
            plan: self.engine.plan(),
            times: &times,
            steps: clock.steps,
            images: clock.images,
        };
        let bytes = profile.bytes_between_devices();
        note!(
            "milliseconds a step over {} steps:\n{}  between GPUs: {bytes} bytes a step",
            profile.steps,
            profile.table()
        );
    }

    fn interrupted(&self, unsaved: bool) -> Result<End> {
        if unsaved {
            self.save(&self.run.last())?;
        }
        Ok(End::Interrupted)
    }

    fn new_epoch(&self) -> Progress {
        let what = format!("epoch {}/{}", self.state.epoch, self.config.train.epochs);
        let progress = Progress::new(&what, self.images.train.len() as u64);
        progress.skip(self.state.tally.images);
        progress
    }

    /// One batch through the network and the update rule.
    fn step(
        &mut self,
        batch: &Batch,
        waited: Duration,
        clock: &mut Clock,
    ) -> Result<(Tally, Line)> {
        let state = &mut self.state;
        let run = Run {
            batch: batch.labels.len(),
            training: true,
            seed: self.config.seed,
            step: (state.step + 1) as u32,
            first_image: 0,
        };
        let decay = self.config.train.weight_decay;
        let rates: Vec<Option<Rates>> = self
            .engine
            .plan()
            .layers
            .iter()
            .map(|l| l.weights.as_ref().map(|w| state.schedule.rates(&l.name, w, decay)))
            .collect();
        let momentum = self.config.train.momentum as f32;
        let (images, labels) = (batch.images.view(), &batch.labels);
        let tally = self.engine.step(&run, images, labels, momentum, &rates)?;
        ensure!(
            tally.loss.is_finite(),
            "the loss is no number any more at step {}: {}",
            state.step + 1,
            diverged(&self.run, state.schedule.rate)
        );
        state.step += 1;
        state.batches += 1;
        state.tally.add(tally);
        let (seconds, wait) = clock.lap(waited, tally.images);
        let line = Line {
            kind: "step",
            step: state.step,
            epoch: batch.epoch,
            learning_rate: state.schedule.rate,
            loss: tally.mean_loss(),
            top1_error: tally.top1_error(),
            top5_error: tally.top5_error(),
            images_per_second: tally.images as f64 / seconds,
            wait_seconds: wait,
            validation: None,
        };
        Ok((tally, line))
    }

    /// Validation, the epoch's line, the schedule's verdict, checkpoints. False: interrupted before
    /// validation was through; the state still stands at the end of the epoch's training.
    fn end_epoch(
        &mut self,
        cropping: &Cropping,
        metrics: &mut Metrics,
        clock: &mut Clock,
    ) -> Result<bool> {
        let (train_seconds, wait, images_per_second) = clock.epoch();
        let validation = match self.images.validation.clone() {
            Some(images) => match self.validate(images, cropping)? {
                None => return Ok(false),
                some => some,
            },
            None => None,
        };
        if let Some(validation) = validation.filter(|v| !v.loss.is_finite()) {
            bail!(
                "the validation loss is {} after step {}: {}",
                validation.mean_loss(),
                self.state.step,
                diverged(&self.run, self.state.schedule.rate)
            );
        }
        let state = &mut self.state;
        let (epoch, rate, tally) = (state.epoch, state.schedule.rate, state.tally);
        metrics.write(&Line {
            kind: "epoch",
            step: state.step,
            epoch,
            learning_rate: rate,
            loss: tally.mean_loss(),
            top1_error: tally.top1_error(),
            top5_error: tally.top5_error(),
            images_per_second,
            wait_seconds: wait,
            validation: validation.map(Validation::from),
        })?;
        let mut line = format!(
            "epoch {epoch:>3}: loss {:.4}, top-1 error {:.2} %",
            tally.mean_loss(),
            100.0 * tally.top1_error()
        );
        let mut verdict = Verdict::GoOn;
        let mut is_best = false;
        if let Some(validation) = validation {
            let error = validation.top1_error();
            line += &format!(
                "; validation loss {:.4}, top-1 {:.2} %, top-5 {:.2} %",
                validation.mean_loss(),
                100.0 * error,
                100.0 * validation.top5_error()
            );
            verdict = state.schedule.end_epoch(&self.config.schedule, error);
            is_best = state.best.is_none_or(|(_, best)| error < best);
            if is_best {
                state.best = Some((epoch, error));
            }
        }
        let share = 100.0 * wait / train_seconds.max(1e-9);
        line += &format!("; {}, {share:.1} % of it waiting for data", duration(train_seconds));
        note!("{line}");
        match verdict {
            Verdict::Dropped => {
                note!(
                    "validation error has stopped improving; learning rate now {}",
                    state.schedule.rate
                )
            }
            Verdict::Finished => {
                note!("validation error has stopped improving after the last drop")
            }
            Verdict::GoOn => {}
        }
        state.finished = verdict == Verdict::Finished || epoch == self.config.train.epochs;
        state.epoch += 1;
        state.batches = 0;
        state.tally = Tally::default();
        // `last` comes last: killed before, the run repeats the epoch and writes the others again.
        if is_best || validation.is_none() {
            self.save(&self.run.best())?;
        }
        let keep = self.config.train.keep;
        if keep > 0 && epoch.is_multiple_of(keep) {
            self.save(&self.run.epoch(epoch))?;
        }
        self.save(&self.run.last())?;
        clock.restart();
        Ok(true)
    }

    /// None: interrupted.
    fn validate(&mut self, images: Arc<dyn Images>, cropping: &Cropping) -> Result<Option<Tally>> {
        let crops = Crops::Centre;
        let batch = images_per_batch(self.engine.plan().batch, crops);
        let progress = Progress::new("validation", images.len() as u64);
        let loader = feed::evaluation(&self.config.data, images, cropping, crops, batch)?;
        evaluate(&mut [(self.engine.as_mut(), loader)], crops, &progress, &self.interrupt)
    }

    /// Writes a checkpoint, but none of a network that can do nothing any more.
    fn save(&self, path: &Path) -> Result<()> {
        for (index, tensor) in self.engine.plan().tensors().iter().enumerate() {
            let values = self.engine.read(Slot::Value, index)?.values;
            ensure!(
                values.par_iter().all(|v| v.is_finite()),
                "{} has values that are no numbers after step {}: {}",
                tensor.name,
                self.state.step,
                diverged(&self.run, self.state.schedule.rate)
            );
        }
        checkpoint::save(path, self.config, &self.facts, &self.state, self.engine.as_ref())
    }
}

/// What has happened and what to do about it.
fn diverged(run: &RunFolder, rate: f64) -> String {
    // Two digits of a tenth, without the tail of binary fractions.
    let smaller: f64 = format!("{:.1e}", rate / 10.0).parse().unwrap_or(rate / 10.0);
    let way_out = if run.last().exists() {
        let run = run.0.display();
        format!(
            "go on from the last checkpoint with a smaller one: alexnet train --resume --run {run} --set schedule.rate={smaller:?}"
        )
    } else {
        format!("start anew with a smaller one: --set schedule.rate={smaller:?}")
    };
    format!("training has diverged with the learning rate {rate:?}; {way_out}")
}

/// Refuses a run that could not do what its schedule says.
pub fn check_schedule(config: &Config, has_validation: bool) -> Result<()> {
    if config.schedule.kind == ScheduleKind::Plateau && !has_validation {
        return Err(config_error!(
            "schedule.kind = \"plateau\" watches the validation error, but the data set has no images to validate on; prepare it with --val-fraction 0.1 or choose \"steps\""
        ));
    }
    Ok(())
}

/// Watches for a loss that does not leave ln(classes), which the paper's initialisation is prone to.
#[derive(Default)]
struct Recent {
    sum: Tally,
}

impl Recent {
    fn add(&mut self, tally: &Tally, step: u64, classes: usize, progress: &Progress) {
        if step > STUCK_AFTER - STUCK_OVER && step <= STUCK_AFTER {
            self.sum.add(*tally);
        }
        let chance = (classes as f64).ln();
        if step == STUCK_AFTER && self.sum.images > 0 && self.sum.mean_loss() > 0.99 * chance {
            progress.say(&format!(
                "the loss has not left ln({classes}) = {chance:.2} in {STUCK_AFTER} steps. Likely causes: weight_sigma = 0.01 in every layer together with biases of 1 (configs/ilsvrc2012.toml starts with 0.03 in the middle layers and does not get stuck), a learning rate too low, or labels that do not belong to the images. It may yet leave."
            ));
        }
    }
}
