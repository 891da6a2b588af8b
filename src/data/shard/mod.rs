//! A shard: a file of some thousand images, each readable by number and guarded by a checksum.
//!
//! All numbers are little-endian.
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | `ALEXSHRD` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | store: 0 = raw pixels, 1 = JPEG |
//! | 16 | 4 × 3 | height, width, channels of every image |
//! | 28 | 4 | number of records, n |
//! | 32 | 8 | where the index begins |
//! | 40 | 8 | length of the file |
//! | 48 | 12 | zero |
//! | 60 | 4 | CRC-32 of bytes 0 to 59 and the whole index |
//! | 64 | | the records, back to back: raw pixels are height × width × channels bytes, channels together; else a JPEG file each |
//! | index | 24 n | for each record: offset (8), length (4), label (4), CRC-32 of the record (4), end of its name among the names (4) |
//! | | | the names of the source files, UTF-8, back to back, to the end of the file |
//!
//! CRC-32 is zlib's. Every byte of a file is covered by one. Any record is found by its offset and
//! length without reading another.
//!
//! Reads are positioned reads, not a mapping: a file that is cut short while in use is then an
//! error, where a mapping would end the program.

pub mod jpeg;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use read::Shard;
pub use write::Writer;

use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"ALEXSHRD";
const VERSION: u32 = 1;
const HEADER: usize = 64;
const ENTRY: usize = 24;
/// An index larger than this is refused unread.
const INDEX_LIMIT: u64 = 1 << 30;

/// How the images are stored in the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Store {
    /// The pixels, one byte a value, row by row, channels together.
    Raw,
    /// A JPEG file each, a sixth to an eighth of the size at quality 95.
    Jpeg,
}

/// What all images of a shard have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordShape {
    /// How an image is stored.
    pub store: Store,
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
    /// Values a pixel.
    pub channels: usize,
}

impl RecordShape {
    /// Bytes of an image's pixels.
    pub fn image_bytes(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// The first 32 bytes of a shard with `records` records.
    fn head(&self, records: u32) -> [u8; 32] {
        let store = match self.store {
            Store::Raw => 0u32,
            Store::Jpeg => 1,
        };
        let mut head = [0; 32];
        head[..8].copy_from_slice(MAGIC);
        let numbers =
            [VERSION, store, self.height as u32, self.width as u32, self.channels as u32, records];
        for (place, number) in head[8..].chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        head
    }
}

/// One shard of a split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardInfo {
    /// File name inside the data set's folder.
    pub file: String,
    /// Images in it.
    pub records: u64,
    /// Length of the file.
    pub bytes: u64,
    /// The CRC-32 of its header and index (bytes 60 to 63), eight digits of base 16; none in data
    /// sets of before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

impl ShardInfo {
    /// Whether the file that was `found` is the one that is described here.
    pub fn is(&self, found: &ShardInfo) -> bool {
        let same = self.checksum.is_none() || self.checksum == found.checksum;
        same && (&self.file, self.records, self.bytes) == (&found.file, found.records, found.bytes)
    }
}

/// What the index says of a record.
struct Entry {
    offset: u64,
    length: u32,
    label: u32,
    crc: u32,
    name_end: u32,
}

fn header_crc(header: &[u8; HEADER], index: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[..60]);
    crc.update(index);
    crc.finalize()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
