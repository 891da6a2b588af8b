//! Classes that come as a tar archive each, CLASS.tar, as ImageNet's Fall releases do; read where
//! they are ([`tape`]), among classes that are folders.

use super::{Backing, Content, Item, entries, left_behind, tape};
use crate::config_error;
use crate::files::place_in;
use anyhow::{Context, Result, bail};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Whether a name ends in `.tar`, in any case.
fn is_tar(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("tar"))
}

/// The class archives in `folder`, by name.
pub(super) fn find(folder: &Path) -> Result<Vec<PathBuf>> {
    let all = entries(folder)?;
    Ok(all.into_iter().filter(|path| is_tar(path) && path.is_file()).collect())
}

/// The class that the archive `path` is called after.
pub(super) fn class_of(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Refuses a class that is a folder and an archive, or two archives whose names differ in the
/// ending alone: most likely one was made from the other.
pub(super) fn check(folders: &[&Path], tars: &[PathBuf]) -> Result<()> {
    for (index, tar) in tars.iter().enumerate() {
        let class = class_of(tar);
        let folder = folders.iter().copied().find(|folder| super::name_of(folder) == class);
        let twin = tars[..index].iter().find(|other| class_of(other) == class);
        if let Some(other) = folder.or(twin.map(PathBuf::as_path)) {
            return Err(config_error!(
                "{} and {} are both the class {class}; if one was made from the other move it away, \
                 else give it another name",
                other.display(),
                tar.display()
            ));
        }
    }
    Ok(())
}

/// The images of the archives `tars`, each with its label, archive by archive in their own order.
/// Err: an archive is damaged or has no images.
pub(super) fn items(source: &Path, tars: &[(PathBuf, u32)]) -> Result<Vec<Item>> {
    let of_tar = |(path, label): &(PathBuf, u32)| -> Result<Vec<Item>> {
        let of = Arc::new(Backing::open(path)?);
        let found = tape::list(&of, 0, of.len()).with_context(|| path.display().to_string())?;
        let place = place_in(source, path);
        let images = found.into_iter().filter(|entry| !is_left_out(&entry.name));
        let images = images.map(|tape::Entry { name, offset, length }| Item {
            name: format!("{place}/{}", name.trim_start_matches("./")),
            label: *label,
            content: Content::Part { of: of.clone(), offset, length },
        });
        let images: Vec<Item> = images.collect();
        if images.is_empty() {
            bail!("the class archive {} has no images; fill or remove it", path.display());
        }
        Ok(images)
    };
    let all: Vec<Vec<Item>> = tars.par_iter().map(of_tar).collect::<Result<_>>()?;
    Ok(all.into_iter().flatten().collect())
}

/// Hidden files and what systems leave behind, anywhere in an archive.
fn is_left_out(name: &str) -> bool {
    let parts = name.split('/').filter(|part| !["", ".", ".."].contains(part));
    parts.into_iter().any(left_behind)
}
