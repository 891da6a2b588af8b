//! What a console of Windows has in place of signals: Ctrl-C, Ctrl-Break, a window that is closed, the
//! end of a session. The system tells it on a thread that it makes for that, so the handler may wait
//! and take memory as any code may.
//!
//! Not by the C library's `signal`: Wine's takes the question for the present handler (`SIG_GET`) for
//! a new one and calls it.

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

/// The console's events (`wincon.h`) that a person at the keyboard makes.
const KEYS: [u32; 2] = [0, 1];

/// The process ends when the handler of a window that is closed comes back, and after some seconds
/// (five) in any case.
const LAST_SECONDS: Duration = Duration::from_secs(60);

#[link(name = "kernel32")]
unsafe extern "system" {
    fn SetConsoleCtrlHandler(
        handler: Option<unsafe extern "system" fn(u32) -> i32>,
        add: i32,
    ) -> i32;
}

/// Where the handler sends what it is told.
static TOLD: OnceLock<Sender<i32>> = OnceLock::new();

/// Answers that the event is taken care of.
unsafe extern "system" fn handle(event: u32) -> i32 {
    let is_key = KEYS.contains(&event);
    if let Some(told) = TOLD.get() {
        let _ = told.send(if is_key { SIGINT } else { SIGTERM });
    }
    if !is_key {
        std::thread::sleep(LAST_SECONDS);
    }
    1
}

/// Calls `heard` with SIGINT for each Ctrl-C and Ctrl-Break and with SIGTERM for an end from outside,
/// on a thread of its own.
pub fn watch(heard: impl Fn(i32) + Send + 'static) -> Result<()> {
    let (told, events) = channel();
    let _ = TOLD.set(told);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || events.iter().for_each(heard))
        .context("no thread can be started to catch Ctrl-C")?;
    // SAFETY: the handler is a function of the form that the system calls, for as long as the process
    // lives.
    let is_set = unsafe { SetConsoleCtrlHandler(Some(handle), 1) } != 0;
    is_set
        .then_some(())
        .with_context(|| format!("Ctrl-C cannot be caught: {}", std::io::Error::last_os_error()))
}

/// No signal asks for a checkpoint.
pub fn asks_to_save(_: i32) -> bool {
    false
}

/// Whether a second one is an impatient person's.
pub fn hurries(_: i32) -> bool {
    true
}
