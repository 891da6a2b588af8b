//! Reading a shard.

use super::{
    ENTRY, Entry, HEADER, INDEX_LIMIT, MAGIC, RecordShape, ShardInfo, Store, VERSION, header_crc,
    jpeg, u32_at, u64_at,
};
use crate::data::area::Area;
use crate::data::seal::hex;
use crate::files::open_files::Kept;
use crate::files::positioned::read_exact_at;
use anyhow::{Context, Result, bail, ensure};
use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};

thread_local! {
    /// A record that is to be decoded; keeps its memory from image to image.
    static RECORD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A shard opened for reading; holds its index.
pub struct Shard {
    path: PathBuf,
    shape: RecordShape,
    /// None: opened for each read.
    file: Option<Kept>,
    bytes: u64,
    checksum: u32,
    entries: Vec<Entry>,
    names: String,
}

impl Shard {
    /// Opens `path` and checks header, index and sizes: images of `shape`, labels below `classes`.
    /// With `keep_open` the file stays open, where enough files may be; else each read opens it.
    pub fn open(
        path: &Path,
        shape: &RecordShape,
        classes: usize,
        keep_open: bool,
    ) -> Result<Shard> {
        let file =
            File::open(path).with_context(|| format!("{} cannot be opened", path.display()))?;
        let mut shard = Shard::parse(path, &file, shape, classes)
            .with_context(|| format!("{} is no sound shard", path.display()))?;
        shard.file = if keep_open { Kept::new(file) } else { None };
        Ok(shard)
    }

    fn parse(path: &Path, file: &File, shape: &RecordShape, classes: usize) -> Result<Shard> {
        let Index { bytes, checksum, begins, records, mut content } = Index::read(file, shape)?;
        let names_at = records as usize * ENTRY;
        ensure!(names_at <= content.len(), "its index is too short for {records} records");
        let names = String::from_utf8(content.split_off(names_at)).context("its names")?;
        let mut entries = Vec::with_capacity(records as usize);
        let mut name_start = 0;
        for (number, entry) in content.chunks_exact(ENTRY).enumerate() {
            let entry = Entry::parse(entry);
            entry.check(begins, shape, classes).with_context(|| format!("record {number}"))?;
            ensure!(
                entry.name_end >= name_start && names.is_char_boundary(entry.name_end as usize),
                "the name of record {number} ends at {}",
                entry.name_end
            );
            name_start = entry.name_end;
            entries.push(entry);
        }
        let (path, shape) = (path.to_path_buf(), *shape);
        Ok(Shard { path, shape, file: None, bytes, checksum, entries, names })
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

    /// What `dataset.json` is to say of it.
    pub fn info(&self) -> ShardInfo {
        ShardInfo {
            file: self.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            records: self.len() as u64,
            bytes: self.bytes,
            checksum: Some(hex(self.checksum)),
        }
    }

    /// The label of a record.
    pub fn label(&self, record: usize) -> u32 {
        self.entries[record].label
    }

    /// The CRC-32 of a record's bytes.
    pub fn crc(&self, record: usize) -> u32 {
        self.entries[record].crc
    }

    /// Adds labels and checksums of all records to `sum`.
    pub fn add_to(&self, sum: &mut crc32fast::Hasher) {
        for entry in &self.entries {
            sum.update(&entry.label.to_le_bytes());
            sum.update(&entry.crc.to_le_bytes());
        }
    }

    /// The name of a record's source file.
    pub fn name(&self, record: usize) -> &str {
        let start = if record == 0 { 0 } else { self.entries[record - 1].name_end };
        &self.names[start as usize..self.entries[record].name_end as usize]
    }

    /// Reads the `window` of a record's pixels into `pixels` [height, width, channels]; the rest is
    /// whatever it is. With `verify` the record's checksum is compared.
    pub fn read(
        &self,
        record: usize,
        window: &Area,
        pixels: &mut [u8],
        verify: bool,
    ) -> Result<()> {
        assert_eq!(pixels.len(), self.shape.image_bytes());
        match self.shape.store {
            Store::Raw if !verify => {
                let row = self.shape.width * self.shape.channels;
                let bytes = window.rows.start * row..window.rows.end * row;
                self.read_bytes(record, bytes.start, &mut pixels[bytes])
            }
            Store::Raw => self.read_record(record, pixels, verify),
            Store::Jpeg => RECORD.with_borrow_mut(|bytes| {
                bytes.resize(self.entries[record].length as usize, 0);
                self.read_record(record, bytes, verify)?;
                jpeg::decode(bytes, &self.shape, window, pixels)
                    .with_context(|| format!("{} cannot be decoded", self.what(record)))
            }),
        }
    }

    /// Reads a record as it is stored.
    fn read_record(&self, record: usize, bytes: &mut [u8], verify: bool) -> Result<()> {
        self.read_bytes(record, 0, bytes)?;
        if verify && crc32fast::hash(bytes) != self.entries[record].crc {
            bail!(
                "{} is damaged: its checksum is wrong; prepare the data set again",
                self.what(record)
            );
        }
        Ok(())
    }

    /// Reads bytes of a record from byte `first` of it on.
    fn read_bytes(&self, record: usize, first: usize, bytes: &mut [u8]) -> Result<()> {
        let at = self.entries[record].offset + first as u64;
        let result = match &self.file {
            Some(file) => read_exact_at(file, bytes, at),
            None => File::open(&self.path).and_then(|file| read_exact_at(&file, bytes, at)),
        };
        result.with_context(|| format!("{} cannot be read", self.what(record)))
    }

    /// The record and its file, for errors.
    fn what(&self, record: usize) -> String {
        format!("record {record} (from {}) of {}", self.name(record), self.path.display())
    }
}

/// A shard's header and index, of which the checksum was right.
struct Index {
    /// Length of the file.
    bytes: u64,
    checksum: u32,
    /// Where the index begins and records end.
    begins: u64,
    records: u32,
    /// The entries and the names.
    content: Vec<u8>,
}

impl Index {
    /// Reads and checks what stands in `file`, which is to hold images of `shape`.
    fn read(file: &File, shape: &RecordShape) -> Result<Index> {
        let bytes = file.metadata()?.len();
        ensure!(bytes >= HEADER as u64, "it has {bytes} bytes, fewer than a shard's header");
        let mut header = [0; HEADER];
        read_exact_at(file, &mut header, 0)?;
        ensure!(&header[..8] == MAGIC, "it does not begin with `ALEXSHRD`");
        let version = u32_at(&header, 8);
        ensure!(version == VERSION, "it has version {version}; this program reads {VERSION}");
        let records = u32_at(&header, 28);
        let (begins, length) = (u64_at(&header, 32), u64_at(&header, 40));
        ensure!(
            length == bytes,
            "it has {bytes} bytes where its header says {length}: it was cut short or added to"
        );
        ensure!(
            (HEADER as u64..=bytes).contains(&begins) && bytes - begins <= INDEX_LIMIT,
            "its index is said to begin at byte {begins} of {bytes}"
        );
        let mut content = vec![0; (bytes - begins) as usize];
        read_exact_at(file, &mut content, begins)?;
        let crc = header_crc(&header, &content);
        ensure!(crc == u32_at(&header, 60), "the checksum of its header and index is wrong");
        ensure!(
            header[..32] == shape.head(records),
            "its images are {}×{}×{} in store {}, not those of the data set's header",
            u32_at(&header, 16),
            u32_at(&header, 20),
            u32_at(&header, 24),
            u32_at(&header, 12)
        );
        Ok(Index { bytes, checksum: crc, begins, records, content })
    }
}

impl Entry {
    /// The entry whose [`ENTRY`] bytes these are.
    fn parse(bytes: &[u8]) -> Entry {
        Entry {
            offset: u64_at(bytes, 0),
            length: u32_at(bytes, 8),
            label: u32_at(bytes, 12),
            crc: u32_at(bytes, 16),
            name_end: u32_at(bytes, 20),
        }
    }

    /// Whether it may be an entry of a shard of images of `shape` whose records end at byte `end`.
    fn check(&self, end: u64, shape: &RecordShape, classes: usize) -> Result<()> {
        let Entry { offset, length, label, .. } = *self;
        let behind = offset.checked_add(u64::from(length));
        ensure!(
            offset >= HEADER as u64 && behind.is_some_and(|behind| behind <= end),
            "it is said to lie at byte {offset} for {length} bytes"
        );
        match shape.store {
            Store::Raw => ensure!(
                length as usize == shape.image_bytes(),
                "it has {length} bytes, not {}",
                shape.image_bytes()
            ),
            Store::Jpeg => ensure!(
                length as usize <= jpeg::longest(shape),
                "it has {length} bytes, too many for its image"
            ),
        }
        ensure!(
            (label as usize) < classes,
            "it has label {label}, and there are {classes} classes"
        );
        Ok(())
    }
}
