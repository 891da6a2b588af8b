//! Saving beside training: a thread writes copies of the network while the next steps go on.
//!
//! One write is under way at a time, and its copy is the only one in memory; the next one takes its
//! place there. What cannot be written (a full disk) is kept and tried again, every minute, with the
//! next checkpoint, and at the end; then two copies at most are kept, the newest and that of the best
//! network where it is another, beside the one that is being taken.
//! Files are written whole or not at all, so what the disk holds stays good.

use super::checkpoint::{Checkpoint, Snapshot};
use super::runs::RunFolder;
use crate::config::Train;
use crate::errors::sentence;
use crate::files;
use anyhow::{Error, Result, anyhow};
use std::io;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between two tries of what could not be written.
const PAUSE: Duration = Duration::from_secs(60);

/// One state of the network and the files that are still to hold it, in order.
struct Job {
    snapshot: Snapshot,
    files: Vec<PathBuf>,
}

impl Job {
    /// Writes the files: the first from memory, the others as copies of it.
    fn write(&mut self) -> Result<()> {
        let mut whole: Option<PathBuf> = None;
        while let Some(file) = self.files.first() {
            match &whole {
                None => self.snapshot.write(file)?,
                Some(whole) => files::copy_whole(whole, file)?,
            }
            whole = Some(self.files.remove(0));
        }
        Ok(())
    }
}

/// What a try has come to.
#[derive(Default)]
struct Outcome {
    /// What is still to be written, and why it could not be.
    failed: Vec<Job>,
    failure: Option<Error>,
    /// A copy that is on the disk: its memory can take the next one.
    spare: Option<Snapshot>,
}

/// Tries every job.
fn write(jobs: Vec<Job>) -> Outcome {
    let mut outcome = Outcome::default();
    for mut job in jobs {
        match job.write() {
            Ok(()) => outcome.spare = Some(job.snapshot),
            Err(error) => {
                outcome.failure.get_or_insert(error);
                outcome.failed.push(job);
            }
        }
    }
    outcome
}

/// Writes a run's checkpoints and its `config.toml`.
pub struct Saver {
    run: RunFolder,
    /// The content of `config.toml`, until it is written.
    config: Option<String>,
    writing: Option<JoinHandle<Outcome>>,
    failed: Vec<Job>,
    failure: Option<Error>,
    /// Memory for the next copy.
    spare: Option<Snapshot>,
    /// When the last try began, and after which step.
    begun: (Instant, u64),
    /// The step of what `last` holds, where it was written here.
    held: Option<u64>,
    /// Files of states that had to make room for newer ones in memory.
    lost: Vec<PathBuf>,
    news: Vec<String>,
}

impl Saver {
    /// For `run`, which stands after `step` steps; `config` is to become its `config.toml`.
    pub fn new(run: &RunFolder, step: u64, config: String) -> Saver {
        let mut saver = Saver {
            run: run.clone(),
            config: Some(config),
            writing: None,
            failed: Vec::new(),
            failure: None,
            spare: None,
            begun: (Instant::now(), step),
            held: None,
            lost: Vec::new(),
            news: Vec::new(),
        };
        saver.write_config();
        saver
    }

    /// Whether a write is under way.
    pub fn is_busy(&mut self) -> bool {
        if self.writing.as_ref().is_some_and(JoinHandle::is_finished) {
            self.wait();
        }
        self.writing.is_some()
    }

    /// Whether `last` is to be written now, after `step`, inside an epoch: as the config says,
    /// or because something could not be written a minute ago.
    pub fn is_due(&mut self, train: &Train, step: u64) -> bool {
        !self.is_busy() && self.is_time(train, step, self.begun.0.elapsed())
    }

    /// As [`Saver::is_due`], `passed` after the last try.
    fn is_time(&self, train: &Train, step: u64, passed: Duration) -> bool {
        let (minutes, steps) = (train.checkpoint_minutes, train.checkpoint_steps);
        let minutes = minutes > 0 && passed >= Duration::from_secs(60 * u64::from(minutes));
        let steps = steps > 0 && step - self.begun.1 >= u64::from(steps);
        let again = (self.failure.is_some() || self.config.is_some()) && passed >= PAUSE;
        minutes || steps || again
    }

