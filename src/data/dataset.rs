//! A prepared data set: what is in it, and its images by number.
//!
//! A data set is a folder written by `alexnet prepare`:
//! `dataset.json` (this module's [`Header`]), `statistics.safetensors` (see
//! [`statistics`](super::statistics)), `SPLIT-00000.shard` … (see [`shard`](super::shard)), and
//! `skipped.jsonl`, the images that could not be used. `dataset.json` is written last, so a folder
//! that has one is whole; while it is being made, the folder holds `unfinished.json` instead.
//!
//! Every byte is under a checksum: `dataset.json` holds its own (see [`seal`]), that of each file
//! beside it, and that of each shard's index, which holds those of the records. Data sets of before
//! that have none of the first three, and are read all the same.
//!
//! Only headers and indices are held in memory; images are read when asked for.

use super::area::Area;
use super::preparation::Preparation;
use super::seal;
use super::shard::{RecordShape, Shard, ShardInfo, Store};
use super::statistics::Statistics;
use crate::config_error;
use crate::files::text;
use crate::quoting;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// The header's file: its presence means that the data set is whole.
pub const HEADER_FILE: &str = "dataset.json";
/// Present instead of [`HEADER_FILE`] while the data set is being made.
pub const UNFINISHED_FILE: &str = "unfinished.json";
/// The training split's mean image and principal components.
pub const STATISTICS_FILE: &str = "statistics.safetensors";
/// Images that could not be used, one JSON object a line.
pub const SKIPPED_FILE: &str = "skipped.jsonl";
/// The version of the folder's layout that this program writes and reads.
pub const FORMAT: u32 = 1;
/// A header larger than this is refused unread (ImageNet's 22,000 classes take some 3 MB).
const HEADER_LIMIT: u64 = 256 << 20;

/// A class: one output of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Class {
    /// Synset id (`n02119789`) or folder name: what identifies the class.
    pub id: String,
    /// What a person reads: "kit fox, Vulpes macrotis".
    pub name: String,
    /// The contest's own number for it (ILSVRC2010_ID or ILSVRC2012_ID), where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
}

/// One split (`train`, `val`, `test`): its shards in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitInfo {
    /// Images in all shards together.
    pub images: u64,
    /// The shards; image numbers run through them in this order.
    pub shards: Vec<ShardInfo>,
}

/// All that is known of a data set without opening a shard: the content of `dataset.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)] // see `seal`
pub struct Header {
    /// [`FORMAT`].
    pub format: u32,
    /// Which command made it: `image-folder`, `list`, `parquet`, `webdataset`, `ilsvrc2010`,
    /// `ilsvrc2012`, `idx`, `cifar10`, `cifar100`.
    pub source: String,
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// How images are stored.
    pub store: Store,
    /// The quality of the JPEG files, 1 to 100; none where pixels are stored raw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<u8>,
    /// What was done to the source's images.
    pub preparation: Preparation,
    /// The classes; a label is an index into them.
    pub classes: Vec<Class>,
    /// The splits by name.
    pub splits: BTreeMap<String, SplitInfo>,
    /// The CRC-32 of each file beside the shards, by name, eight digits of base 16; none in data
    /// sets of before they were kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, String>,
}

impl Header {
    /// Bytes of one image, height × width × channels.
    pub fn image_bytes(&self) -> usize {
        self.height * self.width * self.channels
    }

    fn check(&self) -> Result<()> {
        ensure!(
            matches!(self.channels, 1 | 3)
                && (1..=8192).contains(&self.height)
                && (1..=8192).contains(&self.width),
            "images of {}×{}×{} are none that prepare writes (1 or 3 channels, sides of 1 to 8192)",
            self.height,
            self.width,
            self.channels
        );
        ensure!(
            self.preparation.size == [self.height, self.width],
            "images are {}×{} but were prepared as {}×{}",
            self.height,
            self.width,
            self.preparation.size[0],
            self.preparation.size[1]
        );
        ensure!(!self.classes.is_empty(), "the data set has no classes");
        let shards = self.splits.values().flat_map(|split| &split.shards);
        for file in shards.map(|shard| &shard.file).chain(self.files.keys()) {
            let plain = Path::new(file).file_name() == Some(file.as_ref());
            ensure!(plain, "`{file}` is no name of a file in the data set's folder");
        }
        for (name, split) in &self.splits {
            let mut sum = 0u64;
            for shard in &split.shards {
                sum = sum.saturating_add(shard.records);
            }
            ensure!(
                sum == split.images,
                "split `{name}` has {} images, but its shards have {sum}",
                split.images
            );
        }
        Ok(())
    }
}

