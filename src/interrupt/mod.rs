//! Signals that ask the program to end, or to save, whatever it is at.
//!
//! A thread of its own hears them, so that the answer comes at once. Most commands have nothing to
//! finish: a signal ends them where they stand, with a line that says what that means. Training
//! asks to be told instead ([`Interrupt::listen`]): the step at hand is finished, the checkpoint
//! written, then the run ends; a second signal ends the program at once. The exit code is 128 and
//! the signal's number.
//!
//! A signal that was ignored when the program started stays ignored, as `nohup` wants it.

#[cfg(unix)]
#[path = "unix.rs"]
mod system;
#[cfg(not(unix))]
#[path = "windows.rs"]
mod system;

use crate::{errors, progress};
use anyhow::Result;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A signal so soon after the first is the same wish: `timeout` sends one to its child and another
/// to the child's group.
const SAME_WISH: Duration = Duration::from_millis(50);

/// All that a process has heard. Signals belong to the process, so there is one.
struct Heard {
    /// Somebody looks at `stop` and finishes what it is at.
    finishes: AtomicBool,
    /// The signal that asks for the end; 0: none.
    stop: AtomicI32,
    /// A checkpoint is wanted.
    save: AtomicBool,
    told: Mutex<Told>,
}

/// What the lines to a person need.
struct Told {
    /// When the first signal to end was answered.
    first: Option<Instant>,
    /// What an end at once means for the command, after "stopped by SIGINT"; may be empty.
    at_once: &'static str,
    /// What is kept of a run that is left without finishing.
    kept: Option<String>,
}

static HEARD: Heard = Heard {
    finishes: AtomicBool::new(false),
    stop: AtomicI32::new(0),
    save: AtomicBool::new(false),
    told: Mutex::new(Told { first: None, at_once: "", kept: None }),
};

fn told() -> MutexGuard<'static, Told> {
    HEARD.told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hears signals from now on; once, at the program's start. `at_once` says what an end at once
/// means for the command, such as `the same command goes on where it stopped`; it may be empty.
///
/// # Errors
/// If they cannot be caught, or no thread can be started.
pub fn watch(at_once: &'static str) -> Result<()> {
    told().at_once = at_once;
    system::watch(heard)
}

/// Answers one signal.
fn heard(signal: i32) {
    let finishes = HEARD.finishes.load(Ordering::SeqCst);
    if system::asks_to_save(signal) {
        if finishes {
            HEARD.save.store(true, Ordering::SeqCst);
        } else {
            progress::say(&format!("{}: there is nothing to save yet", name(signal)));
        }
        return;
    }
    let mut told = told();
    match told.first {
        _ if !finishes => {
            let means = if told.at_once.is_empty() { "" } else { "; " };
            leave(signal, &format!("stopped by {}{means}{}", name(signal), told.at_once));
        }
        None => {
            told.first = Some(Instant::now());
            HEARD.stop.store(signal, Ordering::SeqCst);
            progress::say("finishing the step and saving; again to leave without");
        }
        Some(first) => {
            if system::hurries(signal) && first.elapsed() > SAME_WISH {
                let kept = told.kept.as_deref().unwrap_or("nothing is kept of it");
                leave(signal, &format!("left without finishing the step; {kept}"));
            }
        }
    }
}

/// Ends the program with a last line. What other threads are at is left as it is: nothing of it
/// needs to be put in order, and one may wait for a disk that does not answer.
fn leave(signal: i32, line: &str) -> ! {
    progress::clear();
    errors::complain(&format!("error: {line}"));
    errors::leave(128 + signal)
}

fn name(signal: i32) -> &'static str {
    signal_hook::low_level::signal_name(signal).unwrap_or("a signal")
}

/// What the user wants of a piece of work that can be finished.
#[derive(Clone, Copy, Debug)]
pub struct Interrupt(());

impl Interrupt {
    /// From now on a signal to end is not followed at once but told here.
    pub fn listen() -> Interrupt {
        HEARD.finishes.store(true, Ordering::SeqCst);
        Interrupt(())
    }

    /// Whether the user wants the work to end.
    pub fn wanted(&self) -> bool {
        self.signal().is_some()
    }

    /// The signal that wants the work to end.
    pub fn signal(&self) -> Option<i32> {
        Some(HEARD.stop.load(Ordering::SeqCst)).filter(|&signal| signal != 0)
    }

    /// Whether a checkpoint was asked for since this was last called.
    pub fn take_save(&self) -> bool {
        HEARD.save.swap(false, Ordering::SeqCst)
    }

    /// What is kept, as a sentence, should a second signal leave the step unfinished.
    pub fn keeps(&self, what: String) {
        told().kept = Some(what);
    }
}
