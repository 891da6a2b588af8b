//! Squared error: the loss of an auto-encoder (paper section 6.1), whose target is the network's own
//! input: ½ Σ (y − input)², averaged over the batch.
//!
//! It passes its input on as the network's output, lives on the first tower and reads all. `alexnet
//! codes` trains networks that end in it.

mod cuda;

use super::cuda::{LaunchContext, Launches};
use super::softmax::Tally;
use super::{Family, Kind, Layer, Place, Role, Run, Settings, Shape};
use anyhow::Result;
use toml::Table;

/// `squared-error`, which has no keys.
pub const KIND: Kind = Kind {
    name: "squared-error",
    family: Family::Loss,
    keys: || &[],
    read: |_| Ok(Box::new(SquaredErrorSettings)),
};

#[derive(Debug)]
struct SquaredErrorSettings;

impl Settings for SquaredErrorSettings {
    fn plan(&self, place: &Place<'_>) -> Result<Box<dyn Layer>> {
        Ok(Box::new(SquaredError { shape: place.input }))
    }
    fn to_table(&self) -> Table {
        Table::new()
    }
}

/// The end of an auto-encoder.
#[derive(Debug)]
pub struct SquaredError {
    /// Of what it reads, as many values as the network's input.
    pub shape: Shape,
}

impl Layer for SquaredError {
    fn output(&self) -> Shape {
        self.shape
    }
    fn role(&self) -> Role<'_> {
        Role::Reconstruction(self)
    }
    fn cuda(&self, context: &LaunchContext) -> Result<Box<dyn Launches>> {
        Ok(Box::new(self.launches(context)))
    }
}

impl SquaredError {
    /// `y` [batch, values] ← `x` [batch, values].
    pub fn forward(&self, run: &Run, y: &mut [f32], x: &[f32]) {
        let values = run.batch * self.shape.len();
        y[..values].copy_from_slice(&x[..values]);
    }

    /// The losses of `y` against `target`, both [batch, values], summed in order; no image counts as
    /// wrong.
    pub fn tally(&self, run: &Run, y: &[f32], target: &[f32]) -> Tally {
        let values = run.batch * self.shape.len();
        let square = |(y, t): (&f32, &f32)| (f64::from(*y) - f64::from(*t)).powi(2);
        let sum: f64 = y[..values].iter().zip(&target[..values]).map(square).sum();
        Tally { images: run.batch as u64, loss: 0.5 * sum, top1_wrong: 0, top5_wrong: 0 }
    }

    /// `dx` [batch, values] ← the gradient of the batch's mean loss: (y − target) / batch.
    pub fn backward(&self, run: &Run, dx: &mut [f32], y: &[f32], target: &[f32]) {
        let values = run.batch * self.shape.len();
        let batch = run.batch as f32;
        for ((dx, y), target) in dx[..values].iter_mut().zip(y).zip(target) {
            *dx = (y - target) / batch;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against differences of the loss, in f64.
    #[test]
    fn the_gradient_is_that_of_the_mean_loss() {
        let layer = SquaredError { shape: Shape { height: 1, width: 2, channels: 3 } };
        let run = Run { batch: 4, training: true, seed: 1, step: 1, first_image: 0 };
        let number = |i: usize| ((i * 37 + 11) % 64) as f32 / 32.0 - 1.0;
        let x: Vec<f32> = (0..24).map(number).collect();
        let target: Vec<f32> = (24..48).map(number).collect();
        let (mut y, mut dx) = (vec![f32::NAN; 24], vec![f32::NAN; 24]);
        layer.forward(&run, &mut y, &x);
        layer.backward(&run, &mut dx, &y, &target);
        let step = 1.0 / 64.0f32;
        for i in 0..24 {
            let loss = |by: f32| {
                let mut y = y.clone();
                y[i] += by;
                layer.tally(&run, &y, &target).mean_loss()
            };
            let difference = (loss(step) - loss(-step)) / f64::from(2.0 * step);
            assert!((f64::from(dx[i]) - difference).abs() < 1e-6, "{i}: {} {difference}", dx[i]);
        }
    }
}
