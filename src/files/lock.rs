//! One process at a time in a folder: a lock on the file `.lock` in it.
//!
//! The lock is the operating system's, on an open file, so it goes when the process ends, however
//! it ends, and a `.lock` that a killed process leaves behind locks nothing. A file of its own,
//! since a lock on an opened folder locks nothing on Windows.

use anyhow::{Context, Result};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The file's name.
pub const NAME: &str = ".lock";

/// Holds a folder until it is dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// None: the file system knows no locks.
    file: Option<File>,
}

/// Takes the lock of `folder`, which must exist. None: somebody else holds it. Where a file system
/// knows no locks, all get one and nothing is kept. Err: the file cannot be made.
pub fn lock(folder: &Path) -> Result<Option<Lock>> {
    let path = folder.join(NAME);
    loop {
        let file = open(&path).with_context(|| {
            format!("{} cannot be made, which keeps a second process out", path.display())
        })?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(_)) => return Ok(Some(Lock { path, file: None })),
            // Taken away between opening and locking: another's end; the next is a new file.
            Ok(()) if !is_still(&file, &path) => {}
            Ok(()) => return Ok(Some(Lock { path, file: Some(file) })),
        }
    }
}

/// Whether a process holds `folder`. Nothing is made or changed there: a file that a killed process
/// has left is locked for as long as it takes to look, shared, so that of two who look none takes
/// the other for a holder. Where a file system knows no locks nobody holds anything.
pub fn is_held(folder: &Path) -> bool {
    let found = File::open(folder.join(NAME)).map(|file| file.try_lock_shared());
    matches!(found, Ok(Err(TryLockError::WouldBlock)))
}

/// Another user's file serves too, where it may be read.
fn open(path: &Path) -> io::Result<File> {
    let made = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    match made {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            File::open(path).map_err(|_| error)
        }
        made => made,
    }
}

/// Whether `path` still leads to the opened `file`.
#[cfg(unix)]
fn is_still(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |data: io::Result<fs::Metadata>| data.map(|data| (data.dev(), data.ino())).ok();
    identity(file.metadata()) == identity(fs::metadata(path))
}

/// Elsewhere the file is never taken away.
#[cfg(not(unix))]
fn is_still(_: &File, _: &Path) -> bool {
    true
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Still locked: whoever opens the file now waits for nothing and finds it gone.
        if cfg!(unix) && self.file.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_folder_is_held_once_and_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let first = lock(folder.path()).unwrap().expect("free");
        assert!(lock(folder.path()).unwrap().is_none());
        assert!(is_held(folder.path()));
        drop(first);
        assert!(!is_held(folder.path()));
        let left = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, usize::from(!cfg!(unix)), "taken away, or left and free");
        // What a killed process leaves behind locks nothing.
        fs::write(folder.path().join(NAME), "").unwrap();
        assert!(!is_held(folder.path()));
        assert!(lock(folder.path()).unwrap().is_some());
        assert!(lock(&folder.path().join("none")).is_err());
    }

    #[test]
    fn of_many_that_come_and_go_never_two_hold_it() {
        let folder = tempfile::tempdir().unwrap();
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        if let Some(held) = lock(folder.path()).unwrap() {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            inside.fetch_sub(1, Ordering::SeqCst);
                            drop(held);
                        }
                    }
                });
            }
        });
    }
}
