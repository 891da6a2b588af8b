//! What the networks answer to each image, as a table for other programs: CSV, a row an image.

use super::{Answers, best};
use crate::data::dataset::{Class, Split};
use anyhow::Result;
use csv::Writer;
use std::io::Write;

/// So many of the most probable classes of each image are written.
const BEST: usize = 5;

/// Writes rows as batches come: `file` (the image file that the record was made from), `label` and
/// `label_name` (the true class), then for the five most probable classes, the most probable first,
/// `id1`, `name1`, `probability1`, …
pub struct Predictions<'a, W: Write> {
    csv: Writer<W>,
    split: &'a Split,
    classes: &'a [Class],
}

impl<'a, W: Write> Predictions<'a, W> {
    /// Writes the header.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn new(out: W, split: &'a Split, classes: &'a [Class]) -> Result<Predictions<'a, W>> {
        let mut csv = Writer::from_writer(out);
        let columns = (1..=BEST.min(classes.len()))
            .flat_map(|n| [format!("id{n}"), format!("name{n}"), format!("probability{n}")]);
        let first = ["file", "label", "label_name"].map(String::from);
        csv.write_record(first.into_iter().chain(columns))?;
        Ok(Predictions { csv, split, classes })
    }

    /// Writes the rows of a batch.
    ///
    /// # Errors
    /// As [`Predictions::new`].
    pub fn add(&mut self, answers: &Answers) -> Result<()> {
        let images = answers.indices.iter().zip(&answers.labels).zip(answers.images());
        for ((&index, &label), probabilities) in images {
            let label = &self.classes[label as usize];
            self.csv.write_field(self.split.name(index as usize))?;
            self.csv.write_field(&label.id)?;
            self.csv.write_field(&label.name)?;
            for (class, probability) in best(probabilities, BEST) {
                self.csv.write_field(&self.classes[class].id)?;
                self.csv.write_field(&self.classes[class].name)?;
                self.csv.write_field(probability.to_string())?;
            }
            self.csv.write_record(None::<&[u8]>)?;
        }
        Ok(())
    }

    /// Writes what is still held back.
    ///
    /// # Errors
    /// As [`Predictions::new`].
    pub fn finish(mut self) -> Result<()> {
        Ok(self.csv.flush()?)
    }
}
