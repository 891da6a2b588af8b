//! A shard: a file of some thousand images, each readable by number and guarded by a checksum.
//!
//! All numbers are little-endian.
//!
//! | at | bytes | what |
//! | --- | --- | --- |
//! | 0 | 8 | `ALEXSHRD` |
//! | 8 | 4 | version, 1 |
//! | 12 | 4 | store: 0 = raw pixels |
//! | 16 | 4 × 3 | height, width, channels of every image |
//! | 28 | 4 | number of records, n |
//! | 32 | 8 | where the index begins |
//! | 40 | 8 | length of the file |
//! | 48 | 12 | zero |
//! | 60 | 4 | CRC-32 of bytes 0 to 59 and the whole index |
//! | 64 | | the records, back to back: raw pixels are height × width × channels bytes, channels together |
//! | index | 24 n | for each record: offset (8), length (4), label (4), CRC-32 of the record (4), end of its name among the names (4) |
//! | | | the names of the source files, UTF-8, back to back, to the end of the file |
//!
//! CRC-32 is zlib's. Every byte of a file is covered by one. Records are found by offset and length,
//! so that another store (JPEG) needs only a new number at 12.
//!
//! Reads are positioned reads, not a mapping: a file that is cut short while in use is then an error
//! of one read, where a mapping would end the process with SIGBUS.

use super::dataset::{ShardInfo, Store};
use crate::files;
use anyhow::{Context, Result, bail, ensure};
use std::fs::{self, File};
use std::io::{BufWriter, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"ALEXSHRD";
const VERSION: u32 = 1;
const HEADER: usize = 64;
const ENTRY: usize = 24;
/// An index larger than this is refused unread.
const INDEX_LIMIT: u64 = 1 << 30;

/// What all images of a shard have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How an image is stored.
    pub store: Store,
    /// Pixels from top to bottom.
    pub height: usize,
    /// Pixels from left to right.
    pub width: usize,
    /// Values a pixel.
    pub channels: usize,
}

