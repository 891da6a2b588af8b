//! What people's folders hold: files, folders, links to either, and what is none of these.
//!
//! Each folder is taken once, however it is reached. First all folders are listed that are reached
//! without a link ([`Tree::list`]), then links are followed ([`Tree::files`]): a link to a folder
//! that has been taken adds nothing, nor does one that leads to the source itself or above it,
//! which would go round in a circle. So every picture is there once, and under the class whose
//! folder it lies in.

use super::{Skipped, listed};
use crate::files::place_in;
use anyhow::{Context, Result};
use std::collections::HashSet;
use std::fs::{self, FileType};
use std::path::{Path, PathBuf};

/// A walk through a source; knows which folders it has taken.
pub(super) struct Tree {
    /// As it is spelt.
    source: PathBuf,
    /// Its real path.
    real: PathBuf,
    /// Real paths of the folders that were taken.
    taken: HashSet<PathBuf>,
    /// Real paths of the folders that it began with or came to by a link.
    pub(super) roots: Vec<PathBuf>,
    /// Links that were not followed.
    repeated: Vec<PathBuf>,
    /// What is neither file nor folder.
    pub(super) left_out: Vec<Skipped>,
}

/// A folder, listed with all that is in it.
pub(super) struct Folder {
    /// As it is spelt.
    pub(super) path: PathBuf,
    nodes: Vec<Node>,
}

enum Node {
    File(PathBuf),
    Folder(Folder),
    /// A link to a folder: as it is spelt, and where it leads.
    Link(PathBuf, PathBuf),
}

/// A folder inside another, to be listed.
pub(super) enum Inner {
    /// The folder itself.
    Folder(PathBuf),
    /// A link to one: as it is spelt, and where it leads.
    Link(PathBuf, PathBuf),
}

impl Tree {
    /// A walk through the folder `source`.
    pub(super) fn new(source: &Path) -> Result<Tree> {
        Ok(Tree {
            source: source.to_path_buf(),
            real: real(source)?,
            taken: HashSet::new(),
            roots: Vec::new(),
            repeated: Vec::new(),
            left_out: Vec::new(),
        })
    }

    /// The folders in `folder`, and links to such, by name; nothing in them is looked at.
    pub(super) fn inner(folder: &Path) -> Result<Vec<Inner>> {
        let mut inner = Vec::new();
        for (path, kind) in listed(folder)? {
            if kind.is_dir() {
                inner.push(Inner::Folder(path));
            } else if kind.is_symlink() && path.is_dir() {
                let real = real(&path)?;
                inner.push(Inner::Link(path, real));
            }
        }
        Ok(inner)
    }

    /// Lists those of `all` that are folders, and then follows those that are links.
    pub(super) fn list(&mut self, all: Vec<Vec<Inner>>) -> Result<Vec<Vec<Folder>>> {
        let real_folders: Vec<Vec<Option<Folder>>> = all
            .iter()
            .map(|inner| {
                let list = |inner: &Inner| match inner {
                    Inner::Folder(path) => {
                        let real = real(path)?;
                        self.roots.push(real.clone());
                        self.take(path, &real)
                    }
                    Inner::Link(..) => Ok(None),
                };
                inner.iter().map(list).collect()
            })
            .collect::<Result<_>>()?;
        let both = all.into_iter().zip(real_folders);
        both.map(|(inner, folders)| {
            let mut found = Vec::new();
            for (inner, folder) in inner.into_iter().zip(folders) {
                match inner {
                    Inner::Folder(_) => found.extend(folder),
                    Inner::Link(path, real) => found.extend(self.follow(path, &real)?),
                }
            }
            Ok(found)
        })
        .collect()
    }

    /// Lists the folder `path`, whose real path is `real`; None where it was taken before.
    fn take(&mut self, path: &Path, real: &Path) -> Result<Option<Folder>> {
        if !self.taken.insert(real.to_path_buf()) {
            self.repeated.push(path.to_path_buf());
            return Ok(None);
        }
        let mut nodes = Vec::new();
        for (path, kind) in listed(path)? {
            nodes.extend(self.node(path, kind, real)?);
        }
        Ok(Some(Folder { path: path.to_path_buf(), nodes }))
    }

    /// What `path` is, which lies in the real folder `parent`.
    fn node(&mut self, path: PathBuf, kind: FileType, parent: &Path) -> Result<Option<Node>> {
        if kind.is_dir() {
            let real = parent.join(path.file_name().unwrap_or_default());
            return Ok(self.take(&path, &real)?.map(Node::Folder));
        }
        // A link that leads nowhere is found out where the file is opened, as any that is missing.
        let target = if kind.is_symlink() { fs::metadata(&path).ok() } else { None };
        let kind = target.map_or(kind, |target| target.file_type());
        if kind.is_dir() {
            let real = real(&path)?;
            return Ok(Some(Node::Link(path, real)));
        }
        if kind.is_file() || kind.is_symlink() {
            return Ok(Some(Node::File(path)));
        }
        self.left_out.push(Skipped {
            file: place_in(&self.source, &path),
            reason: format!("this is {}, no file", what(kind)),
        });
        Ok(None)
    }

    /// Lists the folder that a link leads to, unless that would take it twice.
    fn follow(&mut self, path: PathBuf, real: &Path) -> Result<Option<Folder>> {
        if self.real.starts_with(real) {
            self.repeated.push(path);
            return Ok(None);
        }
        self.roots.push(real.to_path_buf());
        self.take(&path, real)
    }

    /// All files of a folder and those below it, in the order of their paths.
    pub(super) fn files(&mut self, folder: Folder) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        self.gather(folder, &mut files)?;
        Ok(files)
    }

    fn gather(&mut self, folder: Folder, files: &mut Vec<PathBuf>) -> Result<()> {
        for node in folder.nodes {
            match node {
                Node::File(path) => files.push(path),
                Node::Folder(folder) => self.gather(folder, files)?,
                Node::Link(path, real) => {
                    if let Some(folder) = self.follow(path, &real)? {
                        self.gather(folder, files)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What a person should know, a sentence each.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(first) = self.repeated.first() {
            notes.push(format!(
                "warning: links to folders that are reached without them, or that lead round in a \
                 circle, are left out; there are {}, {} the first of them",
                self.repeated.len(),
                first.display()
            ));
        }
        if let Some(Skipped { file, reason }) = self.left_out.first() {
            let others = match self.left_out.len() - 1 {
                0 => String::new(),
                n => format!(" (and {n} more)"),
            };
            notes.push(format!("warning: {file} is left out: {reason}{others}"));
        }
        notes
    }
}

fn real(folder: &Path) -> Result<PathBuf> {
    let place = || format!("the folder {} cannot be read", folder.display());
    folder.canonicalize().with_context(place)
}

/// What is neither file nor folder nor link.
#[cfg(unix)]
fn what(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match kind {
        kind if kind.is_fifo() => "a pipe",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

#[cfg(not(unix))]
fn what(_: FileType) -> &'static str {
    "something else"
}
