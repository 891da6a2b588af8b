//! A GPU that stops answering. Waits for GPUs are watched: where nothing comes, the program ends
//! with a sentence. A thread that the driver holds cannot be called back, and giving things back
//! would wait for the same GPU, so the program is left as it is.
//!
//! How long is too long: a minute, and once a pass has been waited for, five seconds and ten times
//! the longest such wait; `ALEXNET_GPU_WAIT` says otherwise, in seconds, 0 for ever. Once an error
//! is known, five seconds, and the sentence is that error's. Time during which the program itself
//! is stopped does not count.

use crate::errors::{complain, leave, sentence};
use std::sync::{Mutex, MutexGuard, Once};
use std::time::Duration;

const VARIABLE: &str = "ALEXNET_GPU_WAIT";
const TICK: Duration = Duration::from_millis(250);
/// In ticks.
const SECOND: u64 = 4;

static WAITS: Mutex<Waits> = Mutex::new(Waits { open: Vec::new(), longest: None, error: None });

struct Waits {
    open: Vec<Wait>,
    /// The longest that a pass was waited for, in ticks.
    longest: Option<u64>,
    /// Of the error that is known.
    error: Option<String>,
}

struct Wait {
    gpu: usize,
    ticks: u64,
    thread: std::thread::ThreadId,
}

fn waits() -> MutexGuard<'static, Waits> {
    WAITS.lock().unwrap_or_else(|e| e.into_inner())
}

impl Waits {
    /// The most ticks that a wait may take; `None`: for ever.
    fn most(&self, asked: Option<u64>) -> Option<u64> {
        match (asked, &self.error, self.longest) {
            (Some(0), _, _) => None,
            (_, Some(_), _) => Some(5 * SECOND),
            (Some(seconds), _, _) => Some(seconds * SECOND),
            (None, _, Some(longest)) => Some(5 * SECOND + 10 * longest),
            (None, _, None) => Some(60 * SECOND),
        }
    }

    /// A tick later: what there is to say if a wait takes too long.
    fn tick(&mut self, asked: Option<u64>) -> Option<String> {
        self.open.iter_mut().for_each(|wait| wait.ticks += 1);
        let most = self.most(asked)?;
        let lost = self.open.iter().find(|wait| wait.ticks > most)?;
        Some(self.error.clone().unwrap_or_else(|| {
            format!(
                "GPU {} has not answered for {} seconds; `nvidia-smi` and the kernel log (`dmesg`) \
                 say more. A run goes on from its last checkpoint (train --resume); {VARIABLE}=600 \
                 waits for 600 seconds",
                lost.gpu,
                lost.ticks / SECOND
            )
        }))
    }
}

/// From now on the program is on its way out with this error: a GPU that does not answer is waited
/// for no longer than five seconds.
pub fn ending(error: &anyhow::Error) {
    waits().error.get_or_insert_with(|| sentence(error));
}

/// Waits for GPU `gpu`.
pub fn watched<T>(gpu: usize, wait: impl FnOnce() -> T) -> T {
    counted(gpu, false, wait)
}

/// As [`watched`], for a whole pass: says how long waits may take.
pub fn watched_pass<T>(gpu: usize, wait: impl FnOnce() -> T) -> T {
    counted(gpu, true, wait)
}

fn counted<T>(gpu: usize, pass: bool, wait: impl FnOnce() -> T) -> T {
    static WATCHER: Once = Once::new();
    WATCHER.call_once(|| {
        // Without a thread to watch, waits are as long as they are.
        let _ = std::thread::Builder::new().name("GPUs".into()).spawn(watch);
    });
    let thread = std::thread::current().id();
    waits().open.push(Wait { gpu, ticks: 0, thread });
    let result = wait();
    let mut all = waits();
    if let Some(own) = all.open.iter().rposition(|wait| wait.thread == thread) {
        let ticks = all.open.swap_remove(own).ticks;
        if pass {
            all.longest = all.longest.max(Some(ticks + 1));
        }
    }
    result
}

fn watch() {
    let asked = std::env::var(VARIABLE).ok().and_then(|text| text.trim().parse().ok());
    loop {
        std::thread::sleep(TICK);
        let lost = waits().tick(asked);
        if let Some(sentence) = lost {
            complain(&format!("error: {sentence}"));
            leave(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    fn ticks_until_told(waits: &mut Waits, asked: Option<u64>) -> (u64, String) {
        let thread = std::thread::current().id();
        waits.open.push(Wait { gpu: 1, ticks: 0, thread });
        let told = (1..10_000).find_map(|n| waits.tick(asked).map(|text| (n, text)));
        told.unwrap_or_default()
    }

    #[test]
    fn how_long_is_too_long() {
        let fresh = || Waits { open: Vec::new(), longest: None, error: None };
        let (ticks, text) = ticks_until_told(&mut fresh(), None);
        assert_eq!(ticks, 60 * SECOND + 1);
        assert!(text.contains("GPU 1 has not answered for 60 seconds"), "{text}");
        assert_eq!(ticks_until_told(&mut fresh(), Some(7)).0, 7 * SECOND + 1);
        assert_eq!(ticks_until_told(&mut fresh(), Some(0)).0, 0, "for ever");
        let mut known = Waits { longest: Some(2), ..fresh() };
        assert_eq!(ticks_until_told(&mut known, None).0, 5 * SECOND + 20 + 1);
        let error = Some(sentence(&anyhow!("no room")));
        let (ticks, text) = ticks_until_told(&mut Waits { error, ..fresh() }, Some(600));
        assert_eq!((ticks, text.as_str()), (5 * SECOND + 1, "no room"));
    }
}
