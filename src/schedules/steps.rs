//! A list of changes by epoch, written before the run: what the log of the 2012 code's run needs
//! (rates, layers with rates of their own, the colour noise switched off).

use super::{Kind, Policy, Start, State};
use crate::config_error;
use crate::keys::{self, to_table, typed};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use toml::{Table, Value};

/// `steps`, changes listed by epoch.
pub const KIND: Kind = Kind {
    name: "steps",
    validates: false,
    keys: keys::fields_of::<Steps>,
    read: |section| {
        if let Some(Value::Array(steps)) = section.get("steps") {
            for step in steps.iter().filter_map(Value::as_table) {
                keys::check(step, keys::fields_of::<Change>(), "schedule.steps")?;
            }
        }
        let steps: Steps = typed(section, "[schedule]")?;
        steps.steps.iter().try_for_each(Change::check)?;
        Ok(Arc::new(steps))
    },
};

/// The keys of this kind.
#[derive(Debug, Deserialize, Serialize)]
struct Steps {
    /// What changes from the start of which epoch on.
    #[serde(default)]
    steps: Vec<Change>,
}

/// One entry of `schedule.steps`; what is not given stays as it was.
#[derive(Debug, Deserialize, Serialize)]
struct Change {
    /// From the start of this epoch (the first is 1).
    epoch: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bias_rate: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    color_noise: Option<bool>,
    /// Rates of single layers, for weights and biases, in place of `rate` and `bias_rate`; 0
    /// freezes a layer.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    layers: BTreeMap<String, f64>,
}

impl Change {
    fn check(&self) -> Result<()> {
        let numbers = self.rate.iter().chain(&self.bias_rate).chain(self.layers.values());
        match numbers.copied().find(|rate| !(rate.is_finite() && *rate >= 0.0)) {
            None => Ok(()),
            Some(bad) => Err(config_error!(
                "schedule.steps, epoch {}: {bad} is no rate; it must be a number from 0 up",
                self.epoch
            )),
        }
    }
}

impl Policy for Steps {
    fn begin_epoch(&self, start: &Start, state: &mut State, epoch: u32) {
        // Biases follow the weights unless they have ever been given a rate of their own.
        let follow = self.biases_follow(start);
        for change in self.steps.iter().filter(|c| c.epoch == epoch) {
            state.rate = change.rate.unwrap_or(state.rate);
            let bias_rate = if follow { change.rate } else { change.bias_rate };
            state.bias_rate = bias_rate.unwrap_or(state.bias_rate);
            let layers = change.layers.iter().map(|(name, rate)| (name.clone(), *rate));
            state.layers.extend(layers);
        }
    }

    fn color_noise(&self, epoch: u32) -> bool {
        let changes = self.steps.iter().filter(|c| c.epoch <= epoch);
        changes
            .filter_map(|c| c.color_noise.map(|on| (c.epoch, on)))
            .max_by_key(|c| c.0)
            .is_none_or(|c| c.1)
    }

    fn check_layers(&self, learnt: &[&str]) -> Result<()> {
        for change in &self.steps {
            if let Some(name) = change.layers.keys().find(|n| !learnt.contains(&n.as_str())) {
                return Err(config_error!(
                    "schedule.steps, epoch {}: no layer that learns is called {name:?}{}",
                    change.epoch,
                    keys::nearest(name, learnt)
                ));
            }
        }
        Ok(())
    }

    fn follows_the_epoch(&self) -> bool {
        true
    }

    /// No entry from the one that holds on shall set a larger rate.
    fn slower(&self, epoch: u32, rate: f64) -> Option<(&'static str, Value)> {
        let holds = |c: &&Change| c.epoch <= epoch && c.rate.is_some();
        let from = self.steps.iter().filter(holds).map(|c| c.epoch).max()?;
        let mut table = self.to_table();
        let steps = table.get_mut("steps").and_then(Value::as_array_mut)?;
        for (step, change) in steps.iter_mut().zip(&self.steps).filter(|(_, c)| c.epoch >= from) {
            if change.rate.is_some_and(|old| old > rate) {
                step.as_table_mut()?.insert("rate".into(), rate.into());
            }
        }
        table.remove("steps").map(|steps| ("steps", steps))
    }

