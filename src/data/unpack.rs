//! Compressed data unpacked into memory, up to a bound: a small file may hide any number of bytes.

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The first bytes of a gzip file.
pub const GZIP: [u8; 2] = [0x1f, 0x8b];

/// All that `decoder` gives, if it is at most `limit` bytes.
///
/// # Errors
/// If it is more, or damaged or cut short.
pub fn unpack(decoder: impl Read, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    decoder.take(limit + 1).read_to_end(&mut bytes).context("it does not unpack")?;
    ensure!(bytes.len() as u64 <= limit, "it unpacks to more than {} MiB", limit >> 20);
    Ok(bytes)
}

/// How much a compressed archive may unpack to, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// All that lies before the last file of interest, and that file.
    pub archive: u64,
    /// One file.
    pub file: u64,
}

/// Those regular files of the .tar.gz archive `path` whose names are `wanted`, by name; a name is
/// the last part of a path.
///
/// # Errors
/// If the file is no such archive, damaged or cut short, or a file is longer than allowed.
pub fn tar_gz(
    path: &Path,
    limits: Limits,
    wanted: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(path)?).take(limits.archive));
    let mut files = BTreeMap::new();
    for entry in archive.entries()? {
        let mut entry = entry.context("the archive is damaged or cut short")?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = base_name(&name).to_string();
        if !entry.header().entry_type().is_file() || !wanted(&name) {
            continue;
        }
        let size = entry.size();
        ensure!(size <= limits.file, "{name} has {} MiB, which is too much", size >> 20);
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        ensure!(bytes.len() as u64 == size, "the archive ends inside of {name}");
        files.insert(name, bytes);
    }
    Ok(files)
}

/// The last part of a path in an archive.
pub fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn no_more_is_unpacked_than_the_bound() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        gzip.write_all(&[7; 3 << 20]).unwrap();
        let gzip = gzip.finish().unwrap();
        assert!(gzip.starts_with(&GZIP));
        assert_eq!(unpack(GzDecoder::new(&gzip[..]), 3 << 20).unwrap(), [7; 3 << 20]);
        let more = unpack(GzDecoder::new(&gzip[..]), 2 << 20).unwrap_err().to_string();
        assert!(more.contains("more than 2 MiB"), "{more}");
        let cut = unpack(GzDecoder::new(&gzip[..gzip.len() / 2]), 3 << 20).unwrap_err();
        assert!(cut.to_string().contains("does not unpack"), "{cut}");
    }
}
