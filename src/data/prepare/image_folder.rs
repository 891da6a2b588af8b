//! A folder of images, one folder or one tar archive a class.
//!
//! Either SRC/train/CLASS/…, SRC/val/CLASS/… and perhaps SRC/test/CLASS/…, or SRC/CLASS/… alone
//! ([`layout`] has the names that splits go by); where there is no `val`, it is
//! carved from the training images, after what [`tested`] takes of them for `test` where that is
//! wanted. CLASS.tar is a class too ([`class_tars`]). Classes are in the order of their names (by
//! bytes). What a file is, its content decides; its name does not matter.

use super::tree::{Folder, Inner, Tree};
use super::{Content, Item, Source, Stored, carved, check_folder, check_fraction, check_share};
use super::{class_tars, layout, name_of, tested};
use crate::config_error;
use crate::data::dataset::Class;
use crate::data::preparation::{Orientation, Preparation};
use crate::files::place_in;
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// How to take a folder of images.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Side of the square images made, in pixels.
    pub size: usize,
    /// Whether images are turned as their EXIF data say.
    pub orientation: Orientation,
    /// Share of each class that becomes `val`; None: 0.1, where the source has no `val`.
    pub val_fraction: Option<f64>,
    /// Share of the training images that becomes `test`, chosen by their files' names; None: none.
    pub test_fraction: Option<f64>,
    /// Chooses the images of `val`.
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
    check_share("--test-fraction", options.test_fraction.unwrap_or(0.0))?;
    let layout = layout::find(path, options.no_splits)?;
    let mut tree = Tree::new(path)?;
    let inner = layout.splits.iter().map(|(_, folder)| Tree::inner(folder));
    let folders = tree.list(inner.collect::<Result<Vec<Vec<Inner>>>>()?)?.into_iter();
    let tars = layout.splits.iter().map(|(_, folder)| class_tars::find(folder));
    let tars = tars.collect::<Result<Vec<_>>>()?;
    let splits: Vec<Classes> =
        folders.zip(tars).map(|(folders, tars)| Classes { folders, tars }).collect();
    splits.iter().try_for_each(Classes::check)?;
    let mut splits = splits.into_iter();
    let training = splits.next().unwrap_or_default();
    let train = &layout.splits[0].1;
    if training.is_empty() {
        return Err(config_error!(
            "{} has no class folders; images are expected in {0}/CLASS/ or {0}/train/CLASS/",
            path.display()
        ));
    }
    let mut notes = layout.notes;
    notes.extend(training.note(path));
    let classes = training.classes();
    let labels = labels(&classes);
    ensure!(
        labels.len() == classes.len(),
        "two class folders of {} have names that are no UTF-8 and look alike; rename them",
        train.display()
    );

    let training = training.items(&mut tree, path, &labels)?;
    let mut others = Vec::new();
    for ((split, _), classes) in layout.splits[1..].iter().zip(splits) {
        if !classes.is_empty() {
            others.push((split.to_string(), classes.items(&mut tree, path, &labels)?));
        }
    }
    let (splits, note) = parted(path, options, &classes, training, others)?;
    notes.extend(note);
    notes.extend(tree.notes());
    Ok(Source {
        kind: "image-folder".into(),
        path: path.to_path_buf(),
        classes,
        preparation: Preparation::photographs(options.size, options.orientation),
        channels: 3,
        stored: Stored::Encoded,
        splits,
        notes,
        roots: tree.roots,
        left_out: tree.left_out,
    })
}

/// Splits and their images, in the order in which they are written.
type Splits = Vec<(String, Vec<Item>)>;

/// The training images without those that become other splits, those, and the splits that the
/// source `path` has of its own; and what to say of classes without training images.
fn parted(
    path: &Path,
    options: &Options,
    classes: &[Class],
    training: Vec<Item>,
    others: Splits,
) -> Result<(Splits, Option<String>)> {
    let has = |split: &str| others.iter().any(|(name, _)| name == split);
    let own = |split: &str, option: &str| {
        config_error!(
            "{} has a folder `{split}` of its own; leave out {option}, or move `{split}` away",
            path.display()
        )
    };
    let (training, test) = match options.test_fraction {
        Some(_) if has("test") => return Err(own("test", "--test-fraction")),
        Some(fraction) => tested::part(training, fraction),
        None => (training, Vec::new()),
    };
    let note = untrained(&training, classes)?;
    let mut splits = if has("val") {
        if options.val_fraction.is_some() {
            return Err(own("val", "--val-fraction"));
        }
        vec![("train".to_string(), training)]
    } else {
        carved(training, classes.len(), options.val_fraction.unwrap_or(0.1), options.seed)
    };
    splits.extend(others);
    if !test.is_empty() {
        splits.push(("test".to_string(), test));
    }
    Ok((splits, note))
}