    fn biases_follow(&self, start: &Start) -> bool {
        start.bias_rate.is_none() && self.steps.iter().all(|c| c.bias_rate.is_none())
    }

    fn to_table(&self) -> Table {
        to_table(self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Past;
    use super::super::tests::schedule;

    #[test]
    fn the_2010_runs_log_can_be_followed() {
        let schedule = schedule(
            "kind='steps'\nrate=0.01\nbias_rate=0.002\nsteps=[{epoch=23,rate=0.001},
             {epoch=68,color_noise=false,layers={conv1=0.00001}},{epoch=72,layers={conv1=0.0}},
             {epoch=78,rate=0.00001}]",
        );
        let mut state = schedule.begin();
        let mut at = |epoch: u32| {
            schedule.begin_epoch(&mut state, epoch);
            (state.rate, state.bias_rate, state.layers.get("conv1").copied())
        };
        assert_eq!(at(1), (0.01, 0.002, None));
        assert_eq!(at(23), (0.001, 0.002, None));
        assert_eq!(at(68), (0.001, 0.002, Some(0.00001)));
        assert_eq!(at(72), (0.001, 0.002, Some(0.0)));
        assert_eq!(at(78), (0.00001, 0.002, Some(0.0)));
        let noise = [67, 68, 90].map(|epoch| schedule.color_noise(epoch));
        assert_eq!(noise, [true, false, false]);
    }

    #[test]
    fn biases_follow_the_weights_until_they_have_a_rate_of_their_own() {
        let alone = schedule("kind='steps'\nrate=0.1\nsteps=[{epoch=2,rate=0.05}]");
        let mut state = alone.begin();
        alone.begin_epoch(&mut state, 2);
        assert_eq!(state.bias_rate, 0.05);
        let later = "steps=[{epoch=2,rate=0.05},{epoch=3,bias_rate=0.2}]";
        let later = schedule(&format!("kind='steps'\nrate=0.1\n{later}"));
        let mut state = later.begin();
        let mut at = |epoch: u32| {
            later.begin_epoch(&mut state, epoch);
            state.bias_rate
        };
        assert_eq!([at(2), at(3)], [0.1, 0.2]);
    }

    #[test]
    fn a_changed_list_counts_as_if_it_had_been_there_from_the_start() {
        let old = schedule("kind='steps'\nrate=0.1\nsteps=[{epoch=2,rate=0.05,layers={fc=0.0}}]");
        let mut state = old.begin();
        (1..=4).for_each(|epoch| old.begin_epoch(&mut state, epoch));
        let past = Past { epoch: 5, inside: false, best: None };
        let new =
            schedule("kind='steps'\nrate=0.1\nsteps=[{epoch=3,rate=0.02},{epoch=5,rate=0.01}]");
        new.resume(&old, &mut state, &past).unwrap();
        assert_eq!((state.rate, state.layers.len()), (0.02, 0));
        // Inside an epoch its own change has been.
        let mut inside = old.begin();
        new.resume(&old, &mut inside, &Past { inside: true, ..past }).unwrap();
        assert_eq!(inside.rate, 0.01);
        // A rate alone counts from now on, until the list's next change.
        let hand = "kind='steps'\nrate=0.5\nsteps=[{epoch=3,rate=0.02},{epoch=5,rate=0.01}]";
        let hand = schedule(hand);
        hand.resume(&new, &mut state, &past).unwrap();
        assert_eq!((state.rate, state.bias_rate), (0.5, 0.5));
        hand.begin_epoch(&mut state, 5);
        assert_eq!(state.rate, 0.01);
    }
}
