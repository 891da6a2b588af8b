//! A folder of images, one folder a class.
//!
//! Either SRC/train/CLASS/…, SRC/val/CLASS/… and perhaps SRC/test/CLASS/…, or SRC/CLASS/… alone
//! ([`layout`] has the names that splits go by); where there is no `val`, it is
//! carved from the training images. Classes are in the order of their names (by bytes). What a file
//! is, its content decides; its name does not matter.

use super::tree::{Folder, Inner, Tree};
use super::{Content, Item, Source, Stored, carved, check_folder, check_fraction, layout, name_of};
use crate::config_error;
use crate::data::dataset::Class;
use crate::data::preparation::{Orientation, Preparation};
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::path::Path;

/// How to take a folder of images.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Side of the square images made, in pixels.
    pub size: usize,
    /// Whether images are turned as their EXIF data say.
    pub orientation: Orientation,
    /// Share of each class that becomes `val`; None: 0.1, where the source has no `val`.
    pub val_fraction: Option<f64>,
    /// Chooses those.
    pub seed: u64,
    /// All folders are classes, those with a split's name too.
    pub no_splits: bool,
}

/// Finds the images in the folder `path`.
///
/// # Errors
/// If it has no class folders, one of them has no images, or it is not clear which folders are
/// classes and which are splits.
pub fn find(path: &Path, options: &Options) -> Result<Source> {
    check_folder(path)?;
    check_fraction(options.val_fraction.unwrap_or(0.0))?;
    let layout = layout::find(path, options.no_splits)?;
    let mut tree = Tree::new(path)?;
    let inner = layout.splits.iter().map(|(_, folder)| Tree::inner(folder));
    let mut splits = tree.list(inner.collect::<Result<Vec<Vec<Inner>>>>()?)?.into_iter();
    let training = splits.next().unwrap_or_default();
    let train = &layout.splits[0].1;
    if training.is_empty() {
        return Err(config_error!(
            "{} has no class folders; images are expected in {0}/CLASS/ or {0}/train/CLASS/",
            path.display()
        ));
    }
    let classes = classes(&training);
    let labels = labels(&classes);
    ensure!(
        labels.len() == classes.len(),
        "two class folders of {} have names that are no UTF-8 and look alike; rename them",
        train.display()
    );

    let training = items(&mut tree, path, training, &labels)?;
    let mut others = Vec::new();
    for ((split, _), folders) in layout.splits[1..].iter().zip(splits) {
        if !folders.is_empty() {
            others.push((split.to_string(), items(&mut tree, path, folders, &labels)?));
        }
    }
    let splits = if others.iter().any(|(split, _)| split == "val") {
        if options.val_fraction.is_some() {
            return Err(config_error!(
                "{} has a folder `val` of its own; leave out --val-fraction, or move `val` away",
                path.display()
            ));
        }
        vec![("train".to_string(), training)]
    } else {
        carved(training, classes.len(), options.val_fraction.unwrap_or(0.1), options.seed)
    };
    let mut notes = layout.notes;
    notes.extend(tree.notes());
    Ok(Source {
        kind: "image-folder".into(),
        path: path.to_path_buf(),
        classes,
        preparation: Preparation::photographs(options.size, options.orientation),
        channels: 3,
        stored: Stored::Encoded,
        splits: splits.into_iter().chain(others).collect(),
        notes,
        roots: tree.roots,
        left_out: tree.left_out,
    })
}

/// A class for each folder, called after it.
fn classes(folders: &[Folder]) -> Vec<Class> {
    let class = |folder: &Folder| {
        let id = name_of(&folder.path);
        Class { id: id.clone(), name: id, number: None }
    };
    folders.iter().map(class).collect()
}

/// The label of each class's id.
pub(super) fn labels(classes: &[Class]) -> HashMap<&str, u32> {
    classes.iter().enumerate().map(|(label, class)| (class.id.as_str(), label as u32)).collect()
}

/// The images of all class folders of a split, class by class.
pub(super) fn items(
    tree: &mut Tree,
    source: &Path,
    folders: Vec<Folder>,
    labels: &HashMap<&str, u32>,
) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for folder in folders {
        let path = folder.path.clone();
        let label = *labels.get(name_of(&path).as_str()).with_context(|| {
            format!(
                "{} is a class without training images; classes are the folders of the training \
                 split",
                path.display()
            )
        })?;
        let files = tree.files(folder)?;
        if files.is_empty() {
            bail!("the class folder {} has no images; fill or remove it", path.display());
        }
        items.extend(files.into_iter().map(|file| Item {
            name: file.strip_prefix(source).unwrap_or(&file).to_string_lossy().into_owned(),
            label,
            content: Content::File(file),
        }));
    }
    Ok(items)
}
