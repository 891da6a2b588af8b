//! The MNIST file format: `train-images-idx3-ubyte` and its three companions, plain or gzipped.
//!
//! Numbers are big-endian: 0x00000803, images, rows, columns, then the pixels; 0x00000801, labels,
//! then a byte each (<http://yann.lecun.com/exdb/mnist/>). `t10k` becomes the split `test`; `val`
//! is carved from the training images.

use super::{
    Backing, Content, Item, Source, Stored, carved, check_folder, check_fraction, lines, named,
    names_given,
};
use crate::config_error;
use crate::data::dataset::Class;
use crate::data::preparation::Preparation;
use crate::data::unpack::GZIP;
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A gzipped file may unpack to this much, since it is held in memory.
const UNPACKED: u64 = 4 << 30;
const IMAGES: u32 = 0x0803;
const LABELS: u32 = 0x0801;

/// Finds the files in the folder `path`. `classes`: a file of names, one a line, or names with
/// commas.
pub fn find(path: &Path, classes: Option<&str>, val_fraction: f64, seed: u64) -> Result<Source> {
    check_folder(path)?;
    check_fraction(val_fraction)?;
    let mut notes = Vec::new();
    let classes = class_names(path, classes, &mut notes)?;
    let Some(files) = pair(path, "train")? else {
        return Err(config_error!(
            "{} has no train-images-idx3-ubyte (or .gz); it is to hold MNIST's four files",
            path.display()
        ));
    };
    let (size, all) = read_pair(&files, classes.len())?;
    let mut splits = carved(all, classes.len(), val_fraction, seed);
    if let Some(files) = pair(path, "t10k")? {
        let (other, test) = read_pair(&files, classes.len())?;
        ensure!(
            other == size,
            "{} has images of {other:?} rows and columns, the training images have {size:?}",
            files.0.display()
        );
        splits.push(("test".to_string(), test));
    }
    Ok(Source {
        kind: "idx".into(),
        path: path.to_path_buf(),
        classes,
        preparation: Preparation::as_stored(size[0], size[1]),
        channels: 1,
        stored: Stored::Interleaved,
        splits,
        notes,
        roots: Vec::new(),
        left_out: Vec::new(),
    })
}

fn class_names(path: &Path, given: Option<&str>, notes: &mut Vec<String>) -> Result<Vec<Class>> {
    let beside = path.join("classes.txt");
    let names = match given {
        Some(given) => names_given(given)?,
        None if beside.is_file() => lines(&beside)?,
        None => {
            notes.push("classes are called 0 to 9; --classes gives them names".into());
            (0..10).map(|digit| digit.to_string()).collect()
        }
    };
    named(names)
}

/// The files of images and labels whose names begin with `which`; none where both are missing.
fn pair(path: &Path, which: &str) -> Result<Option<(PathBuf, PathBuf)>> {
    let file = |what: &str, dimensions: u8| {
        ["-", "."].iter().flat_map(|dot| ["", ".gz"].map(|end| (dot, end))).find_map(
            |(dot, end)| {
                let file = path.join(format!("{which}-{what}{dot}idx{dimensions}-ubyte{end}"));
                file.is_file().then_some(file)
            },
        )
    };
    match (file("images", 3), file("labels", 1)) {
        (Some(images), Some(labels)) => Ok(Some((images, labels))),
        (None, None) => Ok(None),
        (Some(images), None) => {
            bail!(
                "{} is there, but {which}-labels-idx1-ubyte (or .gz) is missing",
                images.display()
            )
        }
        (None, Some(labels)) => {
            bail!(
                "{} is there, but {which}-images-idx3-ubyte (or .gz) is missing",
                labels.display()
            )
        }
    }
}

/// Rows and columns, and the images in the files' order.
fn read_pair(files: &(PathBuf, PathBuf), classes: usize) -> Result<([usize; 2], Vec<Item>)> {
    let images = Backing::open_unpacked(&files.0, UNPACKED)?;
    let labels = Backing::open_unpacked(&files.1, UNPACKED)?;
    let [count, rows, columns] =
        header::<3>(&images, IMAGES).with_context(|| files.0.display().to_string())?;
    let [label_count] =
        header::<1>(&labels, LABELS).with_context(|| files.1.display().to_string())?;
    ensure!(
        count == label_count,
        "{} has {count} images, but {} has {label_count} labels",
        files.0.display(),
        files.1.display()
    );
    let mut bytes = vec![0; count];
    labels.read_at(8, &mut bytes).with_context(|| files.1.display().to_string())?;
    if let Some(at) = bytes.iter().position(|&label| usize::from(label) >= classes) {
        bail!(
            "{}: label {} of image {at} is out of range for {classes} classes; \
             --classes names them all",
            files.1.display(),
            bytes[at]
        );
    }
    let length = (rows * columns) as u64;
    let name = files.0.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let of = Arc::new(images);
    let items = bytes.iter().enumerate().map(|(number, &label)| Item {
        name: format!("{name}#{number}"),
        label: label.into(),
        content: Content::Part { of: of.clone(), offset: 16 + number as u64 * length, length },
    });
    Ok(([rows, columns], items.collect()))
}

/// The `N` numbers behind the magic number; the file must be as long as they say.
fn header<const N: usize>(file: &Backing, magic: u32) -> Result<[usize; N]> {
    let start = 4 + 4 * N as u64;
    let number = |at: u64| -> Result<u32> {
        let mut bytes = [0; 4];
        file.read_at(at, &mut bytes)
            .with_context(|| format!("it has {} bytes, too few for a header", file.len()))?;
        Ok(u32::from_be_bytes(bytes))
    };
    let found = number(0)?;
    if found != magic {
        let hint = match found {
            IMAGES | LABELS => "images and labels are swapped",
            _ if found.to_be_bytes()[..2] == GZIP => "it is gzip-compressed twice",
            _ if found.swap_bytes() == magic => "its bytes are in the wrong order",
            _ if found >> 16 == 0 && found & 0xff != magic & 0xff => {
                "it has another number of dimensions, or values that are no bytes"
            }
            _ => "it is no idx file",
        };
        bail!("it begins with {found:#010x} where {magic:#010x} is expected: {hint}");
    }
    let mut sizes = [0; N];
    let mut bytes = 1u64;
    for (i, size) in sizes.iter_mut().enumerate() {
        let value = number(4 + 4 * i as u64)?;
        ensure!(value > 0, "its header counts no images, rows or columns");
        ensure!(i == 0 || value <= 8192, "its images are said to have a side of {value}");
        *size = value as usize;
        bytes = bytes.saturating_mul(value.into());
    }
    ensure!(
        file.len() == start.saturating_add(bytes),
        "it has {} bytes where its header says {}: it was cut short or added to",
        file.len(),
        start.saturating_add(bytes)
    );
    Ok(sizes)
}
