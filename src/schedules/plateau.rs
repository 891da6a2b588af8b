//! The paper's rule (section 5): "divide the learning rate by 10 when the validation error rate
//! stopped improving with the current learning rate", three times; the plateau after the last drop
//! ends the run.

use super::{Kind, Past, Policy, State, Verdict, out_of_range};
use crate::keys::{self, to_table, typed};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use toml::Table;

/// `plateau`, the paper's rule.
pub const KIND: Kind = Kind {
    name: "plateau",
    validates: true,
    keys: keys::fields_of::<Plateau>,
    read: |section| {
        let plateau: Plateau = typed(section, "[schedule]")?;
        if !(plateau.factor.is_finite() && plateau.factor > 1.0) {
            return Err(out_of_range("factor", plateau.factor, "above 1"));
        }
        if !(1..=1 << 24).contains(&plateau.patience) {
            let right = format!("from 1 to {}", 1 << 24);
            return Err(out_of_range("patience", plateau.patience, &right));
        }
        Ok(Arc::new(plateau))
    },
};

/// The keys of this kind.
#[derive(Debug, Deserialize, Serialize)]
struct Plateau {
    /// Epochs without a better validation top-1 error before the rate falls.
    #[serde(default = "five")]
    patience: u32,
    /// How often the rate falls before the next plateau ends the run.
    #[serde(default = "three")]
    drops: u32,
    /// What the rate is divided by.
    #[serde(default = "ten")]
    factor: f64,
}

fn five() -> u32 {
    5
}
fn three() -> u32 {
    3
}
fn ten() -> f64 {
    10.0
}

/// What it keeps from epoch to epoch.
#[derive(Debug, Deserialize, Serialize)]
struct Watch {
    /// How often the rate has fallen.
    drops: u32,
    /// The lowest validation top-1 error, a fraction.
    best: Option<f64>,
    /// Epochs since the lowest error, or since the rate last fell.
    waited: u32,
}

impl Policy for Plateau {
    fn take_over(&self, state: &mut State, past: &Past) {
        let waited = past.best.map_or(0, |(epoch, _)| past.epoch.saturating_sub(epoch + 1));
        state.keep(&Watch { drops: 0, best: past.best.map(|(_, error)| error), waited });
    }

    fn end_epoch(&self, state: &mut State, error: f64) -> Result<Verdict> {
        let mut watch: Watch = state.own()?;
        let mut verdict = Verdict::GoOn;
        if watch.best.is_none_or(|best| error < best) {
            watch.best = Some(error);
            watch.waited = 0;
        } else {
            watch.waited += 1;
            if watch.waited >= self.patience {
                verdict = self.drop(&mut watch, state);
            }
        }
        state.keep(&watch);
        Ok(verdict)
    }

    fn follows_the_epoch(&self) -> bool {
        false
    }

    /// The new rate gets as many epochs as any.
    fn rate_by_hand(&self, state: &mut State) -> Result<()> {
        let watch: Watch = state.own()?;
        state.keep(&Watch { waited: 0, ..watch });
        Ok(())
    }

    /// The first error on them is the best so far.
    fn other_validation(&self, state: &mut State) -> Result<()> {
        let watch: Watch = state.own()?;
        state.keep(&Watch { best: None, waited: 0, ..watch });
        Ok(())
    }

    fn to_table(&self) -> Table {
        to_table(self)
    }
}

impl Plateau {
    /// The error has stopped improving.
    fn drop(&self, watch: &mut Watch, state: &mut State) -> Verdict {
        if watch.drops == self.drops {
            return Verdict::Finished;
        }
        watch.drops += 1;
        watch.waited = 0;
        state.rate /= self.factor;
        state.bias_rate /= self.factor;
        Verdict::Dropped
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::schedule;
    use super::*;

    #[test]
    fn the_rate_is_divided_by_ten_three_times_then_training_ends() {
        let schedule = schedule("kind='plateau'\nrate=0.01\npatience=2");
        let mut state = schedule.begin();
        let errors = [0.9, 0.8, 0.8, 0.8, 0.7, 0.7, 0.75, 0.7, 0.7, 0.7, 0.7];
        let verdicts: Vec<Verdict> =
            errors.iter().map(|&e| schedule.end_epoch(&mut state, e).unwrap()).collect();
        use Verdict::*;
        assert_eq!(
            verdicts,
            [GoOn, GoOn, GoOn, Dropped, GoOn, GoOn, Dropped, GoOn, Dropped, GoOn, Finished]
        );
        assert!((state.rate - 0.00001).abs() < 1e-12);
        assert_eq!(state.bias_rate, state.rate);
    }

    #[test]
    fn a_rate_set_by_hand_counts_whatever_has_dropped() {
        let old = schedule("rate=0.01\npatience=1");
        let mut state = old.begin();
        old.end_epoch(&mut state, 0.5).unwrap();
        assert_eq!(old.end_epoch(&mut state, 0.5).unwrap(), Verdict::Dropped);
        let past = Past { epoch: 3, inside: false, best: Some((1, 0.5)) };
        let new = schedule("rate=0.005\npatience=1");
        new.resume(&old, &mut state, &past).unwrap();
        assert_eq!((state.rate, state.bias_rate), (0.005, 0.005));
        assert_eq!(state.own::<Watch>().unwrap().drops, 1);
        let other = schedule("rate=0.005\npatience=4");
        other.resume(&new, &mut state, &past).unwrap();
        assert_eq!(state.rate, 0.005);
    }

    #[test]
    fn a_rate_set_by_hand_gets_as_many_epochs_as_any() {
        let old = schedule("rate=0.01\nbias_rate=0.02\npatience=2");
        let mut state = old.begin();
        for error in [0.5, 0.6] {
            assert_eq!(old.end_epoch(&mut state, error).unwrap(), Verdict::GoOn);
        }
        let new = schedule("rate=0.001\nbias_rate=0.02\npatience=2");
        new.resume(&old, &mut state, &Past { epoch: 3, inside: false, best: Some((1, 0.5)) })
            .unwrap();
        assert!((state.bias_rate - 0.002).abs() < 1e-15, "the biases keep their ratio");
        let verdicts = [0.6, 0.6].map(|error| new.end_epoch(&mut state, error).unwrap());
        assert_eq!(verdicts, [Verdict::GoOn, Verdict::Dropped]);
    }

    #[test]
    fn taking_over_from_another_kind_it_knows_the_best_error_so_far() {
        let old = schedule("kind='steps'\nrate=0.01\nsteps=[{epoch=2,rate=0.004}]");
        let mut state = old.begin();
        (1..=4).for_each(|epoch| old.begin_epoch(&mut state, epoch));
        let new = schedule("rate=0.01\npatience=3");
        // Epochs 3 and 4 were no better than epoch 2.
        new.resume(&old, &mut state, &Past { epoch: 5, inside: false, best: Some((2, 0.3)) })
            .unwrap();
        assert_eq!(state.rate, 0.01);
        assert_eq!(new.end_epoch(&mut state, 0.3).unwrap(), Verdict::Dropped);
    }
}
