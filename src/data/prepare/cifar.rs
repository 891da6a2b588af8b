//! CIFAR-10 and CIFAR-100, the binary version, unpacked or in the archive as downloaded.
//!
//! A record is one byte (CIFAR-10: the label) or two (CIFAR-100: coarse and fine label; the fine
//! one counts), then 32×32 red, green and blue values
//! (<https://www.cs.toronto.edu/~kriz/cifar.html>). `val` is carved from the training images.

use super::{
    Backing, Content, Item, Source, Stored, carved, check_fraction, named, text_lines, walk,
};
use crate::config_error;
use crate::data::preparation::Preparation;
use crate::data::unpack::{Limits, tar_gz};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

const SIDE: usize = 32;
const PIXELS: u64 = 3 * 32 * 32;
/// Either archive unpacks to some 180 MB.
const UNPACKED: Limits = Limits { archive: 1 << 30, file: 1 << 30 };

/// Finds the files in `path`: the folder of the files, of the archive, or the archive itself.
pub fn find(path: &Path, val_fraction: f64, seed: u64) -> Result<Source> {
    check_fraction(val_fraction)?;
    let files = files(path)?;
    let ten = files.contains_key("test_batch.bin");
    let hundred = files.contains_key("train.bin") && files.contains_key("test.bin");
    let (kind, names, count, label_bytes) = match (ten, hundred) {
        (true, false) => ("cifar10", "batches.meta.txt", 10, 1),
        (false, true) => ("cifar100", "fine_label_names.txt", 100, 2),
        (true, true) => {
            return Err(config_error!(
                "{} holds both CIFAR-10 and CIFAR-100; name the folder of one",
                path.display()
            ));
        }
        (false, false) => {
            return Err(config_error!(
                "{} has neither test_batch.bin (CIFAR-10) nor train.bin and test.bin (CIFAR-100), \
                 nor an archive cifar-10-binary.tar.gz or cifar-100-binary.tar.gz; \
                 the Python and MATLAB versions are not read",
                path.display()
            ));
        }
    };
    let meta = files.get(names).with_context(|| {
        format!("{names}, the class names, is missing beside the images in {}", path.display())
    })?;
    let mut text = vec![0; meta.len() as usize];
    meta.read_at(0, &mut text)?;
    let classes = text_lines(&text).and_then(named).with_context(|| names.to_string())?;
    ensure!(classes.len() == count, "{names} has {} names, not {count}", classes.len());

    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (name, file) in &files {
        let part = match name.as_str() {
            "train.bin" => &mut train,
            "test.bin" | "test_batch.bin" => &mut test,
            name if name.starts_with("data_batch_") => &mut train,
            _ => continue,
        };
        part.extend(records(name, file, label_bytes, count)?);
    }
    ensure!(
        !train.is_empty(),
        "data_batch_1.bin to data_batch_5.bin are missing in {}",
        path.display()
    );
    let mut splits = carved(train, count, val_fraction, seed);
    splits.push(("test".to_string(), test));
    Ok(Source {
        kind: kind.into(),
        path: path.to_path_buf(),
        classes,
        preparation: Preparation::as_stored(SIDE, SIDE),
        channels: 3,
        stored: Stored::Planar,
        splits,
        notes: Vec::new(),
        roots: Vec::new(),
        left_out: Vec::new(),
    })
}

/// The files of interest by name.
fn files(path: &Path) -> Result<BTreeMap<String, Arc<Backing>>> {
    if path.is_file() {
        return unpack(path);
    }
    super::check_folder(path)?;
    let all = walk(path, 2)?;
    let mut files = BTreeMap::new();
    for file in &all {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_wanted(&name) {
            files.insert(name, Arc::new(Backing::open(file)?));
        }
    }
    if !files.keys().any(|name| name.ends_with(".bin")) {
        let archive = all.iter().find(|file| {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            name.starts_with("cifar-") && name.ends_with("-binary.tar.gz")
        });
        if let Some(archive) = archive {
            return unpack(archive);
        }
    }
    Ok(files)
}

fn is_wanted(name: &str) -> bool {
    name.ends_with(".bin") || name.ends_with(".txt")
}

/// The files in the archive `path`, in memory.
fn unpack(path: &Path) -> Result<BTreeMap<String, Arc<Backing>>> {
    let files = tar_gz(path, UNPACKED, is_wanted)
        .with_context(|| format!("{} cannot be read as a .tar.gz archive", path.display()))?;
    let backing = |(name, bytes)| (name, Arc::new(Backing::memory(path, bytes)));
    Ok(files.into_iter().map(backing).collect())
}

/// The images of one file.
fn records(name: &str, file: &Arc<Backing>, label_bytes: u64, classes: usize) -> Result<Vec<Item>> {
    let record = label_bytes + PIXELS;
    let count = file.len() / record;
    if !file.len().is_multiple_of(record) || count == 0 {
        let other = 3 - label_bytes + PIXELS;
        let hint = match file.len() % other {
            0 if !file.is_empty() => "it looks like the other CIFAR's",
            _ => "it was cut short, or is no CIFAR file",
        };
        bail!("{name} has {} bytes, no multiple of {record}: {hint}", file.len());
    }
    (0..count)
        .map(|number| {
            let mut label = [0];
            file.read_at(number * record + label_bytes - 1, &mut label)
                .with_context(|| name.to_string())?;
            ensure!(
                usize::from(label[0]) < classes,
                "label {} of image {number} in {name} is out of range for {classes} classes",
                label[0]
            );
            Ok(Item {
                name: format!("{name}#{number}"),
                label: label[0].into(),
                content: Content::Part {
                    of: file.clone(),
                    offset: number * record + label_bytes,
                    length: PIXELS,
                },
            })
        })
        .collect()
}