/// An opened data set.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Its folder.
    pub path: PathBuf,
    /// The content of `dataset.json`.
    pub header: Header,
    /// Mean image and principal components of the training split.
    pub statistics: Statistics,
}

impl Dataset {
    /// Opens the data set in the folder `path`; shards are opened by [`Dataset::split`].
    ///
    /// Fails where the folder is none, the data set is unfinished, or header and statistics do not
    /// fit each other.
    pub fn open(path: &Path) -> Result<Dataset> {
        let file = path.join(HEADER_FILE);
        if !file.exists() {
            if path.join(UNFINISHED_FILE).exists() {
                bail!(
                    "the data set in {} is unfinished; start the same {} prepare again",
                    path.display(),
                    quoting::program()
                );
            }
            let why =
                if path.exists() { "it has no dataset.json" } else { "the folder does not exist" };
            bail!(
                "there is no data set in {}: {why}; {} prepare makes one from image files",
                path.display(),
                quoting::program()
            );
        }
        let header = read_header(&file).with_context(|| file.display().to_string())?;
        check_file(path, &header, STATISTICS_FILE)?;
        let statistics = Statistics::read(
            &path.join(STATISTICS_FILE),
            [header.height, header.width, header.channels],
        )?;
        Ok(Dataset { path: path.to_path_buf(), header, statistics })
    }

    /// Compares the checksums of the files beside the shards; false: the data set is of before they
    /// were kept.
    ///
    /// # Errors
    /// If one is damaged or missing.
    pub fn check_files(&self) -> Result<bool> {
        for name in self.header.files.keys() {
            check_file(&self.path, &self.header, name)?;
        }
        Ok(!self.header.files.is_empty())
    }

    /// Opens the shards of the split `name` (`train`, `val`, `test`) and reads their indices.
    pub fn split(&self, name: &str) -> Result<Split> {
        let Some(info) = self.header.splits.get(name) else {
            let all: Vec<&str> = self.header.splits.keys().map(String::as_str).collect();
            return Err(config_error!(
                "the data set in {} has no split `{name}`; it has {}",
                self.path.display(),
                all.join(", ")
            ));
        };
        Split::open(&self.path, &self.header, info)
    }
}

fn read_header(file: &Path) -> Result<Header> {
    let length = fs::metadata(file)?.len();
    ensure!(length <= HEADER_LIMIT, "{length} bytes are too many for a header");
    let text = seal::opened(&text::read(file, HEADER_LIMIT)?)?;
    check_format(&text)?;
    let header: Header = serde_json::from_str(&text)
        .context("the header cannot be read: it is damaged, or of a later version")?;
    header.check()?;
    Ok(header)
}

/// A later format is named before its keys are found to be unknown.
fn check_format(text: &str) -> Result<()> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let Version { format } = serde_json::from_str(text).context("the header cannot be read")?;
    ensure!(
        format == FORMAT,
        "the data set has format {format}, and this version of alexnet reads format {FORMAT}; \
         prepare it again"
    );
    Ok(())
}

