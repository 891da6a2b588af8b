//! A source's images made ready to be stored, and their sums.

use super::rows;
use crate::data::area::Area;
use crate::data::decode::{self, Prepared};
use crate::data::jpeg::Notes;
use crate::data::preparation::Preparation;
use crate::data::prepare::{Content, Fetched, Item, Source, Stored};
use crate::data::shard::{RecordShape, Shard, jpeg};
use crate::data::statistics::Sums;
use crate::errors::guarded;
use anyhow::{Context, Result, anyhow};
use rayon::prelude::*;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

/// Decoded pixels of the chunk that is in work.
const CHUNK_BYTES: usize = 48 << 20;
/// An image file larger than this is refused unread.
const FILE_LIMIT: u64 = decode::LARGEST_FILE;

/// What is made of each image.
pub(super) struct Maker<'a> {
    pub(super) source: &'a Source,
    /// What is done to each: the source's, or what an older version began with.
    pub(super) preparation: &'a Preparation,
    pub(super) shape: RecordShape,
    /// Where images are stored as JPEG.
    pub(super) quality: Option<u8>,
}

/// An image as the network will see it.
pub(super) struct Ready {
    pub(super) pixels: Vec<u8>,
    /// What is stored, where that is not the pixels.
    pub(super) record: Option<Vec<u8>>,
    /// What was wrong with its file all the same.
    pub(super) notes: Notes,
    /// Whether its file has fewer pixels along a side than were made of it.
    pub(super) enlarged: bool,
}

/// The items of a chunk, each decoded, or why it is skipped.
pub(super) type Decoded = Vec<std::result::Result<Ready, String>>;

impl Maker<'_> {
    /// Images that are in work at a time.
    pub(super) fn chunk(&self) -> usize {
        (CHUNK_BYTES / self.shape.image_bytes()).max(1)
    }

    /// Reads and decodes a chunk, in parallel, in order.
    pub(super) fn decode(&self, items: &[Item]) -> Result<Decoded> {
        if let Some(Item { content: Content::Row { .. }, .. }) = items.first() {
            return self.decode_rows(items);
        }
        items.par_iter().with_max_len(1).map(|item| self.ready(item, read(item)?)).collect()
    }

    /// The same of images that are read in an order: while some are decoded, the next are read.
    fn decode_rows(&self, items: &[Item]) -> Result<Decoded> {
        let mut decoded = Vec::with_capacity(items.len());
        let (mut part, mut rest) = items.split_at(rows::batch(items));
        let mut fetched = rows::fetch(part)?;
        while !part.is_empty() {
            let (next, others) = rest.split_at(rows::batch(rest));
            let pairs = part.par_iter().zip(fetched).with_max_len(1);
            let (made, read) = rayon::join(
                || pairs.map(|(item, bytes)| self.ready(item, bytes)).collect::<Result<Decoded>>(),
                || rows::fetch(next),
            );
            decoded.extend(made?);
            (part, rest, fetched) = (next, others, read?);
        }
        Ok(decoded)
    }

    /// An item made ready to be stored; the inner error means that it is skipped.
    fn ready(&self, item: &Item, bytes: Fetched) -> Result<std::result::Result<Ready, String>> {
        let prepared = bytes.and_then(|bytes| self.prepared(bytes));
        let Prepared { mut pixels, notes, enlarged, .. } = match prepared {
            Ok(prepared) => prepared,
            Err(reason) => return Ok(Err(reason)),
        };
        let Some(quality) = self.quality else {
            return Ok(Ok(Ready { pixels, record: None, notes, enlarged }));
        };
        let record = jpeg::encode(&pixels, &self.shape, quality)?;
        jpeg::decode(&record, &self.shape, &self.all(), &mut pixels)
            .with_context(|| format!("{}, stored as JPEG, cannot be read again", item.name))?;
        Ok(Ok(Ready { pixels, record: Some(record), notes, enlarged }))
    }

    /// The pixels that an item's bytes are.
    fn prepared(&self, bytes: Vec<u8>) -> std::result::Result<Prepared, String> {
        let channels = self.source.channels;
        let from = [self.shape.height, self.shape.width];
        let as_stored = |pixels| Prepared { pixels, notes: Notes::new(), enlarged: false, from };
        match self.source.stored {
            Stored::Interleaved => Ok(as_stored(bytes)),
            Stored::Planar => {
                let plane = bytes.len() / channels;
                let pixels = (0..bytes.len())
                    .map(|at| bytes[at % channels * plane + at / channels])
                    .collect();
                Ok(as_stored(pixels))
            }
            Stored::Encoded if bytes.len() as u64 > FILE_LIMIT => {
                Err(too_large(bytes.len() as u64))
            }
            Stored::Encoded => {
                let decode = || decode::prepare_image(&bytes, self.preparation, channels);
                guarded(decode)
                    .unwrap_or_else(|| Err(anyhow!("the decoder failed at it")))
                    .map_err(|error| crate::errors::sentence(&error))
            }
        }
    }

    fn all(&self) -> Area {
        Area::all(self.shape.height, self.shape.width)
    }

    /// Adds the pixels of a chunk to the sums.
    pub(super) fn sum(&self, decoded: &Decoded, sums: &mut Sums) {
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

    /// The sums of a shard that was finished before, its checksums compared.
    pub(super) fn sum_shard(&self, shard: &Shard) -> Result<Sums> {
        let mut sums = Sums::new([self.shape.height, self.shape.width, self.shape.channels]);
        let chunk = self.chunk();
        for start in (0..shard.len()).step_by(chunk) {
            let decoded = (start..shard.len().min(start + chunk))
                .into_par_iter()
                .map(|record| {
                    let mut pixels = vec![0; self.shape.image_bytes()];
                    shard.read(record, &self.all(), &mut pixels, true)?;
                    Ok(Ok(Ready { pixels, record: None, notes: Notes::new(), enlarged: false }))
                })
                .collect::<Result<Decoded>>()?;
            self.sum(&decoded, &mut sums);
        }
        Ok(sums)
    }
}

