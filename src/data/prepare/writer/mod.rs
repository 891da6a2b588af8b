//! Writes a source's images as a data set: reads and decodes in parallel, writes in order.
//!
//! Images are taken in chunks: while one is decoded by all workers, the one before it is written.
//! Records are written in the source's order, and the sums are exact, so any number of workers
//! gives the same files, bit for bit.
//!
//! After each shard `unfinished.json` says how far things are. Started again with the same source
//! and settings, finished shards are kept (the sums are made again from them) and the rest follows.

mod job;
mod resume;

use super::Source;
use crate::data::dataset::{
    Dataset, FORMAT, HEADER_FILE, Header, SKIPPED_FILE, STATISTICS_FILE, SplitInfo, UNFINISHED_FILE,
};
use crate::data::shard::{RecordShape, Store};
use crate::data::statistics::Sums;
use crate::files;
use crate::machine::threads;
use crate::progress::Progress;
use anyhow::{Result, bail, ensure};
use job::Job;
use resume::Unfinished;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

/// Pixels that a shard of the usual size holds.
pub const SHARD_BYTES: usize = 256 << 20;

/// How to write, beside what the source says.
pub struct Options {
    /// The data set's folder.
    pub out: PathBuf,
    /// Skipped images that are still all right; `None`: 1 % of all.
    pub max_bad: Option<u64>,
    /// Threads; `None`: as many as the machine has cores.
    pub workers: Option<usize>,
    /// Pixels a shard holds, at most; usually [`SHARD_BYTES`].
    pub shard_bytes: usize,
    /// `Some(quality)`: images are stored as JPEG; `None`: raw.
    pub jpeg_quality: Option<u8>,
}

impl Options {
    /// How images are stored.
    pub fn store(&self) -> Store {
        if self.jpeg_quality.is_some() { Store::Jpeg } else { Store::Raw }
    }
}

/// What came of it.
pub struct Summary {
    /// The finished data set.
    pub dataset: Dataset,
    /// Images that were skipped.
    pub skipped: u64,
    /// What was wrong with images that could be used all the same, a sentence each.
    pub notes: Vec<String>,
}

/// An image that could not be used: a line of `skipped.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The item's name.
    pub file: String,
    /// Why.
    pub reason: String,
}

/// Writes the data set. Where more than `max_bad` images are skipped it stays unfinished, with an
/// error.
pub fn write(source: &Source, options: &Options) -> Result<Summary> {
    let workers = match options.workers {
        Some(workers) => threads::useful("--workers", workers),
        None => rayon::current_num_threads(),
    };
    let pool = threads::pool("reading images", workers)?;
    let mut state = resume::begin(source, options)?;
    let [height, width] = source.preparation.size;
    let shape = RecordShape { store: options.store(), height, width, channels: source.channels };

    let total: usize = source.splits.iter().map(|(_, items)| items.len()).sum();
    let progress = Progress::new("prepare", total as u64);
    let mut sums = Sums::new([height, width, source.channels]);
    for (split, items) in &source.splits {
        let full = (options.shard_bytes / shape.image_bytes()).max(1);
        let quality = options.jpeg_quality;
        let job =
            Job { source, shape, quality, full, out: &options.out, split, progress: &progress };
        job.run(items, &pool, &mut state, &mut sums)?;
    }
    progress.finish();
    finish(source, options, state, &sums, total)
}

/// Writes what comes after the shards; `dataset.json` last.
fn finish(
    source: &Source,
    options: &Options,
    state: Unfinished,
    sums: &Sums,
    total: usize,
) -> Result<Summary> {
    let out = &options.out;
    let skipped: Vec<&Skipped> =
        source.splits.iter().flat_map(|(split, _)| state.splits[split].skipped.iter()).collect();
    files::write_whole(&out.join(SKIPPED_FILE), |file| {
        for line in &skipped {
            writeln!(file, "{}", serde_json::to_string(line)?)?;
        }
        Ok(())
    })?;
    let bad = skipped.len() as u64;
    let allowed = options.max_bad.unwrap_or(total as u64 / 100);
    if bad > allowed {
        bail!(
            "{bad} of {total} images could not be used, more than the {allowed} allowed; \
             {} names each with its reason; mend or remove them, or allow more with --max-bad",
            out.join(SKIPPED_FILE).display()
        );
    }
    ensure!(sums.images() > 0, "no image is left for the training split");

    sums.write(&out.join(STATISTICS_FILE))?;
    let [height, width] = source.preparation.size;
    let notes = notes(source, &state);
    let splits = state.splits.into_iter().map(|(name, split)| {
        let images = split.shards.iter().map(|shard| shard.records).sum();
        (name, SplitInfo { images, shards: split.shards })
    });
    let header = Header {
        format: FORMAT,
        source: source.kind.clone(),
        height,
        width,
        channels: source.channels,
        store: options.store(),
        quality: options.jpeg_quality,
        preparation: source.preparation.clone(),
        classes: source.classes.clone(),
        splits: splits.collect(),
    };
    let mut text = serde_json::to_string_pretty(&header)?;
    text.push('\n');
    files::write_text(&out.join(HEADER_FILE), &text)?;
    fs::remove_file(out.join(UNFINISHED_FILE))?;
    Ok(Summary { dataset: Dataset::open(out)?, skipped: bad, notes })
}

/// What was wrong with images that were used, with how many they are and the first of them.
fn notes(source: &Source, state: &Unfinished) -> Vec<String> {
    let mut all: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for (what, noted) in source.splits.iter().flat_map(|(split, _)| &state.splits[split].noted) {
        all.entry(what).or_insert((0, &noted.first)).0 += noted.images;
    }
    let line = |(what, (images, first)): (&str, (u64, &str))| match images {
        1 => format!("{first}: {what}"),
        _ => format!("{first} and {} more: {what}", images - 1),
    };
    all.into_iter().map(line).collect()
}
