//! The training loop: batch in, gradients, update, numbers out; at the end of an epoch validation,
//! the schedule's verdict, checkpoints.

use super::checkpoint::{DataFacts, TrainingState};
use super::clock::Clock;
use super::drawing::Drawing;
use super::evaluate::{Turns, images_per_batch};
use super::events::Events;
use super::feed::{self, Cropping};
use super::finite::first_not_finite;
use super::initial;
use super::joint::Joint;
use super::metrics::{Line, Metrics, Validation};
use super::rates;
use super::runs::RunFolder;
use super::saving::Saver;
use super::session::{Files, Session};
use super::telling::{self, Diverged, Recent, diverged};
use crate::config::Config;
use crate::data::loader::{Batch, Crops, Images};
use crate::engine::Engine;
use crate::errors::sentence;
use crate::interrupt::Interrupt;
use crate::layers::Run;
use crate::layers::softmax::Tally;
use crate::note;
use crate::progress::{Progress, Rest};
use crate::schedules::Verdict;
use anyhow::Result;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a run trains on.
pub struct Splits {
    /// What it learns from.
    pub train: Arc<dyn Images>,
    /// None: nothing to validate on.
    pub validation: Option<Arc<dyn Images>>,
}

/// A run in progress.
pub struct Trainer<'a> {
    /// Network, data, schedule.
    pub config: &'a Config,
    /// Of the data set.
    pub facts: DataFacts,
    /// The data set's images.
    pub images: Splits,
    /// The network in a device's memory.
    pub engine: Box<dyn Engine>,
    /// How batches are shared with other ranks.
    pub joint: Joint,
    /// Where checkpoints and metrics go.
    pub run: RunFolder,
    /// Where training stands.
    pub state: TrainingState,
    /// Whether `last.safetensors` holds that already.
    pub saved: bool,
    /// Whether the user wants it to end.
    pub interrupt: Interrupt,
    /// Print the layers' times after each epoch.
    pub profile: bool,
}

/// How a run came to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// All epochs, or the plateau after the last drop.
    Finished,
    /// The user wanted it. `all_kept`: `last.safetensors` is of where training stood.
    Interrupted {
        /// Otherwise it is older, which has been said.
        all_kept: bool,
        /// How the user said so.
        signal: i32,
    },
}

