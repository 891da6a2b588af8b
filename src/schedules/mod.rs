//! The kinds of schedule: how the learning rate falls in the course of a run. One file each, with
//! its own keys, what it keeps from epoch to epoch, its rule and its tests.
//!
//! To add a kind: write its file and add its line to [`KINDS`].
//!
//! [`Schedule::read`] reads `[schedule]`: [`Start`] has the keys of all kinds, the others belong to
//! one [`Kind`] each, which reads them as its [`Policy`] (the field's word since Caffe's
//! `lr_policy`). A policy does not change; what changes as training goes on is the [`State`], which
//! goes into the checkpoint as it is. What changes within an epoch follows from the step's place in
//! the run ([`pace`]) and is kept nowhere. [`written`] deals with keys before they are read: of other
//! kinds, of configs that build on each other, of files from before each kind had its own keys.

#[cfg(test)]
mod by_hand;
mod pace;
mod plateau;
mod polynomial;
mod steps;
pub mod written;

pub use pace::Place;

use crate::config_error;
use crate::keys::{self, Misfit, to_table, typed};
use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use toml::Table;

/// Every kind of schedule, one line each; the first is the default, the paper's.
pub static KINDS: &[Kind] = &[plateau::KIND, steps::KIND, polynomial::KIND];

/// What a kind of schedule is called and how its settings are read.
#[derive(Debug)]
pub struct Kind {
    /// As it is written in a config.
    pub name: &'static str,
    /// Whether it watches the validation error, and so needs one.
    pub validates: bool,
    /// Its own keys.
    pub keys: fn() -> &'static [&'static str],
    /// Reads its own keys out of `[schedule]`; checks their ranges.
    pub read: fn(&Table) -> Result<Arc<dyn Policy>>,
}

/// A kind's settings, and its rule. What is left out does nothing.
pub trait Policy: Debug + Send + Sync {
    /// What it keeps in the state when it takes over after `past`: nothing, or a struct by
    /// [`State::keep`].
    fn take_over(&self, _state: &mut State, _past: &Past) {}
    /// At the start of `epoch`, counted from 1.
    fn begin_epoch(&self, _start: &Start, _state: &mut State, _epoch: u32) {}
    /// At the end of an epoch, with its validation top-1 error (a fraction). Err: the state is not
    /// its.
    fn end_epoch(&self, _state: &mut State, _error: f64) -> Result<Verdict> {
        Ok(Verdict::GoOn)
    }
    /// What all rates are multiplied with when this part of the steps after the warm-up is over,
    /// from 0 to 1.
    fn factor(&self, _passed: f64) -> f64 {
        1.0
    }
    /// Whether there is colour noise in `epoch`, as far as the schedule has a say.
    fn color_noise(&self, _epoch: u32) -> bool {
        true
    }
    /// Refuses layers that are not among `learnt`, the names of those that learn.
    fn check_layers(&self, _learnt: &[&str]) -> Result<()> {
        Ok(())
    }
    /// Whether the rates follow from the epoch alone: settings that are changed during a run then
    /// count as if they had been there from its start.
    fn follows_the_epoch(&self) -> bool;
    /// The user has changed the rate in the middle of a run. Err: the state is not its.
    fn rate_by_hand(&self, _state: &mut State) -> Result<()> {
        Ok(())
    }
    /// From now on errors are those of other images and cannot be compared with earlier ones. Err:
    /// the state is not its.
    fn other_validation(&self, _state: &mut State) -> Result<()> {
        Ok(())
    }
    /// Where its own keys have set the rate that `epoch` is trained with: the key, and the value
    /// that makes it `rate` instead.
    fn slower(&self, _epoch: u32, _rate: f64) -> Option<(&'static str, toml::Value)> {
        None
    }
    /// Whether the biases' rate is the weights', wherever the latter is changed.
    fn biases_follow(&self, start: &Start) -> bool {
        start.bias_rate.is_none()
    }
    /// Its own keys as they are written in a config.
    fn to_table(&self) -> Table;
}

/// Keys that every schedule has, besides `kind`.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Start {
    /// The learning rate at the start.
    #[serde(default = "rate")]
    pub rate: f64,
    /// The biases' learning rate at the start; `rate` where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bias_rate: Option<f64>,
    /// Epochs in which the rates rise to what they are to be; they need not be whole.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub warmup_epochs: f64,
    /// The batch that the rates are meant for: they are multiplied with `train.batch` / this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_batch: Option<usize>,
}

fn is_zero(number: &f64) -> bool {
    *number == 0.0
}

fn rate() -> f64 {
    0.01
}

/// Where a schedule stands: the rates of now, and what its kind keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The learning rate now.
    pub rate: f64,
    /// The biases' learning rate now.
    pub bias_rate: f64,
    /// Layers with a rate of their own.
    pub layers: BTreeMap<String, f64>,
    /// The kind's own, a struct of its file.
    #[serde(flatten)]
    own: serde_json::Map<String, serde_json::Value>,
}

