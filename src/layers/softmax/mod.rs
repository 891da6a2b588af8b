//! Softmax and its log-loss: the objective of the paper's section 3.5, and top-1 and top-5 errors.
//!
//! It lives on the first tower and reads all towers that its input lives on.

mod cuda;

use super::{Family, Kind, Layer, Place, Role, Run, Settings, Shape, Stage};
use crate::layers::cuda::{LaunchContext, Launches};
use anyhow::{Result, bail};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use toml::Table;

/// `softmax`, which has no keys.
pub const KIND: Kind = Kind {
    name: "softmax",
    family: Family::Loss,
    keys: || &[],
    read: |_| Ok(Box::new(SoftmaxSettings)),
};

#[derive(Debug)]
struct SoftmaxSettings;

impl Settings for SoftmaxSettings {
    fn plan(&self, place: &Place<'_>) -> Result<Box<dyn Layer>> {
        if place.input.len() < 2 {
            bail!("its input, {}, is a single class; there must be two or more", place.input);
        }
        Ok(Box::new(Softmax { shape: place.input }))
    }
    fn to_table(&self) -> Table {
        Table::new()
    }
}

/// The end of the network.
#[derive(Debug)]
pub struct Softmax {
    /// One value a class.
    pub shape: Shape,
}

impl Layer for Softmax {
    fn output(&self) -> Shape {
        self.shape
    }
    fn role(&self) -> Role<'_> {
        Role::Loss(self)
    }
    fn stage(&self) -> Option<Stage<'_>> {
        Some(Stage::Softmax)
    }
    fn cuda(&self, context: &LaunchContext) -> Result<Box<dyn Launches>> {
        Ok(Box::new(self.launches(context)))
    }
}

/// With no more classes than this the label is always among the five most probable.
pub const ALWAYS_AMONG: usize = 5;

/// What a number of images came to; adds up over batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// How many.
    pub images: u64,
    /// Sum of −ln p(label).
    pub loss: f64,
    /// Images whose most probable class is wrong.
    pub top1_wrong: u64,
    /// Images whose label is not among the five most probable classes (all, where there are fewer).
    pub top5_wrong: u64,
}

impl Tally {
    /// Adds what other images came to.
    pub fn add(&mut self, other: Tally) {
        self.images += other.images;
        self.loss += other.loss;
        self.top1_wrong += other.top1_wrong;
        self.top5_wrong += other.top5_wrong;
    }
    /// Mean log-loss, in nats.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.images.max(1) as f64
    }
    /// Fraction of images.
    pub fn top1_error(&self) -> f64 {
        self.top1_wrong as f64 / self.images.max(1) as f64
    }
    /// Fraction of images.
    pub fn top5_error(&self) -> f64 {
        self.top5_wrong as f64 / self.images.max(1) as f64
    }
}

/// How many classes come before the label: a greater probability, or an equal one at a smaller
/// index; all of them where the label's probability is no number.
pub fn rank(probabilities: &[f32], label: u32) -> usize {
    let p = probabilities[label as usize];
    if p.is_nan() {
        return probabilities.len();
    }
    let before = |&(c, &q): &(usize, &f32)| q > p || (q == p && c < label as usize);
    probabilities.iter().enumerate().filter(before).count()
}

/// Whether a probability is so small (below 1.2·10⁻³⁸) that a float holds little or nothing of it,
/// so that its logarithm has to come from elsewhere.
pub fn is_lost(probability: f32) -> bool {
    probability < f32::MIN_POSITIVE
}

