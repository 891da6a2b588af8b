//! Which folders of a source are splits.
//!
//! Where SRC holds a folder with the name of the training split and classes in it (folders, or tar
//! archives), its siblings with the names of the other splits are those; else SRC's folders and
//! archives are the classes. A folder with a split's name that can be neither is refused, since what
//! its pictures are would be a guess, and so is an archive with such a name.

use super::{class_tars, entries, name_of};
use crate::config_error;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// The splits, and the names that their folders have, in any case.
const NAMES: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("val", &["val", "valid", "validation"]),
    ("test", &["test", "testing"]),
];

/// The split that goes by `name`, in any case.
pub(super) fn split_called(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    NAMES.iter().find(|(_, names)| names.contains(&name.as_str())).map(|(split, _)| *split)
}

/// The split whose name is a part of the name of `file`, as in `train-00000-of-00005.parquet`, or
/// else of the folder that it lies in, or of one around that, inside of the folder `root`.
pub(super) fn split_of_file(file: &Path, root: &Path) -> Option<&'static str> {
    let inside = file.strip_prefix(root).unwrap_or(file);
    let part = |part: &str| split_called(part.trim_end_matches(|c: char| c.is_ascii_digit()));
    inside.iter().rev().find_map(|name| {
        let name = name.to_string_lossy();
        name.split(|c: char| !c.is_alphanumeric()).find_map(part)
    })
}

/// The split of each of `files`. Where none has one in its name all are `train`.
///
/// # Errors
/// If some have one and others none.
pub(super) fn splits_of_files(files: &[PathBuf], root: &Path) -> Result<Vec<&'static str>> {
    let splits: Vec<_> = files.iter().map(|file| split_of_file(file, root)).collect();
    let with = splits.iter().position(Option::is_some);
    let without = splits.iter().position(Option::is_none);
    if let (Some(with), Some(without)) = (with, without) {
        return Err(config_error!(
            "{} says which split it is by its name, and {} does not; give it a name with train, \
             val or test in it, or move it away",
            files[with].display(),
            files[without].display()
        ));
    }
    Ok(splits.into_iter().map(|split| split.unwrap_or("train")).collect())
}

/// Where the classes of each split are.
pub(super) struct Layout {
    /// Splits and their folders, `train` first.
    pub(super) splits: Vec<(&'static str, PathBuf)>,
    /// What a person should know, a sentence each.
    pub(super) notes: Vec<String>,
}

/// Looks at the folders in `path`. With `no_splits` all of them are classes, whatever their names.
///
/// # Errors
/// If a split's folder is there twice or cannot be used as one.
pub(super) fn find(path: &Path, no_splits: bool) -> Result<Layout> {
    let flat = Layout { splits: vec![("train", path.to_path_buf())], notes: Vec::new() };
    if no_splits {
        return Ok(flat);
    }
    let folders: Vec<PathBuf> = entries(path)?.into_iter().filter(|path| path.is_dir()).collect();
    let mut found = Vec::new();
    for (split, names) in NAMES {
        let named: Vec<&PathBuf> = folders.iter().filter(|folder| is_one(folder, names)).collect();
        match named[..] {
            [] => {}
            [folder] => found.push((split, folder.clone())),
            [first, second, ..] => {
                return Err(config_error!(
                    "{} and {} both have names of the split {split}; leave one, or take them as \
                     classes with --no-splits",
                    first.display(),
                    second.display()
                ));
            }
        }
    }
    let tars = class_tars::find(path)?;
    let named =
        |tar: &&PathBuf| NAMES.iter().any(|(_, names)| is_one(&tar.with_extension(""), names));
    if let Some(tar) = tars.iter().find(named) {
        return Err(config_error!(
            "{} has the name of a split, and an archive is taken for a class; unpack it, or take it \
             as a class with --no-splits",
            tar.display()
        ));
    }
    match found.first() {
        None => Ok(flat),
        Some((split, folder)) if *split != "train" => Err(config_error!(
            "{} has the name of the split {split}, but there is no {}/CLASS/ beside it: move the \
             training images there, each class in its folder, or take `{}` as a class with \
             --no-splits",
            folder.display(),
            path.join("train").display(),
            name_of(folder)
        )),
        Some((_, folder)) if !has_classes(folder)? => Err(config_error!(
            "{} has the name of the training split, but no class folders; sort its images into \
             {0}/CLASS/, or take `{}` as a class with --no-splits",
            folder.display(),
            name_of(folder)
        )),
        Some(_) => with_splits(path, &folders, found),
    }
}

/// The layout where the training split's folder holds classes.
fn with_splits(
    path: &Path,
    folders: &[PathBuf],
    found: Vec<(&'static str, PathBuf)>,
) -> Result<Layout> {
    let mut layout = Layout { splits: Vec::new(), notes: Vec::new() };
    let others: Vec<String> = folders
        .iter()
        .filter(|folder| !NAMES.iter().any(|(_, names)| is_one(folder, names)))
        .map(|folder| name_of(folder))
        .collect();
    if !others.is_empty() {
        layout.notes.push(format!(
            "warning: not used, since they stand beside {} and their names are no split's (val, \
             valid, validation, test, testing): {} in {}",
            name_of(&found[0].1),
            others.join(", "),
            path.display()
        ));
    }
    for (split, folder) in found {
        if has_classes(&folder)? {
            layout.splits.push((split, folder));
        } else if entries(&folder)?.is_empty() {
            layout.notes.push(format!("warning: {} is empty, and not used", folder.display()));
        } else if split == "test" {
            layout.notes.push(format!(
                "warning: {} has no class folders, so that the labels of its images are not known; \
                 it is not used",
                folder.display()
            ));
        } else {
            return Err(config_error!(
                "{} has no class folders, so that the labels of its images are not known; sort \
                 them into {0}/CLASS/, or move it away: then a share of the training images is the \
                 validation split (--val-fraction)",
                folder.display()
            ));
        }
    }
    Ok(layout)
}

fn is_one(folder: &Path, names: &[&str]) -> bool {
    names.contains(&name_of(folder).to_lowercase().as_str())
}

/// Whether it holds folders or archives.
fn has_classes(folder: &Path) -> Result<bool> {
    let is_folder = entries(folder)?.iter().any(|path| path.is_dir());
    Ok(is_folder || !class_tars::find(folder)?.is_empty())
}
