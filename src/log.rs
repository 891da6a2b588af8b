//! How much is said on standard error, and a file that keeps the same lines with the time of each.

use jiff::{Timestamp, tz::TimeZone};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicI8, Ordering};
use std::sync::{Mutex, PoisonError};

/// -1: errors alone; 0: how things go; 1: details.
static LEVEL: AtomicI8 = AtomicI8::new(0);

static KEPT: Mutex<Option<File>> = Mutex::new(None);

/// From now on standard error has errors alone, or details too.
pub fn set_level(quiet: bool, verbose: bool) {
    LEVEL.store(i8::from(verbose) - i8::from(quiet), Ordering::Relaxed);
}

/// Whether standard error has more than errors.
pub fn is_heard() -> bool {
    LEVEL.load(Ordering::Relaxed) >= 0
}

/// Whether details are wanted.
pub fn is_verbose() -> bool {
    LEVEL.load(Ordering::Relaxed) > 0
}

/// From now on every line is added to `file`, too.
///
/// # Errors
/// If it cannot be written.
pub fn keep_in(file: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new().create(true).append(true).open(file)?;
    *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = Some(file);
    Ok(())
}

/// Adds lines to the file, if there is one, without what colours them on a terminal. A file that
/// cannot be written any more is left alone: the lines are on standard error.
pub fn keep(text: &str) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(file) = kept.as_mut() else { return };
    let time = Timestamp::now().to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S");
    let plain = console::strip_ansi_codes(text);
    let lines: String = plain.lines().map(|line| format!("{time} {line}\n")).collect();
    let _ = file.write_all(lines.as_bytes());
}
