//! Signals as Unix has them.

use anyhow::{Context, Result};
use libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGXCPU, SIGXFSZ};
use signal_hook::iterator::Signals;
use std::mem::MaybeUninit;
use std::ptr::null;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The terminal is closed, Ctrl-C, Ctrl-\, a polite kill, the limit of processor time, a batch
/// system's warning before its limit.
const SIGNALS: [i32; 6] = [SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXCPU, SIGUSR1];

/// Calls `heard` with each signal, on a thread of its own. A limit on the size of files becomes an
/// error of the write that meets it, as a full disk is, and ends no process.
pub fn watch(heard: impl Fn(i32) + Send + 'static) -> Result<()> {
    signal_hook::flag::register(SIGXFSZ, Arc::<AtomicBool>::default())
        .context("signals cannot be caught")?;
    let mut signals = Signals::new(SIGNALS.iter().filter(|&&signal| !is_ignored(signal)))
        .context("signals cannot be caught")?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || signals.forever().for_each(heard))
        .context("no thread can be started to catch signals; see ulimit -u and ulimit -v")?;
    Ok(())
}

/// Whether whoever started the program wants the signal ignored.
fn is_ignored(signal: i32) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only writes the present one to `action`, which is plain
    // data that all zeros are a valid value of.
    unsafe {
        libc::sigaction(signal, null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// Whether it asks for a checkpoint and not for the end.
pub fn asks_to_save(signal: i32) -> bool {
    signal == SIGUSR1
}

/// Whether a second one is an impatient person's. The kernel sends SIGXCPU each second, and a
/// terminal's SIGHUP comes from the kernel and from the shell.
pub fn hurries(signal: i32) -> bool {
    [SIGINT, SIGQUIT, SIGTERM].contains(&signal)
}
