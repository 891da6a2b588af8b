//! From what people have on disk to a data set: one file a source, one writer for all.
//!
//! A source ([`image_folder`], [`list`], [`parquet`], [`webdataset`], [`ilsvrc`], [`idx`],
//! [`cifar`]) only says what there is: classes,
//! and for each split its images in order, each with its label and where its bytes lie. The
//! [`writer`] does the work: reads, decodes in parallel, writes shards, sums up, and goes on after
//! an interruption. [`tape`] finds files inside tar archives without unpacking them, [`matlab`]
//! reads the contest kits' tables.

pub mod cifar;
mod class_tars;
pub mod idx;
pub mod ilsvrc;
pub mod image_folder;
pub mod labelled;
mod layout;
pub mod list;
pub mod matlab;
pub mod parquet;
pub mod tape;
mod tested;
mod tree;
pub mod webdataset;
pub mod writer;

use super::dataset::Class;
use super::preparation::Preparation;
use super::unpack::{GZIP, unpack};
use crate::config_error;
use crate::files::open_files::Kept;
use crate::files::positioned::read_exact_at;
use crate::files::text;
use crate::random::{Purpose, Stream};
use anyhow::{Context, Result, bail};
use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, FileType};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A text file of names or labels that is larger is none (ImageNet's largest has 2 MB).
const MOST_TEXT: u64 = 256 << 20;

/// All that the writer has to know about a source.
pub struct Source {
    /// `image-folder`, `ilsvrc2012` …: the header's `source`.
    pub kind: String,
    /// The folder it was found in.
    pub path: PathBuf,
    /// The classes; labels are indices into them.
    pub classes: Vec<Class>,
    /// What to do to each image.
    pub preparation: Preparation,
    /// 1 or 3.
    pub channels: usize,
    /// What an item's bytes are.
    pub stored: Stored,
    /// The splits' names and their images, in the order in which they are written.
    pub splits: Vec<(String, Vec<Item>)>,
    /// Things a person should know, one sentence each.
    pub notes: Vec<String>,
    /// Real paths of folders of which everything is taken: a data set must not be made in them.
    pub roots: Vec<PathBuf>,
    /// What was found and is no file, such as pipes.
    pub left_out: Vec<Skipped>,
}

/// A file that could not be used: a line of `skipped.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The item's name.
    pub file: String,
    /// Why.
    pub reason: String,
}

/// What the bytes of an item are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// A picture file: JPEG, PNG, WebP, GIF, BMP or TIFF.
    Encoded,
    /// Pixels, [height, width, channels].
    Interleaved,
    /// Pixels, [channels, height, width].
    Planar,
}

/// One image of a source.
#[derive(Clone)]
pub struct Item {
    /// What a person would look for: the file's path inside the source, or file and number.
    pub name: String,
    /// Index into the classes.
    pub label: u32,
    /// Where its bytes are.
    pub content: Content,
}

/// Where an item's bytes are.
#[derive(Clone)]
pub enum Content {
    /// A file of its own.
    File(PathBuf),
    /// A part of a larger file.
    Part {
        /// The file.
        of: Arc<Backing>,
        /// Where the part begins.
        offset: u64,
        /// Its bytes.
        length: u64,
    },
    /// One of images that are read in an order.
    Row {
        /// All of them.
        of: Arc<dyn Rows>,
        /// Which one.
        row: usize,
    },
}

/// Images that are packed together, so that one is read by reading those before it.
pub trait Rows: Send + Sync {
    /// Bytes of an image, on average.
    fn average(&self) -> u64;

    /// The images `rows`, which are in order; inner errors say why one is skipped.
    ///
    /// # Errors
    /// If they cannot be read for a reason that is not the file's.
    fn fetch(&self, rows: &[usize]) -> Result<Vec<Fetched>>;
}

/// An image file's bytes, or why it is skipped.
pub type Fetched = std::result::Result<Vec<u8>, String>;

/// A file that items are parts of: on disk, or unpacked in memory.
pub struct Backing {
    path: PathBuf,
    bytes: u64,
    storage: Storage,
}

enum Storage {
    /// None: opened for each reading, since as many files are open as may be.
    Disk(Option<Kept>),
    Memory(Vec<u8>),
}

impl Backing {
    /// Opens the file `path`.
    pub fn open(path: &Path) -> Result<Backing> {
        let file =
            File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
        let bytes = file.metadata()?.len();
        Ok(Backing { path: path.to_path_buf(), bytes, storage: Storage::Disk(Kept::new(file)) })
    }

    /// What was unpacked from `path`.
    pub fn memory(path: &Path, bytes: Vec<u8>) -> Backing {
        Backing {
            path: path.to_path_buf(),
            bytes: bytes.len() as u64,
            storage: Storage::Memory(bytes),
        }
    }

    /// Opens `path`; a file that is gzip-compressed (whatever its name) is unpacked into memory, up
    /// to `limit` bytes.
    pub fn open_unpacked(path: &Path, limit: u64) -> Result<Backing> {
        let backing = Backing::open(path)?;
        let mut start = [0; 2];
        if backing.read_at(0, &mut start).is_err() || start != GZIP {
            return Ok(backing);
        }
        let bytes = unpack(GzDecoder::new(File::open(path)?), limit)
            .with_context(|| format!("{} is gzip-compressed", path.display()))?;
        Ok(Backing::memory(path, bytes))
    }

