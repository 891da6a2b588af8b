//! A checkpoint at a glance: where training stood, from the file's header alone, for lists of runs.

use super::{SUBJECT, TrainingState, check_format};
use crate::files::tensors::Reader;
use anyhow::{Context, Result};
use std::path::Path;

/// What the header says; no tensor has been looked at, so one of them may be damaged.
#[derive(Clone, Debug)]
pub struct Glance {
    /// The config as TOML, resolved.
    pub config: String,
    /// Where training stood.
    pub state: TrainingState,
}

impl Glance {
    /// Reads the header of the checkpoint `path`. Err: what is wrong with it.
    pub fn of(path: &Path) -> Result<Glance> {
        let read = || -> Result<Glance> {
            let reader = Reader::open(path, SUBJECT)?;
            check_format(&reader)?;
            Ok(Glance {
                config: reader.entry("config")?.to_string(),
                state: serde_json::from_str(reader.entry("state")?)
                    .context("the training state cannot be read")?,
            })
        };
        read().with_context(|| path.display().to_string())
    }
}
