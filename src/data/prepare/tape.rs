//! What a tar archive holds and where, found by its headers alone; nothing is unpacked.
//!
//! ImageNet's training archive is a tar of a thousand tars, so an archive here is a part of a file.
//! The names inside are only names: no file is ever opened or made by them.

use super::Backing;
use anyhow::{Context, Result, bail, ensure};
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

/// More entries in one archive are refused.
const ENTRIES: usize = 50_000_000;

/// A regular file inside an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path in the archive.
    pub name: String,
    /// Where its bytes begin in the file that holds the archive.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
}

/// The regular files in the archive that lies at `offset` for `length` bytes in `file`, in its
/// order. An archive that was cut short is an error.
pub fn list(file: &Arc<Backing>, offset: u64, length: u64) -> Result<Vec<Entry>> {
    let section = Section { file, start: offset, length, at: 0 };
    let mut archive = tar::Archive::new(section);
    let mut found = Vec::new();
    let mut end = 0;
    for entry in archive.entries_with_seek().context("this is no tar archive")? {
        let entry = entry.with_context(|| match found.last() {
            Some(Entry { name, .. }) => {
                format!("the tar archive is damaged or cut short after {name}")
            }
            None => "this is no tar archive".to_string(),
        })?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (start, size) = (entry.raw_file_position(), entry.size());
        end = start.saturating_add(size);
        ensure!(end <= length, "the tar archive is cut short inside of {name}");
        ensure!(found.len() < ENTRIES, "the tar archive has more than {ENTRIES} entries");
        found.push(Entry { name, offset: offset + start, length: size });
    }
    if length == 0 {
        bail!("the tar archive is empty");
    }
    // A whole archive ends with blocks of zeros, after the last file's padding.
    ensure!(
        end.next_multiple_of(512) < length,
        "the tar archive ends without its end mark: it was cut short"
    );
    Ok(found)
}

/// A part of a file as a file of its own.
struct Section<'a> {
    file: &'a Backing,
    start: u64,
    length: u64,
    at: u64,
}

impl Read for Section<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(self.length.saturating_sub(self.at) as usize);
        self.file.read_at(self.start + self.at, &mut buffer[..count])?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Section<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
        };
        self.at = at.ok_or(std::io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
