//! What is searched: features by Euclidean distance, or codes by the bits that differ.

use super::Args;
use crate::train::codes::file::CodeFile;
use crate::train::codes::hamming::nearest_codes;
use crate::train::feature_file::{FeatureFile, Origin};
use crate::vectors::nearest::{Neighbour, nearest};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::path::Path;

/// A file that is searched.
pub enum Index {
    /// By Euclidean distance.
    Features(FeatureFile),
    /// By Hamming distance.
    Codes(CodeFile),
}

impl Index {
    /// The file of `--features` or `--codes`.
    pub fn open(args: &Args) -> Result<Index> {
        if let Some(codes) = &args.codes {
            return Ok(Index::Codes(CodeFile::open(codes)?));
        }
        let features = args.features.as_deref().context("--features FILE is missing")?;
        let file = FeatureFile::open(features)?;
        if args.verify {
            file.verify()?;
        }
        Ok(Index::Features(file))
    }

    /// Where the features come from.
    pub fn origin(&self) -> &Origin {
        match self {
            Index::Features(file) => &file.origin,
            Index::Codes(file) => &file.origin,
        }
    }

    /// Whether it fits `images` images of `values` features each.
    ///
    /// # Errors
    /// A sentence with `file`, its name.
    pub fn check(&self, file: &Path, images: usize, values: usize) -> Result<()> {
        let (own, of) = match self {
            Index::Features(file) => (file.images, file.values),
            Index::Codes(file) => (file.codes.len() / file.bytes, file.values),
        };
        let (file, layer) = (file.display(), &self.origin().layer);
        ensure!(own == images, "{file}: it is of {own} images, the split has {images}");
        ensure!(of == values, "{file}: it is of {of} values, the layer {layer} makes {values}");
        Ok(())
    }

    /// The `count` nearest to each row of `queries` [queries, features].
    pub fn search(&mut self, queries: &[f32], count: usize) -> Result<Vec<Vec<Neighbour>>> {
        match self {
            Index::Features(file) => Ok(nearest(&file.features, queries, file.values, count)),
            Index::Codes(file) => {
                let codes = file.encoder.encode(queries)?;
                let of = |(bits, row): (u32, usize)| Neighbour { row, distance: bits.into() };
                let near = |code: &[u8]| nearest_codes(&file.codes, code, count);
                let each = codes.chunks_exact(file.bytes);
                Ok(each.map(|code| near(code).into_iter().map(of).collect()).collect())
            }
        }
    }

    /// A distance for people.
    pub fn words(&self, distance: f64) -> String {
        match self {
            Index::Features(_) => format!("{distance:.4}"),
            Index::Codes(_) => format!("{distance:.0} bits"),
        }
    }

    /// A distance for programs.
    pub fn json(&self, distance: f64) -> Value {
        match self {
            Index::Features(_) => json!(distance),
            Index::Codes(_) => json!(distance as u64),
        }
    }
}