impl TrainingState {
    /// A new run.
    pub fn new(config: &Config) -> TrainingState {
        TrainingState {
            step: 0,
            epoch: 1,
            batches: 0,
            tally: Tally::default(),
            training_images: 0,
            schedule: config.schedule.begin(),
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

    /// Trains from where the state stands to the end. However it ends, what is worth it is saved.
    pub fn train(mut self) -> Result<End> {
        self.state.training_images = self.images.train.len() as u64;
        let leads = self.joint.team().leads();
        if leads && self.run.last().exists() {
            self.interrupt.keeps(telling::kept(&self.run, self.state.step));
        }
        let mut session = self.open()?;
        if !self.saved {
            self.save_last(&mut session)?;
            if let Some(files) = &mut session.files {
                files.saver.first()?;
                files.tell(None, None);
            }
        }
        if self.state.step == 0 {
            session.picture(self.engine.as_ref(), 0)?;
        }
        let end = self.epochs(&mut session);
        if let Some(error) = end.as_ref().err().filter(|_| self.joint.is_hybrid()) {
            self.joint.fail(error);
        }
        let why = end.as_ref().err().and_then(|e| e.downcast_ref::<Diverged>());
        if let Some(why) = why.filter(|_| leads) {
            self.run.note_diverged(&why.to_string());
        }
        let worth = end.is_err() && session.sound && !self.is_spoilt(&session);
        let saved = if worth { self.save_last(&mut session) } else { Ok(()) };
        match (end, saved.and_then(|()| session.finish(self.state.step))) {
            (Ok(End::Interrupted { signal, .. }), Err(unsaved)) => {
                note!("{}", sentence(&unsaved));
                Ok(End::Interrupted { all_kept: false, signal })
            }
            (Ok(end), saved) => saved.map(|()| end),
            (Err(error), Ok(())) => {
                if worth && session.sound {
                    telling::kept_before_error(&self.run, self.state.step);
                }
                Err(error)
            }
            (Err(error), Err(unsaved)) => {
                note!("{}", sentence(&unsaved));
                Err(error)
            }
        }
    }

    /// The loop over steps and epochs.
    fn epochs(&mut self, session: &mut Session) -> Result<End> {
        let config = self.config;
        let mut batches = feed::training(
            &config.data,
            &config.schedule,
            self.images.train.clone(),
            &session.cropping,
            (config.train.batch, self.joint.share(), config.seed),
            self.state.epoch..config.train.epochs + 1,
            self.state.batches,
        )?;
        self.heed(session)?;
        if self.wanted() {
            return self.interrupted(false, session);
        }
        // The run before was interrupted in the validation that ends an epoch.
        if self.state.tally.images == self.state.training_images {
            let ended = self.end_epoch(session)?;
            if self.wanted() {
                return self.interrupted(!ended, session);
            }
            if self.state.finished {
                return Ok(End::Finished);
            }
        }
        let mut progress = self.begin_epoch(session);
        while let Some(batch) = batches.next()? {
            let mut unsaved = true;
            if self.joint.is_hybrid() {
                self.joint.announce(session.is_due(&config.train, self.state.step + 1));
            }
            self.train_on(&batch, batches.waited(), &progress, session)?;
            let due = match self.joint.is_hybrid() {
                true => self.joint.take_due(),
                false => session.is_due(&config.train, self.state.step),
            };
            let ends_epoch = batch.last;
            batches.recycle(batch);
            self.heed(session)?;
            if ends_epoch {
                progress.finish();
                self.check_loss(session, true)?;
                if self.profile {
                    let others = self.joint.waited();
                    telling::profile(self.engine.as_ref(), &session.clock, others);
                }
                unsaved = !self.end_epoch(session)?;
                if self.state.finished {
                    break;
                }
                if !self.wanted() {
                    progress = self.begin_epoch(session);
                }
            } else if due {
                self.save_last(session)?;
            }
            if self.wanted() {
                progress.finish();
                return self.interrupted(unsaved, session);
            }
        }
        Ok(End::Finished)
    }

    fn open(&mut self) -> Result<Session> {
        let (step, train) = (self.state.step, &self.config.train);
        let steps = self.state.training_images.div_ceil(train.batch as u64);
        let epochs = self.state.epoch.saturating_sub(1);
        let open = || {
            self.run.forget_diverged();
            anyhow::Ok(Files {
                metrics: Metrics::open(&self.run.metrics(), step, epochs)?,
                drawing: Drawing::new(&self.run),
                events: train.tensorboard.then(|| Events::new(&self.run.0, step, steps)),
                saver: Saver::new(&self.run, step, self.config.to_toml()),
                answered: None,
            })
        };
        let files = self.joint.team().leads().then(open).transpose()?;
        Ok(Session {
            cropping: Cropping::new(&self.config.data, &self.facts, self.engine.as_mut())?,
            clock: Clock::start(),
            recent: Recent::new(self.engine.plan().classes),
            sound: true,
            validation_seconds: 0.0,
            files,
        })
    }

    /// Whether the run is to end: for several ranks, whether all have agreed on it.
    pub(super) fn wanted(&self) -> bool {
        self.joint.signal(&self.interrupt).is_some()
    }

    fn interrupted(&self, unsaved: bool, session: &mut Session) -> Result<End> {
        let signal = self.joint.signal(&self.interrupt).unwrap_or_default();
        if self.is_spoilt(session) {
            let held = session.files.as_ref().and_then(|files| files.saver.held());
            telling::left_as_it_is(&self.run, held);
            return Ok(End::Interrupted { all_kept: false, signal });
        }
        if unsaved {
            self.save_last(session)?;
        }
        Ok(End::Interrupted { all_kept: true, signal })
    }

    fn begin_epoch(&mut self, session: &Session) -> Progress {
        if self.profile {
            self.engine.profile();
            self.joint.waited();
        }
        let what = format!("epoch {}/{}", self.state.epoch, self.config.train.epochs);
        let count = self.images.train.len() as u64;
        let more = u64::from(self.config.train.epochs.saturating_sub(self.state.epoch));
        let seconds = (more + 1) as f64 * session.validation_seconds;
        let progress = Progress::of(&what, count, "images", Rest { count: more * count, seconds });
        progress.skip(self.state.tally.images);
        progress
    }

    /// One batch: its step, its line, what is seen of it.
    fn train_on(
        &mut self,
        batch: &Batch,
        waited: Duration,
        progress: &Progress,
        session: &mut Session,
    ) -> Result<()> {
        if self.state.batches == 0 {
            self.config.schedule.begin_epoch(&mut self.state.schedule, batch.epoch);
        }
        let (tally, line) = self.step(batch, waited, session)?;
        session.log(&line, Some(progress))?;
        let (loss, error) = (self.state.tally.mean_loss(), self.state.tally.top1_error());
        progress.message(format!("loss {loss:.3}  error {:.1} %", 100.0 * error));
        progress.advance(tally.images);
        session.recent.add(tally, self.state.step, progress);
        self.check_loss(session, false)
    }

    /// Err: training has diverged, and its weights are not worth being saved. `end`: of an epoch.
    fn check_loss(&self, session: &mut Session, end: bool) -> Result<()> {
        let (run, state) = (&self.run, &self.state);
        let checked = match end {
            true => session.recent.check_end(run, self.config, state),
            false => session.recent.check(run, self.config, state),
        };
        session.sound &= checked.is_ok();
        checked
    }

    /// One batch through the network and the update rule.
    fn step(
        &mut self,
        batch: &Batch,
        waited: Duration,
        session: &mut Session,
    ) -> Result<(Tally, Line)> {
        let (state, sound) = (&mut self.state, &mut session.sound);
        let run = Run {
            batch: batch.labels.len(),
            training: true,
            seed: self.config.seed,
            step: (state.step + 1) as u32,
            first_image: 0,
        };
        let now = rates::now(self.config, state, state.batches);
        let rates = rates::rates(self.engine.plan(), &now, &self.config.train);
        let momentum = self.config.train.momentum as f32;
        let (engine, update) = (self.engine.as_mut(), (momentum, &rates[..]));
        let begins = || *sound = false;
        let tally = self.joint.step(engine, (&run, batch), update, &self.interrupt, begins)?;
        session.sound = tally.loss.is_finite();
        if !tally.loss.is_finite() {
            let step = state.step + 1;
            let place = first_not_finite(self.engine.as_ref())?;
            let seen = format!("the loss is no number any more at step {step}{place}");
            return Err(diverged(&seen, &self.run, &self.config.schedule, state));
        }
        state.step += 1;
        state.batches += 1;
        state.tally.add(tally);
        let (seconds, wait) = session.clock.lap(waited, tally.images);
        let line = Line {
            kind: "step",
            step: state.step,
            epoch: batch.epoch,
            learning_rate: now.rate,
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
    fn end_epoch(&mut self, session: &mut Session) -> Result<bool> {
        let (seconds, wait, images_per_second) = session.clock.epoch();
        self.joint.check_same(self.engine.as_ref())?;
        let validation = match self.images.validation.clone() {
            Some(images) => match self.validate(images, session)? {
                None => return Ok(false),
                some => some,
            },
            None => None,
        };
        let state = &mut self.state;
        let (epoch, tally) = (state.epoch, state.tally);
        let line = Line {
            kind: "epoch",
            step: state.step,
            epoch,
            learning_rate: rates::now(self.config, state, state.batches.saturating_sub(1)).rate,
            loss: tally.mean_loss(),
            top1_error: tally.top1_error(),
            top5_error: tally.top5_error(),
            images_per_second,
            wait_seconds: wait,
            validation: validation.map(Validation::from),
        };
        session.log(&line, None)?;
        session.picture(self.engine.as_ref(), state.step)?;
        let mut verdict = Verdict::GoOn;
        // Without validation `best` is the last.
        let mut is_best = true;
        if let Some(error) = validation.map(|v| v.top1_error()) {
            if !self.config.schedule.is_warming_up(epoch) {
                verdict = self.config.schedule.end_epoch(&mut state.schedule, error)?;
            }
            is_best = state.best.is_none_or(|(_, best)| error < best);
            if is_best {
                state.best = Some((epoch, error));
            }
        }
        let ended = telling::Epoch {
            epoch: (epoch, self.config.train.epochs),
            tally,
            validation: validation.map(|tally| (tally, is_best)),
            rate: line.learning_rate,
            seconds,
            wait,
            images_per_second,
        };
        telling::epoch(&ended, self.engine.plan().classes);
        telling::verdict(verdict, state.schedule.rate);
        state.finished = verdict == Verdict::Finished || epoch == self.config.train.epochs;
        state.epoch += 1;
        state.batches = 0;
        state.tally = Tally::default();
        self.keep(epoch, is_best, session)?;
        self.draw(&line, session);
        session.clock.restart();
        Ok(true)
    }

    /// None: interrupted. Err: also a loss that is no number.
    fn validate(
        &mut self,
        images: Arc<dyn Images>,
        session: &mut Session,
    ) -> Result<Option<Tally>> {
        let begun = Instant::now();
        let crops = Crops::Centre;
        let batch = images_per_batch(self.engine.plan().batch, crops);
        let more = f64::from(self.config.train.epochs.saturating_sub(self.state.epoch));
        let seconds = more * (session.clock.epoch().0 + session.validation_seconds);
        let rest = Rest { count: 0, seconds };
        let progress = Progress::of("validation", images.len() as u64, "images", rest);
        let cropping = &session.cropping;
        let (team, data) = (*self.joint.team(), &self.config.data);
        let loader = feed::evaluation_among(&team, data, images, cropping, crops, batch)?;
        let mut turns = Turns::new(vec![loader], crops);
        let mut tally = Tally::default();
        while let Some(answers) = turns.next(&mut [(self.engine.as_mut(), 0)], &[1.0])? {
            for more in self.joint.agree("validation", &self.interrupt, vec![answers.tally])? {
                tally.add(more);
                progress.advance(more.images);
            }
            if self.wanted() {
                return Ok(None);
            }
            self.heed(session)?;
        }
        if !tally.loss.is_finite() {
            session.sound = false;
            let seen = format!(
                "the validation loss is {} after step {}{}",
                tally.mean_loss(),
                self.state.step,
                first_not_finite(self.engine.as_ref())?
            );
            return Err(diverged(&seen, &self.run, &self.config.schedule, &self.state));
        }
        session.validation_seconds = begun.elapsed().as_secs_f64();
        Ok(Some(tally))
    }
}
