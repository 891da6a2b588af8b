//! As what a picture is written: the ending of the file's name says it.

use crate::config_error;
use anyhow::Result;
use std::fs;
use std::path::Path;

/// A kind of picture file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Pixels.
    Png,
    /// Lines, areas and text.
    Svg,
}

impl Format {
    /// What the name of `path` ends in. Err: neither `.png` nor `.svg`.
    pub fn of(path: &Path) -> Result<Format> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or("");
        match ending.to_ascii_lowercase().as_str() {
            "png" => Ok(Format::Png),
            "svg" => Ok(Format::Svg),
            _ => Err(config_error!(
                "--out {}: pictures are written as .png or .svg; name it so",
                path.display()
            )),
        }
    }
}

/// Refuses, before any work, a name for a picture that says no format, or that is one of the files
/// that are read.
pub fn check_out<'a>(out: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    Format::of(out)?;
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    if out.is_dir() {
        return Err(config_error!("--out {} is a folder; name a file in it", out.display()));
    }
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(config_error!(
            "--out {}: there is no folder {}; make it first",
            out.display(),
            folder.display()
        ));
    }
    let real = fs::canonicalize(out).ok();
    for input in inputs {
        if input == out || (real.is_some() && fs::canonicalize(input).ok() == real) {
            return Err(config_error!(
                "--out {} is a file that is read here; name another",
                out.display()
            ));
        }
    }
    Ok(())
}
