//! How far an unfinished data set is, and whether it may be gone on with.

use super::{Options, Skipped};
use crate::config_error;
use crate::data::dataset::{FORMAT, HEADER_FILE, UNFINISHED_FILE};
use crate::data::preparation::Preparation;
use crate::data::prepare::Source;
use crate::data::shard::{ShardInfo, Store};
use crate::files::{self, text};
use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// A larger `unfinished.json` is none of ours (a million skipped files take some 100 MB).
const STATE_LIMIT: u64 = 1 << 30;

/// The content of `unfinished.json`.
#[derive(Serialize, Deserialize)]
pub(super) struct Unfinished {
    format: u32,
    source: String,
    path: PathBuf,
    preparation: Preparation,
    store: Store,
    quality: Option<u8>,
    shard_bytes: usize,
    /// CRC-32 of all classes, splits, names and labels: another source is another list.
    items_crc32: u32,
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

/// Checks the folder and finds out what is done already.
pub(super) fn begin(source: &Source, options: &Options) -> Result<Unfinished> {
    let out = &options.out;
    let new = Unfinished::new(source, options);
    fs::create_dir_all(out).with_context(|| format!("{} cannot be made", out.display()))?;
    let file = out.join(UNFINISHED_FILE);
    if out.join(HEADER_FILE).exists() {
        return Err(config_error!(
            "{} holds a finished data set already; name another folder with --out, or remove it",
            out.display()
        ));
    }
    if !file.exists() {
        // Killed at the very beginning it left the file's first half.
        let half = files::temporary_name(&file);
        if fs::read_dir(out)?.any(|entry| entry.is_ok_and(|entry| entry.path() != half)) {
            return Err(config_error!(
                "{} is not empty and holds no unfinished data set; name another folder with --out",
                out.display()
            ));
        }
        save(&new, out)?;
        return Ok(new);
    }
    let text = text::read(&file, STATE_LIMIT).with_context(|| file.display().to_string())?;
    let old: Unfinished = serde_json::from_str(&text)
        .with_context(|| format!("{} is damaged; remove {}", file.display(), out.display()))?;
    if !old.is_of_the_same(&new) {
        return Err(config_error!(
            "{} holds an unfinished data set of another source or other settings ({} from {}); \
             name another folder with --out, or remove it",
            out.display(),
            old.source,
            old.path.display()
        ));
    }
    for shard in old.splits.values().flat_map(|split| &split.shards) {
        ensure!(
            fs::metadata(out.join(&shard.file)).is_ok_and(|m| m.len() == shard.bytes),
            "{} was finished, but is missing or has another length now; remove {} and start again",
            shard.file,
            out.display()
        );
    }
    Ok(old)
}

impl Unfinished {
    /// Nothing done yet.
    fn new(source: &Source, options: &Options) -> Unfinished {
        let mut crc = crc32fast::Hasher::new();
        for class in &source.classes {
            crc.update(format!("{}\n{}\n", class.id, class.name).as_bytes());
        }
        for (split, items) in &source.splits {
            crc.update(split.as_bytes());
            for item in items {
                crc.update(item.name.as_bytes());
                crc.update(&item.label.to_le_bytes());
            }
        }
        Unfinished {
            format: FORMAT,
            source: source.kind.clone(),
            path: fs::canonicalize(&source.path).unwrap_or_else(|_| source.path.clone()),
            preparation: source.preparation.clone(),
            store: options.store(),
            quality: options.jpeg_quality,
            shard_bytes: options.shard_bytes,
            items_crc32: crc.finalize(),
            splits: BTreeMap::new(),
        }
    }

    /// Whether source and settings are `other`'s, however far each is.
    fn is_of_the_same(&self, other: &Unfinished) -> bool {
        self.format == other.format
            && self.source == other.source
            && self.path == other.path
            && self.preparation == other.preparation
            && self.store == other.store
            && self.quality == other.quality
            && self.shard_bytes == other.shard_bytes
            && self.items_crc32 == other.items_crc32
    }
}

pub(super) fn save(state: &Unfinished, out: &Path) -> Result<()> {
    files::write_text(&out.join(UNFINISHED_FILE), &serde_json::to_string_pretty(state)?)
}
