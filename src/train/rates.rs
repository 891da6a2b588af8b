//! From the rates of the schedule to the constants of the update rule, layer by layer.

use super::checkpoint::TrainingState;
use crate::config::{Config, Optimizer, Train};
use crate::engine::Rates;
use crate::layers::Weights;
use crate::network::{Plan, PlannedLayer};
use crate::schedules::{Place, State};

/// The schedule's rates for the step of a run at `state` that `before` others of its epoch precede.
pub fn now(config: &Config, state: &TrainingState, before: u32) -> State {
    let Train { batch, epochs, .. } = config.train;
    let steps = state.training_images.div_ceil(batch as u64);
    let place = Place { epoch: state.epoch, before: before.into(), steps, epochs, batch };
    config.schedule.now(&state.schedule, &place)
}

/// For every layer of `plan`, in its order; None for those that do not learn. The decay of `train`
/// is for layers without one of their own.
pub fn rates(plan: &Plan, state: &State, train: &Train) -> Vec<Option<Rates>> {
    let trust = match train.optimizer {
        Optimizer::Sgd => None,
        Optimizer::Lars => Some(train.trust_coefficient as f32),
    };
    let rates = |layer: &PlannedLayer| {
        let weights = layer.weights.as_ref()?;
        Some(match layer.frozen {
            true => Rates::default(),
            false => Rates { trust, ..of_layer(&layer.name, weights, state, train.weight_decay) },
        })
    };
    plan.layers.iter().map(rates).collect()
}

fn of_layer(name: &str, weights: &Weights, state: &State, weight_decay: f64) -> Rates {
    let own = state.layers.get(name).copied();
    let weight = own.unwrap_or(state.rate) * weights.weight_rate;
    let bias = own.unwrap_or(state.bias_rate) * weights.bias_rate;
    let decay = weights.weight_decay.unwrap_or(weight_decay);
    Rates {
        weight: weight as f32,
        weight_decay: (weight * decay) as f32,
        bias: bias as f32,
        bias_decay: (bias * weights.bias_decay) as f32,
        trust: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedules::Schedule;

    #[test]
    fn a_layers_own_rate_counts_for_weights_and_biases() {
        let text = "kind = \"steps\"\nrate = 0.01\nbias_rate = 0.002\nsteps = [{ epoch = 68, \
        layers = { conv1 = 0.00001 } }, { epoch = 72, layers = { conv1 = 0.0 } }]";
        let schedule = Schedule::read(&text.parse().unwrap()).unwrap();
        let weights: Weights = toml::from_str("").unwrap();
        let mut state = schedule.begin();
        let of = |name: &str, state: &State| of_layer(name, &weights, state, 0.0005);
        assert_eq!((of("conv1", &state).weight, of("conv1", &state).bias), (0.01, 0.002));
        assert_eq!(of("conv1", &state).weight_decay, (0.01 * 0.0005) as f32);
        schedule.begin_epoch(&mut state, 68);
        assert_eq!((of("conv1", &state).weight, of("conv1", &state).bias), (0.00001, 0.00001));
        assert_eq!(of("fc8", &state).weight, 0.01);
        schedule.begin_epoch(&mut state, 72);
        assert_eq!((of("conv1", &state).weight, of("conv1", &state).bias), (0.0, 0.0));
    }

    #[test]
    fn a_layers_factors_and_decays() {
        let text = "weight_rate = 2.0\nbias_rate = 3.0\nweight_decay = 0.5\nbias_decay = 0.25";
        let weights: Weights = toml::from_str(text).unwrap();
        let state = Schedule::read(&"rate = 0.125".parse().unwrap()).unwrap().begin();
        let rates = of_layer("fc", &weights, &state, 0.0005);
        assert_eq!((rates.weight, rates.weight_decay), (0.25, 0.125));
        assert_eq!((rates.bias, rates.bias_decay), (0.375, 0.09375));
    }
}
