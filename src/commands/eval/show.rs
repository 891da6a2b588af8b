//! Some of the evaluated images with what the networks make of them, as the paper's figure 4 shows
//! eight: chosen by chance, but each time the same ones.

use super::Args;
use crate::data::area::Area;
use crate::data::dataset::{Class, Dataset, Split};
use crate::pictures::Pixels;
use crate::pictures::cards::{Card, Guess, sheet};
use crate::random::{Purpose, Stream};
use crate::train::evaluate::{Answers, best};
use anyhow::Result;
use std::path::Path;

/// Labels below each image.
const LABELS: usize = 5;

/// One image and what there is to say of it.
struct Shown {
    /// Chooses the images: the lowest ones stay.
    lot: u32,
    index: u32,
    label: usize,
    best: Vec<(usize, f32)>,
}

/// The images that are to be shown, while they are evaluated.
pub(super) struct Show {
    most: usize,
    only_errors: bool,
    shown: Vec<Shown>,
}

impl Show {
    /// None where nothing is to be shown.
    pub(super) fn new(args: &Args) -> Option<Show> {
        let most = usize::from(args.show?);
        Some(Show { most, only_errors: args.only_errors, shown: Vec::new() })
    }

    /// Keeps of a batch those that are drawn by lot.
    pub(super) fn add(&mut self, answers: &Answers) {
        let images = answers.indices.iter().zip(&answers.labels).zip(answers.images());
        for ((&index, &label), probabilities) in images {
            let lot = Stream::new(0, Purpose::Show, 0, index).block(0)[0];
            let last = self.shown.last().map_or(u32::MAX, |shown| shown.lot);
            if self.shown.len() == self.most && lot >= last {
                continue;
            }
            let (best, label) = (best(probabilities, LABELS), label as usize);
            if self.only_errors && best[0].0 == label {
                continue;
            }
            let place = self.shown.partition_point(|shown| shown.lot <= lot);
            self.shown.insert(place, Shown { lot, index, label, best });
            self.shown.truncate(self.most);
        }
    }

    /// Draws them in the order of the split; how many there are.
    pub(super) fn write(mut self, out: &Path, dataset: &Dataset, split: &Split) -> Result<usize> {
        self.shown.sort_by_key(|shown| shown.index);
        let cards = self.shown.iter().map(|shown| card(shown, dataset, split));
        let cards = cards.collect::<Result<Vec<_>>>()?;
        if !cards.is_empty() {
            sheet("", &cards, None).write(out)?;
        }
        Ok(cards.len())
    }
}

fn card(shown: &Shown, dataset: &Dataset, split: &Split) -> Result<Card> {
    let header = &dataset.header;
    let mut pixels = vec![0; header.image_bytes()];
    split.read(shown.index as usize, &Area::all(header.height, header.width), &mut pixels)?;
    let name = |class: usize| -> String {
        let Class { name, .. } = &header.classes[class];
        name.clone()
    };
    let guess = |&(class, probability): &(usize, f32)| Guess {
        label: name(class),
        probability: probability.into(),
        is_right: class == shown.label,
    };
    Ok(Card {
        image: Pixels::new(header.width, header.height, header.channels, &pixels),
        title: name(shown.label),
        labels: shown.best.iter().map(guess).collect(),
    })
}
