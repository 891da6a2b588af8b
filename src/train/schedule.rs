//! How the learning rate falls: the paper's rule (divide by 10 when the validation error has stopped
//! improving, at most three times) or a list of changes by epoch, as the 2012 run's log gives.
//!
//! The state is small and explicit, and goes into the checkpoint as it is.

use crate::config::{Change, Schedule, ScheduleKind};
use crate::engine::Rates;
use crate::layers::Weights;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a schedule stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The learning rate now.
    pub rate: f64,
    /// The biases' learning rate now.
    pub bias_rate: f64,
    /// Layers with a rate of their own.
    pub layers: BTreeMap<String, f64>,
    /// plateau: how often the rate has fallen.
    pub drops: u32,
    /// plateau: the lowest validation top-1 error, a fraction.
    pub best: Option<f64>,
    /// plateau: epochs since the lowest error, or since the rate last fell.
    pub waited: u32,
}

/// What the end of an epoch means.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    GoOn,
    /// The rate has just fallen.
    Dropped,
    /// The plateau after the last drop: training is over.
    Finished,
}

impl State {
    pub fn new(schedule: &Schedule) -> State {
        State {
            rate: schedule.rate,
            bias_rate: schedule.bias_rate.unwrap_or(schedule.rate),
            layers: BTreeMap::new(),
            drops: 0,
            best: None,
            waited: 0,
        }
    }

    /// At the start of `epoch` (from 1): the changes listed for it.
    pub fn begin_epoch(&mut self, schedule: &Schedule, epoch: u32) {
        for change in schedule.steps.iter().filter(|c| c.epoch == epoch) {
            self.apply(change, schedule);
        }
    }

    fn apply(&mut self, change: &Change, schedule: &Schedule) {
        if let Some(rate) = change.rate {
            self.rate = rate;
            // Biases follow the weights unless they have ever been given a rate of their own.
            if schedule.bias_rate.is_none() && schedule.steps.iter().all(|c| c.bias_rate.is_none())
            {
                self.bias_rate = rate;
            }
        }
        if let Some(rate) = change.bias_rate {
            self.bias_rate = rate;
        }
        self.layers.extend(change.layers.iter().map(|(name, rate)| (name.clone(), *rate)));
    }

    /// At the end of an epoch, with its validation top-1 error (a fraction).
    pub fn end_epoch(&mut self, schedule: &Schedule, error: f64) -> Verdict {
        if self.best.is_none_or(|best| error < best) {
            self.best = Some(error);
            self.waited = 0;
            return Verdict::GoOn;
        }
        self.waited += 1;
        if schedule.kind == ScheduleKind::Steps || self.waited < schedule.patience {
            return Verdict::GoOn;
        }
        if self.drops == schedule.drops {
            return Verdict::Finished;
        }
        self.drops += 1;
        self.waited = 0;
        self.rate /= schedule.factor;
        self.bias_rate /= schedule.factor;
        Verdict::Dropped
    }

    /// After `--resume --set …`: a rate that the user has changed by hand counts from now on, and a
    /// changed list counts as if it had been there from the start. `epoch` is the one to go on with.
    pub fn changed_by_hand(&mut self, old: &Schedule, new: &Schedule, epoch: u32) {
        if old == new {
            return;
        }
        if old.steps != new.steps || old.kind != new.kind {
            let replayed = State { best: self.best, ..State::new(new) };
            let plateau = (self.drops, self.waited);
            *self = replayed;
            (self.drops, self.waited) = plateau;
            (1..epoch).for_each(|e| self.begin_epoch(new, e));
        } else if old.rate != new.rate || old.bias_rate != new.bias_rate {
            if old.rate != new.rate {
                // Biases keep their ratio unless they are changed too.
                self.bias_rate *= if self.rate > 0.0 { new.rate / self.rate } else { 1.0 };
                self.rate = new.rate;
            }
            if let Some(rate) = new.bias_rate.filter(|_| old.bias_rate != new.bias_rate) {
                self.bias_rate = rate;
            }
            self.waited = 0;
        }
    }

