//! The pictures that a command is told to look at: files, folders of them, or one on standard input.

use crate::config_error;
use crate::data::decode::LARGEST_FILE;
use crate::note;
use crate::quoting;
use crate::train::runs::RunFolder;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// What pictures in a folder are called.
const ENDINGS: [&str; 9] = ["jpg", "jpeg", "jpe", "png", "webp", "gif", "bmp", "tif", "tiff"];
/// Folders in folders so deep are not looked into.
const DEEPEST: usize = 32;
/// The name of standard input.
const INPUT: &str = "-";

/// The pictures named, those of folders (and of folders in them) by name.
///
/// # Errors
/// If a folder cannot be read, is a run's, or has no pictures in it.
pub fn listed(named: &[PathBuf]) -> Result<Vec<PathBuf>> {
    if named.iter().filter(|path| is_input(path)).count() > 1 {
        return Err(config_error!("- is standard input, which is read once; it is given twice"));
    }
    let mut all = Vec::new();
    for path in named {
        if is_input(path) || !path.is_dir() {
            all.push(path.clone());
            continue;
        }
        if RunFolder(path.clone()).is_run() {
            let name = quoting::path(path);
            return Err(config_error!(
                "{name} is a run's folder; name it as --checkpoint {name}, and the pictures to look \
                 at"
            ));
        }
        let before = all.len();
        gather(path, 0, &mut BTreeSet::new(), &mut all)?;
        if all.len() == before {
            return Err(config_error!(
                "{}: no pictures are in this folder: no file's name ends in .{}",
                path.display(),
                ENDINGS.join(", .")
            ));
        }
    }
    Ok(all)
}

fn is_input(path: &Path) -> bool {
    path.as_os_str() == INPUT
}

/// The pictures of a folder and of those below; each folder once, however many links lead to it.
fn gather(
    folder: &Path,
    depth: usize,
    seen: &mut BTreeSet<PathBuf>,
    all: &mut Vec<PathBuf>,
) -> Result<()> {
    let read = || format!("the folder {} cannot be read", folder.display());
    if !seen.insert(folder.canonicalize().with_context(read)?) {
        return Ok(());
    }
    let entries = fs::read_dir(folder).with_context(read)?.collect::<io::Result<Vec<_>>>();
    let mut paths: Vec<PathBuf> =
        entries.with_context(read)?.iter().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let is_picture = ENDINGS.contains(&ending.to_ascii_lowercase().as_str());
        if path.is_dir() && depth < DEEPEST {
            if let Err(error) = gather(&path, depth + 1, seen, all) {
                note!("{error:#}; its pictures are left out");
            }
        } else if is_picture && path.is_file() {
            all.push(path);
        }
    }
    Ok(())
}

/// All of an image file, or of standard input, unless it is larger than any that is read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = if is_input(path) {
        io::stdin().lock().take(LARGEST_FILE + 1).read_to_end(&mut bytes)
    } else {
        File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_end(&mut bytes))
    };
    read.context("the image cannot be read")?;
    let most = LARGEST_FILE >> 20;
    ensure!(bytes.len() as u64 <= LARGEST_FILE, "the file is larger than the {most} MiB read");
    Ok(bytes)
}

/// Says once that a network sees little of pictures that are larger than those it has learnt from,
/// where these came in one size.
#[derive(Default)]
pub struct SizeNote(AtomicBool);

impl SizeNote {
    /// Of a picture of height and width `from`, of which `to` are made in so many `channels`.
    pub fn mind(&self, path: &Path, from: [usize; 2], to: [usize; 2], channels: usize) {
        if from == to || self.0.swap(true, Ordering::Relaxed) {
            return;
        }
        note!(
            "{} has {}×{} pixels; the network has learnt from pictures of {}×{}{}, and of any \
             other it sees no more",
            path.display(),
            from[1],
            from[0],
            to[1],
            to[0],
            if channels == 1 { " in grey" } else { "" }
        );
    }
}
