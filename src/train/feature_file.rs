//! A file of features: a safetensors file with the tensors `features` F32 [images, values] and
//! `labels` I64 `[images]`, and in its metadata where they come from.

use crate::data::dataset::{Dataset, Split};
use crate::data::seal;
use crate::files::mapped::MappedFloats;
use crate::files::tensors::{Reader, Subject};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};

/// The tensor with a row for each image.
pub const FEATURES: &str = "features";
/// The tensor with the class of each image.
pub const LABELS: &str = "labels";

/// What a file of features is to a person who reads what is wrong with it.
pub const SUBJECT: Subject =
    Subject { name: "file of features", remedy: "write it again with alexnet features --out" };

/// Where features come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The checkpoint's file.
    pub checkpoint: PathBuf,
    /// The CRC-32 of all its bytes, eight digits of base 16.
    pub crc32: String,
    /// The layer whose output they are.
    pub layer: String,
    /// The data set's folder.
    pub data: PathBuf,
    /// Which part of it.
    pub split: String,
    /// The split's checksum: over its images' labels and checksums, in order.
    pub split_crc32: String,
}

impl Origin {
    /// As entries of a file's metadata.
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        vec![
            ("checkpoint", self.checkpoint.display().to_string()),
            ("crc32", self.crc32.clone()),
            ("layer", self.layer.clone()),
            ("data", self.data.display().to_string()),
            ("split", self.split.clone()),
            ("split_crc32", self.split_crc32.clone()),
        ]
    }

    /// Out of a file's metadata.
    pub fn read(reader: &Reader) -> Result<Origin> {
        let entry = |key| reader.entry(key).map(String::from);
        Ok(Origin {
            checkpoint: entry("checkpoint")?.into(),
            crc32: entry("crc32")?,
            layer: entry("layer")?,
            data: entry("data")?.into(),
            split: entry("split")?,
            split_crc32: entry("split_crc32")?,
        })
    }

    /// The checkpoint that the features were made with, or `named` in its place.
    ///
    /// # Errors
    /// If it cannot be read, or is another one.
    pub fn checkpoint(&self, named: Option<&Path>) -> Result<PathBuf> {
        let file = named.unwrap_or(&self.checkpoint);
        let found = seal::of_file(file).with_context(|| {
            format!(
                "{}, the checkpoint that the features were made with, cannot be read \
                 (--checkpoint FILE names where it is now)",
                file.display()
            )
        })?;
        ensure!(
            found == self.crc32,
            "{} is not the checkpoint that the features were made with: its CRC-32 is {found}, \
             that one's was {}; name the right one with --checkpoint, or write the features again",
            file.display(),
            self.crc32
        );
        Ok(file.to_path_buf())
    }

    /// The data set and the split that the features are of, or those of `named` in their place.
    ///
    /// # Errors
    /// If they cannot be opened, or are others.
    pub fn images(&self, named: Option<&Path>) -> Result<(Dataset, Split)> {
        let folder = named.unwrap_or(&self.data);
        let dataset = Dataset::open(folder).with_context(|| {
            "the data set that the features are of cannot be opened (--data DIR names where it is \
             now)"
        })?;
        let split = dataset.split(&self.split)?;
        if seal::hex(split.checksum()) != self.split_crc32 {
            bail!(
                "the split {} of {} holds other images than those that the features are of; name \
                 the right data set with --data, or write the features again",
                self.split,
                folder.display()
            );
        }
        Ok((dataset, split))
    }
}

/// A file of features, opened.
pub struct FeatureFile {
    /// Where they come from.
    pub origin: Origin,
    /// [images, values], where they lie in the file; not read yet.
    pub features: MappedFloats,
    /// Values of an image.
    pub values: usize,
    /// Images.
    pub images: usize,
    reader: Reader,
}

impl FeatureFile {
    /// Opens `path`; the checksum of the features themselves is compared by [`FeatureFile::verify`]
    /// alone, since a search reads them once, as fast as the memory gives them.
    ///
    /// # Errors
    /// If it is damaged or something else.
    pub fn open(path: &Path) -> Result<FeatureFile> {
        let reader = Reader::open(path, SUBJECT)?;
        let origin = Origin::read(&reader)?;
        let (shape, features) = reader.mapped_unread(FEATURES)?;
        let place = || path.display().to_string();
        let [images, values] = shape[..] else {
            bail!("{}: its features have {} dimensions, not 2", place(), shape.len());
        };
        let features = features
            .with_context(|| format!("{}: this machine cannot read it where it lies", place()))?;
        ensure!(images > 0 && values > 0, "{}: it holds no features", place());
        Ok(FeatureFile { origin, features, values, images, reader })
    }

    /// The class of each image.
    ///
    /// # Errors
    /// If they are damaged or not one an image.
    pub fn labels(&self) -> Result<Vec<i64>> {
        let labels = self.reader.integers(LABELS)?;
        ensure!(labels.len() == self.images, "it has {} labels", labels.len());
        Ok(labels)
    }

    /// Compares all checksums.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn verify(&self) -> Result<()> {
        self.reader.verify()
    }
}
