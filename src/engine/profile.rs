//! The times of a network's layers as a table, for `alexnet train --profile` and `alexnet bench`.

use super::LayerTime;
use crate::network::Plan;

/// Times of some training steps.
pub struct Profile<'a> {
    /// Whose layers.
    pub plan: &'a Plan,
    /// One a layer.
    pub times: &'a [LayerTime],
    /// How many.
    pub steps: u64,
    /// Of all of them.
    pub images: u64,
}

impl Profile<'_> {
    /// One line a layer, of at most 80 characters: milliseconds a step, and GFLOP/s of the three
    /// products. These count the multiply-adds of direct convolution, twice, whatever way they are
    /// done. On several GPUs the times of all are added; on the CPU layers in one pass
    /// (`network::Fusion`) count as normalisation.
    pub fn table(&self) -> String {
        let copies = self.times.iter().any(|t| t.copies > 0.0);
        let names = self.plan.layers.iter().map(|layer| layer.name.chars().count());
        let width = names.max().unwrap_or(0).max(8);
        let products = "       ms GFLOP/s".repeat(3);
        let last = if copies { "  copies" } else { "" };
        let mut text = format!(
            "  {:width$}{:>17}{:>17}{:>17}\n  {:width$}{products}  update{last}\n",
            "", "forward", "back to input", "back to weights", "layer"
        );
        let mut sum = LayerTime::default();
        let lowest = self.plan.layers.iter().position(|layer| layer.weights.is_some());
        let line = |name: &str, t: &LayerTime, work: f64| {
            let rest = self.line(t, work, copies);
            format!("  {name:width$}{rest}").trim_end().to_string() + "\n"
        };
        for (index, (layer, t)) in self.plan.layers.iter().zip(self.times).enumerate() {
            // The few nanoseconds of gradients that are not made are the clock's.
            let goes_on = lowest.is_some_and(|lowest| index > lowest);
            let t = LayerTime { backward_input: t.backward_input * f64::from(goes_on), ..*t };
            let work = 2 * layer.multiply_adds() * self.images;
            text += &line(&layer.name, &t, work as f64);
            sum += t;
        }
        text + &line("total", &sum, 0.0)
    }

    fn line(&self, t: &LayerTime, work: f64, copies: bool) -> String {
        let ms = |seconds: f64| 1e3 * seconds / self.steps.max(1) as f64;
        let time = |seconds: f64| match ms(seconds) {
            none if none < 0.0005 => String::new(),
            short if short < 100.0 => format!("{short:.3}"),
            long if long < 10_000.0 => format!("{long:.1}"),
            longer => format!("{longer:.0}"),
        };
        let rate = |seconds: f64| match work > 0.0 && seconds > 0.0 {
            true => format!("{:.1}", work / seconds / 1e9),
            false => String::new(),
        };
        let products = [t.forward, t.backward_input, t.backward_weights];
        let products = products.map(|s| format!("{:>9}{:>8}", time(s), rate(s))).concat();
        let copies = if copies { format!("{:>8}", time(t.copies)) } else { String::new() };
        format!("{products}{:>8}{copies}", time(t.update))
    }

    /// Bytes that go from one device to another in a step of a full batch.
    pub fn bytes_between_devices(&self) -> u64 {
        if self.plan.data.len() < 2 {
            return 0;
        }
        self.plan.crossings().iter().map(|c| c.bytes_forward + c.bytes_backward).sum()
    }
}
