//! The rates of one step: what the state says, which changes from epoch to epoch, times what
//! changes from step to step (warm-up, a polynomial) and with the batch.
//!
//! - `schedule.rate_batch = B` is the linear scaling rule (Krizhevsky, "One weird trick", 2014; Goyal
//!   et al., "Accurate, Large Minibatch SGD", 2017, section 2.1): all rates are those of a batch of
//!   B, and are multiplied with k = `train.batch` / B.
//! - `schedule.warmup_epochs` (Goyal et al., section 2.2): in its first epochs the rate rises step by
//!   step, from that of the batch B if k is above 1, else from nothing, to what the schedule says.
//!   The kind's epochs count from the run's beginning all the same; a polynomial begins to fall where
//!   the warm-up ends, a plateau begins to watch there.

use super::{Schedule, State};

/// A step's place in its run.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The epoch that it is in, from 1.
    pub epoch: u32,
    /// Steps of that epoch before it.
    pub before: u64,
    /// Steps of an epoch.
    pub steps: u64,
    /// `train.epochs`
    pub epochs: u32,
    /// `train.batch`
    pub batch: usize,
}

impl Schedule {
    /// `state` with the rates that the step at `place` is made with.
    pub fn now(&self, state: &State, place: &Place) -> State {
        let factor = self.factor(place);
        let mut now = state.clone();
        if factor != 1.0 {
            let all =
                [&mut now.rate, &mut now.bias_rate].into_iter().chain(now.layers.values_mut());
            all.for_each(|rate| *rate *= factor);
        }
        now
    }

    /// What all rates are multiplied with at `place`.
    fn factor(&self, place: &Place) -> f64 {
        let scale = self.start.rate_batch.map_or(1.0, |batch| place.batch as f64 / batch as f64);
        let done = u64::from(place.epoch - 1) * place.steps + place.before;
        let warmup = self.warmup_steps(place.steps);
        if done < warmup {
            let first = if scale > 1.0 { scale.recip() } else { 0.0 };
            let risen = (done + 1) as f64 / warmup as f64;
            return scale * (first + (1.0 - first) * risen);
        }
        let after = (u64::from(place.epochs) * place.steps).saturating_sub(warmup);
        let passed = (done - warmup) as f64 / after.max(1) as f64;
        scale * self.policy.factor(passed.min(1.0))
    }

    /// Steps of the warm-up, of so many steps an epoch.
    fn warmup_steps(&self, steps: u64) -> u64 {
        (self.start.warmup_epochs * steps as f64).round() as u64
    }

    /// Whether the rate still rises at the end of `epoch`, whose error then says nothing yet.
    pub fn is_warming_up(&self, epoch: u32) -> bool {
        f64::from(epoch) < self.start.warmup_epochs
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::schedule;
    use super::*;

    /// The factor on the rates after so many of ten epochs of eight steps with batches of 1024.
    fn factor(text: &str, done: u64) -> f64 {
        let schedule = schedule(&format!("rate = 0.5\n{text}"));
        let epoch = (done / 8) as u32 + 1;
        let place = Place { epoch, before: done % 8, steps: 8, epochs: 10, batch: 1024 };
        let state = schedule.begin();
        let now = schedule.now(&state, &place);
        assert_eq!(now.bias_rate, now.rate);
        now.rate / 0.5
    }

    #[test]
    fn without_the_keys_rates_are_what_the_state_says() {
        for done in [0, 5, 79] {
            assert_eq!(factor("", done), 1.0);
        }
    }

    /// By hand: 80 steps, of which 16 rise; then (1 − t/64)².
    #[test]
    fn a_polynomial_falls_from_the_end_of_the_warm_up_to_the_end_of_the_run() {
        let text = "kind = 'polynomial'\nwarmup_epochs = 2";
        let at = |done| factor(text, done);
        assert_eq!([at(0), at(7), at(15)], [1.0 / 16.0, 0.5, 1.0]);
        assert_eq!([at(16), at(32), at(48)], [1.0, 0.75 * 0.75, 0.25]);
        assert_eq!(at(79), (1.0f64 / 64.0).powi(2));
        assert_eq!(factor("kind = 'polynomial'\npower = 1.0", 20), 0.75);
    }

    /// From a batch of 256 to one of 1024: the rate rises from the smaller one's to four times it.
    #[test]
    fn rates_follow_the_batch_and_rise_from_the_smaller_ones() {
        let text = "kind = 'steps'\nrate_batch = 256\nwarmup_epochs = 1.5";
        let at = |done| factor(text, done);
        assert_eq!([at(12), at(79)], [4.0, 4.0]);
        assert_eq!([at(11), at(5)], [4.0, 2.5]);
        assert!((at(0) - 1.25).abs() < 1e-12);
        assert_eq!(factor("rate_batch = 2048", 3), 0.5);
    }

    #[test]
    fn half_an_epoch_of_warm_up_does_not_reach_its_end() {
        let schedule = schedule("warmup_epochs = 2.5");
        assert_eq!([1, 2, 3].map(|epoch| schedule.is_warming_up(epoch)), [true, true, false]);
    }
}