    /// A copy that is not needed any more, after the write under way: memory for the next one.
    pub fn spare(&mut self) -> Option<Snapshot> {
        self.wait();
        self.spare.take()
    }

    /// Begins to write `files` of the run, in this order, after the write under way. Those that
    /// could not be written before are tried too; a newer state replaces an older one.
    pub fn begin(&mut self, snapshot: Snapshot, files: Vec<PathBuf>) {
        self.wait();
        self.begun = (Instant::now(), snapshot.step);
        self.write_config();
        let mut jobs = std::mem::take(&mut self.failed);
        for job in &mut jobs {
            job.files.retain(|file| !files.contains(file));
        }
        jobs.retain(|job| !job.files.is_empty());
        while jobs.len() > 1 {
            let best = self.run.best();
            let place = jobs.iter().position(|job| !job.files.contains(&best)).unwrap_or(0);
            let job = jobs.remove(place);
            for file in job.files {
                self.news.push(format!("{} is given up: there is no room for it", file.display()));
                self.lost.push(file);
            }
        }
        jobs.push(Job { snapshot, files });
        self.start(jobs);
    }

    /// Writes in a thread, or here where none can be had.
    fn start(&mut self, jobs: Vec<Job>) {
        let (hand_over, take) = std::sync::mpsc::sync_channel(1);
        let builder = thread::Builder::new().name("saving".into());
        match builder.spawn(move || take.recv().map(write).unwrap_or_default()) {
            Ok(thread) => {
                let _ = hand_over.send(jobs);
                self.writing = Some(thread);
            }
            Err(_) => self.take_in(write(jobs)),
        }
    }

    /// Waits for the write under way.
    pub fn wait(&mut self) {
        if let Some(thread) = self.writing.take() {
            match thread.join() {
                Ok(left) => self.take_in(left),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    }

    fn take_in(&mut self, Outcome { failed, failure, spare }: Outcome) {
        let last = self.run.last();
        if failed.iter().all(|job| !job.files.contains(&last)) {
            // Every state that is written is `last`'s too.
            self.held = Some(self.begun.1);
        }
        match (&failure, &self.failure) {
            (Some(error), None) => {
                let text = format!(
                    "{}; training goes on, and saving is tried again every minute and at the \
                     end; {}",
                    sentence(error),
                    self.there()
                );
                self.news.push(text);
            }
            (None, Some(_)) => self.news.push(format!("saved again: {}", self.there())),
            _ => {}
        }
        (self.failed, self.failure, self.spare) = (failed, failure, spare);
    }

    fn write_config(&mut self) {
        let Some(text) = self.config.take() else { return };
        if let Err(error) = files::write_text(&self.run.config(), &text) {
            if self.failure.is_none() {
                self.news.push(format!("{}; it is tried again later", sentence(&error)));
            }
            self.config = Some(text);
        }
    }

    /// What the disk holds.
    fn there(&self) -> String {
        let mut there = [self.run.last(), self.run.best()].into_iter().filter(|f| f.exists());
        let found = there.find_map(|f| Checkpoint::open(&f).ok());
        match found {
            Some(checkpoint) => {
                format!("{} of step {} is kept", checkpoint.path.display(), checkpoint.state.step)
            }
            None => format!("{} holds no checkpoint yet", self.run.0.display()),
        }
    }

    /// The step of what `last` holds, where that was written by this process.
    pub fn held(&self) -> Option<u64> {
        self.held
    }

    /// Whether the last try has left something unwritten.
    pub fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Why `last` does not hold what it should, and what the disk holds.
    pub fn trouble(&self) -> String {
        let failure = self.failure.as_ref().map(|error| sentence(error) + "; ");
        format!("{}{}", failure.unwrap_or_default(), self.there())
    }

    /// What there is to be said since it was last asked for.
    pub fn news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.news)
    }

