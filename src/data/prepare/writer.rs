//! Writes a source's images as a data set: reads and decodes in parallel, writes in order.
//!
//! Images are taken in chunks: while one is decoded by all workers, the one before it is written.
//! Records are written in the source's order, and the sums are exact, so any number of workers gives
//! the same files, bit for bit.
//!
//! After each shard `unfinished.json` says how far things are. Started again with the same source
//! and settings, finished shards are kept (the sums are made again from them) and the rest follows.

use super::{Content, Item, Source, Stored};
use crate::config_error;
use crate::data::dataset::{
    Dataset, FORMAT, HEADER_FILE, Header, Preparation, SKIPPED_FILE, STATISTICS_FILE, ShardInfo,
    SplitInfo, Store, UNFINISHED_FILE,
};
use crate::data::decode;
use crate::data::shard::{Shape, Shard, Writer};
use crate::data::statistics::Sums;
use crate::files;
use crate::note;
use anyhow::{Context, Result, anyhow, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io::{IsTerminal, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Pixels that a shard of the usual size holds.
pub const SHARD_BYTES: usize = 256 << 20;
/// Decoded pixels of the chunk that is in work.
const CHUNK_BYTES: usize = 48 << 20;
/// An image file larger than this is refused unread.
const FILE_LIMIT: u64 = 256 << 20;

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
}

/// What came of it.
pub struct Summary {
    /// The finished data set.
    pub dataset: Dataset,
    /// Images that were skipped.
    pub skipped: u64,
}

/// An image that could not be used: a line of `skipped.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The item's name.
    pub file: String,
    /// Why.
    pub reason: String,
}

/// The content of `unfinished.json`.
#[derive(Serialize, Deserialize)]
struct Unfinished {
    format: u32,
    source: String,
    path: PathBuf,
    preparation: Preparation,
    store: Store,
    shard_bytes: usize,
    /// CRC-32 of all classes, splits, names and labels: another source is another list.
    items_crc32: u32,
    splits: BTreeMap<String, Progress>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Progress {
    /// Items done: those in finished shards and those skipped between them.
    items: usize,
    shards: Vec<ShardInfo>,
    skipped: Vec<Skipped>,
}

/// Writes the data set. Where more than `max_bad` images are skipped it stays unfinished, with an error.
pub fn write(source: &Source, options: &Options) -> Result<Summary> {
    let mut pool = rayon::ThreadPoolBuilder::new();
    if let Some(workers) = options.workers {
        pool = pool.num_threads(workers);
    }
    let pool = pool.build().context("the worker threads cannot be started")?;
    let mut state = begin(source, options)?;
    let [height, width] = source.preparation.size;
    let shape = Shape { store: Store::Raw, height, width, channels: source.channels };

    let total: usize = source.splits.iter().map(|(_, items)| items.len()).sum();
    let meter = Meter::new(total);
    let mut sums = Sums::new([height, width, source.channels]);
    for (split, items) in &source.splits {
        let full = (options.shard_bytes / shape.image_bytes()).max(1);
        let job = Job { source, shape, full, out: &options.out, split, meter: &meter };
        job.run(items, &pool, &mut state, &mut sums)?;
    }
    meter.finish();
    finish(source, options, state, &sums, total)
}

/// Checks the folder and finds out what is done already.
fn begin(source: &Source, options: &Options) -> Result<Unfinished> {
    let out = &options.out;
    let mut crc = crc32fast::Hasher::new();
    for class in &source.classes {
        crc.update(format!("{}\n{}\n", class.id, class.name).as_bytes());
    }
    for (split, items) in &source.splits {
        crc.update(split.as_bytes());
        for item in items {
            crc.update(item.name.as_bytes());
            crc.update(&item.label.to_le_bytes());
        }
    }
    let new = Unfinished {
        format: FORMAT,
        source: source.kind.clone(),
        path: fs::canonicalize(&source.path).unwrap_or_else(|_| source.path.clone()),
        preparation: source.preparation.clone(),
        store: Store::Raw,
        shard_bytes: options.shard_bytes,
        items_crc32: crc.finalize(),
        splits: BTreeMap::new(),
    };

    fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    let file = out.join(UNFINISHED_FILE);
    if out.join(HEADER_FILE).exists() {
        return Err(config_error!(
            "{} holds a finished data set already; name another folder with --out, or remove it",
            out.display()
        ));
    }
    if !file.exists() {
        if fs::read_dir(out)?.next().is_some() {
            return Err(config_error!(
                "{} is not empty and holds no unfinished data set; name another folder with --out",
                out.display()
            ));
        }
        save(&new, out)?;
        return Ok(new);
    }
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let mut old: Unfinished = serde_json::from_str(&text)
        .with_context(|| format!("{} is damaged; remove {}", file.display(), out.display()))?;
    let same = old.format == new.format
        && old.source == new.source
        && old.path == new.path
        && old.preparation == new.preparation
        && old.store == new.store
        && old.shard_bytes == new.shard_bytes
        && old.items_crc32 == new.items_crc32;
    if !same {
        return Err(config_error!(
            "{} holds an unfinished data set of another source or other settings ({} from {}); \
             name another folder with --out, or remove it",
            out.display(),
            old.source,
            old.path.display()
        ));
    }
    for progress in old.splits.values_mut() {
        progress.shards.iter().try_for_each(|shard| {
            ensure!(
                fs::metadata(out.join(&shard.file)).is_ok_and(|m| m.len() == shard.bytes),
                "{} was finished, but is missing or has another length now; remove {} and start again",
                shard.file,
                out.display()
            );
            Ok(())
        })?;
    }
    Ok(old)
}

fn save(state: &Unfinished, out: &Path) -> Result<()> {
    files::write_text(&out.join(UNFINISHED_FILE), &serde_json::to_string_pretty(state)?)
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
    let splits = state.splits.into_iter().map(|(name, progress)| {
        let images = progress.shards.iter().map(|shard| shard.records).sum();
        (name, SplitInfo { images, shards: progress.shards })
    });
    let header = Header {
        format: FORMAT,
        source: source.kind.clone(),
        height,
        width,
        channels: source.channels,
        store: Store::Raw,
        preparation: source.preparation.clone(),
        classes: source.classes.clone(),
        splits: splits.collect(),
    };
    let mut text = serde_json::to_string_pretty(&header)?;
    text.push('\n');
    files::write_text(&out.join(HEADER_FILE), &text)?;
    fs::remove_file(out.join(UNFINISHED_FILE))?;
    Ok(Summary { dataset: Dataset::open(out)?, skipped: bad })
}

/// One split being written.
struct Job<'a> {
    source: &'a Source,
    shape: Shape,
    /// Records of a full shard.
    full: usize,
    out: &'a Path,
    split: &'a str,
    meter: &'a Meter,
}

