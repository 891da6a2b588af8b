//! Run folders: what a training run leaves behind, and which run is the newest.
//!
//! A run is a folder with `config.toml`, `metrics.jsonl`, `last.safetensors`, `best.safetensors`,
//! `curves.png` and `filters.png`; one that has diverged says so in `diverged.txt`. Without a name
//! they are in `runs/`, called after the config.

use crate::config_error;
use crate::files::lock::{self, Lock};
use crate::files::{copy_whole, temporary_name, write_text};
use crate::quoting::Typed;
use anyhow::{Context, Error, Result, bail};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Where runs go unless `--run` says otherwise.
pub const FOLDER: &str = "runs";

/// A run's folder and the files in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// How it goes, in charts.
    pub fn curves(&self) -> PathBuf {
        self.0.join("curves.png")
    }
    /// The kernels of its first layer that has some.
    pub fn filters(&self) -> PathBuf {
        self.0.join("filters.png")
    }
    /// Where it says why the run has diverged, until it is gone on with.
    pub fn diverged(&self) -> PathBuf {
        self.0.join("diverged.txt")
    }

    /// Notes that the run has ended because training diverged; `why` is the sentence. Where that
    /// cannot be written it is left, for the sentence is said too.
    pub fn note_diverged(&self, why: &str) {
        let _ = write_text(&self.diverged(), &format!("{why}\n"));
    }

    /// The run is gone on with.
    pub fn forget_diverged(&self) {
        let _ = fs::remove_file(self.diverged());
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

    /// Whether there is something to go on from.
    pub fn has_checkpoint(&self) -> bool {
        self.last().exists() || self.best().exists() || !self.kept().is_empty()
    }

    /// Whether a run has been here, of which any file is left.
    pub fn is_run(&self) -> bool {
        self.is_taken() || self.0.is_dir() && !self.kept().is_empty()
    }

    /// Whether a run has been here.
    fn is_taken(&self) -> bool {
        [self.config(), self.metrics(), self.last(), self.best()].iter().any(|f| f.exists())
    }

    /// Takes away what a killed run left half written.
    pub fn remove_leftovers(&self) {
        for file in [self.config(), self.curves(), self.filters()] {
            let _ = fs::remove_file(temporary_name(&file));
        }
        for file in self.files(|name| name.ends_with(".safetensors.tmp")) {
            let _ = fs::remove_file(file);
        }
    }

    /// Where the best network so far is kept that was chosen on other images than those to come,
    /// after `epoch`.
    fn former_best(&self, epoch: u32) -> PathBuf {
        self.0.join(format!("best-{epoch:04}.safetensors"))
    }

    /// Keeps the best checkpoint, of `epoch`, under another name too, since the next one chosen on
    /// other images will take its place. None: there is none.
    pub fn keep_best(&self, epoch: u32) -> Result<Option<PathBuf>> {
        let kept = self.former_best(epoch);
        if !self.best().exists() || kept.exists() {
            return Ok(Some(kept).filter(|kept| kept.exists()));
        }
        fs::hard_link(self.best(), &kept).or_else(|_| copy_whole(&self.best(), &kept))?;
        Ok(Some(kept))
    }

    /// Keeps a second process from training in the same folder, which must exist, until the lock is
    /// dropped or the process ends, however it ends. Where a file system knows no locks nothing is
    /// kept. Err: another process has it.
    pub fn lock(&self) -> Result<Lock> {
        lock::lock(&self.0)?.with_context(|| {
            format!(
                "{}: another process is training in this folder; wait for it, or choose another \
                 folder with --run",
                self.0.display()
            )
        })
    }

    /// A locked folder for a new run: `wanted`, which must hold no run yet, or the first of
    /// `runs/NAME`, `runs/NAME-2`, … that is free. `again` is the command at hand, without its
    /// folder.
    pub fn create(wanted: Option<&Path>, name: &str, again: &Typed) -> Result<(RunFolder, Lock)> {
        let Some(wanted) = wanted else {
            let run = RunFolder::create_numbered(&Path::new(FOLDER).join(name))?;
            let lock = run.lock()?;
            return Ok((run, lock));
        };
        let run = RunFolder(wanted.to_path_buf());
        fs::create_dir_all(&run.0).with_context(|| run.not_made())?;
        // Before anything is said of the folder: it may be another process that fills it.
        let lock = run.lock()?;
        if run.is_taken() { Err(run.taken(again)) } else { Ok((run, lock)) }
    }

    /// Makes the first folder that is free of `path`, `path-2`, `path-3`, …; of two processes only
    /// one makes it.
    fn create_numbered(path: &Path) -> Result<RunFolder> {
        let parent = path.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(parent).with_context(|| RunFolder(path.into()).not_made())?;
        for n in 1.. {
            let run = RunFolder(numbered(path, n));
            match fs::create_dir(&run.0) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => return made.with_context(|| run.not_made()).map(|_| run),
            }
        }
        unreachable!("numbers do not end")
    }

    fn not_made(&self) -> String {
        format!("the run's folder {} cannot be made", self.0.display())
    }

    /// The folder holds a run already; what to do about it.
    fn taken(&self, again: &Typed) -> Error {
        let free = (2..).map(|n| numbered(&self.0, n)).find(|path| !path.exists());
        let other = again.clone().option("--run", &free.expect("numbers do not end"));
        let way_out = if self.has_checkpoint() {
            format!("go on with it ({}) or choose another folder ({other})", self.resume())
        } else {
            format!(
                "it has no checkpoint to go on from, so remove it or choose another folder \
                 ({other})"
            )
        };
        config_error!("--run {}: the folder holds a run already; {way_out}", self.0.display())
    }

    /// The command that goes on with the run.
    pub fn resume(&self) -> Typed {
        Typed::new("train --resume").option("--run", &self.0)
    }

    /// The newest run in `runs/` that has a checkpoint.
    pub fn newest() -> Result<RunFolder> {
        match newest(|run| vec![run.last(), run.best()]) {
            Some(run) => Ok(run),
            None => bail!(
                "no run with a checkpoint in {FOLDER}/ of this folder; train first ({}) or name a \
                 checkpoint",
                Typed::new("train --config configs/demo.toml")
            ),
        }
    }

    /// The newest run in `runs/` that has a checkpoint and whose settings have this name.
    pub fn newest_called(name: &str) -> Option<RunFolder> {
        newest(|run| match run.name().as_deref() == Some(name) {
            true => vec![run.last(), run.best()],
            false => Vec::new(),
        })
    }

    /// The name in its settings, if they can be read.
    fn name(&self) -> Option<String> {
        let table: toml::Table = fs::read_to_string(self.config()).ok()?.parse().ok()?;
        Some(table.get("name")?.as_str()?.to_string())
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

/// `path`, or with `-n` behind its name.
fn numbered(path: &Path, n: u32) -> PathBuf {
    if n == 1 {
        return path.to_path_buf();
    }
    let mut name = path.file_name().unwrap_or("run".as_ref()).to_os_string();
    name.push(format!("-{n}"));
    path.with_file_name(name)
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