impl State {
    /// What the kind keeps. Err: the state is another kind's.
    fn own<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.own.clone().into())
            .context("the state of the schedule does not suit its kind")
    }

    /// Replaces what the kind keeps.
    fn keep(&mut self, own: &impl Serialize) {
        self.own = match serde_json::to_value(own) {
            Ok(serde_json::Value::Object(own)) => own,
            _ => unreachable!("kinds keep structs of numbers"),
        };
    }
}

/// What was before a schedule took over.
#[derive(Clone, Copy, Debug)]
pub struct Past {
    /// The epoch to go on with, from 1; before it all is past.
    pub epoch: u32,
    /// Whether it has begun.
    pub inside: bool,
    /// The epoch with the lowest validation top-1 error so far, and that error (a fraction).
    pub best: Option<(u32, f64)>,
}

/// What the end of an epoch means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing has changed.
    GoOn,
    /// The rate has just fallen.
    Dropped,
    /// The plateau after the last drop: training is over.
    Finished,
}

/// `[schedule]`: how the learning rate falls.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Whose rule it is.
    pub kind: &'static Kind,
    /// The rates at the start.
    pub start: Start,
    policy: Arc<dyn Policy>,
    /// An old file's plateau with a list of steps beside it ([`written`]).
    mixed: bool,
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Schedule) -> bool {
        self.to_table() == other.to_table()
    }
}

impl Schedule {
    /// Reads `[schedule]`. Err: what is wrong in it.
    pub fn read(section: &Table) -> Result<Schedule> {
        let kind = kind_of(section)?;
        written::check_keys(section, kind)?;
        let start: Start = typed(section, "[schedule]")?;
        from_zero("rate", start.rate)?;
        from_zero("bias_rate", start.bias_rate.unwrap_or(0.0))?;
        from_zero("warmup_epochs", start.warmup_epochs)?;
        if start.rate_batch == Some(0) {
            return Err(out_of_range("rate_batch", 0, "a number of images"));
        }
        Ok(Schedule { kind, start, policy: (kind.read)(section)?, mixed: false })
    }

    /// As it is written in a config, with every default filled in.
    pub fn to_table(&self) -> Table {
        let mut table = to_table(&self.start);
        table.insert("kind".into(), self.kind.name.into());
        table.extend(self.policy.to_table());
        table
    }

    /// Refuses layers that are not among `learnt`, the names of those that learn.
    pub fn check_layers(&self, learnt: &[&str]) -> Result<()> {
        self.policy.check_layers(learnt)
    }

    /// Refuses to train where the schedule could not do what it says.
    pub fn check_training(&self, has_validation: bool) -> Result<()> {
        if self.mixed {
            return Err(written::mixed_refused());
        }
        if self.kind.validates && !has_validation {
            let other = |k: &Kind| format!("--set schedule.kind={}", k.name);
            let others: Vec<String> = KINDS.iter().filter(|k| !k.validates).map(other).collect();
            return Err(config_error!(
                "schedule.kind = {:?} watches the validation error, but the data set has no images \
                to validate on; prepare it with --val-fraction 0.1, or say {}",
                self.kind.name,
                others.join(" or ")
            ));
        }
        Ok(())
    }

    /// The state of a new run.
    pub fn begin(&self) -> State {
        self.begin_after(&Past { epoch: 1, inside: false, best: None })
    }

    /// The state as if a run up to here had kept to this schedule.
    fn begin_after(&self, past: &Past) -> State {
        let mut state = State {
            rate: self.start.rate,
            bias_rate: self.start.bias_rate.unwrap_or(self.start.rate),
            layers: BTreeMap::new(),
            own: serde_json::Map::new(),
        };
        self.policy.take_over(&mut state, past);
        let begun = past.epoch.saturating_sub(u32::from(!past.inside));
        (1..=begun).for_each(|epoch| self.begin_epoch(&mut state, epoch));
        state
    }

    /// At the start of `epoch`, counted from 1.
    pub fn begin_epoch(&self, state: &mut State, epoch: u32) {
        self.policy.begin_epoch(&self.start, state, epoch);
    }

    /// At the end of an epoch, with its validation top-1 error (a fraction). Err: the state is
    /// another kind's.
    pub fn end_epoch(&self, state: &mut State, error: f64) -> Result<Verdict> {
        self.policy.end_epoch(state, error)
    }

    /// Whether there is colour noise in `epoch`, as far as the schedule has a say.
    pub fn color_noise(&self, epoch: u32) -> bool {
        self.policy.color_noise(epoch)
    }

    /// What makes the rate of `epoch` this `rate`, for a run that goes on before or inside it: a
    /// key of the config and its value in TOML.
    pub fn slower(&self, epoch: u32, rate: f64) -> (String, String) {
        match self.policy.slower(epoch, rate) {
            Some((key, value)) => (format!("schedule.{key}"), value.to_string()),
            None => ("schedule.rate".into(), format!("{rate:?}")),
        }
    }