/// Compares the checksum of the file `name` in `folder`, where `header` has one.
fn check_file(folder: &Path, header: &Header, name: &str) -> Result<()> {
    let Some(written) = header.files.get(name) else { return Ok(()) };
    let path = folder.join(name);
    let found =
        seal::of_file(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    ensure!(
        found == *written,
        "{} is damaged, or not the one that was prepared: its checksum is wrong; prepare the data \
         set again",
        path.display()
    );
    Ok(())
}

/// The images of one split, by number. Threads may share it.
pub struct Split {
    shards: Vec<Shard>,
    /// `starts[i]` is the number of the first image of shard i; one more entry than shards.
    starts: Vec<usize>,
    /// One bit an image: its checksum was found right in this process.
    verified: Vec<AtomicU64>,
}

impl Split {
    fn open(folder: &Path, header: &Header, info: &SplitInfo) -> Result<Split> {
        let shape = RecordShape {
            store: header.store,
            height: header.height,
            width: header.width,
            channels: header.channels,
        };
        let mut shards = Vec::with_capacity(info.shards.len());
        let mut starts = vec![0];
        for described in &info.shards {
            let path = folder.join(&described.file);
            let shard = Shard::open(&path, &shape, header.classes.len(), true)?;
            let found = shard.info();
            ensure!(
                (found.records, found.bytes) == (described.records, described.bytes),
                "{} has {} records and {} bytes, but {HEADER_FILE} says {} and {}: \
                 the file is not the one that was prepared",
                path.display(),
                found.records,
                found.bytes,
                described.records,
                described.bytes
            );
            ensure!(
                described.is(&found),
                "{} has another checksum than {HEADER_FILE} says: the file is not the one that was \
                 prepared",
                path.display()
            );
            starts.push(starts[starts.len() - 1] + shard.len());
            shards.push(shard);
        }
        let images = starts[starts.len() - 1];
        let verified = (0..images.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Ok(Split { shards, starts, verified })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.starts[self.shards.len()]
    }

    /// Whether the split has no images.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the split holds, as a checksum over all images' labels and checksums, in order.
    pub fn checksum(&self) -> u32 {
        let mut sum = crc32fast::Hasher::new();
        self.shards.iter().for_each(|shard| shard.add_to(&mut sum));
        sum.finalize()
    }

    /// The label of image `index`: an index into [`Header::classes`]. Panics where `index` ≥
    /// `len()`.
    pub fn label(&self, index: usize) -> u32 {
        let (shard, record) = self.place(index);
        self.shards[shard].label(record)
    }

    /// The CRC-32 of what is stored of image `index`: the same pixels have the same. Panics where
    /// `index` ≥ `len()`.
    pub fn crc(&self, index: usize) -> u32 {
        let (shard, record) = self.place(index);
        self.shards[shard].crc(record)
    }

    /// The name of the file that image `index` was made from. Panics where `index` ≥ `len()`.
    pub fn name(&self, index: usize) -> &str {
        let (shard, record) = self.place(index);
        self.shards[shard].name(record)
    }

    /// Reads the `window` of image `index` into `pixels`, [height, width, channels] bytes; the rest
    /// is whatever it is.
    ///
    /// The record's checksum is compared at its first read in this process. Errors name the file
    /// and the record. Panics where `index` ≥ `len()` or `pixels` has another length.
    pub fn read(&self, index: usize, window: &Area, pixels: &mut [u8]) -> Result<()> {
        let (shard, record) = self.place(index);
        let bit = 1u64 << (index % 64);
        let seen = self.verified[index / 64].load(Ordering::Relaxed) & bit != 0;
        self.shards[shard].read(record, window, pixels, !seen)?;
        if !seen {
            self.verified[index / 64].fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Shard and record of image `index`.
    fn place(&self, index: usize) -> (usize, usize) {
        assert!(index < self.len(), "image {index} of {}", self.len());
        let shard = self.starts.partition_point(|&start| start <= index) - 1;
        (shard, index - self.starts[shard])
    }
}

impl super::loader::Images for Split {
    fn len(&self) -> usize {
        Split::len(self)
    }
    fn label(&self, index: usize) -> u32 {
        Split::label(self, index)
    }
    fn read(&self, index: usize, window: &Area, pixels: &mut [u8]) -> Result<()> {
        Split::read(self, index, window, pixels)
    }
}
