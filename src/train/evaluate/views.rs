//! What one network makes of images by all their crops (paper section 4.1).

use crate::data::form::CropView;
use crate::data::loader::Crops;
use crate::engine::Engine;
use crate::layers::Run;
use crate::layers::softmax::{is_lost, log_probability};
use anyhow::Result;
use std::ops::Range;

/// What one network makes of images by all their crops.
pub(super) struct Views {
    /// Class probabilities [images, classes], averaged over each image's crops.
    pub(super) average: Vec<f64>,
    /// ln of the averaged probability of each image's label, however small it is; empty where there
    /// are no labels.
    pub(super) of_label: Vec<f64>,
}

/// Class probabilities [images, classes] of `inputs`, images · crops of them, averaged over each
/// image's crops. More crops than the engine's batch go through it piece by piece.
pub fn probabilities(
    engine: &mut dyn Engine,
    inputs: CropView<'_>,
    crops: Crops,
) -> Result<Vec<f64>> {
    Ok(views(engine, inputs, crops, &[])?.average)
}

/// As [`probabilities`], with the logarithms of the labels' probabilities.
pub(super) fn views(
    engine: &mut dyn Engine,
    inputs: CropView<'_>,
    crops: Crops,
    labels: &[u32],
) -> Result<Views> {
    let (most, values) = (engine.plan().batch, engine.plan().input.len());
    let mut answers = OfCrops::new(crops, labels);
    let inputs_len = inputs.len(values);
    for first in (0..inputs_len).step_by(most) {
        let piece = first..inputs_len.min(first + most);
        begin(engine, inputs.slice(piece.clone(), values))?;
        answers.add(engine, 0, piece)?;
    }
    Ok(answers.views(engine.plan().classes))
}

/// As [`views`], of inputs that one pass has begun with, `ago` passes before the last.
pub(super) fn views_of(
    engine: &dyn Engine,
    ago: usize,
    inputs: CropView<'_>,
    crops: Crops,
    labels: &[u32],
) -> Result<Views> {
    let mut answers = OfCrops::new(crops, labels);
    answers.add(engine, ago, 0..inputs.len(engine.plan().input.len()))?;
    Ok(answers.views(engine.plan().classes))
}

/// Begins a pass of `inputs`, at most a batch of the engine.
pub(super) fn begin(engine: &mut dyn Engine, inputs: CropView<'_>) -> Result<()> {
    let batch = inputs.len(engine.plan().input.len());
    engine.forward(&Run { batch, training: false, seed: 0, step: 0, first_image: 0 }, inputs)
}

/// What a network makes of crops, one after the other.
struct OfCrops {
    /// Crops of an image.
    count: usize,
    /// The label of each crop, if there are labels.
    labels: Vec<u32>,
    /// [crops, classes]
    all: Vec<f32>,
    logs: Vec<f64>,
}

impl OfCrops {
    fn new(crops: Crops, labels: &[u32]) -> OfCrops {
        let count = crops.count();
        let labels = labels.iter().flat_map(|&l| std::iter::repeat_n(l, count)).collect();
        OfCrops { count, labels, all: Vec::new(), logs: Vec::new() }
    }

    /// The next `crops`, of the pass `ago` passes before the last.
    fn add(&mut self, engine: &dyn Engine, ago: usize, crops: Range<usize>) -> Result<()> {
        let values = crops.len() * engine.plan().classes;
        let probabilities = &engine.left_by(ago, engine.plan().probabilities())?[..values];
        self.all.extend_from_slice(probabilities);
        if !self.labels.is_empty() {
            let labels = &self.labels[crops];
            self.logs.extend(label_logs(engine, ago, probabilities, labels)?);
        }
        Ok(())
    }

    /// The means over each image's crops.
    fn views(self, classes: usize) -> Views {
        let count = self.count;
        let mut average = vec![0.0; self.all.len() / count];
        let images = average.chunks_exact_mut(classes);
        for (average, crops) in images.zip(self.all.chunks_exact(count * classes)) {
            for crop in crops.chunks_exact(classes) {
                for (a, p) in average.iter_mut().zip(crop) {
                    *a += f64::from(*p) / count as f64;
                }
            }
        }
        let mean = |logs: &[f64]| log_mean(logs.iter().map(|&log| (1.0, log)));
        Views { average, of_label: self.logs.chunks_exact(count).map(mean).collect() }
    }
}

/// ln p(label) of each crop of the pass, `ago` before the last, that has made `probabilities`
/// [crops, classes]; what a probability has lost comes from what softmax has read.
fn label_logs(
    engine: &dyn Engine,
    ago: usize,
    probabilities: &[f32],
    labels: &[u32],
) -> Result<Vec<f64>> {
    let classes = engine.plan().classes;
    let of_label = |crop: usize| probabilities[crop * classes + labels[crop] as usize];
    let any_lost = (0..labels.len()).any(|crop| is_lost(of_label(crop)));
    let logits = engine.plan().logits();
    let x = if any_lost { engine.left_by(ago, logits)? } else { Vec::new() };
    let log = |crop: usize| match of_label(crop) {
        p if is_lost(p) => log_probability(&x[crop * classes..][..classes], labels[crop]),
        p => f64::from(p).ln(),
    };
    Ok((0..labels.len()).map(log).collect())
}

/// ln of the weighted mean of numbers, from pairs of weight and logarithm.
pub(super) fn log_mean(logs: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let counted = logs.filter(|&(weight, _)| weight > 0.0);
    let most = counted.clone().fold(f64::NEG_INFINITY, |most, (_, log)| most.max(log));
    if most == f64::NEG_INFINITY {
        return most;
    }
    let (weights, sum) = counted.fold((0.0, 0.0f64), |(weights, sum), (weight, log)| {
        (weights + weight, sum + weight * (log - most).exp())
    });
    most + (sum / weights).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_in_logarithms() {
        let mean = |values: [f64; 3]| log_mean(values.map(|v| (1.0, v.ln())).into_iter()).exp();
        assert!((mean([0.5, 0.25, 0.75]) - 0.5).abs() < 1e-15);
        let far = [(1.0, -260.0), (1.0, -1000.0)];
        assert!((log_mean(far.into_iter()) + 260.0 + 2f64.ln()).abs() < 1e-12);
        assert_eq!(log_mean([(1.0, f64::NEG_INFINITY); 2].into_iter()), f64::NEG_INFINITY);
        let weighted = [(0.75, 0.5f64.ln()), (0.25, 0.1f64.ln()), (0.0, f64::NEG_INFINITY)];
        assert!((log_mean(weighted.into_iter()).exp() - 0.4).abs() < 1e-15);
    }
}