    /// Waits for the first write. A folder in which nothing can be written at all is an error
    /// before any work is lost; a full disk is none.
    pub fn first(&mut self) -> Result<()> {
        self.wait();
        match self.failure.take_if(|error| !may_pass(error)) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// The end of training after `step`: waits for the write under way and tries once more what
    /// could not be written. Err: what is lost, and what is there.
    pub fn finish(&mut self, step: u64) -> Result<()> {
        self.wait();
        self.write_config();
        let failed = std::mem::take(&mut self.failed);
        if !failed.is_empty() {
            let left = write(failed);
            self.take_in(left);
        }
        let Some(error) = self.failure.take() else { return self.without_failure() };
        // The error says it, and nothing goes on.
        self.news.clear();
        let files = self.failed.iter().flat_map(|job| &job.files).chain(&self.lost);
        let files: Vec<String> = files.map(|file| file.display().to_string()).collect();
        let kept = Checkpoint::open(&self.run.last()).ok().map(|c| c.state.step);
        let (from, way_out) = match kept {
            Some(kept) => (kept + 1, format!("go on with: {}", self.run.resume())),
            None => (1, "begin anew in another folder".to_string()),
        };
        let steps =
            if from <= step { format!(" with steps {from} to {step}") } else { String::new() };
        Err(anyhow!(
            "{}; lost: {}{steps}; {}; make room and {way_out}",
            sentence(&error),
            files.join(", "),
            self.there()
        ))
    }

    /// The end where all states in memory are on the disk.
    fn without_failure(&self) -> Result<()> {
        let mut missing: Vec<PathBuf> = self.lost.clone();
        missing.extend(self.config.is_some().then(|| self.run.config()));
        if missing.is_empty() {
            return Ok(());
        }
        let missing: Vec<String> = missing.iter().map(|file| file.display().to_string()).collect();
        Err(anyhow!("there was no room for {}; {}", missing.join(", "), self.there()))
    }
}

impl Drop for Saver {
    /// A write under way is brought to its end.
    fn drop(&mut self) {
        if let Some(thread) = self.writing.take() {
            let _ = thread.join();
        }
    }
}

/// Whether what failed may go well another time: no room, or a device that answers no more.
fn may_pass(error: &Error) -> bool {
    use io::ErrorKind::{NotFound, PermissionDenied};
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| match cause.kind() {
        NotFound | PermissionDenied => false,
        // EIO, which has no kind of its own.
        _ => files::is_full(cause) || cause.raw_os_error() == Some(5),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_is_due_after_minutes_or_steps_and_a_failed_write_after_a_minute() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder(folder.path().to_path_buf());
        let mut saver = Saver::new(&run, 100, "name = \"x\"".into());
        let train = |minutes: u32, steps: u32| -> Train {
            let keys = format!("checkpoint_minutes = {minutes}\ncheckpoint_steps = {steps}");
            toml::from_str(&keys).unwrap()
        };
        let after = Duration::from_secs;
        assert!(!saver.is_time(&train(15, 0), 5000, after(899)));
        assert!(saver.is_time(&train(15, 0), 101, after(900)));
        assert!(!saver.is_time(&train(0, 0), 5000, after(90_000)));
        assert!(!saver.is_time(&train(0, 10), 109, after(90_000)));
        assert!(saver.is_time(&train(0, 10), 110, after(0)));
        saver.failure = Some(anyhow!("no room"));
        assert!(!saver.is_time(&train(15, 0), 101, after(59)));
        assert!(saver.is_time(&train(0, 0), 101, after(60)));
        saver.failure = None;
    }

    #[test]
    fn a_full_disk_passes_and_a_folder_that_is_none_does_not() {
        let of = |code| Error::new(io::Error::from_raw_os_error(code)).context("writing x");
        // ENOSPC, EDQUOT, EFBIG, EIO on Linux.
        if cfg!(target_os = "linux") {
            assert!([28, 122, 27, 5].into_iter().all(|code| may_pass(&of(code))));
            assert!([2, 13, 20, 21, 30].into_iter().all(|code| !may_pass(&of(code))));
        }
        assert!(!may_pass(&anyhow!("something else")));
    }
}
