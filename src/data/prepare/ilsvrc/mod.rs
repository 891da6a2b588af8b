//! The ImageNet contests of 2010 and 2012, from the archives as downloaded, or Kaggle's folder.
//!
//! Classes, and so the network's outputs, are in alphabetical order of their WNIDs, as most
//! programs and published weights have them; the contest's own ids, in which its ground truth is
//! written, are kept beside ([`Class::number`](crate::data::dataset::Class::number)). Archives are
//! read where they are ([`tape`](super::tape)).
//!
//! 2010: files of the optional `patch_images.tar` replace those of the same name.

mod archives;
mod kaggle;
mod kit;

use super::tree::Tree;
use super::{Item, Source, Stored, check_folder};
use crate::data::preparation::{Orientation, Preparation};
use anyhow::Result;
use std::path::Path;

/// Which contest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Year {
    /// ILSVRC-2010: the paper's main experiments; with test labels.
    Y2010,
    /// ILSVRC-2012.
    Y2012,
}

/// Finds the pieces below the folder `path`, and says which are missing.
pub fn find(path: &Path, year: Year, size: usize, orientation: Orientation) -> Result<Source> {
    check_folder(path)?;
    let kaggle = match year {
        Year::Y2012 => kaggle::kaggle_folder(path),
        Year::Y2010 => None,
    };
    let mut notes = vec![
        "classes are in alphabetical order of their WNIDs; the contest's ids are kept beside"
            .into(),
    ];
    let (mut roots, mut left_out) = (Vec::new(), Vec::new());
    let (classes, splits) = match kaggle {
        Some(folder) => {
            let mut tree = Tree::new(path)?;
            let found = kaggle::kaggle_splits(path, &folder, &mut tree)?;
            notes.extend(tree.notes());
            (roots, left_out) = (tree.roots, tree.left_out);
            found
        }
        None => archives::archive_splits(path, year, &mut notes)?,
    };
    Ok(Source {
        kind: match year {
            Year::Y2010 => "ilsvrc2010".into(),
            Year::Y2012 => "ilsvrc2012".into(),
        },
        path: path.to_path_buf(),
        classes,
        preparation: Preparation::photographs(size, orientation),
        channels: 3,
        stored: Stored::Encoded,
        splits,
        notes,
        roots,
        left_out,
    })
}

type Splits = Vec<(String, Vec<Item>)>;

fn is_wnid(text: &str) -> bool {
    text.len() == 9 && text.starts_with('n') && text[1..].bytes().all(|b| b.is_ascii_digit())
}
