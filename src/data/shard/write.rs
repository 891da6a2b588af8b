//! Writing a shard.

use super::{ENTRY, Entry, HEADER, RecordShape, ShardInfo, Store, header_crc, jpeg};
use crate::data::seal::hex;
use crate::files;
use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::{BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

/// A shard being written: under a temporary name until [`Writer::finish`].
pub struct Writer {
    path: PathBuf,
    temporary: PathBuf,
    out: BufWriter<File>,
    shape: RecordShape,
    offset: u64,
    entries: Vec<Entry>,
    names: Vec<u8>,
}

impl Writer {
    /// Begins the shard `path`.
    pub fn create(path: &Path, shape: RecordShape) -> Result<Writer> {
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
            Store::Jpeg => assert!(record.len() <= jpeg::longest(&self.shape)),
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
            checksum: Some(hex(crc)),
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
