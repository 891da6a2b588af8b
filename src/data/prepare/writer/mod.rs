//! Writes a source's images as a data set: reads and decodes in parallel, writes in order.
//!
//! Images are taken in chunks: while one is decoded by all workers, the one before it is written.
//! Records are written in the source's order, and the sums are exact, so any number of workers
//! gives the same files, bit for bit.
//!
//! After each shard `unfinished.json` says how far things are. Started again with the same source
//! and settings, finished shards are kept (the sums are made again from them) and the rest follows.
//! One process at a time writes in a folder.

mod finish;
mod job;
mod kept;
mod ready;
mod resume;
mod rows;
mod twins;

pub use twins::Twins;

use super::Source;
use crate::data::dataset::{Dataset, HEADER_FILE};
use crate::data::shard::{RecordShape, Store};
use crate::data::statistics::Sums;
use crate::files;
use crate::files::lock::{self, Lock};
use crate::machine::threads;
use crate::note;
use crate::progress::Progress;
use anyhow::{Context, Result, bail};
use job::Job;
use ready::Maker;
use resume::{Begun, Unfinished};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    /// Images of each class, by split.
    pub images: BTreeMap<String, Vec<u64>>,
    /// Images that had fewer pixels along a side than were made of them.
    pub enlarged: u64,
    /// Images of other splits that are among the training images.
    pub twins: Vec<Twins>,
}

/// Writes the data set. Where more than `max_bad` images are skipped it stays unfinished, with an
/// error.
///
/// # Errors
/// If another process writes in the folder, the folder holds something else, a file cannot be read
/// or written, or too many images are skipped.
pub fn write(source: &Source, options: &Options) -> Result<Summary> {
    let Some(lock) = hold(&options.out)? else {
        bail!(
            "another process is preparing {}; wait for it, or name another folder with --out",
            options.out.display()
        );
    };
    write_held(source, options, &lock)
}

/// As [`write()`], but where another process is writing the same, it is waited for, and what it
/// made is opened.
pub fn write_once(source: &Source, options: &Options) -> Result<Dataset> {
    let out = &options.out;
    let mut said = false;
    loop {
        if let Some(lock) = hold(out)? {
            if out.join(HEADER_FILE).exists() {
                return Dataset::open(out);
            }
            return Ok(write_held(source, options, &lock)?.dataset);
        }
        if !said {
            note!("another process is preparing {}; waiting for it", out.display());
            said = true;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Makes the folder and keeps others from it; None: another process does.
fn hold(out: &Path) -> Result<Option<Lock>> {
    let made = fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()));
    made.and_then(|_| lock::lock(out)).map_err(|error| with_room(error, out))
}

/// Writes the data set in a folder that is ours.
fn write_held(source: &Source, options: &Options, _: &Lock) -> Result<Summary> {
    let workers = match options.workers {
        Some(workers) => threads::useful("--workers", workers),
        None => rayon::current_num_threads(),
    };
    let pool = threads::pool("reading images", workers)?;
    let written = match resume::begin(source, options) {
        Ok(Begun::Finished(state)) => finish::again(&options.out, &state),
        Ok(Begun::Unfinished(state)) => write_shards(source, options, state, &pool),
        Err(error) => Err(error),
    };
    written.map_err(|error| with_room(error, &options.out))
}

/// Writes the shards that are missing, and what comes after them.
fn write_shards(
    source: &Source,
    options: &Options,
    mut state: Unfinished,
    pool: &rayon::ThreadPool,
) -> Result<Summary> {
    let preparation = state.preparation.clone();
    let [height, width] = preparation.size;
    let shape = RecordShape { store: options.store(), height, width, channels: source.channels };

    let total: usize = source.splits.iter().map(|(_, items)| items.len()).sum();
    let progress = Progress::new("prepare", total as u64);
    let mut sums = Sums::new([height, width, source.channels]);
    state.splits.retain(|name, _| source.splits.iter().any(|(split, _)| split == name));
    let maker = Maker { source, preparation: &preparation, shape, quality: options.jpeg_quality };
    let full = (options.shard_bytes / shape.image_bytes()).max(1);
    for (split, items) in &source.splits {
        let (maker, out, progress) = (&maker, &options.out, &progress);
        let job = Job { maker, full, out, split, progress };
        job.run(items, pool, &mut state, &mut sums)?;
    }
    progress.finish();
    finish::finish(source, options, state, &sums, total)
}

/// With what to do, where the disk has no room or a limit was reached.
fn with_room(error: anyhow::Error, out: &Path) -> anyhow::Error {
    if !error.chain().filter_map(|cause| cause.downcast_ref()).any(files::is_full) {
        return error;
    }
    error.context(format!(
        "there is no room for {}; make some, and start the same command again: it goes on where it \
         stopped",
        out.display()
    ))
}
