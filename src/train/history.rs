//! What a run's log says epoch by epoch, for those who draw or compare runs.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// The lines of epochs in a log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// In order; each has the keys of an epoch's line in `metrics.jsonl`.
    pub epochs: Vec<Map<String, Value>>,
}

impl History {
    /// Of the log at `path`; what is no whole line of an epoch is passed over.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(path: &Path) -> Result<History> {
        let file = || format!("{} cannot be read", path.display());
        let mut epochs = Vec::new();
        let mut lines = BufReader::new(File::open(path).with_context(file)?);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).with_context(file)? > 0 {
            // Of 9,400 lines an epoch one is of interest: the others are not taken apart.
            if line.windows(EPOCH.len()).any(|part| part == EPOCH)
                && let Ok(Value::Object(epoch)) = serde_json::from_slice(&line)
                && epoch.get("kind") == Some(&"epoch".into())
            {
                epochs.push(epoch);
            }
            line.clear();
        }
        Ok(History { epochs })
    }

    /// The points (epoch, value) of a key; epochs whose value is no number are left out.
    pub fn points(&self, key: &str) -> Vec<(f64, f64)> {
        let number = |epoch: &Map<String, Value>, key: &str| epoch.get(key)?.as_f64();
        let point = |epoch| Some((number(epoch, "epoch")?, number(epoch, key)?));
        self.epochs.iter().filter_map(point).collect()
    }

    /// The keys that are numbers in some epoch.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        for (key, value) in self.epochs.iter().flatten() {
            if value.is_number() && !keys.contains(key) {
                keys.push(key.clone());
            }
        }
        keys
    }
}

/// What every line of an epoch has.
const EPOCH: &[u8] = b"\"epoch\"";

/// The log that a person means by `run`: a run's folder, its log, or the name of a run in `runs/`.
///
/// # Errors
/// If there is none.
pub fn log_of(run: &Path) -> Result<PathBuf> {
    let named = Path::new(super::runs::FOLDER).join(run);
    let places = [run.to_path_buf(), run.join(LOG), named.join(LOG)];
    let found = places.into_iter().find(|place| place.is_file());
    ensure!(
        found.is_some(),
        "{}: no run is there: neither {} nor {} exists",
        run.display(),
        run.join(LOG).display(),
        named.join(LOG).display()
    );
    Ok(found.expect("that was ensured"))
}

/// Of every run.
const LOG: &str = "metrics.jsonl";
