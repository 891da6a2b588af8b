//! Kaggle's folder of the 2012 contest.

use super::{Splits, is_wnid};
use crate::data::dataset::Class;
use crate::data::prepare::tree::Tree;
use crate::data::prepare::{Content, Item, entries, image_folder, lines, walk};
use crate::files::place_in;
use anyhow::{Context, Result, ensure};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// Kaggle's folder `CLS-LOC` at or below `path`.
pub(super) fn kaggle_folder(path: &Path) -> Option<PathBuf> {
    ["ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC", "."]
        .iter()
        .map(|inner| path.join(inner))
        .find(|folder| {
            let class = |path: &PathBuf| {
                path.is_dir() && is_wnid(&path.file_name().unwrap_or_default().to_string_lossy())
            };
            entries(&folder.join("train")).is_ok_and(|all| all.iter().any(class))
        })
}

/// Classes and splits of Kaggle's folder.
pub(super) fn kaggle_splits(
    path: &Path,
    folder: &Path,
    tree: &mut Tree,
) -> Result<(Vec<Class>, Splits)> {
    let beside = |name: &str| {
        path.ancestors().take(4).map(|up| up.join(name)).find(|file| file.is_file()).with_context(
            || format!("{name} is missing; it is to lie in {} or above it", path.display()),
        )
    };
    let mapping = beside("LOC_synset_mapping.txt")?;
    let mut classes = Vec::new();
    for line in lines(&mapping)? {
        let (id, name) = line.split_once(' ').unwrap_or((&line, ""));
        ensure!(is_wnid(id), "{}: `{line}` does not begin with a WNID", mapping.display());
        classes.push(Class { id: id.into(), name: name.trim().into(), number: None });
    }
    classes.sort_by(|a, b| a.id.cmp(&b.id));
    classes.dedup_by(|a, b| a.id == b.id);
    let labels = image_folder::labels(&classes);
    ensure!(
        folder.join("val").is_dir(),
        "{} is missing, the validation images",
        folder.join("val").display()
    );
    let inner = ["train", "val"].map(|split| Tree::inner(&folder.join(split)));
    let mut splits = tree.list(inner.into_iter().collect::<Result<_>>()?)?.into_iter();
    let (train, sorted) = (splits.next().unwrap_or_default(), splits.next().unwrap_or_default());
    ensure!(
        train.len() == classes.len(),
        "{} has {} class folders, but {} names {}",
        folder.join("train").display(),
        train.len(),
        mapping.display(),
        classes.len()
    );
    let training = image_folder::items(tree, path, train, &labels)?;
    let val = if sorted.is_empty() {
        let solution = beside("LOC_val_solution.csv")?;
        kaggle_val(path, &folder.join("val"), &solution, &labels)?
    } else {
        image_folder::items(tree, path, sorted, &labels)?
    };
    Ok((classes, vec![("train".to_string(), training), ("val".to_string(), val)]))
}

/// The flat folder of validation images with its solution: lines `ImageId,WNID x y x y WNID …`.
fn kaggle_val(
    path: &Path,
    folder: &Path,
    solution: &Path,
    labels: &HashMap<&str, u32>,
) -> Result<Vec<Item>> {
    let mut of_image = BTreeMap::new();
    for line in lines(solution)?.iter().skip(1) {
        let pair = line.split_once(',').and_then(|(image, rest)| {
            Some((image.trim(), rest.split_whitespace().next()?.trim_matches('"')))
        });
        let (image, id) =
            pair.with_context(|| format!("{}: `{line}` has no label", solution.display()))?;
        let label = labels.get(id).copied().with_context(|| {
            format!("{}: {id}, the label of {image}, is no class", solution.display())
        })?;
        of_image.insert(image.to_string(), label);
    }
    let mut items = Vec::new();
    for file in walk(folder, 0)? {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let label = *of_image.get(&stem).with_context(|| {
            format!("{} has no label in {}", file.display(), solution.display())
        })?;
        items.push(Item { name: place_in(path, &file), label, content: Content::File(file) });
    }
    ensure!(
        items.len() == of_image.len(),
        "{} has {} images, but {} labels {}",
        folder.display(),
        items.len(),
        solution.display(),
        of_image.len()
    );
    Ok(items)
}
