//! The archives as they are downloaded.

use super::{Splits, Year, kit};
use crate::config_error;
use crate::data::dataset::Class;
use crate::data::prepare::{Backing, Content, Item, lines, tape, walk};
use crate::data::unpack::base_name;
use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The archives are searched for this many folders deep.
const DEPTH: usize = 2;

/// The files that a contest's images and labels came in.
struct Pieces {
    train: PathBuf,
    val: PathBuf,
    kit: PathBuf,
    /// 2010 alone: the test images, their labels, and images that replace others.
    test: Option<PathBuf>,
    truth: Option<PathBuf>,
    patch: Option<PathBuf>,
}

impl Pieces {
    /// Looks for them below `path`, and says which are missing.
    fn find(path: &Path, year: Year) -> Result<Pieces> {
        let files = walk(path, DEPTH)?;
        let mut missing = Vec::new();
        let mut piece = |name: &str, what: &str, needed: bool| {
            let found = files.iter().find(|file| file.file_name().is_some_and(|n| n == name));
            if found.is_none() && needed {
                missing.push(format!("{name} ({what})"));
            }
            found.cloned()
        };
        let (train, val, kit, test) = match year {
            Year::Y2010 => (
                piece("ILSVRC2010_images_train.tar", "training images", true),
                piece("ILSVRC2010_images_val.tar", "validation images", true),
                piece("ILSVRC2010_devkit-1.0.tar.gz", "classes and validation labels", true),
                piece("ILSVRC2010_images_test.tar", "test images", false),
            ),
            Year::Y2012 => (
                piece("ILSVRC2012_img_train.tar", "training images", true),
                piece("ILSVRC2012_img_val.tar", "validation images", true),
                piece("ILSVRC2012_devkit_t12.tar.gz", "classes and validation labels", true),
                None,
            ),
        };
        let truth = piece("ILSVRC2010_test_ground_truth.txt", "test labels", test.is_some());
        let patch = piece("patch_images.tar", "replaced images", false);
        let (Some(train), Some(val), Some(kit), true) = (train, val, kit, missing.is_empty())
        else {
            return Err(config_error!(
                "{} lacks {}; they are looked for there and {DEPTH} folders below",
                path.display(),
                missing.join(", ")
            ));
        };
        let patch = patch.filter(|_| year == Year::Y2010);
        Ok(Pieces { train, val, kit, test, truth, patch })
    }
}

/// Classes and splits of the archives below `path`.
pub(super) fn archive_splits(
    path: &Path,
    year: Year,
    notes: &mut Vec<String>,
) -> Result<(Vec<Class>, Splits)> {
    let Pieces { train, val, kit, test, truth, patch } = Pieces::find(path, year)?;
    let kit = kit::read_kit(&kit, year).with_context(|| kit.display().to_string())?;
    let patches = match patch {
        Some(patch) => patches(&patch)?,
        None => HashMap::new(),
    };

    let mut splits = vec![
        ("train".to_string(), training_items(&train, &kit.classes)?),
        ("val".to_string(), numbered_items(&val, &kit.truth, &kit.labels)?),
    ];
    match (test, truth) {
        (Some(test), Some(truth)) => {
            let ids = lines(&truth)?;
            let items = numbered_items(&test, &ids, &kit.labels)
                .with_context(|| format!("with the labels of {}", truth.display()))?;
            splits.push(("test".to_string(), items));
        }
        _ if year == Year::Y2010 => {
            notes.push("no test split: ILSVRC2010_images_test.tar is not there".into());
        }
        _ => {}
    }
    let mut replaced = 0;
    for item in splits.iter_mut().flat_map(|(_, items)| items) {
        if let Some(content) = patches.get(base_name(&item.name)) {
            item.content = content.clone();
            replaced += 1;
        }
    }
    if !patches.is_empty() {
        notes.push(format!("{replaced} images are replaced by those of patch_images.tar"));
    }
    Ok((kit.classes, splits))
}

