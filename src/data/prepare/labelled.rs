//! Pictures that come with their labels, picture by picture, and not in a folder a class: what
//! [`list`](super::list), [`webdataset`](super::webdataset) and [`parquet`](super::parquet) gather
//! becomes a source here.
//!
//! Classes that are names are in the order of their bytes, as folders are; classes that are numbers
//! in theirs. Where names for numbers are given, they are the classes, in their order.

use super::{Content, Item, Skipped, Source, Stored, carved, check_fraction, named};
use crate::config_error;
use crate::data::dataset::Class;
use crate::data::preparation::Preparation;
use anyhow::{Result, ensure};
use std::collections::HashMap;
use std::path::Path;

/// More classes are none that a network is trained on: most likely the wrong column was taken.
const MOST_CLASSES: usize = 1_000_000;

/// How images are parted where the source has no validation images.
#[derive(Clone, Copy, Debug)]
pub struct Parted {
    /// Share of each class that becomes `val`; None: 0.1, where the source has no `val`.
    pub val_fraction: Option<f64>,
    /// Chooses them.
    pub seed: u64,
}

/// Images gathered so far, each with its label.
pub(super) struct Gathered {
    /// Names of the classes 0, 1, 2 …, where they are known.
    names: Option<Vec<String>>,
    /// Labels as they are written, in the order in which they were met, and their numbers there.
    met: Vec<String>,
    numbers: HashMap<String, u32>,
    /// In the order of the splits' names in [`SPLITS`].
    images: [Vec<Item>; 3],
    /// What a person should know, one sentence each.
    pub(super) notes: Vec<String>,
    /// What was found and is no picture with a label.
    pub(super) left_out: Vec<Skipped>,
}

/// The splits, in the order in which they are written.
const SPLITS: [&str; 3] = ["train", "val", "test"];

impl Gathered {
    /// Nothing yet; `names`: those of the classes 0, 1, 2 …, where they are known.
    pub(super) fn new(names: Option<Vec<String>>) -> Gathered {
        Gathered {
            names,
            met: Vec::new(),
            numbers: HashMap::new(),
            images: Default::default(),
            notes: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Adds an image of the split `split` with the label `label`, as it is written.
    ///
    /// # Errors
    /// If there are names, and the label is neither the number of one nor one of them; the caller
    /// says where.
    pub(super) fn add(
        &mut self,
        split: &str,
        label: &str,
        name: String,
        content: Content,
    ) -> Result<()> {
        let number = match self.numbers.get(label) {
            Some(&number) => number,
            None => self.meet(label)?,
        };
        let at = SPLITS.iter().position(|known| *known == split).unwrap_or(0);
        self.images[at].push(Item { name, label: number, content });
        Ok(())
    }

    /// Notes an image that has no label, and why.
    pub(super) fn leave_out(&mut self, name: String, reason: String) {
        self.left_out.push(Skipped { file: name, reason });
    }

    /// The number of a label that is new. With names it is the class's own.
    fn meet(&mut self, label: &str) -> Result<u32> {
        let number = match &self.names {
            Some(names) => {
                // A number is a number, also where classes are called by others.
                let number = label.parse().ok().filter(|&number: &usize| number < names.len());
                let named = || names.iter().position(|name| name == label);
                number.or_else(named).ok_or_else(|| {
                    anyhow::anyhow!(
                        "the label {label} is none of the {} classes that have names; numbers \
                         begin with 0",
                        names.len()
                    )
                })?
            }
            None => {
                ensure!(
                    self.met.len() < MOST_CLASSES,
                    "there are more than {MOST_CLASSES} different labels, {label} the next; they \
                     are to be classes"
                );
                self.met.push(label.to_string());
                self.met.len() - 1
            }
        } as u32;
        self.numbers.insert(label.to_string(), number);
        Ok(number)
    }

    /// The source of all that was gathered.
    ///
    /// # Errors
    /// If nothing is there to train on, or `part` parts what is parted already.
    pub(super) fn source(
        mut self,
        kind: &str,
        path: &Path,
        preparation: Preparation,
        part: Parted,
    ) -> Result<Source> {
        check_fraction(part.val_fraction.unwrap_or(0.0))?;
        let classes = self.classes();
        let [train, val, test] = self.images;
        if train.is_empty() {
            let others = if val.is_empty() && test.is_empty() { "" } else { " to train on" };
            let first = self.left_out.first();
            let first =
                first.map_or(String::new(), |one| format!(": {}: {}", one.file, one.reason));
            return Err(config_error!(
                "{} has no images with labels{others}{first}",
                path.display()
            ));
        }
        let mut splits = if val.is_empty() {
            carved(train, classes.len(), part.val_fraction.unwrap_or(0.1), part.seed)
        } else if part.val_fraction.is_some() {
            return Err(config_error!(
                "{} has validation images of its own; leave out --val-fraction",
                path.display()
            ));
        } else {
            vec![("train".to_string(), train), ("val".to_string(), val)]
        };
        if !test.is_empty() {
            splits.push(("test".to_string(), test));
        }
        if let Some(first) = self.left_out.first() {
            self.notes.push(format!(
                "warning: {} images are left out since they have no label, {} the first of them: {}",
                self.left_out.len(),
                first.file,
                first.reason
            ));
        }
        Ok(Source {
            kind: kind.into(),
            path: path.to_path_buf(),
            classes: distinct(classes)?,
            preparation,
            channels: 3,
            stored: Stored::Encoded,
            splits,
            notes: self.notes,
            roots: Vec::new(),
            left_out: self.left_out,
        })
    }

    /// The classes in their order, which the images' labels are made to follow.
    fn classes(&mut self) -> Vec<String> {
        if let Some(names) = self.names.take() {
            return names;
        }
        let number = |label: &String| label.parse::<i64>().ok();
        let mut order: Vec<usize> = (0..self.met.len()).collect();
        if self.met.iter().all(|label| number(label).is_some()) {
            order.sort_by_key(|&at| (number(&self.met[at]), &self.met[at]));
        } else {
            order.sort_by_key(|&at| &self.met[at]);
        }
        let mut places = vec![0; order.len()];
        order.iter().enumerate().for_each(|(place, &at)| places[at] = place as u32);
        let images = self.images.iter_mut().flatten();
        images.for_each(|item| item.label = places[item.label as usize]);
        order.into_iter().map(|at| std::mem::take(&mut self.met[at])).collect()
    }
}

/// Classes with these names. Where several have the same, as two of ImageNet's are cranes, their ids
/// have their numbers.
fn distinct(names: Vec<String>) -> Result<Vec<Class>> {
    let mut many: HashMap<&str, usize> = HashMap::new();
    names.iter().for_each(|name| *many.entry(name).or_default() += 1);
    let id = |(number, name): (usize, &String)| match many[name.as_str()] {
        1 => name.clone(),
        _ => format!("{name} ({number})"),
    };
    let ids = names.iter().enumerate().map(id).collect();
    let classes = named(ids)?.into_iter().zip(&names);
    Ok(classes.map(|(class, name)| Class { name: name.clone(), ..class }).collect())
}
