//! A config laid together from several, as a run that is gone on with has them: what the checkpoint
//! holds, over it the run folder's `config.toml`, over it the file of `--config`, over all `--set`.
//! What one does not state counts as the one below it says.

use super::Config;
use super::read::{merge, parse_table, read_with_parents, schedule_of, state_kind};
use crate::schedules::written;
use anyhow::{Context, Result};
use std::path::Path;
use toml::Table;

/// Configs one over the other, as far as they have been laid.
pub struct Stack {
    table: Table,
    /// An old file's schedule of two kinds (module `schedules::written`).
    mixed: bool,
    /// The last of them, for errors.
    source: String,
}

impl Stack {
    /// The lowest, from text, as it is kept in a checkpoint; `source` names it in errors.
    pub fn new(text: &str, source: &str) -> Result<Stack> {
        let mut table = parse_table(text).with_context(|| source.to_string())?;
        let mixed = schedule_of(&mut table).is_some_and(written::from_old);
        let stack = Stack { table, mixed, source: source.to_string() };
        stack.config(&[])?;
        Ok(stack)
    }

    /// Lays `file`, with what it extends, over those before. Err: what is wrong in it.
    pub fn over(mut self, file: &Path) -> Result<Stack> {
        self.source = file.display().to_string();
        let (table, mixed) = read_with_parents(file)?;
        let kind = table.get("schedule").and_then(|schedule| schedule.get("kind"));
        let before = schedule_of(&mut self.table).and_then(|schedule| schedule.get("kind"));
        // The same kind again says nothing of a schedule that is of two.
        if let Some(kind) = kind.filter(|kind| before != Some(kind)) {
            state_kind(&mut self.table, kind, &mut self.mixed);
        }
        self.mixed |= mixed;
        merge(&mut self.table, table).with_context(|| self.source.clone())?;
        self.config(&[])?;
        Ok(self)
    }

    /// The config, over all each `key=value` of `set`.
    pub fn config(&self, set: &[String]) -> Result<Config> {
        Config::from_table(self.table.clone(), self.mixed, set, "unnamed")
            .with_context(|| self.source.clone())
    }

    /// The uppermost file, for errors.
    pub fn source(&self) -> &str {
        &self.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "name = 'base'\nseed = 4\n[data]\ncrop = 8\n[train]\nbatch = 5\nmomentum = \
        0.5\n[schedule]\nkind = 'plateau'\nrate = 0.5\npatience = 3\n[[layer]]\nname = 'fc'\nkind = \
        'fc'\noutputs = 4\n[[layer]]\nname = 'softmax'\nkind = 'softmax'\n";

    #[test]
    fn what_one_does_not_state_counts_as_the_one_below_says() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let first = write("first.toml", "[train]\nbatch = 6\nepochs = 7\n[layer.fc]\nbias = 1.0");
        let second = write("second.toml", "[train]\nbatch = 8\n[schedule]\nkind = 'steps'");
        let stack = Stack::new(BASE, "base").unwrap().over(&first).unwrap().over(&second).unwrap();
        let config = stack.config(&["train.momentum=0.25".into()]).unwrap();
        assert_eq!((config.name.as_str(), config.seed), ("base", 4));
        assert_eq!((config.train.batch, config.train.epochs), (8, 7));
        assert_eq!(config.train.momentum, 0.25);
        assert_eq!((config.schedule.kind.name, config.schedule.start.rate), ("steps", 0.5));
        assert_eq!(config.layers[0].weights.as_ref().unwrap().bias, 1.0);
        // The file at fault is named.
        let wrong = write("wrong.toml", "[train]\nmomentun = 2.0");
        let error = Stack::new(BASE, "base").unwrap().over(&wrong).err().unwrap();
        let error = format!("{error:#}");
        assert!(error.contains("wrong.toml") && error.contains("momentun"), "{error}");
    }

    #[test]
    fn a_newer_config_is_refused() {
        let error = Stack::new("format = 2\nnew = 1", "base").err().unwrap();
        let error = format!("{error:#}");
        assert!(error.contains("format = 2") && error.contains("newer version"), "{error}");
        assert!(Stack::new(&format!("format = 1\n{BASE}"), "base").is_ok());
    }
}
