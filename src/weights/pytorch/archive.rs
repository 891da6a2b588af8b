//! The zip archive of `torch.save`, whose entries are used where they lie.
//!
//! PyTorch packs nothing and writes no comment, so that a small part of the format is enough: the
//! directory at the end, with the longer numbers of zip64 where they are needed. The `zip` crate (9.8)
//! takes memory for as many entries as a file claims, and keeps one of two that have the same name.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::ops::Range;

/// Entries of an archive: one for each tensor, and some.
const MOST_ENTRIES: u64 = 1 << 15;

/// The bytes of what lies before each part, and those of the parts that are read.
const END: (&[u8; 4], usize) = (b"PK\x05\x06", 22);
const LOCATOR: (&[u8; 4], usize) = (b"PK\x06\x07", 20);
const LONG_END: (&[u8; 4], usize) = (b"PK\x06\x06", 56);
const ENTRY: (&[u8; 4], usize) = (b"PK\x01\x02", 46);
const BEFORE_DATA: (&[u8; 4], usize) = (b"PK\x03\x04", 30);

/// An archive's entries.
pub struct Archive<'a> {
    bytes: &'a [u8],
    /// By the name without the folder that all lie in: the place and the CRC-32.
    entries: BTreeMap<String, (Range<usize>, u32)>,
}

impl<'a> Archive<'a> {
    /// Reads the directory of the archive that `bytes` are.
    ///
    /// # Errors
    /// A sentence: it is damaged, packed, or none of PyTorch's.
    pub fn open(bytes: &'a [u8]) -> Result<Archive<'a>> {
        let directory = directory(bytes).context(
            "it begins as a zip archive, as PyTorch writes, but has no such end: it was cut short \
             or damaged",
        )?;
        let (mut at, count) = directory;
        ensure!(count <= MOST_ENTRIES, "its archive has more than {MOST_ENTRIES} entries");
        let mut found = Archive { bytes, entries: BTreeMap::new() };
        for _ in 0..count {
            let entry =
                part(bytes, at, ENTRY).context("the directory of its archive is damaged")?;
            let [name, extra, comment] = [28, 30, 32].map(|at| usize::from(u16_at(entry, at)));
            let start = at + ENTRY.1;
            let names =
                bytes.get(start..start + name).zip(bytes.get(start + name..start + name + extra));
            let (name, extra) = names.context("the directory of its archive is damaged")?;
            at = start + name.len() + extra.len() + comment;
            let name = std::str::from_utf8(name).context("an entry's name is no UTF-8")?;
            found.add(name, entry, extra)?;
        }
        found.check()?;
        Ok(found)
    }

    /// Adds the entry that the directory describes.
    fn add(&mut self, name: &str, entry: &[u8], extra: &[u8]) -> Result<()> {
        let [is_coded, method] = [u16_at(entry, 8) & 1, u16_at(entry, 10)];
        if is_coded != 0 || method != 0 {
            bail!(
                "{name}: it is packed, and PyTorch packs nothing; an archive of files is to be \
                 unpacked first (unzip)"
            );
        }
        let place = place(self.bytes, entry, extra);
        let place = place.with_context(|| format!("{name}: it is not all there"))?;
        let inside = name.split_once('/').map_or(name, |(_, inside)| inside);
        let sum = u32_at(entry, 16);
        ensure!(
            self.entries.insert(inside.into(), (place, sum)).is_none(),
            "{name} is there twice"
        );
        Ok(())
    }

    /// Whether PyTorch wrote it, on a machine like this one.
    fn check(&self) -> Result<()> {
        if self.entries.keys().any(|name| name.starts_with("code/")) {
            bail!(
                "this is a TorchScript program, which is not carried out here; save its weights in \
                 PyTorch: torch.save(torch.jit.load(FILE).state_dict(), \"weights.pth\")"
            );
        }
        ensure!(
            self.entries.contains_key("data.pkl"),
            "this is a zip archive, but none that torch.save has written (it has no data.pkl)"
        );
        if self.entries.contains_key("byteorder") {
            ensure!(
                self.entry("byteorder")? == b"little",
                "it was written on a machine whose numbers begin with their highest byte"
            );
        }
        Ok(())
    }

    /// The pickle that describes the tensors.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn pickle(&self) -> Result<&'a [u8]> {
        self.entry("data.pkl")
    }

    /// Where the storage `key` lies.
    ///
    /// # Errors
    /// If there is none, or it is damaged.
    pub fn numbers(&self, key: &str) -> Result<Range<usize>> {
        let name = format!("data/{key}");
        self.entry(&name)?;
        Ok(self.entries[&name].0.clone())
    }

    /// The bytes of an entry, its checksum compared.
    fn entry(&self, name: &str) -> Result<&'a [u8]> {
        let found = self.entries.get(name);
        let (place, sum) = found.with_context(|| format!("it has no entry {name}"))?;
        let bytes = &self.bytes[place.clone()];
        ensure!(
            crc32fast::hash(bytes) == *sum,
            "entry {name} of its archive is damaged, its checksum is wrong; use another copy of \
             the file (or, where PyTorch wrote it without checksums, save it again with them)"
        );
        Ok(bytes)
    }
}

/// Where the directory begins, and how many entries it has.
fn directory(bytes: &[u8]) -> Option<(usize, u64)> {
    let at = bytes.len().checked_sub(END.1)?;
    let end = part(bytes, at, END)?;
    let long = at.checked_sub(LOCATOR.1).and_then(|at| part(bytes, at, LOCATOR));
    let (start, count) = match long {
        None => (u32_at(end, 16).into(), u16_at(end, 10).into()),
        Some(locator) => {
            let end = part(bytes, usize::try_from(u64_at(locator, 8)).ok()?, LONG_END)?;
            (u64_at(end, 48), u64_at(end, 32))
        }
    };
    Some((usize::try_from(start).ok()?, count))
}

/// Where an entry's bytes lie. `extra`: numbers of zip64, in the order of those that the entry itself
/// has no room for.
fn place(bytes: &[u8], entry: &[u8], extra: &[u8]) -> Option<Range<usize>> {
    let mut long = long_numbers(extra);
    let mut number = |at: usize| match u32_at(entry, at) {
        u32::MAX => long.next(),
        short => Some(u64::from(short)),
    };
    let (size, packed, header) = (number(24)?, number(20)?, number(42)?);
    let header = usize::try_from(header).ok()?;
    let before = part(bytes, header, BEFORE_DATA)?;
    let [name, extra] = [26, 28].map(|at| usize::from(u16_at(before, at)));
    let start = header + BEFORE_DATA.1 + name + extra;
    let end = start.checked_add(usize::try_from(size).ok()?)?;
    (size == packed && end <= bytes.len()).then_some(start..end)
}

/// The numbers of eight bytes in the field 1 of an entry's extra fields.
fn long_numbers(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    let mut found = Vec::new();
    while let Some((head, rest)) = extra.split_first_chunk::<4>() {
        let length = usize::from(u16_at(head, 2)).min(rest.len());
        let (field, next) = rest.split_at(length);
        if u16_at(head, 0) == 1 {
            found =
                field.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        }
        extra = next;
    }
    found.into_iter()
}

/// The part of a kind that lies at `at`.
fn part<'a>(bytes: &'a [u8], at: usize, (mark, length): (&[u8; 4], usize)) -> Option<&'a [u8]> {
    bytes.get(at..at.checked_add(length)?).filter(|part| part.starts_with(mark))
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().expect("within the part"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("within the part"))
}
