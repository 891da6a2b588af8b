//! Several networks over the same images, their softmax outputs averaged (paper section 6, Table 2).

use super::views::{log_mean, views};
use crate::data::loader::{Batch, Crops, Loader};
use crate::engine::Engine;
use crate::layers::softmax::{Tally, tally_with};
use anyhow::Result;

/// What several networks make of a batch, and their average.
#[derive(Debug, Default, PartialEq)]
pub struct Answers {
    /// The class of each image.
    pub labels: Vec<u32>,
    /// The index of each image in its split.
    pub indices: Vec<u32>,
    /// The networks' probabilities averaged, [images, classes].
    pub average: Vec<f32>,
    /// What the average came to.
    pub tally: Tally,
    /// What each network came to by itself.
    pub members: Vec<Tally>,
    /// ln p(label) by each network, `[networks][images]`, however small it is.
    pub logs: Vec<Vec<f64>>,
}

impl Answers {
    /// The averaged probabilities of each image, in order.
    pub fn images(&self) -> impl Iterator<Item = &[f32]> {
        self.average.chunks_exact(self.average.len() / self.labels.len().max(1))
    }
}

/// The tally of one network's next batch; None after the last one.
pub fn next(engine: &mut dyn Engine, loader: &mut Loader, crops: Crops) -> Result<Option<Tally>> {
    let Some(batch) = loader.next()? else { return Ok(None) };
    if batch.labels.is_empty() {
        // Other ranks have all images of it.
        return Ok(Some(Tally::default()));
    }
    let answers = answers(&mut [(engine, &batch)], &[1.0], crops)?;
    loader.recycle(batch);
    Ok(Some(answers.tally))
}

/// Networks and the loaders that feed them: all see the same images in the same order, and those
/// that crop and centre them alike read the same batches, so that an image is decoded once for them.
pub struct Ensemble<'a> {
    /// Each with the index of its loader.
    networks: Vec<(&'a mut dyn Engine, usize)>,
    loaders: Vec<Loader>,
    crops: Crops,
    weights: Vec<f64>,
}

impl<'a> Ensemble<'a> {
    /// `networks`, each with the index of the one of `loaders` that feeds it. How much each counts
    /// is said by `weights`, which need not sum to 1: they are divided by their sum.
    pub fn new(
        networks: Vec<(&'a mut dyn Engine, usize)>,
        loaders: Vec<Loader>,
        crops: Crops,
        weights: &[f64],
    ) -> Ensemble<'a> {
        assert_eq!(weights.len(), networks.len(), "a weight for each network");
        Ensemble { networks, loaders, crops, weights: weights.to_vec() }
    }

    /// What comes of the next batch; None after the last one.
    pub fn next_answers(&mut self) -> Result<Option<Answers>> {
        let mut batches = Vec::with_capacity(self.loaders.len());
        for loader in &mut self.loaders {
            let Some(batch) = loader.next()? else { return Ok(None) };
            batches.push(batch);
        }
        if batches.iter().all(|batch| batch.labels.is_empty()) {
            // Other ranks have all images of it.
            return Ok(Some(Answers::default()));
        }
        let networks = self.networks.iter_mut();
        let mut members: Vec<(&mut dyn Engine, &Batch)> =
            networks.map(|(engine, loader)| (&mut **engine as _, &batches[*loader])).collect();
        let answers = answers(&mut members, &self.weights, self.crops)?;
        for (loader, batch) in self.loaders.iter_mut().zip(batches) {
            loader.recycle(batch);
        }
        Ok(Some(answers))
    }
}

/// What networks make of a batch, each of its own crops of the same images.
fn answers(
    members: &mut [(&mut dyn Engine, &Batch)],
    weights: &[f64],
    crops: Crops,
) -> Result<Answers> {
    let labels = members[0].1.labels.clone();
    let indices = members[0].1.indices.clone();
    let several = members.len() > 1;
    let mut average: Vec<f64> = Vec::new();
    let (mut tallies, mut logs) = (Vec::new(), Vec::new());
    for ((engine, batch), weight) in members.iter_mut().zip(weights) {
        let views = views(*engine, batch.images.view(), crops, &labels)?;
        average.resize(views.average.len(), 0.0);
        for (a, p) in average.iter_mut().zip(&views.average) {
            *a += weight * p;
        }
        if several {
            let own: Vec<f32> = views.average.iter().map(|&p| p as f32).collect();
            tallies.push(tally_with(&own, &labels, |image| views.of_label[image]));
        }
        logs.push(views.of_label);
    }
    let whole: f64 = weights.iter().sum();
    let average: Vec<f32> = average.iter().map(|a| (a / whole) as f32).collect();
    let log = |image: usize| {
        log_mean(weights.iter().zip(&logs).map(|(&weight, of_label)| (weight, of_label[image])))
    };
    let tally = tally_with(&average, &labels, log);
    let members = if several { tallies } else { vec![tally] };
    Ok(Answers { labels, indices, average, tally, members, logs })
}
