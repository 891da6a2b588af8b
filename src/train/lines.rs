//! A file of lines that only grows and that a full disk does not end: what finds no room waits in
//! memory, and no half line stays before later ones.

use anyhow::{Result, bail};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The file, open for further lines.
pub struct Lines {
    path: PathBuf,
    /// Opened to append.
    file: File,
    /// Bytes of whole lines in it.
    whole: u64,
    /// Whether there may be half a line behind them.
    torn: bool,
    /// Lines that are not in the file yet.
    waiting: String,
}

impl Lines {
    /// Goes on with `file` at `path`, which ends in a whole line and is opened to append.
    pub fn new(path: &Path, file: File) -> Result<Lines> {
        let whole = file.metadata()?.len();
        let path = path.to_path_buf();
        Ok(Lines { path, file, whole, torn: false, waiting: String::new() })
    }

    /// Adds a line, and those that wait. What is to be said of it, where that changes: the file
    /// cannot be written, or can again.
    pub fn add(&mut self, line: &str) -> Option<String> {
        let waited = !self.waiting.is_empty();
        self.waiting.push_str(line);
        self.waiting.push('\n');
        match self.flush() {
            Ok(()) => waited.then(|| format!("{} is complete again", self.path.display())),
            Err(_) if waited => None,
            Err(error) => Some(format!(
                "{} cannot be written: {error}; training goes on, its lines wait for room",
                self.path.display()
            )),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if self.torn {
            self.file.set_len(self.whole)?;
        }
        // What fails may have written a part.
        self.torn = true;
        if let Err(error) = self.file.write_all(self.waiting.as_bytes()) {
            self.torn = self.file.set_len(self.whole).is_err();
            return Err(error);
        }
        self.torn = false;
        self.whole += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    /// Tries once more. Err: how many lines are lost.
    pub fn finish(&mut self) -> Result<()> {
        let lines = self.waiting.lines().count();
        if lines > 0
            && let Err(error) = self.flush()
        {
            bail!("{}: its last {lines} lines could not be written: {error}", self.path.display());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::OpenOptions;

    #[test]
    fn what_finds_no_room_waits_and_no_half_line_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines");
        let open = || OpenOptions::new().create(true).append(true).open(&path).unwrap();
        let mut lines = Lines::new(&path, open()).unwrap();
        assert_eq!(lines.add("one"), None);
        // A file that cannot be written in place of the real one.
        lines.file = File::open(&path).unwrap();
        assert!(lines.add("two").unwrap().contains("cannot be written"));
        assert_eq!(lines.add("three"), None, "said once");
        assert!(lines.finish().unwrap_err().to_string().contains("last 2 lines"));
        // Half a line that a failed write has left.
        open().write_all(b"tw").unwrap();
        (lines.file, lines.torn) = (open(), true);
        assert!(lines.add("four").unwrap().contains("complete again"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\nfour\n");
        lines.finish().unwrap();
    }
}
