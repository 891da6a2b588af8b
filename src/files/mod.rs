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
use std::time::Duration;

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
        // What is in it has been on the disk since it was written.
        Ok(put_in_place(&temporary, path)?)
    })
}

/// The last step of a whole file: flush `file`, rename it from `temporary` to `path`, flush the
/// folder.
pub fn commit(file: &File, temporary: &Path, path: &Path) -> Result<()> {
    file.sync_all()?;
    Ok(put_in_place(temporary, path)?)
}

fn put_in_place(temporary: &Path, path: &Path) -> io::Result<()> {
    rename(temporary, path)?;
    // The rename itself is safe only once the folder is on the disk. Windows opens no folder, and
    // has a journal of its own.
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Before each further try of a rename over a file that somebody has open.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(500),
];

/// Renames a file over what may be at `path`. Windows may refuse that as long as somebody has the
/// old file open, such as what looks for viruses, or another command that uses the checkpoint. That
/// is waited for, not long; then the old file is moved aside, and goes when it is let go.
fn rename(temporary: &Path, path: &Path) -> io::Result<()> {
    let mut pauses = PAUSES.iter().filter(|_| cfg!(windows));
    loop {
        match (fs::rename(temporary, path), pauses.next()) {
            (Err(error), Some(pause)) if is_in_use(&error) => std::thread::sleep(*pause),
            (Err(error), None) if cfg!(windows) && is_in_use(&error) => {
                return rename_aside(temporary, path).map_err(|_| error);
            }
            (renamed, _) => return renamed,
        }
    }
}

/// `ERROR_ACCESS_DENIED`, `ERROR_SHARING_VIOLATION` or `ERROR_USER_MAPPED_FILE` of `winerror.h`.
fn is_in_use(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(5 | 32 | 1224))
}

/// Renames a file to `path`, and before that what is there to a name with `.old` behind it.
fn rename_aside(temporary: &Path, path: &Path) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".old");
    let aside = path.with_file_name(name);
    // Of the last time; it may have been let go.
    let _ = fs::remove_file(&aside);
    fs::rename(path, &aside)?;
    fs::rename(temporary, path).inspect_err(|_| drop(fs::rename(&aside, path)))?;
    let _ = fs::remove_file(&aside);
    Ok(())
}

/// `path` with `.tmp` behind its name: where it is written before it is whole.
pub fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    path.with_file_name(name)
}

/// The place of `path` in `folder`, its parts joined by `/` on every system: so names of images in a
/// data set, and what goes by them, are the same wherever it was prepared.
pub fn place_in(folder: &Path, path: &Path) -> String {
    let place = path.strip_prefix(folder).unwrap_or(path).to_string_lossy();
    if cfg!(windows) { place.replace('\\', "/") } else { place.into_owned() }
}

/// Writes a small file of text, whole or not at all.
pub fn write_text(path: &Path, text: &str) -> Result<()> {
    write_whole(path, |out| Ok(out.write_all(text.as_bytes())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

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
    /// A reader keeps what it has opened, and what comes after it reads the new one.
    #[test]
    fn a_file_that_somebody_has_open_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Größe 大.txt");
        write_text(&path, "old").unwrap();
        let mut open = File::open(&path).unwrap();
        write_text(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        let mut kept = String::new();
        open.read_to_string(&mut kept).unwrap();
        assert_eq!(kept, "old");
        drop(open);
        // What had to be moved aside for it has gone with the next.
        write_text(&path, "newer").unwrap();
        rename_aside_leaves_nothing(&path);
    }

    /// On every system, though only Windows asks for it.
    fn rename_aside_leaves_nothing(path: &Path) {
        let temporary = temporary_name(path);
        fs::write(&temporary, "newest").unwrap();
        rename_aside(&temporary, path).unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "newest");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        // With nothing to take its place the old file stays.
        assert!(rename_aside(&temporary, path).is_err());
        assert_eq!(fs::read_to_string(path).unwrap(), "newest");
    }

    /// A copy stands by itself, or is the file itself where the disk is full.
    #[test]
    fn a_copy_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let [from, to] = ["a", "b"].map(|name| folder.path().join(name));
        write_text(&from, "text").unwrap();
        write_text(&to, "before").unwrap();
        copy_whole(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "text");
        fs::hard_link(&from, temporary_name(&to)).unwrap();
        put_in_place(&temporary_name(&to), &to).unwrap();
        assert_eq!(fs::read_to_string(&to).unwrap(), "text");
    }
}
