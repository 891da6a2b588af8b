//! One split being written.

use super::Skipped;
use super::resume::{self, SplitState, Unfinished};
use crate::data::area::Area;
use crate::data::dataset::UNFINISHED_FILE;
use crate::data::decode::{self, Prepared};
use crate::data::jpeg::Notes;
use crate::data::prepare::{Content, Item, Source, Stored};
use crate::data::shard::{RecordShape, Shard, ShardInfo, Writer, jpeg};
use crate::data::statistics::Sums;
use crate::errors::guarded;
use crate::progress::Progress;
use anyhow::{Context, Result, anyhow, ensure};
use rayon::prelude::*;
use std::fs;
use std::io::Read;
use std::path::Path;

/// Decoded pixels of the chunk that is in work.
const CHUNK_BYTES: usize = 48 << 20;
/// An image file larger than this is refused unread.
const FILE_LIMIT: u64 = decode::LARGEST_FILE;

/// One split being written.
pub(super) struct Job<'a> {
    pub(super) source: &'a Source,
    pub(super) shape: RecordShape,
    /// Where images are stored as JPEG.
    pub(super) quality: Option<u8>,
    /// Records of a full shard.
    pub(super) full: usize,
    pub(super) out: &'a Path,
    pub(super) split: &'a str,
    pub(super) progress: &'a Progress,
}

/// An image as the network will see it.
struct Ready {
    pixels: Vec<u8>,
    /// What is stored, where that is not the pixels.
    record: Option<Vec<u8>>,
    /// What was wrong with its file all the same.
    notes: Notes,
}

/// The items of a chunk, each decoded, or why it is skipped.
type Decoded = Vec<std::result::Result<Ready, String>>;

impl Job<'_> {
    pub(super) fn run(
        &self,
        items: &[Item],
        pool: &rayon::ThreadPool,
        state: &mut Unfinished,
        sums: &mut Sums,
    ) -> Result<()> {
        let counted = self.split == "train";
        let done = state.splits.entry(self.split.to_string()).or_default().clone();
        if counted {
            for shard in &done.shards {
                pool.install(|| self.sum_shard(shard, sums))?;
            }
        }
        ensure!(done.items <= items.len(), "{UNFINISHED_FILE} counts more items than there are");
        self.progress.skip(done.items as u64);

        let chunk = (CHUNK_BYTES / self.shape.image_bytes()).clamp(1, self.full);
        let todo = &items[done.items..];
        let mut output = Output { job: self, state, done, writer: None };
        output.tell_skipped();
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
        items.par_iter().with_max_len(1).map(|item| self.ready(item)).collect()
    }

    /// An item made ready to be stored; errors as those of [`Job::pixels`].
    fn ready(&self, item: &Item) -> Result<std::result::Result<Ready, String>> {
        let Prepared { mut pixels, notes } = match self.pixels(item)? {
            Ok(prepared) => prepared,
            Err(reason) => return Ok(Err(reason)),
        };
        let Some(quality) = self.quality else {
            return Ok(Ok(Ready { pixels, record: None, notes }));
        };
        let record = jpeg::encode(&pixels, &self.shape, quality)?;
        jpeg::decode(&record, &self.shape, &self.all(), &mut pixels)
            .with_context(|| format!("{}, stored as JPEG, cannot be read again", item.name))?;
        Ok(Ok(Ready { pixels, record: Some(record), notes }))
    }

    /// The pixels of an item; the inner error means that it is skipped, the outer one ends it all.
    fn pixels(&self, item: &Item) -> Result<std::result::Result<Prepared, String>> {
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
            Stored::Interleaved => Ok(Prepared { pixels: bytes, notes: Notes::new() }),
            Stored::Planar => {
                let plane = bytes.len() / channels;
                let pixels = (0..bytes.len())
                    .map(|at| bytes[at % channels * plane + at / channels])
                    .collect();
                Ok(Prepared { pixels, notes: Notes::new() })
            }
            Stored::Encoded => {
                let decode = || decode::prepare_image(&bytes, preparation, channels);
                guarded(decode)
                    .unwrap_or_else(|| Err(anyhow!("the decoder failed at it")))
                    .map_err(|error| crate::errors::sentence(&error))
            }
        })
    }

    fn all(&self) -> Area {
        Area::all(self.shape.height, self.shape.width)
    }

    /// Adds the pixels of a chunk to the sums.
    fn sum(&self, decoded: &Decoded, sums: &mut Sums) {
        let empty = || Sums::new([self.shape.height, self.shape.width, self.shape.channels]);
        let part = decoded
            .par_chunks(decoded.len().div_ceil(rayon::current_num_threads()).max(1))
            .map(|some| {
                let mut sums = empty();
                let pixels = some.iter().flatten().map(|image| &image.pixels[..]);
                sums.add(&pixels.collect::<Vec<_>>());
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
                    shard.read(record, &self.all(), &mut pixels, true)?;
                    Ok(Ok(Ready { pixels, record: None, notes: Notes::new() }))
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
    done: SplitState,
    writer: Option<Writer>,
}

impl Output<'_> {
    fn put(&mut self, items: &[Item], decoded: Decoded) -> Result<()> {
        for (item, image) in items.iter().zip(decoded) {
            self.done.items += 1;
            match image {
                Ok(Ready { pixels, record, notes }) => {
                    notes.into_iter().for_each(|note| self.done.note(note, &item.name));
                    let writer = match &mut self.writer {
                        Some(writer) => writer,
                        none => none.insert(self.job.next_shard(self.done.shards.len())?),
                    };
                    writer.append(record.as_ref().unwrap_or(&pixels), item.label, &item.name)?;
                    if writer.len() == self.job.full {
                        self.close()?;
                    }
                }
                Err(reason) => {
                    self.done.skipped.push(Skipped { file: item.name.clone(), reason });
                }
            }
        }
        self.tell_skipped();
        self.job.progress.advance(items.len() as u64);
        Ok(())
    }

    /// How many images were left out, in all splits so far.
    fn tell_skipped(&self) {
        let others = self.state.splits.iter().filter(|(split, _)| *split != self.job.split);
        let others: usize = others.map(|(_, state)| state.skipped.len()).sum();
        let skipped = others + self.done.skipped.len();
        if skipped > 0 {
            self.job.progress.message(format!("{skipped} skipped"));
        }
    }

    /// Finishes the shard in work, if there is one, and saves how far things are.
    fn close(&mut self) -> Result<()> {
        if let Some(writer) = self.writer.take() {
            self.done.shards.push(writer.finish()?);
        }
        self.state.splits.insert(self.job.split.to_string(), self.done.clone());
        resume::save(self.state, self.job.out)
    }
}

impl Job<'_> {
    fn next_shard(&self, number: usize) -> Result<Writer> {
        Writer::create(&self.out.join(format!("{}-{number:05}.shard", self.split)), self.shape)
    }
}
