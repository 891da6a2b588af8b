//! Errors class by class, and which class was taken for which: a class that is never right must not
//! hide in an average.

use super::{Answers, best};
use crate::data::dataset::Class;
use crate::layers::softmax::{Tally, rank};
use anyhow::Result;
use std::collections::{BTreeMap, HashSet};
use std::io::Write;

/// Errors of each class, counted batch by batch.
pub struct ByClass(pub Vec<Tally>);

impl ByClass {
    /// Nothing counted yet.
    pub fn new(classes: usize) -> ByClass {
        ByClass(vec![Tally::default(); classes])
    }

    /// Counts a batch. The losses are left out.
    pub fn add(&mut self, answers: &Answers) {
        for (probabilities, &label) in answers.images().zip(&answers.labels) {
            let rank = rank(probabilities, label);
            self.0[label as usize].add(Tally {
                images: 1,
                loss: 0.0,
                top1_wrong: u64::from(rank >= 1),
                top5_wrong: u64::from(rank >= 5),
            });
        }
    }

    /// The classes' indices, that with the highest top-1 error first, those without images last.
    pub fn worst_first(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.0.len()).collect();
        let errors = |c: &usize| match &self.0[*c] {
            Tally { images: 0, .. } => (-1.0, -1.0),
            tally => (tally.top1_error(), tally.top5_error()),
        };
        order.sort_by(|a, b| {
            let (a1, a5) = errors(a);
            let (b1, b5) = errors(b);
            b1.total_cmp(&a1).then(b5.total_cmp(&a5)).then(a.cmp(b))
        });
        order
    }
}

/// How many images of each class were taken for each; only pairs that occurred take memory.
#[derive(Default)]
pub struct Confusion(BTreeMap<(u32, u32), u64>);

impl Confusion {
    /// Counts a batch: the most probable class of each image, the first of equal ones.
    pub fn add(&mut self, answers: &Answers) {
        for (probabilities, &label) in answers.images().zip(&answers.labels) {
            let predicted = best(probabilities, 1)[0].0 as u32;
            *self.0.entry((label, predicted)).or_default() += 1;
        }
    }

    /// Images of class `label` that were taken for class `predicted`.
    pub fn count(&self, label: usize, predicted: usize) -> u64 {
        self.0.get(&(label as u32, predicted as u32)).copied().unwrap_or(0)
    }

    /// (label, predicted) and how often, where that ever was, in order.
    pub fn pairs(&self) -> impl Iterator<Item = ((usize, usize), u64)> {
        self.0
            .iter()
            .map(|(&(label, predicted), &count)| ((label as usize, predicted as usize), count))
    }

    /// Writes a table: a row for each true class and a column for each predicted one, headed by the
    /// classes' names.
    pub fn write_csv(&self, classes: &[Class], out: &mut impl Write) -> Result<()> {
        let mut csv = csv::Writer::from_writer(out);
        let names = distinct_names(classes);
        csv.write_field("true \\ predicted")?;
        csv.write_record(&names)?;
        for (label, name) in names.iter().enumerate() {
            csv.write_field(name)?;
            csv.write_record((0..classes.len()).map(|c| self.count(label, c).to_string()))?;
        }
        Ok(csv.flush()?)
    }
}

/// The classes' names; with the id behind where two have the same, as two of ImageNet's cranes.
pub fn distinct_names(classes: &[Class]) -> Vec<String> {
    let mut seen = HashSet::new();
    let twice: HashSet<&str> =
        classes.iter().map(|c| c.name.as_str()).filter(|name| !seen.insert(*name)).collect();
    let name = |class: &Class| match twice.contains(class.name.as_str()) {
        true => format!("{} ({})", class.name, class.id),
        false => class.name.clone(),
    };
    classes.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(id: &str, name: &str) -> Class {
        Class { id: id.into(), name: name.into(), number: None }
    }

    fn answers(labels: &[u32], average: &[f32]) -> Answers {
        Answers {
            labels: labels.to_vec(),
            indices: Vec::new(),
            average: average.to_vec(),
            tally: Tally::default(),
            members: Vec::new(),
            logs: Vec::new(),
        }
    }

    #[test]
    fn errors_and_confusions_of_four_images() {
        let answers = answers(
            &[0, 0, 2, 2],
            &[
                0.5, 0.25, 0.25, /**/ 0.25, 0.5, 0.25, /**/ 0.5, 0.0, 0.5, /**/ 0.0,
                1.0, 0.0,
            ],
        );
        let (mut by_class, mut confusion) = (ByClass::new(3), Confusion::default());
        by_class.add(&answers);
        confusion.add(&answers);
        let counts = |tally: &Tally| (tally.images, tally.top1_wrong, tally.top5_wrong);
        assert_eq!(
            by_class.0.iter().map(counts).collect::<Vec<_>>(),
            [(2, 1, 0), (0, 0, 0), (2, 2, 0)]
        );
        assert_eq!(by_class.worst_first(), [2, 0, 1]);
        let mut csv = Vec::new();
        let classes = [class("a", "crane"), class("b", "kit fox, fox"), class("c", "crane")];
        confusion.write_csv(&classes, &mut csv).unwrap();
        let wanted = "true \\ predicted,crane (a),\"kit fox, fox\",crane (c)\ncrane (a),1,1,0\n\
                      \"kit fox, fox\",0,0,0\ncrane (c),1,1,0\n";
        assert_eq!(String::from_utf8(csv).unwrap(), wanted);
    }
}
