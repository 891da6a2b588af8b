//! Errors of one or several networks on a split: one crop or ten, softmax outputs averaged over
//! crops (paper section 4.1) and over networks (section 6).

use crate::data::form::CropView;
use crate::data::loader::{Crops, Loader};
use crate::engine::Engine;
use crate::layers::Run;
use crate::layers::softmax::{Tally, is_lost, log_probability, tally_with};
use crate::progress::Progress;
use anyhow::Result;

/// Images whose `crops` fit into an engine's batch.
pub fn images_per_batch(batch: usize, crops: Crops) -> usize {
    (batch / crops.count()).max(1)
}

/// Each network with the loader that feeds it: they see the same images, but may crop and centre
/// them in their own way.
pub type Member<'a> = (&'a mut dyn Engine, &'a mut Loader);

/// The tally of the next batch; None after the last one.
pub fn next(members: &mut [Member<'_>], crops: Crops) -> Result<Option<Tally>> {
    let (mut average, mut logs): (Vec<f64>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
    let mut labels: Vec<u32> = Vec::new();
    for (engine, loader) in members.iter_mut() {
        let Some(batch) = loader.next()? else { return Ok(None) };
        let views = views(*engine, batch.images.view(), crops, &batch.labels)?;
        average.resize(views.average.len(), 0.0);
        for (a, p) in average.iter_mut().zip(&views.average) {
            *a += p;
        }
        logs.push(views.of_label);
        labels.clone_from(&batch.labels);
        loader.recycle(batch);
    }
    let count = members.len() as f64;
    let average: Vec<f32> = average.iter().map(|a| (a / count) as f32).collect();
    let log = |image: usize| log_mean(logs.iter().map(|of_label| of_label[image]));
    Ok(Some(tally_with(&average, &labels, log)))
}

/// The tally of all images. Progress counts images.
pub fn evaluate(members: &mut [Member<'_>], crops: Crops, progress: &Progress) -> Result<Tally> {
    let mut sum = Tally::default();
    while let Some(tally) = next(members, crops)? {
        sum.add(tally);
        progress.advance(tally.images);
    }
    Ok(sum)
}

/// What one network makes of images by all their crops.
struct Views {
    /// Class probabilities [images, classes], averaged over each image's crops.
    average: Vec<f64>,
    /// ln of the averaged probability of each image's label, however small it is; empty where there
    /// are no labels.
    of_label: Vec<f64>,
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
fn views(
    engine: &mut dyn Engine,
    inputs: CropView<'_>,
    crops: Crops,
    labels: &[u32],
) -> Result<Views> {
    let (classes, values) = (engine.plan().classes, engine.plan().input.len());
    let (most, count) = (engine.plan().batch, crops.count());
    let inputs_len = inputs.len(values);
    let of_crops: Vec<u32> = labels.iter().flat_map(|&l| std::iter::repeat_n(l, count)).collect();
    let (mut all, mut logs) = (Vec::with_capacity(inputs_len * classes), Vec::new());
    for first in (0..inputs_len).step_by(most) {
        let batch = most.min(inputs_len - first);
        let run = Run { batch, training: false, seed: 0, step: 0, first_image: 0 };
        engine.forward(&run, inputs.slice(first..first + batch, values))?;
        let probabilities = &engine.probabilities()?[..batch * classes];
        all.extend_from_slice(probabilities);
        if !labels.is_empty() {
            logs.extend(label_logs(engine, probabilities, &of_crops[first..first + batch])?);
        }
    }
    let mut average = vec![0.0; all.len() / count];
    for (average, crops) in average.chunks_exact_mut(classes).zip(all.chunks_exact(count * classes))
    {
        for crop in crops.chunks_exact(classes) {
            for (a, p) in average.iter_mut().zip(crop) {
                *a += f64::from(*p) / count as f64;
            }
        }
    }
    let of_label = logs.chunks_exact(count).map(|logs| log_mean(logs.iter().copied())).collect();
    Ok(Views { average, of_label })
}

/// ln p(label) of each crop of the pass that has just made `probabilities` [crops, classes]; what a
/// probability has lost comes from what softmax has read.
fn label_logs(engine: &dyn Engine, probabilities: &[f32], labels: &[u32]) -> Result<Vec<f64>> {
    let classes = engine.plan().classes;
    let of_label = |crop: usize| probabilities[crop * classes + labels[crop] as usize];
    let any_lost = (0..labels.len()).any(|crop| is_lost(of_label(crop)));
    let x = if any_lost { engine.left_in(engine.plan().logits())? } else { Vec::new() };
    let log = |crop: usize| match of_label(crop) {
        p if is_lost(p) => log_probability(&x[crop * classes..][..classes], labels[crop]),
        p => f64::from(p).ln(),
    };
    Ok((0..labels.len()).map(log).collect())
}

/// ln of the mean of the numbers whose logarithms these are.
fn log_mean(logs: impl Iterator<Item = f64> + Clone) -> f64 {
    let most = logs.clone().fold(f64::NEG_INFINITY, f64::max);
    if most == f64::NEG_INFINITY {
        return most;
    }
    let (count, sum) =
        logs.fold((0.0, 0.0f64), |(n, sum), log| (n + 1.0, sum + (log - most).exp()));
    most + (sum / count).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_in_logarithms() {
        let mean = |values: [f64; 3]| log_mean(values.map(f64::ln).into_iter()).exp();
        assert!((mean([0.5, 0.25, 0.75]) - 0.5).abs() < 1e-15);
        assert!((log_mean([-260.0, -1000.0].into_iter()) + 260.0 + 2f64.ln()).abs() < 1e-12);
        assert_eq!(log_mean([f64::NEG_INFINITY; 2].into_iter()), f64::NEG_INFINITY);
    }
}