/// The training archive's images, class by class, in the archive's order.
fn training_items(path: &Path, classes: &[Class]) -> Result<Vec<Item>> {
    let file = Arc::new(Backing::open(path)?);
    let outer = tape::list(&file, 0, file.len()).with_context(|| path.display().to_string())?;
    let labels: HashMap<&str, usize> =
        classes.iter().enumerate().map(|(label, class)| (class.id.as_str(), label)).collect();
    let label_of = |id: &str, name: &str| {
        labels.get(id).copied().with_context(|| {
            format!("{}: {name} belongs to no class of the kit's meta.mat", path.display())
        })
    };
    let of_entry = |entry: &tape::Entry| -> Result<Vec<(usize, tape::Entry)>> {
        let name = base_name(&entry.name);
        match name.strip_suffix(".tar") {
            Some(id) => {
                let label = label_of(id, &entry.name)?;
                let inner = tape::list(&file, entry.offset, entry.length)
                    .with_context(|| format!("{} in {}", entry.name, path.display()))?;
                Ok(inner.into_iter().map(|image| (label, image)).collect())
            }
            // Some copies hold the images themselves, in folders.
            None => {
                let id = name.split('_').next().unwrap_or(name);
                Ok(vec![(label_of(id, &entry.name)?, entry.clone())])
            }
        }
    };
    let found: Vec<Vec<(usize, tape::Entry)>> =
        outer.par_iter().map(of_entry).collect::<Result<_>>()?;
    let mut of_class: Vec<Vec<Item>> = classes.iter().map(|_| Vec::new()).collect();
    for (label, image) in found.into_iter().flatten() {
        of_class[label].push(part(&file, image, label as u32));
    }
    let empty: Vec<&str> = classes
        .iter()
        .zip(&of_class)
        .filter(|(_, images)| images.is_empty())
        .map(|(class, _)| class.id.as_str())
        .collect();
    if let [first, ..] = empty[..] {
        bail!(
            "{} has no images of {} of the {} classes, {first} the first of them",
            path.display(),
            empty.len(),
            classes.len()
        );
    }
    Ok(of_class.into_iter().flatten().collect())
}

fn part(of: &Arc<Backing>, entry: tape::Entry, label: u32) -> Item {
    let tape::Entry { name, offset, length } = entry;
    Item { name, label, content: Content::Part { of: of.clone(), offset, length } }
}

/// The images of a flat archive, sorted by name; the number in a name is the line of `truth` that
/// holds its class's id.
fn numbered_items(path: &Path, truth: &[String], labels: &HashMap<u32, u32>) -> Result<Vec<Item>> {
    let file = Arc::new(Backing::open(path)?);
    let mut found = tape::list(&file, 0, file.len()).with_context(|| path.display().to_string())?;
    found.sort_by(|a, b| base_name(&a.name).cmp(base_name(&b.name)));
    ensure!(
        found.len() == truth.len(),
        "{} has {} images, and there are {} labels",
        path.display(),
        found.len(),
        truth.len()
    );
    let label_of = |name: &str| {
        let line = number_in(name).context("its name has no number")?;
        let id = line.checked_sub(1).and_then(|at| truth.get(at));
        let id = id.with_context(|| format!("there are {} labels", truth.len()))?;
        let label = id.parse().ok().and_then(|id: u32| labels.get(&id).copied());
        label.with_context(|| format!("its label `{id}` is no class's id"))
    };
    found
        .into_iter()
        .map(|entry| {
            let label = label_of(base_name(&entry.name))
                .with_context(|| format!("{} in {}", entry.name, path.display()))?;
            Ok(part(&file, entry, label))
        })
        .collect()
}

/// 17 for `ILSVRC2010_val_00000017.JPEG`.
fn number_in(name: &str) -> Option<usize> {
    let stem = name.split('.').next()?;
    stem.rsplit('_').next()?.parse().ok()
}

/// The replaced images by name.
fn patches(path: &Path) -> Result<HashMap<String, Content>> {
    let file = Arc::new(Backing::open(path)?);
    let found = tape::list(&file, 0, file.len()).with_context(|| path.display().to_string())?;
    Ok(found
        .into_iter()
        .map(|entry| {
            let name = base_name(&entry.name).to_string();
            (name, part(&file, entry, 0).content)
        })
        .collect())
}