/// The bytes of an item; the inner error means that it is skipped, the outer one ends it all.
fn read(item: &Item) -> Result<Fetched> {
    match &item.content {
        Content::File(path) => read_file(path).map_err(|error| unreadable(path, error)),
        Content::Part { length, .. } if *length > FILE_LIMIT => Ok(Err(too_large(*length))),
        Content::Part { of, offset, length } => {
            let mut bytes = vec![0; *length as usize];
            of.read_at(*offset, &mut bytes).with_context(|| {
                format!("{} of {} cannot be read", item.name, of.path().display())
            })?;
            Ok(Ok(bytes))
        }
        Content::Row { of, row } => {
            Ok(of.fetch(&[*row])?.pop().unwrap_or_else(|| Err("it is missing".into())))
        }
    }
}

/// The bytes of an image file; the inner error means that the image is skipped: the file is not
/// there, not ours to read, or too large. The outer one is the disk's or the system's.
fn read_file(path: &Path) -> io::Result<std::result::Result<Vec<u8>, String>> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if is_the_files(&error) => {
            return Ok(Err(format!("the file cannot be opened: {error}")));
        }
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    if length > FILE_LIMIT {
        return Ok(Err(too_large(length)));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(FILE_LIMIT).read_to_end(&mut bytes)?;
    Ok(Ok(bytes))
}

/// Whether a file could not be opened for a reason of its own: it, or what a link leads to, is not
/// there, or not ours to read, or the link leads to itself.
fn is_the_files(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    const ELOOP: [i32; 2] = [40, 62]; // Linux; macOS and the BSDs
    matches!(error.kind(), NotFound | PermissionDenied | NotADirectory)
        || (cfg!(unix) && error.raw_os_error().is_some_and(|code| ELOOP.contains(&code)))
}

/// What ends it all: an image that can be read tomorrow must not be missing for ever.
fn unreadable(path: &Path, error: io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context(format!(
        "{} cannot be read; see to the disk, or remove the file, and start the same command again: \
         it goes on where it stopped",
        path.display()
    ))
}

fn too_large(length: u64) -> String {
    format!("the file has {} MiB; at most {} are read", length >> 20, FILE_LIMIT >> 20)
}
