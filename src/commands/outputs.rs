//! Files that a command is told to write: what is wrong with their place is said before the work.

use crate::config_error;
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Refuses a file that cannot be written where `option` says, or that would replace one of `inputs`.
///
/// # Errors
/// A sentence with the option and the file.
pub fn check(option: &str, file: &Path, inputs: &[&Path]) -> Result<()> {
    let name = file.display();
    if file.is_dir() {
        return Err(config_error!("{option} {name}: this is a folder; name a file in it"));
    }
    let folder = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        return Err(config_error!(
            "{option} {name}: there is no folder {}; make it first",
            folder.display()
        ));
    }
    let real = |path: &Path| -> Option<PathBuf> { path.canonicalize().ok() };
    if let Some(input) = inputs.iter().find(|i| real(i).is_some_and(|i| Some(i) == real(file))) {
        return Err(config_error!(
            "{option} {name}: {} is what the command reads; name another file",
            input.display()
        ));
    }
    Ok(())
}

/// Whether the file's name ends in `.extension`, in any case.
pub fn ends_in(file: &Path, extension: &str) -> bool {
    file.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension))
}