/// The classes of a split: folders, and archives.
#[derive(Default)]
struct Classes {
    folders: Vec<Folder>,
    tars: Vec<PathBuf>,
}

impl Classes {
    fn is_empty(&self) -> bool {
        self.folders.is_empty() && self.tars.is_empty()
    }

    /// Err: a class is there in both forms.
    fn check(&self) -> Result<()> {
        let folders: Vec<&Path> = self.folders.iter().map(|folder| folder.path.as_path()).collect();
        class_tars::check(&folders, &self.tars)
    }

    /// A class for each, called after it, by name.
    fn classes(&self) -> Vec<Class> {
        let folders = self.folders.iter().map(|folder| name_of(&folder.path));
        let mut ids: Vec<String> =
            folders.chain(self.tars.iter().map(|tar| class_tars::class_of(tar))).collect();
        ids.sort();
        let class = |id: String| Class { id: id.clone(), name: id, number: None };
        ids.into_iter().map(class).collect()
    }

    /// Their images, class by class. Err: one is a class without training images or cannot be used.
    fn items(
        self,
        tree: &mut Tree,
        source: &Path,
        labels: &HashMap<&str, u32>,
    ) -> Result<Vec<Item>> {
        let labelled = self.tars.into_iter().map(|tar| {
            let label = label_of(&tar, &class_tars::class_of(&tar), labels)?;
            Ok((tar, label))
        });
        let labelled = labelled.collect::<Result<Vec<_>>>()?;
        let mut all = items(tree, source, self.folders, labels)?;
        all.extend(class_tars::items(source, &labelled)?);
        all.sort_by_key(|item| item.label);
        Ok(all)
    }

    /// That archives are taken for classes: one may lie there for another reason.
    fn note(&self, path: &Path) -> Option<String> {
        let first = name_of(self.tars.first()?);
        Some(match self.tars.len() {
            1 => format!("the archive {first} in {} is taken for a class", path.display()),
            n => format!(
                "{n} archives in {} are taken for classes, {first} the first",
                path.display()
            ),
        })
    }
}

/// What to say where classes have only test images. Err: all classes have.
fn untrained(training: &[Item], classes: &[Class]) -> Result<Option<String>> {
    let mut trained = vec![false; classes.len()];
    training.iter().for_each(|item| trained[item.label as usize] = true);
    let without = trained.iter().filter(|trained| !**trained).count();
    let Some(first) = trained.iter().position(|trained| !trained) else { return Ok(None) };
    ensure!(without < classes.len(), "--test-fraction leaves no images to train on; give less");
    Ok(Some(format!(
        "warning: all images of {without} classes are in the test split by their names, {} the \
         first of them",
        classes[first].id
    )))
}

/// The label of each class's id.
pub(super) fn labels(classes: &[Class]) -> HashMap<&str, u32> {
    classes.iter().enumerate().map(|(label, class)| (class.id.as_str(), label as u32)).collect()
}

/// The label of the class `id`, whose images are in `path`.
fn label_of(path: &Path, id: &str, labels: &HashMap<&str, u32>) -> Result<u32> {
    labels.get(id).copied().with_context(|| {
        format!(
            "{} is a class without training images; classes are the folders of the training split",
            path.display()
        )
    })
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
        let label = label_of(&path, &name_of(&path), labels)?;
        let files = tree.files(folder)?;
        if files.is_empty() {
            bail!("the class folder {} has no images; fill or remove it", path.display());
        }
        items.extend(files.into_iter().map(|file| Item {
            name: place_in(source, &file),
            label,
            content: Content::File(file),
        }));
    }
    Ok(items)
}
