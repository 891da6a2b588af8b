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
    /// One line a layer: milliseconds a step, and GFLOP/s of the three products. These count the
    /// multiply-adds of direct convolution, twice, whatever way they are done. On several GPUs the
    /// times of all are added; on the CPU layers in one pass (`network::Fusion`) count as
    /// normalisation.
    pub fn table(&self) -> String {
        let heads =
            ["forward", "GFLOP/s", "to input", "GFLOP/s", "to weights", "GFLOP/s", "copies"];
        let head: String = heads.iter().map(|h| format!("{h:>11}")).collect();
        let mut text = format!("  {:12}{head}{:>9}\n", "layer", "update");
        let mut sum = LayerTime::default();
        let lowest = self.plan.layers.iter().position(|layer| layer.weights.is_some());
        for (index, (layer, t)) in self.plan.layers.iter().zip(self.times).enumerate() {
            // The few nanoseconds of gradients that are not made are the clock's.
            let goes_on = lowest.is_some_and(|lowest| index > lowest);
            let t = LayerTime { backward_input: t.backward_input * f64::from(goes_on), ..*t };
            let work = 2 * layer.multiply_adds() * self.images;
            text += &self.line(&layer.name, &t, work as f64);
            sum += t;
        }
        text + &self.line("total", &sum, 0.0)
    }

    fn line(&self, name: &str, t: &LayerTime, work: f64) -> String {
        let ms = |seconds: f64| 1e3 * seconds / self.steps.max(1) as f64;
        let blank = |wanted: bool, text: String| if wanted { text } else { String::new() };
        let time = |s: f64| blank(ms(s) >= 0.0005, format!("{:.3}", ms(s)));
        let rate = |s: f64| blank(work > 0.0 && s > 0.0, format!("{:.1}", work / s / 1e9));
        let (f, i, w) = (t.forward, t.backward_input, t.backward_weights);
        let cells = [time(f), rate(f), time(i), rate(i), time(w), rate(w), time(t.copies)];
        let cells: String = cells.iter().map(|c| format!("{c:>11}")).collect();
        format!("  {name:12}{cells}{:>9}", time(t.update)).trim_end().to_string() + "\n"
    }

    /// Bytes that go from one device to another in a step of a full batch.
    pub fn bytes_between_devices(&self) -> u64 {
        if self.plan.data.len() < 2 {
            return 0;
        }
        self.plan.crossings().iter().map(|c| c.bytes_forward + c.bytes_backward).sum()
    }
}