    /// From now on errors are those of other images and cannot be compared with earlier ones. Err:
    /// the state is another kind's.
    pub fn other_validation(&self, state: &mut State) -> Result<()> {
        self.policy.other_validation(state)
    }

    /// Makes a run's state this schedule's, where `old` has led it so far. After `--resume --set …`
    /// a rate that the user has changed by hand counts from now on; changed steps, and another
    /// kind, count as if they had been there from the start. Err: the state is not the kind's.
    pub fn resume(&self, old: &Schedule, state: &mut State, past: &Past) -> Result<()> {
        let fresh = self.begin_after(past);
        if self.kind.name != old.kind.name {
            *state = fresh;
            return Ok(());
        }
        // The plateau's were kept with every schedule once.
        state.own.retain(|key, _| fresh.own.contains_key(key));
        ensure!(
            fresh.own.keys().all(|key| state.own.contains_key(key)),
            "the state of the schedule does not suit kind {:?}",
            self.kind.name
        );
        if self.policy.follows_the_epoch() && self.policy.to_table() != old.policy.to_table() {
            *state = fresh;
        } else if self.rates_at_start() != old.rates_at_start() {
            self.rates_by_hand(old, state, &fresh);
            self.policy.rate_by_hand(state)?;
        }
        Ok(())
    }

    fn rates_at_start(&self) -> (f64, Option<f64>) {
        (self.start.rate, self.start.bias_rate)
    }

    /// The rates after a change by hand: what was changed counts as it is written; biases that were
    /// not keep their ratio to the weights. Where the weights stood still there is none: they take
    /// the weights' rate, or their own where they were given one.
    fn rates_by_hand(&self, old: &Schedule, state: &mut State, fresh: &State) {
        let (rate, bias_rate) = (self.start.rate, self.start.bias_rate);
        if rate != old.start.rate {
            state.bias_rate = match (state.rate > 0.0, self.policy.biases_follow(&self.start)) {
                (true, _) => state.bias_rate * (rate / state.rate),
                (false, true) => rate,
                (false, false) if state.bias_rate > 0.0 => state.bias_rate,
                (false, false) => fresh.bias_rate,
            };
            state.rate = rate;
        }
        if bias_rate != old.start.bias_rate {
            state.bias_rate = bias_rate.unwrap_or(state.rate);
        }
    }
}

/// The kind that a `[schedule]` states, or the default.
fn kind_of(section: &Table) -> Result<&'static Kind> {
    let Some(value) = section.get("kind") else { return Ok(&KINDS[0]) };
    let kind = value.as_str().and_then(kind_named);
    kind.ok_or_else(|| {
        let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        let error = Misfit::must_be(keys::one_of(&names)).at("kind", value);
        config_error!("[schedule]: {error}")
    })
}

fn kind_named(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// Refuses a number at `schedule.KEY` that is no rate.
fn from_zero(key: &str, value: f64) -> Result<()> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(out_of_range(key, value, "a number from 0 up"))
}

/// `right` says what should stand at `schedule.KEY`.
fn out_of_range(key: &str, value: impl std::fmt::Display, right: &str) -> anyhow::Error {
    config_error!("schedule.{key} = {value}: it must be {right}")
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn schedule(text: &str) -> Schedule {
        Schedule::read(&text.parse().unwrap()).unwrap()
    }

    #[test]
    fn names_of_kinds_are_unique_and_no_kind_takes_a_common_key() {
        for (i, kind) in KINDS.iter().enumerate() {
            assert!(KINDS[..i].iter().all(|other| other.name != kind.name));
            assert!((kind.keys)().iter().all(|key| !written::common_keys().contains(key)));
        }
    }

    #[test]
    fn what_is_written_is_read_again_and_holds_no_other_kinds_keys() {
        for kind in KINDS {
            let first = schedule(&format!("kind='{}'\nrate=0.02\nbias_rate=0.04", kind.name));
            let table = first.to_table();
            assert_eq!(Schedule::read(&table).unwrap(), first);
            let own = (kind.keys)();
            let known = |key: &str| written::common_keys().contains(&key) || own.contains(&key);
            assert!(table.keys().all(|key| known(key)), "{table}");
        }
    }

    #[test]
    fn a_state_comes_back_from_a_checkpoint_as_it_was() {
        for kind in KINDS {
            let schedule = schedule(&format!("kind='{}'\nrate=0.1", kind.name));
            let mut state = schedule.begin();
            schedule.end_epoch(&mut state, 1.0 / 3.0).unwrap();
            let text = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<State>(&text).unwrap(), state, "{text}");
        }
    }

    #[test]
    fn a_schedule_that_watches_the_validation_error_needs_one() {
        let plateau = schedule("");
        assert!(plateau.check_training(true).is_ok());
        let error = plateau.check_training(false).unwrap_err().to_string();
        let ways = "--set schedule.kind=steps or --set schedule.kind=polynomial";
        assert!(error.contains("\"plateau\"") && error.ends_with(ways), "{error}");
        assert!(schedule("kind='steps'").check_training(false).is_ok());
    }
}
