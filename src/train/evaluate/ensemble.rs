//! Several networks over the same images, their softmax outputs averaged (paper section 6, Table
//! 2).

use super::views::{begin, log_mean, views, views_of};
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

/// Networks and the loaders that feed them: all see the same images in the same order, and those
/// that crop and centre them alike read the same batches, so that an image is decoded once for
/// them.
pub struct Ensemble<'a> {
    networks: Vec<Member<'a>>,
    turns: Turns,
    weights: Vec<f64>,
}

/// A network with the index of its loader.
pub type Member<'a> = (&'a mut dyn Engine, usize);

impl<'a> Ensemble<'a> {
    /// `networks`, each with the index of the one of `loaders` that feeds it. How much each counts
    /// is said by `weights`, which need not sum to 1: they are divided by their sum.
    pub fn new(
        networks: Vec<Member<'a>>,
        loaders: Vec<Loader>,
        crops: Crops,
        weights: &[f64],
    ) -> Ensemble<'a> {
        assert_eq!(weights.len(), networks.len(), "a weight for each network");
        Ensemble { networks, turns: Turns::new(loaders, crops), weights: weights.to_vec() }
    }

    /// What comes of the next batch; None after the last one. Networks that can are at work on the
    /// batch after it by then, so an error may be that one's.
    pub fn next_answers(&mut self) -> Result<Option<Answers>> {
        self.turns.next(&mut self.networks, &self.weights)
    }
}

/// The batches of an evaluation, one after the other, for networks that are at hand at each.
pub struct Turns {
    loaders: Vec<Loader>,
    crops: Crops,
    /// What comes after the batch whose answers were given last, if it has been brought.
    next: Option<Turn>,
}

/// A batch of each loader.
struct Turn {
    batches: Vec<Batch>,
    /// The networks have begun with it.
    begun: bool,
}

impl Turns {
    /// Of these loaders, which give the same images.
    pub fn new(loaders: Vec<Loader>, crops: Crops) -> Turns {
        Turns { loaders, crops, next: None }
    }

    /// As [`Ensemble::next_answers`], by the same `networks` each time, which make no other pass
    /// in between.
    pub fn next(
        &mut self,
        networks: &mut [Member<'_>],
        weights: &[f64],
    ) -> Result<Option<Answers>> {
        let present = match self.next.take() {
            Some(turn) => Some(turn),
            None => self.bring(networks)?,
        };
        let Some(Turn { batches, begun }) = present else { return Ok(None) };
        if begun {
            self.next = self.bring(networks)?;
        }
        if batches.iter().all(|batch| batch.labels.is_empty()) {
            // Other ranks have all images of it.
            networks.iter_mut().try_for_each(|(engine, _)| engine.sit_out())?;
            return Ok(Some(Answers::default()));
        }
        let ago = usize::from(self.next.as_ref().is_some_and(|next| next.begun));
        let mut members: Vec<(&mut dyn Engine, &Batch)> = networks
            .iter_mut()
            .map(|(engine, loader)| (&mut **engine as _, &batches[*loader]))
            .collect();
        let answers = answers(&mut members, begun.then_some(ago), weights, self.crops)?;
        for (loader, batch) in self.loaders.iter_mut().zip(batches) {
            loader.recycle(batch);
        }
        Ok(Some(answers))
    }

    /// The next batch of each loader, which the networks begin with if all can go on with another
    /// meanwhile; None after the last one.
    fn bring(&mut self, networks: &mut [Member<'_>]) -> Result<Option<Turn>> {
        let mut batches = Vec::with_capacity(self.loaders.len());
        for loader in &mut self.loaders {
            let Some(batch) = loader.next()? else { return Ok(None) };
            batches.push(batch);
        }
        let begun = networks.iter().all(|(engine, loader)| {
            let crops = batches[*loader].images.view().len(engine.plan().input.len());
            engine.ahead() > 0 && (1..=engine.plan().batch).contains(&crops)
        });
        if begun {
            for (engine, loader) in networks {
                begin(*engine, batches[*loader].images.view())?;
            }
        }
        Ok(Some(Turn { batches, begun }))
    }
}

/// What networks make of a batch, each of its own crops of the same images: of a pass that has
/// begun, `ago` passes before the last, or of one that is made now.
fn answers(
    members: &mut [(&mut dyn Engine, &Batch)],
    ago: Option<usize>,
    weights: &[f64],
    crops: Crops,
) -> Result<Answers> {
    let labels = members[0].1.labels.clone();
    let indices = members[0].1.indices.clone();
    let several = members.len() > 1;
    let mut average: Vec<f64> = Vec::new();
    let (mut tallies, mut logs) = (Vec::new(), Vec::new());
    for ((engine, batch), weight) in members.iter_mut().zip(weights) {
        let images = batch.images.view();
        let views = match ago {
            Some(ago) => views_of(*engine, ago, images, crops, &labels)?,
            None => views(*engine, images, crops, &labels)?,
        };
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