    /// The constants of the update rule for one layer.
    pub fn rates(&self, name: &str, weights: &Weights, weight_decay: f64) -> Rates {
        let own = self.layers.get(name).copied();
        let weight = own.unwrap_or(self.rate) * weights.weight_rate;
        let bias = own.unwrap_or(self.bias_rate) * weights.bias_rate;
        let decay = weights.weight_decay.unwrap_or(weight_decay);
        Rates {
            weight: weight as f32,
            weight_decay: (weight * decay) as f32,
            bias: bias as f32,
            bias_decay: (bias * weights.bias_decay) as f32,
        }
    }
}

/// Whether there is colour noise in `epoch`, as far as the schedule has a say.
pub fn color_noise(schedule: &Schedule, epoch: u32) -> bool {
    let changes = schedule.steps.iter().filter(|c| c.epoch <= epoch);
    changes
        .filter_map(|c| c.color_noise.map(|on| (c.epoch, on)))
        .max_by_key(|c| c.0)
        .is_none_or(|c| c.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn schedule(text: &str) -> Schedule {
        let text = format!(
            "data.crop = 8\n{text}\n[[layer]]\nname='conv1'\nkind='fc'\noutputs=2\n[[layer]]\nname='s'\nkind='softmax'"
        );
        Config::parse(&text, &[], "test").unwrap().schedule
    }

    #[test]
    fn plateau_divides_by_ten_three_times_then_ends() {
        let schedule = schedule("[schedule]\nkind='plateau'\nrate=0.01\npatience=2");
        let mut state = State::new(&schedule);
        let errors = [0.9, 0.8, 0.8, 0.8, 0.7, 0.7, 0.75, 0.7, 0.7, 0.7, 0.7];
        let verdicts: Vec<Verdict> =
            errors.iter().map(|&e| state.end_epoch(&schedule, e)).collect();
        use Verdict::*;
        assert_eq!(
            verdicts,
            [GoOn, GoOn, GoOn, Dropped, GoOn, GoOn, Dropped, GoOn, Dropped, GoOn, Finished]
        );
        assert!((state.rate - 0.00001).abs() < 1e-12);
    }

    #[test]
    fn the_2010_runs_log_can_be_followed() {
        let schedule = schedule(
            "[schedule]\nkind='steps'\nrate=0.01\nbias_rate=0.002\nsteps=[{epoch=23,rate=0.001},
             {epoch=68,color_noise=false,layers={conv1=0.00001}},{epoch=72,layers={conv1=0.0}},{epoch=78,rate=0.00001}]",
        );
        let mut state = State::new(&schedule);
        let weights: Weights = toml::from_str("").unwrap();
        let mut at = |epoch: u32| {
            state.begin_epoch(&schedule, epoch);
            state.rates("conv1", &weights, 0.0005)
        };
        assert_eq!(at(1).weight, 0.01);
        assert_eq!(at(1).bias, 0.002);
        assert_eq!(at(23).weight, 0.001);
        assert_eq!(at(68).weight, 0.00001);
        assert_eq!(at(72).weight, 0.0);
        assert_eq!(at(72).bias, 0.0);
        assert_eq!(at(78).weight, 0.0);
        assert_eq!(state.rates("fc8", &weights, 0.0005).weight, 0.00001);
        assert!(
            color_noise(&schedule, 67)
                && !color_noise(&schedule, 68)
                && !color_noise(&schedule, 90)
        );
    }

    #[test]
    fn a_rate_set_by_hand_counts_whatever_has_dropped() {
        let old = schedule("[schedule]\nrate=0.01\npatience=1");
        let mut state = State::new(&old);
        state.end_epoch(&old, 0.5);
        assert_eq!(state.end_epoch(&old, 0.5), Verdict::Dropped);
        let new = schedule("[schedule]\nrate=0.005\npatience=1");
        state.changed_by_hand(&old, &new, 3);
        assert_eq!((state.rate, state.drops), (0.005, 1));
        let other = schedule("[schedule]\nrate=0.005\npatience=4");
        state.changed_by_hand(&new, &other, 3);
        assert_eq!(state.rate, 0.005);
    }
}
