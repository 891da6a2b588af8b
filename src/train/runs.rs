//! Run folders: what a training run leaves behind, and which run is the newest.
//!
//! A run is a folder with `config.toml`, `metrics.jsonl`, `last.safetensors` and
//! `best.safetensors`. Without a name they are in `runs/`, called after the config.

use crate::config_error;
use crate::files::temporary_name;
use anyhow::{Context, Result, bail};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where runs go unless `--run` says otherwise.
pub const FOLDER: &str = "runs";

/// A run's folder and the files in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder(pub PathBuf);

impl RunFolder {
    /// The config with every default filled in.
    pub fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }
    /// One line a step and an epoch.
    pub fn metrics(&self) -> PathBuf {
        self.0.join("metrics.jsonl")
    }
    /// The newest checkpoint.
    pub fn last(&self) -> PathBuf {
        self.0.join("last.safetensors")
    }
    /// The checkpoint with the lowest validation top-1 error.
    pub fn best(&self) -> PathBuf {
        self.0.join("best.safetensors")
    }
    /// The checkpoint that `keep` asks for.
    pub fn epoch(&self, epoch: u32) -> PathBuf {
        self.0.join(format!("epoch-{epoch:04}.safetensors"))
    }

    /// The checkpoints that `keep` has left, in no order.
    pub fn kept(&self) -> Vec<PathBuf> {
        self.files(|name| name.starts_with("epoch-") && name.ends_with(".safetensors"))
    }

    /// Its files whose name is as `wanted`.
    fn files(&self, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.0).into_iter().flatten().flatten();
        let named = entries.filter(|entry| entry.file_name().to_str().is_some_and(&wanted));
        named.map(|entry| entry.path()).collect()
    }

    /// Whether a run has been here.
    fn is_taken(&self) -> bool {
        [self.config(), self.metrics(), self.last(), self.best()].iter().any(|f| f.exists())
    }

    /// Takes away what a killed run left half written.
    pub fn remove_leftovers(&self) {
        let _ = fs::remove_file(temporary_name(&self.config()));
        for file in self.files(|name| name.ends_with(".safetensors.tmp")) {
            let _ = fs::remove_file(file);
        }
    }

    /// Keeps a second process from training in the same folder until the returned file is dropped
    /// or the process ends, however it ends. Where a file system knows no locks nothing is kept.
    pub fn lock(&self) -> Result<Option<File>> {
        let Ok(folder) = File::open(&self.0) else { return Ok(None) };
        match folder.try_lock() {
            Err(TryLockError::WouldBlock) => bail!(
                "{}: another process is training in this folder; wait for it, or choose another \
                 folder with --run",
                self.0.display()
            ),
            Err(TryLockError::Error(_)) => Ok(None),
            Ok(()) => Ok(Some(folder)),
        }
    }

    /// A folder for a new run: `wanted`, which must hold no run yet, or the first of `runs/NAME`,
    /// `runs/NAME-2`, … that is free.
    pub fn create(wanted: Option<&Path>, name: &str) -> Result<RunFolder> {
        let run = match wanted {
            Some(path) => RunFolder(path.to_path_buf()),
            None => {
                let numbered = |n: u32| if n == 1 { name.into() } else { format!("{name}-{n}") };
                (1..)
                    .map(|n| RunFolder(Path::new(FOLDER).join(numbered(n))))
                    .find(|run| !run.0.exists())
                    .expect("numbers do not end")
            }
        };
        if run.is_taken() {
            let way_out = if run.last().exists() {
                "go on with it (--resume) or choose another folder"
            } else {
                "it has no checkpoint to go on from, so remove it or choose another folder"
            };
            return Err(config_error!(
                "--run {}: the folder holds a run already; {way_out}",
                run.0.display()
            ));
        }
        fs::create_dir_all(&run.0)
            .with_context(|| format!("the run's folder {} cannot be made", run.0.display()))?;
        Ok(run)
    }

    /// The newest run in `runs/` that has a checkpoint.
    pub fn newest() -> Result<RunFolder> {
        match newest(|run| vec![run.last(), run.best()]) {
            Some(run) => Ok(run),
            None => bail!(
                "no run with a checkpoint in {FOLDER}/ of this folder; train first (alexnet train \
                 --config configs/demo.toml) or name a checkpoint"
            ),
        }
    }

    /// The newest run in `runs/` that has ended an epoch, and so has a best checkpoint.
    pub fn newest_with_best() -> Result<RunFolder> {
        if let Some(run) = newest(|run| vec![run.best()]) {
            return Ok(run);
        }
        let begun = RunFolder::newest()?;
        bail!(
            "no run in {FOLDER}/ of this folder has ended an epoch yet; {} is what the newest has \
             come to: name it to use it",
            begun.last().display()
        )
    }
}

/// The run in `runs/` with the latest change of one of the files that `of` gives.
fn newest(of: impl Fn(&RunFolder) -> Vec<PathBuf>) -> Option<RunFolder> {
    let changed = |file: &PathBuf| fs::metadata(file).and_then(|m| m.modified()).ok();
    let mut newest: Option<(SystemTime, RunFolder)> = None;
    for entry in fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        let run = RunFolder(entry.path());
        if let Some(changed) = of(&run).iter().filter_map(changed).max()
            && newest.as_ref().is_none_or(|(time, _)| changed > *time)
        {
            newest = Some((changed, run));
        }
    }
    newest.map(|(_, run)| run)
}