impl Shape {
    /// Bytes of an image's pixels.
    pub fn image_bytes(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// The first 32 bytes of a shard with `records` records.
    fn head(&self, records: u32) -> [u8; 32] {
        let store = match self.store {
            Store::Raw => 0u32,
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

struct Entry {
    offset: u64,
    length: u32,
    label: u32,
    crc: u32,
    name_end: u32,
}

/// A shard being written: under a temporary name until [`Writer::finish`].
pub struct Writer {
    path: PathBuf,
    temporary: PathBuf,
    out: BufWriter<File>,
    shape: Shape,
    offset: u64,
    entries: Vec<Entry>,
    names: Vec<u8>,
}

impl Writer {
    /// Begins the shard `path`.
    pub fn create(path: &Path, shape: Shape) -> Result<Writer> {
        let temporary = files::temporary_name(path);
        let file = File::create(&temporary)
            .with_context(|| format!("{} cannot be created", temporary.display()))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        out.write_all(&[0; HEADER]).with_context(|| writing(path))?;
        Ok(Writer {
            path: path.to_path_buf(),
            temporary,
            out,
            shape,
            offset: HEADER as u64,
            entries: Vec::new(),
            names: Vec::new(),
        })
    }

    /// Appends an image: its `record` as stored, its `label`, and the `name` of its source file.
    pub fn append(&mut self, record: &[u8], label: u32, name: &str) -> Result<()> {
        match self.shape.store {
            Store::Raw => assert_eq!(record.len(), self.shape.image_bytes()),
        }
        self.out.write_all(record).with_context(|| writing(&self.path))?;
        self.names.extend_from_slice(name.as_bytes());
        self.entries.push(Entry {
            offset: self.offset,
            length: u32::try_from(record.len())?,
            label,
            crc: crc32fast::hash(record),
            name_end: u32::try_from(self.names.len())?,
        });
        self.offset += record.len() as u64;
        Ok(())
    }

    /// Number of records so far.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no record yet.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Writes index and header, flushes, and gives the file its name.
    pub fn finish(mut self) -> Result<ShardInfo> {
        self.complete().with_context(|| writing(&self.path))
    }

    fn complete(&mut self) -> Result<ShardInfo> {
        let mut index = Vec::with_capacity(self.entries.len() * ENTRY + self.names.len());
        for entry in &self.entries {
            index.extend_from_slice(&entry.offset.to_le_bytes());
            for number in [entry.length, entry.label, entry.crc, entry.name_end] {
                index.extend_from_slice(&number.to_le_bytes());
            }
        }
        index.extend_from_slice(&self.names);
        let bytes = self.offset + index.len() as u64;

        let mut header = [0; HEADER];
        header[..32].copy_from_slice(&self.shape.head(u32::try_from(self.entries.len())?));
        header[32..40].copy_from_slice(&self.offset.to_le_bytes());
        header[40..48].copy_from_slice(&bytes.to_le_bytes());
        let crc = header_crc(&header, &index);
        header[60..].copy_from_slice(&crc.to_le_bytes());

        self.out.write_all(&index)?;
        self.out.rewind()?;
        self.out.write_all(&header)?;
        self.out.flush()?;
        files::commit(self.out.get_ref(), &self.temporary, &self.path)?;
        Ok(ShardInfo {
            file: self.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            records: self.entries.len() as u64,
            bytes,
        })
    }
}

impl Drop for Writer {
    /// A shard that was not finished leaves nothing behind.
    fn drop(&mut self) {
        // Renamed away where it was finished.
        let _ = fs::remove_file(&self.temporary);
    }
}

fn writing(path: &Path) -> String {
    format!("writing {}", path.display())
}

fn header_crc(header: &[u8; HEADER], index: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[..60]);
    crc.update(index);
    crc.finalize()
}

/// A shard opened for reading; holds its index.
pub struct Shard {
    path: PathBuf,
    /// None: opened for each read.
    file: Option<File>,
    bytes: u64,
    entries: Vec<Entry>,
    names: String,
}

impl Shard {
    /// Opens `path` and checks header, index and sizes: images of `shape`, labels below `classes`.
    /// With `keep_open` the file stays open, else each read opens it.
    pub fn open(path: &Path, shape: &Shape, classes: usize, keep_open: bool) -> Result<Shard> {
        let file =
            File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
        let mut shard = Shard::parse(path, &file, shape, classes)
            .with_context(|| format!("{} is no sound shard", path.display()))?;
        shard.file = keep_open.then_some(file);
        Ok(shard)
    }

    fn parse(path: &Path, file: &File, shape: &Shape, classes: usize) -> Result<Shard> {
        let bytes = file.metadata()?.len();
        ensure!(bytes >= HEADER as u64, "it has {bytes} bytes, fewer than a shard's header");
        let mut header = [0; HEADER];
        file.read_exact_at(&mut header, 0)?;
        ensure!(&header[..8] == MAGIC, "it does not begin with `ALEXSHRD`");
        let version = u32_at(&header, 8);
        ensure!(version == VERSION, "it has version {version}; this program reads {VERSION}");
        let records = u32_at(&header, 28);
        let (index_at, length) = (u64_at(&header, 32), u64_at(&header, 40));
        ensure!(
            length == bytes,
            "it has {bytes} bytes where its header says {length}: it was cut short or added to"
        );
        ensure!(
            (HEADER as u64..=bytes).contains(&index_at) && bytes - index_at <= INDEX_LIMIT,
            "its index is said to begin at byte {index_at} of {bytes}"
        );
        let mut index = vec![0; (bytes - index_at) as usize];
        file.read_exact_at(&mut index, index_at)?;
        let crc = header_crc(&header, &index);
        ensure!(crc == u32_at(&header, 60), "the checksum of its header and index is wrong");
        ensure!(
            header[..32] == shape.head(records),
            "its images are {}×{}×{} in store {}, not those of the data set's header",
            u32_at(&header, 16),
            u32_at(&header, 20),
            u32_at(&header, 24),
            u32_at(&header, 12)
        );

        let names_at = records as usize * ENTRY;
        ensure!(names_at <= index.len(), "its index is too short for {records} records");
        let names = String::from_utf8(index.split_off(names_at)).context("its names")?;
        let mut entries = Vec::with_capacity(records as usize);
        let mut name_start = 0;
        for (number, entry) in index.chunks_exact(ENTRY).enumerate() {
            let entry = Entry {
                offset: u64_at(entry, 0),
                length: u32_at(entry, 8),
                label: u32_at(entry, 12),
                crc: u32_at(entry, 16),
                name_end: u32_at(entry, 20),
            };
            let end = entry.offset.checked_add(u64::from(entry.length));
            ensure!(
                entry.offset >= HEADER as u64 && end.is_some_and(|end| end <= index_at),
                "record {number} is said to lie at byte {} for {} bytes",
                entry.offset,
                entry.length
            );
            match shape.store {
                Store::Raw => ensure!(
                    entry.length as usize == shape.image_bytes(),
                    "record {number} has {} bytes, not {}",
                    entry.length,
                    shape.image_bytes()
                ),
            }
            ensure!(
                (entry.label as usize) < classes,
                "record {number} has label {}, and there are {classes} classes",
                entry.label
            );
            ensure!(
                entry.name_end >= name_start && names.is_char_boundary(entry.name_end as usize),
                "the name of record {number} ends at {}",
                entry.name_end
            );
            name_start = entry.name_end;
            entries.push(entry);
        }
        Ok(Shard { path: path.to_path_buf(), file: None, bytes, entries, names })
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no records.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Length of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The label of a record.
    pub fn label(&self, record: usize) -> u32 {
        self.entries[record].label
    }

    /// The name of a record's source file.
    pub fn name(&self, record: usize) -> &str {
        let start = if record == 0 { 0 } else { self.entries[record - 1].name_end };
        &self.names[start as usize..self.entries[record].name_end as usize]
    }

    /// Reads a record's pixels and, with `verify`, compares its checksum.
    pub fn read(&self, record: usize, pixels: &mut [u8], verify: bool) -> Result<()> {
        let entry = &self.entries[record];
        assert_eq!(pixels.len(), entry.length as usize);
        let what =
            || format!("record {record} (from {}) of {}", self.name(record), self.path.display());
        let result = match &self.file {
            Some(file) => file.read_exact_at(pixels, entry.offset),
            None => File::open(&self.path).and_then(|f| f.read_exact_at(pixels, entry.offset)),
        };
        result.with_context(|| format!("{} cannot be read", what()))?;
        if verify && crc32fast::hash(pixels) != entry.crc {
            bail!("{} is damaged: its checksum is wrong; prepare the data set again", what());
        }
        Ok(())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { store: Store::Raw, height: 2, width: 3, channels: 1 };

    fn three(folder: &Path) -> PathBuf {
        let path = folder.join("train-00000.shard");
        let mut writer = Writer::create(&path, SHAPE).unwrap();
        for (i, name) in ["a.jpg", "", "größe.jpg"].iter().enumerate() {
            writer.append(&[i as u8 + 1; 6], i as u32, name).unwrap();
        }
        let info = writer.finish().unwrap();
        assert_eq!((info.file.as_str(), info.records), ("train-00000.shard", 3));
        assert_eq!(info.bytes, fs::metadata(&path).unwrap().len());
        path
    }

    fn open(path: &Path) -> Result<Shard> {
        Shard::open(path, &SHAPE, 3, true)
    }

    /// The table in this module's head, byte by byte; the checksums are zlib's.
    #[test]
    fn the_layout_is_as_documented() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = fs::read(three(folder.path())).unwrap();
        assert_eq!(&bytes[..8], b"ALEXSHRD");
        let number = |at| u32_at(&bytes, at);
        assert_eq!([8, 12, 16, 20, 24, 28].map(number), [1, 0, 2, 3, 1, 3]);
        assert_eq!((u64_at(&bytes, 32), u64_at(&bytes, 40)), (64 + 18, bytes.len() as u64));
        assert_eq!(
            &bytes[64..82],
            b"\x01\x01\x01\x01\x01\x01\x02\x02\x02\x02\x02\x02\x03\x03\x03\x03\x03\x03"
        );
        assert_eq!(u64_at(&bytes, 82 + 24), 70);
        // python: zlib.crc32(b"\x02" * 6)
        assert_eq!([8, 12, 16, 20].map(|at| number(82 + 24 + at)), [6, 1, 0xf37f4c83, 5]);
        assert_eq!(&bytes[82 + 72..], "a.jpggröße.jpg".as_bytes());
        let mut covered = bytes[..60].to_vec();
        covered.extend_from_slice(&bytes[82..]);
        assert_eq!(number(60), crc32fast::hash(&covered));
    }

    #[test]
    fn records_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = three(folder.path());
        for keep_open in [true, false] {
            let shard = Shard::open(&path, &SHAPE, 3, keep_open).unwrap();
            let mut pixels = [0; 6];
            shard.read(2, &mut pixels, true).unwrap();
            assert_eq!(pixels, [3; 6]);
            let names = [0, 1, 2].map(|i| shard.name(i).to_string());
            assert_eq!(names, ["a.jpg", "", "größe.jpg"]);
            assert_eq!([0, 1, 2].map(|i| shard.label(i)), [0, 1, 2]);
        }
        assert!(Shard::open(&path, &SHAPE, 2, true).is_err(), "label 2 of 2 classes");
        assert!(Shard::open(&path, &Shape { width: 4, ..SHAPE }, 3, true).is_err());
    }

    /// Every bit of the file is covered by a checksum.
    #[test]
    fn every_flipped_bit_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = three(folder.path());
        let whole = fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).unwrap();
            let found = open(&path).and_then(|shard| {
                (0..3).try_for_each(|record| shard.read(record, &mut [0; 6], true))
            });
            assert!(found.is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_cut_is_found_at_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = three(folder.path());
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(open(&path).is_err(), "{length} bytes");
        }
    }

    /// A mapping would end the process with SIGBUS here.
    #[test]
    fn a_file_cut_short_while_in_use_is_an_error_with_file_and_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = three(folder.path());
        let shard = open(&path).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(70).unwrap();
        shard.read(0, &mut [0; 6], true).unwrap();
        let error = format!("{:#}", shard.read(2, &mut [0; 6], true).unwrap_err());
        assert!(error.contains("record 2") && error.contains("train-00000.shard"), "{error}");
    }

    #[test]
    fn an_unfinished_shard_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::create(&folder.path().join("a.shard"), SHAPE).unwrap();
        writer.append(&[0; 6], 0, "a").unwrap();
        drop(writer);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
