//! Ctrl-C where there are no other signals.

use anyhow::{Context, Result};
use signal_hook::consts::SIGINT;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How often a thread looks whether Ctrl-C was pressed.
const LOOK: Duration = Duration::from_millis(20);

/// How often it was pressed.
static PRESSED: AtomicUsize = AtomicUsize::new(0);

/// Calls `heard` for each Ctrl-C, on a thread of its own.
pub fn watch(heard: impl Fn(i32) + Send + 'static) -> Result<()> {
    let count = || {
        PRESSED.fetch_add(1, Ordering::SeqCst);
    };
    // SAFETY: all that the handler does is to count.
    unsafe { signal_hook::low_level::register(SIGINT, count) }
        .context("Ctrl-C cannot be caught")?;
    let look = move || {
        let mut answered = 0;
        loop {
            while answered < PRESSED.load(Ordering::SeqCst) {
                answered += 1;
                heard(SIGINT);
            }
            std::thread::sleep(LOOK);
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(look)
        .context("no thread can be started to catch Ctrl-C")?;
    Ok(())
}

/// No signal asks for a checkpoint.
pub fn asks_to_save(_: i32) -> bool {
    false
}

/// Whether a second one is an impatient person's.
pub fn hurries(_: i32) -> bool {
    true
}
