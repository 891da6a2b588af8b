//! Progress for a person.

use crate::note;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Progress on standard error: a bar on a terminal, else a line every ten seconds.
pub(super) struct Meter {
    bar: ProgressBar,
    plain: Option<std::sync::Mutex<(Instant, Instant)>>,
    skipped: std::sync::atomic::AtomicUsize,
}

impl Meter {
    pub(super) fn new(total: usize) -> Meter {
        let bar = ProgressBar::new(total as u64);
        let style = ProgressStyle::with_template(
            "{bar:30} {human_pos}/{human_len} images, {per_sec}, {eta} left{msg}",
        );
        if let Ok(style) = style {
            bar.set_style(style);
        }
        let now = Instant::now();
        let plain = (!std::io::stderr().is_terminal()).then(|| std::sync::Mutex::new((now, now)));
        Meter { bar, plain, skipped: 0.into() }
    }

    pub(super) fn add(&self, images: usize, skipped: usize) {
        use std::sync::atomic::Ordering::Relaxed;
        self.bar.inc(images as u64);
        let skipped = self.skipped.fetch_add(skipped, Relaxed) + skipped;
        if skipped > 0 {
            self.bar.set_message(format!(", {skipped} skipped"));
        }
        if let Some(times) = &self.plain {
            let mut times = times.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if times.1.elapsed() >= Duration::from_secs(10) {
                times.1 = Instant::now();
                let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
                let rate = done as f64 / times.0.elapsed().as_secs_f64();
                note!("{done}/{total} images, {rate:.0}/s, {skipped} skipped");
            }
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
