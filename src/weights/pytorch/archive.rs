//! The zip archive of `torch.save`, whose entries are used where they lie.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::Range;
use zip::{CompressionMethod, ZipArchive};

/// Entries of an archive: one for each tensor, and some.
const MOST_ENTRIES: usize = 1 << 15;
/// Bytes of the archive's end, before which is its directory.
const END: usize = 22;

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
        let read = ZipArchive::new(Cursor::new(bytes));
        let mut zip = read.map_err(|error| {
            anyhow::anyhow!("it begins as a zip archive, but is cut short or damaged ({error})")
        })?;
        ensure!(zip.len() <= MOST_ENTRIES, "its archive has more than {MOST_ENTRIES} entries");
        let end = bytes.len().checked_sub(END + zip.comment().len());
        let told = end.and_then(|end| bytes[end + 10..].first_chunk());
        let told = told.map(|told| usize::from(u16::from_le_bytes(*told)));
        let mut found = Archive { bytes, entries: BTreeMap::new() };
        for index in 0..zip.len() {
            let entry = zip.by_index_raw(index);
            let entry = entry.map_err(|e| anyhow::anyhow!("its archive is damaged ({e})"))?;
            let name = entry.name().map_err(|e| anyhow::anyhow!("an entry has no name ({e})"))?;
            let name = name.into_owned();
            if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
                bail!(
                    "{name}: it is packed, and PyTorch packs nothing; an archive of files is to be \
                     unpacked first (unzip)"
                );
            }
            let start = entry.data_start().context("an entry has no place")?;
            let place = usize::try_from(start).ok().and_then(|start| {
                let length = usize::try_from(entry.size()).ok()?;
                Some(start..start.checked_add(length)?)
            });
            let place =
                place.filter(|p| p.end <= bytes.len() && entry.size() == entry.compressed_size());
            let place = place.with_context(|| format!("{name}: it is not all there"))?;
            let inside = name.split_once('/').map_or(name.as_str(), |(_, inside)| inside);
            let twice = found.entries.insert(inside.into(), (place, entry.crc32())).is_some();
            ensure!(!twice, "{name} is there twice");
        }
        // The library keeps one entry of a name.
        ensure!(told.is_none_or(|told| told <= zip.len()), "names of entries are there twice");
        found.check()?;
        Ok(found)
    }

    /// Whether PyTorch wrote it, on a machine like this one.
    fn check(&self) -> Result<()> {
        if self.entries.contains_key("code") || self.entries.keys().any(|n| n.starts_with("code/"))
        {
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
