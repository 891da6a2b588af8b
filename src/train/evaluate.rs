//! Errors of one or several networks on a split: one crop or ten, softmax outputs averaged over
//! crops (paper section 4.1) and over networks (section 6).

use super::interrupt::Interrupt;
use crate::data::form::CropView;
use crate::data::loader::{Crops, Loader};
use crate::engine::Engine;
use crate::layers::Run;
use crate::layers::softmax::{Tally, tally};
use crate::progress::Progress;
use anyhow::Result;

/// Images whose `crops` fit into an engine's batch.
pub fn images_per_batch(batch: usize, crops: Crops) -> usize {
    (batch / crops.count()).max(1)
}

/// Each network with the loader that feeds it: they see the same images, but may crop and centre
/// them in their own way.
pub type Member<'a> = (&'a mut dyn Engine, Loader);

/// The tally of all images, None if interrupted. Progress counts images.
pub fn evaluate(
    members: &mut [Member<'_>],
    crops: Crops,
    progress: &Progress,
    interrupt: &Interrupt,
) -> Result<Option<Tally>> {
    let mut sum = Tally::default();
    loop {
        if interrupt.wanted() {
            return Ok(None);
        }
        let mut average: Vec<f64> = Vec::new();
        let mut labels: Vec<u32> = Vec::new();
        for (engine, loader) in members.iter_mut() {
            let Some(batch) = loader.next()? else { return Ok(Some(sum)) };
            let probabilities = probabilities(*engine, batch.images.view(), crops)?;
            average.resize(probabilities.len(), 0.0);
            for (a, p) in average.iter_mut().zip(&probabilities) {
                *a += p;
            }
            labels.clone_from(&batch.labels);
            loader.recycle(batch);
        }
        let count = members.len() as f64;
        let average: Vec<f32> = average.iter().map(|a| (a / count) as f32).collect();
        sum.add(tally(&average, &labels));
        progress.advance(labels.len() as u64);
    }
}

/// Class probabilities [images, classes] of `inputs`, images · crops of them, averaged over each
/// image's crops. More crops than the engine's batch go through it piece by piece.
pub fn probabilities(
    engine: &mut dyn Engine,
    inputs: CropView<'_>,
    crops: Crops,
) -> Result<Vec<f64>> {
    let (classes, values) = (engine.plan().classes, engine.plan().input.len());
    let (most, count) = (engine.plan().batch, crops.count());
    let inputs_len = inputs.len(values);
    let mut all = Vec::with_capacity(inputs_len * classes);
    for first in (0..inputs_len).step_by(most) {
        let batch = most.min(inputs_len - first);
        let run = Run { batch, training: false, seed: 0, step: 0, first_image: 0 };
        engine.forward(&run, inputs.slice(first..first + batch, values))?;
        all.extend_from_slice(&engine.probabilities()?[..batch * classes]);
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
    Ok(average)
}