/// The pixels of each item of a chunk, or why it is skipped.
type Decoded = Vec<std::result::Result<Vec<u8>, String>>;

impl Job<'_> {
    fn run(
        &self,
        items: &[Item],
        pool: &rayon::ThreadPool,
        state: &mut Unfinished,
        sums: &mut Sums,
    ) -> Result<()> {
        let counted = self.split == "train";
        let progress = state.splits.entry(self.split.to_string()).or_default().clone();
        if counted {
            for shard in &progress.shards {
                pool.install(|| self.sum_shard(shard, sums))?;
            }
        }
        ensure!(
            progress.items <= items.len(),
            "{UNFINISHED_FILE} counts more items than there are"
        );
        self.meter.add(progress.items, progress.skipped.len());

        let chunk = (CHUNK_BYTES / self.shape.image_bytes()).clamp(1, self.full);
        let todo = &items[progress.items..];
        let mut output = Output { job: self, state, progress, writer: None };
        let mut waiting: Option<(&[Item], Decoded)> = None;
        for part in todo.chunks(chunk) {
            let (written, decoded) = pool.install(|| {
                rayon::join(
                    || waiting.take().map_or(Ok(()), |(items, pixels)| output.put(items, pixels)),
                    || self.decode(part),
                )
            });
            written?;
            let decoded = decoded?;
            if counted {
                pool.install(|| self.sum(&decoded, sums));
            }
            waiting = Some((part, decoded));
        }
        if let Some((items, pixels)) = waiting {
            output.put(items, pixels)?;
        }
        output.close()
    }

    /// Reads and decodes a chunk, in parallel, in order.
    fn decode(&self, items: &[Item]) -> Result<Decoded> {
        items.par_iter().with_max_len(1).map(|item| self.pixels(item)).collect()
    }

    /// The pixels of an item; the inner error means that it is skipped, the outer one ends it all.
    fn pixels(&self, item: &Item) -> Result<std::result::Result<Vec<u8>, String>> {
        let bytes = match &item.content {
            Content::File(path) => match read_file(path) {
                Ok(bytes) => bytes,
                Err(error) => return Ok(Err(crate::errors::sentence(&error))),
            },
            Content::Part { of, offset, length } => {
                if *length > FILE_LIMIT {
                    return Ok(Err(too_large(*length)));
                }
                let mut bytes = vec![0; *length as usize];
                of.read_at(*offset, &mut bytes).with_context(|| {
                    format!("{} of {} cannot be read", item.name, of.path().display())
                })?;
                bytes
            }
        };
        let (preparation, channels) = (&self.source.preparation, self.source.channels);
        Ok(match self.source.stored {
            Stored::Interleaved => Ok(bytes),
            Stored::Planar => {
                let plane = bytes.len() / channels;
                Ok((0..bytes.len())
                    .map(|at| bytes[at % channels * plane + at / channels])
                    .collect())
            }
            Stored::Encoded => {
                let decode = || decode::prepare_image(&bytes, preparation, channels);
                catch_unwind(AssertUnwindSafe(decode))
                    .unwrap_or_else(|_| Err(anyhow!("the decoder failed at it")))
                    .map_err(|error| crate::errors::sentence(&error))
            }
        })
    }

    /// Adds the pixels of a chunk to the sums.
    fn sum(&self, decoded: &Decoded, sums: &mut Sums) {
        let empty = || Sums::new([self.shape.height, self.shape.width, self.shape.channels]);
        let part = decoded
            .par_chunks(decoded.len().div_ceil(rayon::current_num_threads()).max(1))
            .map(|some| {
                let mut sums = empty();
                some.iter().flatten().for_each(|pixels| sums.add(pixels));
                sums
            })
            .reduce(empty, |mut a, b| {
                a.merge(&b);
                a
            });
        sums.merge(&part);
    }

    /// Adds a shard that was finished before to the sums, comparing its checksums.
    fn sum_shard(&self, info: &ShardInfo, sums: &mut Sums) -> Result<()> {
        let path = self.out.join(&info.file);
        let shard = Shard::open(&path, &self.shape, self.source.classes.len(), true)?;
        let chunk = (CHUNK_BYTES / self.shape.image_bytes()).max(1);
        for start in (0..shard.len()).step_by(chunk) {
            let decoded = (start..shard.len().min(start + chunk))
                .into_par_iter()
                .map(|record| {
                    let mut pixels = vec![0; self.shape.image_bytes()];
                    shard.read(record, &mut pixels, true)?;
                    Ok(Ok(pixels))
                })
                .collect::<Result<Decoded>>()?;
            self.sum(&decoded, sums);
        }
        Ok(())
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let file = fs::File::open(path).context("the file cannot be opened")?;
    let length = file.metadata()?.len();
    ensure!(length <= FILE_LIMIT, "{}", too_large(length));
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(FILE_LIMIT).read_to_end(&mut bytes).context("the file cannot be read")?;
    Ok(bytes)
}