    /// Where it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Fills `buffer` from byte `offset` on.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> std::io::Result<()> {
        match &self.storage {
            Storage::Disk(Some(file)) => read_exact_at(file, buffer, offset),
            Storage::Disk(None) => read_exact_at(&File::open(&self.path)?, buffer, offset),
            Storage::Memory(bytes) => {
                let part = usize::try_from(offset)
                    .ok()
                    .and_then(|start| bytes.get(start..start.checked_add(buffer.len())?));
                match part {
                    Some(part) => buffer.copy_from_slice(part),
                    None => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                }
                Ok(())
            }
        }
    }
}

/// Which images go to the validation split: about `fraction` of each class, chosen by `seed`, at
/// least one where a class has two or more, and never all.
fn carve(labels: &[u32], classes: usize, fraction: f64, seed: u64) -> Vec<bool> {
    let mut of_class: Vec<Vec<usize>> = vec![Vec::new(); classes];
    for (image, &label) in labels.iter().enumerate() {
        of_class[label as usize].push(image);
    }
    let mut chosen = vec![false; labels.len()];
    if fraction == 0.0 {
        return chosen;
    }
    for (class, mut images) in of_class.into_iter().enumerate() {
        if images.len() < 2 {
            continue;
        }
        let wanted = (images.len() as f64 * fraction).round() as usize;
        Stream::new(seed, Purpose::Split, 0, class as u32).shuffle(&mut images);
        for &image in &images[..wanted.clamp(1, images.len() - 1)] {
            chosen[image] = true;
        }
    }
    chosen
}

/// The splits `train` and `val` of training images, some of which become `val` as [`carve`] says;
/// where that is none, there is no `val`.
fn carved(images: Vec<Item>, classes: usize, fraction: f64, seed: u64) -> Vec<(String, Vec<Item>)> {
    let labels: Vec<u32> = images.iter().map(|item| item.label).collect();
    let chosen = carve(&labels, classes, fraction, seed);
    let (mut train, mut val) = (Vec::new(), Vec::new());
    for (item, chosen) in images.into_iter().zip(chosen) {
        if chosen { val.push(item) } else { train.push(item) }
    }
    let mut splits = vec![("train".to_string(), train)];
    if !val.is_empty() {
        splits.push(("val".to_string(), val));
    }
    splits
}

/// An error of the command line unless `fraction` is one of [0, 1).
pub fn check_fraction(fraction: f64) -> Result<()> {
    check_share("--val-fraction", fraction)
}

/// The same of the option `name`.
fn check_share(name: &str, fraction: f64) -> Result<()> {
    if (0.0..1.0).contains(&fraction) {
        return Ok(());
    }
    Err(config_error!("{name} {fraction} is no share of the images; give 0 to below 1"))
}

/// The source folder must be there.
pub fn check_folder(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let what = if path.exists() { "is no folder" } else { "does not exist" };
    bail!("{} {what}; name the folder that holds the source", path.display())
}

/// Files below `folder`, down to `depth` folders, sorted by path; hidden ones are left out.
pub fn walk(folder: &Path, depth: usize) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in entries(folder)? {
        if path.is_dir() {
            if depth > 0 {
                files.extend(walk(&path, depth - 1)?);
            }
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

/// What is in `folder`, sorted by name; hidden files and what systems leave behind are left out.
pub fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    Ok(listed(folder)?.into_iter().map(|(path, _)| path).collect())
}

/// As [`entries`], and what each is; links are not followed.
fn listed(folder: &Path) -> Result<Vec<(PathBuf, FileType)>> {
    let unreadable = || format!("the folder {} cannot be read", folder.display());
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !left_behind(&name) {
            all.push((entry.path(), entry.file_type().with_context(unreadable)?));
        }
    }
    all.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(all)
}

/// Whether a name is that of a hidden file, or of what systems leave behind.
fn left_behind(name: &str) -> bool {
    let known = ["thumbs.db", "desktop.ini", "__macosx"];
    name.starts_with('.') || known.contains(&name.to_lowercase().as_str())
}

/// A folder's own name, for people.
fn name_of(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The lines of a small text file, without those that are blank.
pub fn lines(path: &Path) -> Result<Vec<String>> {
    let text = text::read(path, MOST_TEXT)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(full_lines(&text))
}

/// The lines of `bytes`, without those that are blank.
pub fn text_lines(bytes: &[u8]) -> Result<Vec<String>> {
    Ok(full_lines(&text::decoded(bytes)?))
}

fn full_lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect()
}

/// The names that `--classes` gives: a file with one a line, or names with commas between.
fn names_given(given: &str) -> Result<Vec<String>> {
    if given.contains(',') {
        return Ok(given.split(',').map(|name| name.trim().to_string()).collect());
    }
    if Path::new(given).is_file() {
        return lines(Path::new(given));
    }
    Err(config_error!("--classes {given} is neither a file nor names with commas between"))
}

/// Classes that have a name only.
pub fn named(names: Vec<String>) -> Result<Vec<Class>> {
    let mut seen = std::collections::HashSet::new();
    for name in &names {
        if !seen.insert(name) {
            bail!("two classes are called `{name}`");
        }
    }
    Ok(names.into_iter().map(|name| Class { id: name.clone(), name, number: None }).collect())
}
