//! What decides the exit code: errors of the command line or the config are 2, a signal is 128 and
//! its number, an error in the program itself (a panic) is 70, another process's is that one's, all
//! others are 1.
//!
//! Everything else about an error is its sentence. Errors are `anyhow::Error`; where the cause lies
//! in what the user wrote (a config, an option), they are made with
//! [`config_error!`](crate::config_error), and the mark survives any context added on the way up.

use crate::log;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::Cell;
use std::fmt;
use std::io::{IsTerminal, Write, stderr};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::{OnceLock, PoisonError, RwLock};

/// The user's command line or config is wrong: exit code 2.
#[derive(Debug)]
pub struct ConfigError(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// An `anyhow::Error` that ends the program with exit code 2; arguments as for `format!`.
#[macro_export]
macro_rules! config_error {
    ($($arg:tt)*) => { ::anyhow::Error::new($crate::errors::ConfigError(format!($($arg)*))) };
}

/// A signal has ended the work, whose sentence this is: exit code 128 and the signal's number.
#[derive(Debug)]
pub struct Stopped {
    /// Its number.
    pub signal: i32,
    /// What is kept, and how to go on.
    pub sentence: String,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Stopped {}

/// Another of the processes that work together has failed, whose sentence this is, with which one it
/// was; its exit code.
#[derive(Clone, Debug)]
pub struct OfRank {
    /// With rank and machine.
    pub sentence: String,
    /// As the other process has it.
    pub code: i32,
}

impl fmt::Display for OfRank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for OfRank {}

/// A network does not fit into the memory: exit code 2.
#[derive(Debug)]
pub struct TooLarge {
    /// Images that were wanted at once.
    pub batch: usize,
    /// What is needed and what there is.
    pub why: String,
    /// Images at once that would fit; 0: not even one.
    pub fits: usize,
    /// What to do where not even one fits.
    pub none_fits: &'static str,
    /// How the user says the batch.
    pub option: &'static str,
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a batch of {} does not fit into the memory: {}; ", self.batch, self.why)?;
        match self.fits {
            0 => write!(f, "not even one image fits; {}", self.none_fits),
            n => write!(f, "a batch of {n} would fit ({}{n})", self.option),
        }
    }
}

impl std::error::Error for TooLarge {}

/// How the batch is said in most commands.
pub const BATCH_OPTION: &str = "--set train.batch=";

/// Who this process is among several that work together, where it is not the one that speaks for
/// all. An empty name: it says nothing at all.
static NAME: RwLock<Option<String>> = RwLock::new(None);

fn name() -> Option<String> {
    NAME.read().unwrap_or_else(PoisonError::into_inner).clone()
}

/// From now on this process leaves notes to another one, and says as `name` what has gone wrong.
pub fn speak_as(name: String) {
    *NAME.write().unwrap_or_else(PoisonError::into_inner) = Some(name);
}

/// From now on this process says nothing: another one says the same.
pub fn speak_not() {
    speak_as(String::new());
}

/// Whether this process says how things go.
pub fn speaks() -> bool {
    name().is_none()
}

/// A line on standard error, of what has gone wrong. A reader that has gone away (`2>&1 | head`)
/// ends no training, as `eprintln!` would.
pub fn complain(line: &str) {
    let line = match name() {
        None => format!("{line}\n"),
        Some(name) if name.is_empty() => return,
        Some(name) => format!("{name}: {line}\n"),
    };
    log::keep(&line);
    let _ = stderr().write_all(line.as_bytes());
}

/// A line on standard error of how things go, unless errors alone are wanted there.
pub fn tell(line: &str) {
    match log::is_heard() {
        true => complain(line),
        false => log::keep(line),
    }
}

/// A line on standard error, for progress and logs, by the process that speaks; arguments as for
/// `format!`.
#[macro_export]
macro_rules! note {
    ($($arg:tt)*) => {{
        if $crate::errors::speaks() {
            $crate::errors::tell(&format!($($arg)*));
        }
    }};
}

/// As [`note!`], but only where details are wanted.
#[macro_export]
macro_rules! detail {
    ($($arg:tt)*) => {{
        if $crate::log::is_verbose() {
            $crate::note!($($arg)*);
        }
    }};
}

/// What is to be done before the program ends, with the exit code, and whether the thread is the
/// one that computes.
static AT_THE_END: OnceLock<fn(i32, bool)> = OnceLock::new();

/// From now on `last` is called before the program ends.
pub fn at_the_end(last: fn(i32, bool)) {
    let _ = AT_THE_END.set(last);
}

/// Ends the program at once, from any thread but the one that computes: nothing is put in order.
pub fn leave(code: i32) -> ! {
    if let Some(last) = AT_THE_END.get() {
        last(code, false);
    }
    signal_hook::low_level::exit(code)
}

/// Ends the program, from the thread that computes.
pub fn exit(code: i32) -> ! {
    if let Some(last) = AT_THE_END.get() {
        last(code, true);
    }
    std::process::exit(code)
}

/// The exit code for an error that reached `main`: 2 for a wrong command line or config, 128 and
/// its number for a signal, else 1.
pub fn exit_code(error: &anyhow::Error) -> i32 {
    if let Some(stopped) = error.downcast_ref::<Stopped>() {
        return 128 + stopped.signal;
    }
    if let Some(of_rank) = error.downcast_ref::<OfRank>() {
        return of_rank.code;
    }
    if error.is::<ConfigError>() || error.is::<TooLarge>() { 2 } else { 1 }
}

/// The exit code for an error in the program: BSD's EX_SOFTWARE.
const PROGRAM_ERROR: i32 = 70;

thread_local! {
    /// Whether a panic of this thread is caught and told by who called.
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Makes a panic end the program at once with one sentence and exit code 70, whichever thread it is
/// in: no other thread waits for one that is gone.
pub fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        if GUARDED.get() {
            return;
        }
        // Only where RUST_BACKTRACE asks for it.
        let trace = Backtrace::capture();
        if trace.status() == BacktraceStatus::Captured {
            note!("{trace}");
        }
        // What a progress bar has left on the line. The bar itself may be what has panicked.
        let clear = if stderr().is_terminal() { "\r\x1b[2K" } else { "" };
        complain(&format!("{clear}error: {}", of_panic(panic)));
        leave(PROGRAM_ERROR);
    }));
}