fn too_large(length: u64) -> String {
    format!("the file has {} MiB; at most {} are read", length >> 20, FILE_LIMIT >> 20)
}

/// The shards of a split, one after the other.
struct Output<'a> {
    job: &'a Job<'a>,
    state: &'a mut Unfinished,
    progress: Progress,
    writer: Option<Writer>,
}

impl Output<'_> {
    fn put(&mut self, items: &[Item], decoded: Decoded) -> Result<()> {
        let before = self.progress.skipped.len();
        for (item, pixels) in items.iter().zip(decoded) {
            self.progress.items += 1;
            match pixels {
                Ok(pixels) => {
                    let writer = match &mut self.writer {
                        Some(writer) => writer,
                        none => none.insert(self.job.next_shard(self.progress.shards.len())?),
                    };
                    writer.append(&pixels, item.label, &item.name)?;
                    if writer.len() == self.job.full {
                        self.close()?;
                    }
                }
                Err(reason) => {
                    self.progress.skipped.push(Skipped { file: item.name.clone(), reason });
                }
            }
        }
        self.job.meter.add(items.len(), self.progress.skipped.len() - before);
        Ok(())
    }

    /// Finishes the shard in work, if there is one, and saves how far things are.
    fn close(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            self.progress.shards.push(writer.finish()?);
        }
        self.state.splits.insert(self.job.split.to_string(), self.progress.clone());
        save(self.state, self.job.out)
    }
}

impl Job<'_> {
    fn next_shard(&self, number: usize) -> Result<Writer> {
        Writer::create(&self.out.join(format!("{}-{number:05}.shard", self.split)), self.shape)
    }
}

/// Progress on standard error: a bar on a terminal, else a line every ten seconds.
struct Meter {
    bar: ProgressBar,
    plain: Option<std::sync::Mutex<(Instant, Instant)>>,
    skipped: std::sync::atomic::AtomicUsize,
}

impl Meter {
    fn new(total: usize) -> Meter {
        let bar = ProgressBar::new(total as u64);
        let style = ProgressStyle::with_template(
            "{bar:30} {human_pos}/{human_len} images, {per_sec}, {eta} left{msg}",
        );
        if let Ok(style) = style {
            bar.set_style(style);
        }
        let now = Instant::now();
        let plain = (!std::io::stderr().is_terminal()).then(|| std::sync::Mutex::new((now, now)));
        Meter { bar, plain, skipped: 0.into() }
    }

    fn add(&self, images: usize, skipped: usize) {
        use std::sync::atomic::Ordering::Relaxed;
        self.bar.inc(images as u64);
        let skipped = self.skipped.fetch_add(skipped, Relaxed) + skipped;
        if skipped > 0 {
            self.bar.set_message(format!(", {skipped} skipped"));
        }
        if let Some(times) = &self.plain {
            let mut times = times.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if times.1.elapsed() >= Duration::from_secs(10) {
                times.1 = Instant::now();
                let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
                let rate = done as f64 / times.0.elapsed().as_secs_f64();
                note!("{done}/{total} images, {rate:.0}/s, {skipped} skipped");
            }
        }
    }

    fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
