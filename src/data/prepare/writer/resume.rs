//! How far an unfinished data set is, and whether it may be gone on with.

use super::Options;
use crate::config_error;
use crate::data::dataset::{FORMAT, HEADER_FILE, UNFINISHED_FILE};
use crate::data::preparation::{Colour, Preparation};
use crate::data::prepare::{Skipped, Source};
use crate::data::seal;
use crate::data::shard::{ShardInfo, Store};
use crate::files::{self, lock, text};
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A larger `unfinished.json` is none of ours (a million skipped files take some 100 MB).
const STATE_LIMIT: u64 = 1 << 30;

/// The content of `unfinished.json`.
#[derive(Serialize, Deserialize)]
pub(super) struct Unfinished {
    format: u32,
    source: String,
    /// The source's real path.
    path: String,
    pub(super) preparation: Preparation,
    store: Store,
    quality: Option<u8>,
    shard_bytes: usize,
    pub(super) splits: BTreeMap<String, SplitState>,
}

/// How far a split is.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct SplitState {
    /// Items done: those in finished shards and those skipped between them.
    pub(super) items: usize,
    pub(super) shards: Vec<ShardInfo>,
    pub(super) skipped: Vec<Skipped>,
    /// By what was wrong, images that could be used all the same.
    #[serde(default)]
    pub(super) noted: BTreeMap<String, Noted>,
    /// Of each finished shard, the images that have fewer pixels along a side than were made of
    /// them.
    #[serde(default)]
    pub(super) enlarged: Vec<u64>,
}

/// Images with something wrong that cost them no pixel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Noted {
    pub(super) images: u64,
    /// The name of the first.
    pub(super) first: String,
}

impl SplitState {
    /// Counts an image with something wrong.
    pub(super) fn note(&mut self, what: &str, name: &str) {
        let new = || Noted { images: 0, first: name.to_string() };
        self.noted.entry(what.to_string()).or_insert_with(new).images += 1;
    }
}

/// What there is to do in a folder.
pub(super) enum Begun {
    /// All, or the rest.
    Unfinished(Unfinished),
    /// Nothing but to take `unfinished.json` away: it was killed in between.
    Finished(Unfinished),
}

/// Checks the folder, which is locked, and finds out what is done already.
pub(super) fn begin(source: &Source, options: &Options) -> Result<Begun> {
    let out = &options.out;
    let new = Unfinished::new(source, options);
    let old = read(out)?;
    if out.join(HEADER_FILE).exists() {
        return match old {
            Some(old) if old.is_of_the_same(&new) => Ok(Begun::Finished(old)),
            _ => Err(config_error!(
                "{} holds a finished data set already; name another folder with --out, or remove \
                 it",
                out.display()
            )),
        };
    }
    let Some(old) = old else {
        // Killed at the very beginning it left the file's first half.
        let half = files::temporary_name(&out.join(UNFINISHED_FILE));
        let ours = [half, out.join(lock::NAME)];
        if fs::read_dir(out)?.any(|entry| entry.is_ok_and(|entry| !ours.contains(&entry.path()))) {
            return Err(config_error!(
                "{} is not empty and holds no unfinished data set; name another folder with --out",
                out.display()
            ));
        }
        save(&new, out)?;
        return Ok(Begun::Unfinished(new));
    };
    if !old.is_of_the_same(&new) {
        return Err(config_error!(
            "{} holds an unfinished data set of another source or other settings ({} from {}); \
             name another folder with --out, or remove it",
            out.display(),
            old.source,
            old.path
        ));
    }
    Ok(Begun::Unfinished(old))
}

/// What `unfinished.json` says; None: there is none.
fn read(out: &Path) -> Result<Option<Unfinished>> {
    let file = out.join(UNFINISHED_FILE);
    if !file.exists() {
        return Ok(None);
    }
    let damaged = || format!("{} is damaged; remove {}", file.display(), out.display());
    let text = text::read(&file, STATE_LIMIT).with_context(|| file.display().to_string())?;
    let text = seal::opened(&text).with_context(damaged)?;
    serde_json::from_str(&text).with_context(damaged)
}

impl Unfinished {
    /// Nothing done yet.
    fn new(source: &Source, options: &Options) -> Unfinished {
        let path = fs::canonicalize(&source.path).unwrap_or_else(|_| source.path.clone());
        Unfinished {
            format: FORMAT,
            source: source.kind.clone(),
            // Bytes that are no UTF-8 as `\xE9`, within quotation marks: no other path is so.
            path: path.to_str().map_or_else(|| format!("{path:?}"), str::to_string),
            preparation: source.preparation.clone(),
            store: options.store(),
            quality: options.jpeg_quality,
            shard_bytes: options.shard_bytes,
            splits: BTreeMap::new(),
        }
    }

    /// Whether source and settings are `other`'s, however far each is. What images the source has
    /// may have changed: each finished shard is compared with them.
    fn is_of_the_same(&self, other: &Unfinished) -> bool {
        self.format == other.format
            && self.source == other.source
            && self.path == other.path
            && self.prepares_as(&other.preparation)
            && self.store == other.store
            && self.quality == other.quality
            && self.shard_bytes == other.shard_bytes
    }
}

impl Unfinished {
    /// Whether images are made as `wanted`. What was begun before backgrounds were kept goes on
    /// without one, unless another than the usual one is wanted.
    fn prepares_as(&self, wanted: &Preparation) -> bool {
        let older = self.preparation.background.is_none();
        let usual = wanted.background == Some(Colour::WHITE);
        let background = if older && usual { None } else { wanted.background };
        self.preparation == Preparation { background, ..wanted.clone() }
    }
}

pub(super) fn save(state: &Unfinished, out: &Path) -> Result<()> {
    let text = seal::sealed(&serde_json::to_string_pretty(state)?);
    files::write_text(&out.join(UNFINISHED_FILE), &text)
}
