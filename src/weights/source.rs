//! The bytes of a file, mapped into memory or held there, shared by all that lies in it.

use anyhow::{Context, Result, ensure};
use memmap2::Mmap;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// A file's bytes.
#[derive(Clone)]
pub struct Source(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl Source {
    /// Maps the file `path`.
    ///
    /// # Errors
    /// If it cannot be opened or is a folder.
    pub fn open(path: &Path) -> Result<Source> {
        // Windows opens no folders.
        ensure!(!path.is_dir(), "this is a folder; name the file of weights in it");
        let file = File::open(path).context("the file cannot be opened")?;
        let metadata = file.metadata()?;
        ensure!(metadata.is_file(), "this is no regular file; copy what it gives into one");
        if metadata.len() == 0 {
            return Ok(Source::memory(Vec::new()));
        }
        // SAFETY: the file is only read here; who cuts it short meanwhile ends the process.
        let map = unsafe { Mmap::map(&file) }.context("the file cannot be mapped")?;
        Ok(Source(Arc::new(map)))
    }

    /// Bytes that are in memory.
    pub fn memory(bytes: Vec<u8>) -> Source {
        Source(Arc::new(bytes))
    }

    /// All of them.
    pub fn bytes(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes().len())
    }
}
