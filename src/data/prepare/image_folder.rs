//! A folder of images, one folder a class.
//!
//! Either SRC/train/CLASS/…, SRC/val/CLASS/… and perhaps SRC/test/CLASS/…, or SRC/CLASS/… alone;
//! where there is no `val`, it is carved from the training images. Classes are in the order of
//! their names (by bytes). What a file is, its content decides; its name does not matter.

use super::{Content, Item, Source, Stored, carved, check_folder, check_fraction, entries, walk};
use crate::config_error;
use crate::data::dataset::Class;
use crate::data::preparation::{Orientation, Preparation};
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Folders inside a class folder are searched this deep.
const DEPTH: usize = 8;

/// Finds the images in the folder `path`. `val_fraction`: `None` means 0.1 where there is no `val`.
pub fn find(
    path: &Path,
    size: usize,
    orientation: Orientation,
    val_fraction: Option<f64>,
    seed: u64,
) -> Result<Source> {
    check_folder(path)?;
    check_fraction(val_fraction.unwrap_or(0.0))?;
    let train = if class_folders(&path.join("train"))?.is_empty() {
        path.to_path_buf()
    } else {
        path.join("train")
    };
    let folders = class_folders(&train)?;
    if folders.is_empty() {
        return Err(config_error!(
            "{} has no class folders; images are expected in {}/CLASS/ or {0}/train/CLASS/",
            path.display(),
            path.display()
        ));
    }
    let classes: Vec<Class> = folders
        .iter()
        .map(|folder| {
            let id = name_of(folder);
            Class { id: id.clone(), name: id, number: None }
        })
        .collect();
    let labels: HashMap<&str, u32> =
        classes.iter().enumerate().map(|(i, class)| (class.id.as_str(), i as u32)).collect();
    ensure!(
        labels.len() == classes.len(),
        "two class folders of {} have names that are no UTF-8 and look alike; rename them",
        train.display()
    );

    let of_folder = |name: &str| -> Result<Option<(String, Vec<Item>)>> {
        let folders = class_folders(&path.join(name))?;
        if train == path || folders.is_empty() {
            return Ok(None);
        }
        Ok(Some((name.to_string(), items(path, &folders, &labels)?)))
    };
    let training = items(path, &folders, &labels)?;
    let (val, test) = (of_folder("val")?, of_folder("test")?);
    let mut splits = match val {
        Some(_) if val_fraction.is_some() => {
            return Err(config_error!(
                "{} has a folder `val` of its own; leave out --val-fraction, or move `val` away",
                path.display()
            ));
        }
        Some(val) => vec![("train".to_string(), training), val],
        None => carved(training, classes.len(), val_fraction.unwrap_or(0.1), seed),
    };
    splits.extend(test);
    Ok(Source {
        kind: "image-folder".into(),
        path: path.to_path_buf(),
        classes,
        preparation: Preparation::photographs(size, orientation),
        channels: 3,
        stored: Stored::Encoded,
        splits,
        notes: Vec::new(),
    })
}

/// The folders in `folder`; none where there is no such folder.
fn class_folders(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    Ok(entries(folder)?.into_iter().filter(|path| path.is_dir()).collect())
}

fn name_of(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The images of all class folders of a split, class by class.
pub(super) fn items(
    source: &Path,
    folders: &[PathBuf],
    labels: &HashMap<&str, u32>,
) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for folder in folders {
        let name = name_of(folder);
        let label = *labels.get(name.as_str()).with_context(|| {
            format!(
                "{} is a class without training images; classes are the folders of the training \
                 split",
                folder.display()
            )
        })?;
        let files = walk(folder, DEPTH)?;
        if files.is_empty() {
            bail!("the class folder {} has no images; fill or remove it", folder.display());
        }
        items.extend(files.into_iter().map(|file| Item {
            name: file.strip_prefix(source).unwrap_or(&file).to_string_lossy().into_owned(),
            label,
            content: Content::File(file),
        }));
    }
    Ok(items)
}