fn of_panic(panic: &PanicHookInfo<'_>) -> String {
    let place = panic.location().map_or("an unknown place".to_string(), |place| {
        format!("{}:{}", place.file(), place.line())
    });
    let payload = panic.payload();
    let message = match payload.downcast_ref::<String>() {
        Some(text) => text,
        None => payload.downcast_ref::<&str>().copied().unwrap_or("no message"),
    };
    format!(
        "this is an error in the program, at {place}: {}; please report it, with the command line \
         and this sentence (version {})",
        message.trim().replace('\n', " "),
        env!("CARGO_PKG_VERSION")
    )
}

/// Calls `work`, of which a panic is no error in the program but one of what it was given: a
/// decoder's, of a file. Nothing is said of it; `None`.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    let before = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    result.ok()
}

/// The error and its causes as one sentence, joined by colons, as printed on standard error.
pub fn sentence(error: &anyhow::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string().trim().replace('\n', " ");
        // Some libraries repeat their cause in their own text.
        if !parts.last().is_some_and(|last| last.ends_with(&text)) {
            parts.push(text);
        }
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_mark_survives_context() {
        let error = Err::<(), _>(config_error!("rate = -1 is negative"))
            .context("configs/demo.toml")
            .context("train")
            .unwrap_err();
        assert_eq!(exit_code(&error), 2);
        assert_eq!(sentence(&error), "train: configs/demo.toml: rate = -1 is negative");
        assert_eq!(exit_code(&anyhow::anyhow!("disk full")), 1);
        let stopped = Stopped { signal: 15, sentence: "interrupted".into() };
        assert_eq!(exit_code(&anyhow::Error::new(stopped).context("train")), 143);
    }
}