/// ln p(label) of one image from `x`, what its softmax reads: x(label) − ln Σ exp(x).
pub fn log_probability(x: &[f32], label: u32) -> f64 {
    let most = f64::from(x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = x.iter().map(|&x| (f64::from(x) - most).exp()).sum();
    f64::from(x[label as usize]) - most - sum.ln()
}

/// The tally of `probabilities` [labels.len(), classes] that softmax made of `x`, of the same
/// shape.
pub fn tally(probabilities: &[f32], x: &[f32], labels: &[u32]) -> Tally {
    let classes = probabilities.len() / labels.len().max(1);
    tally_with(probabilities, labels, |image| {
        log_probability(&x[image * classes..][..classes], labels[image])
    })
}

/// The tally of `probabilities` [labels.len(), classes]; `log(image)` is ln p(label) where p
/// [`is_lost`]. Images are added up in order.
pub fn tally_with(
    probabilities: &[f32],
    labels: &[u32],
    log: impl Fn(usize) -> f64 + Sync,
) -> Tally {
    let classes = probabilities.len() / labels.len().max(1);
    let of_image = |(image, &label): (usize, &u32)| {
        let p = &probabilities[image * classes..][..classes];
        let rank = rank(p, label);
        let p = p[label as usize];
        Tally {
            images: 1,
            loss: if is_lost(p) { -log(image) } else { -f64::from(p).ln() },
            top1_wrong: u64::from(rank >= 1),
            top5_wrong: u64::from(rank >= 5),
        }
    };
    let images: Vec<Tally> = labels.par_iter().enumerate().map(of_image).collect();
    let mut sum = Tally::default();
    images.into_iter().for_each(|image| sum.add(image));
    sum
}

impl Softmax {
    /// `y` [batch, classes] ← the probabilities of `x` [batch, classes].
    pub fn forward(&self, run: &Run, y: &mut [f32], x: &[f32]) {
        let n = self.shape.len();
        y.par_chunks_exact_mut(n).zip(x.par_chunks_exact(n)).take(run.batch).for_each(|(y, x)| {
            let most = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for (y, x) in y.iter_mut().zip(x) {
                *y = (x - most).exp();
                sum += *y;
            }
            y.iter_mut().for_each(|y| *y /= sum);
        });
    }

    /// `dx` [batch, classes] ← the gradient of the batch's mean loss: (p − 1 at the label) / batch.
    pub fn backward(&self, run: &Run, dx: &mut [f32], y: &[f32], labels: &[u32]) {
        self.backward_part(run, run.batch, dx, y, labels);
    }

    /// As [`Softmax::backward`], of a part of a batch of `whole` images, whose mean loss it is.
    pub fn backward_part(
        &self,
        run: &Run,
        whole: usize,
        dx: &mut [f32],
        y: &[f32],
        labels: &[u32],
    ) {
        let n = self.shape.len();
        let whole = whole as f32;
        let images = dx.par_chunks_exact_mut(n).zip(y.par_chunks_exact(n)).zip(labels);
        images.take(run.batch).for_each(|((dx, y), &label)| {
            for (dx, y) in dx.iter_mut().zip(y) {
                *dx = y / whole;
            }
            dx[label as usize] = (y[label as usize] - 1.0) / whole;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_count_against_the_later_class() {
        assert_eq!(rank(&[0.25; 4], 0), 0);
        assert_eq!(rank(&[0.25; 4], 3), 3);
        assert_eq!(rank(&[0.1, 0.6, 0.3], 2), 1);
    }

    #[test]
    fn a_tally_counts_loss_and_errors() {
        let p = [0.5, 0.25, 0.25, 0.1, 0.1, 0.8];
        let tally = tally(&p, &p.map(f32::ln), &[0, 0]);
        assert_eq!((tally.images, tally.top1_wrong, tally.top5_wrong), (2, 1, 0));
        assert!((tally.loss - (2f64.ln() + 10f64.ln())).abs() < 1e-6);
    }

    #[test]
    fn large_inputs_do_not_overflow() {
        let softmax = Softmax { shape: Shape { height: 1, width: 1, channels: 2 } };
        let run = Run { batch: 1, training: true, seed: 1, step: 1, first_image: 0 };
        let mut y = [0.0; 2];
        softmax.forward(&run, &mut y, &[1000.0, 1000.0]);
        assert_eq!(y, [0.5, 0.5]);
    }

    /// Against float64, from ordinary losses over those of denormal probabilities (87 to 103) to
    /// those of probabilities that are 0.
    #[test]
    fn the_loss_has_no_ceiling() {
        let softmax = Softmax { shape: Shape { height: 1, width: 1, channels: 3 } };
        let run = Run { batch: 1, training: true, seed: 1, step: 1, first_image: 0 };
        for distance in [0.1, 1.0, 20.0, 80.0, 86.0, 88.0, 95.0, 103.0, 110.0, 260.0, 1e6, 1e30] {
            for label in 0..3u32 {
                let x = [distance / 2.0, -distance / 2.0, 0.25f32];
                let mut y = [0.0; 3];
                softmax.forward(&run, &mut y, &x);
                let most = f64::from(x[0].max(x[2]));
                let sum: f64 = x.iter().map(|&x| (f64::from(x) - most).exp()).sum();
                let wanted = most + sum.ln() - f64::from(x[label as usize]);
                let got = tally(&y, &x, &[label]).loss;
                assert!((got - wanted).abs() < 1e-6 * wanted.max(1.0), "{got} for {wanted}");
            }
        }
    }

    #[test]
    fn a_loss_that_is_no_number_stays_none() {
        let softmax = Softmax { shape: Shape { height: 1, width: 1, channels: 2 } };
        let run = Run { batch: 1, training: true, seed: 1, step: 1, first_image: 0 };
        for x in [[f32::NAN, 0.0], [f32::INFINITY, 0.0], [f32::NEG_INFINITY, 0.0]] {
            let mut y = [0.0; 2];
            softmax.forward(&run, &mut y, &x);
            assert!(!tally(&y, &x, &[0]).loss.is_finite(), "{x:?}");
        }
    }
}
