//! Files that are whole or absent.
//!
//! A file is written beside its final name, flushed to the disk, renamed, and the folder flushed
//! too, so that a reader never sees half of it, whenever the program is killed or the disk runs
//! full.

pub mod header;
pub mod lock;
pub mod mapped;
pub mod npy;
pub mod onnx;
pub mod open_files;
pub mod positioned;
pub mod real;
pub mod tensors;
pub mod text;

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Writes `path` through `write`, whole or not at all. An existing file is replaced at the end.
pub fn write_whole(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<()>,
) -> Result<()> {
    let temporary = temporary_name(path);
    let result = (|| {
        let file = File::create(&temporary)
            .with_context(|| format!("{} cannot be created", temporary.display()))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        write(&mut out)?;
        let file = out.into_inner().map_err(|e| e.into_error())?;
        commit(&file, &temporary, path)
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result.with_context(|| format!("writing {}", path.display()))
}

/// Whether a disk has no room, or a limit of the system was reached.
pub fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// Gives `path` the content of the file `from`, whole or not at all: a copy, which a file system
/// that can do so shares until one of the two changes. Where there is no room for it both names
/// stand for one file.
pub fn copy_whole(from: &Path, path: &Path) -> Result<()> {
    let copied = write_whole(path, |out| {
        io::copy(&mut File::open(from)?, out)?;
        Ok(())
    });
    copied.or_else(|error| {
        let temporary = temporary_name(path);
        fs::hard_link(from, &temporary).map_err(|_| error)?;
        commit(&File::open(from)?, &temporary, path)
    })
}

/// The last step of a whole file: flush `file`, rename it from `temporary` to `path`, flush the
/// folder.
pub fn commit(file: &File, temporary: &Path, path: &Path) -> Result<()> {
    file.sync_all()?;
    fs::rename(temporary, path)?;
    // The rename itself is safe only once the folder is on the disk.
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// `path` with `.tmp` behind its name: where it is written before it is whole.
pub fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    path.with_file_name(name)
}

/// Writes a small file of text, whole or not at all.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    write_whole(path, |out| Ok(out.write_all(text.as_bytes())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_rest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        write_text(&path, "old").unwrap();
        let error = write_whole(&path, |out| {
            out.write_all(b"half")?;
            anyhow::bail!("the disk is full")
        });
        assert!(error.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
