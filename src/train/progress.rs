//! Progress on standard error: a bar on a terminal, now and then a plain line elsewhere.

use crate::note;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Between two plain lines.
const PAUSE: Duration = Duration::from_secs(10);

/// How far a piece of work has come; counts images.
pub struct Progress {
    bar: Option<ProgressBar>,
    what: String,
    total: u64,
    plain: Mutex<Plain>,
}

struct Plain {
    done: u64,
    begun: Instant,
    said: Instant,
    message: String,
}

impl Progress {
    /// `what` names the work, such as `epoch 3/90`.
    pub fn new(what: &str, total: u64) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar =
                ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
            let style = "{prefix} [{bar:24}] {pos}/{len} images, {per_sec}, {eta} left  {msg}";
            bar.set_style(
                ProgressStyle::with_template(style)
                    .expect("a valid template")
                    .with_key(
                        "per_sec",
                        |s: &indicatif::ProgressState, w: &mut dyn std::fmt::Write| {
                            let _ = write!(w, "{:.0} images/s", s.per_sec());
                        },
                    )
                    .progress_chars("=> "),
            );
            bar.set_prefix(what.to_string());
            bar
        });
        let now = Instant::now();
        let plain = Plain { done: 0, begun: now, said: now, message: String::new() };
        Progress { bar, what: what.to_string(), total, plain: Mutex::new(plain) }
    }

    /// Work that was done before, in an earlier run.
    pub fn skip(&self, images: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(images);
            bar.reset_eta();
        }
        self.plain.lock().unwrap_or_else(|e| e.into_inner()).done = images;
    }

    /// What stands behind the bar.
    pub fn message(&self, text: String) {
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None => self.plain.lock().unwrap_or_else(|e| e.into_inner()).message = text,
        }
    }

    /// `images` more are done.
    pub fn advance(&self, images: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(images);
            return;
        }
        let mut plain = self.plain.lock().unwrap_or_else(|e| e.into_inner());
        plain.done += images;
        if plain.said.elapsed() >= PAUSE {
            plain.said = Instant::now();
            let seconds = plain.begun.elapsed().as_secs_f64();
            let left = seconds / plain.done as f64 * self.total.saturating_sub(plain.done) as f64;
            note!(
                "{}: {}/{} images, {:.0} images/s, {} left  {}",
                self.what,
                plain.done,
                self.total,
                plain.done as f64 / seconds,
                duration(left),
                plain.message
            );
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// A line that stays, above the bar.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note!("{line}")),
            None => note!("{line}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// `3 d 4 h`, `2 h 5 min`, `3 min 10 s`, `7 s`.
pub fn duration(seconds: f64) -> String {
    let s = seconds.max(0.0).round() as u64;
    let (d, h, m) = (s / 86_400, s / 3600 % 24, s / 60 % 60);
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{m} min {} s", s % 60),
        3600..86_400 => format!("{h} h {m} min"),
        _ => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations_read_well() {
        let all = [0.4, 59.0, 190.0, 7500.0, 273_600.0].map(super::duration);
        assert_eq!(all, ["0 s", "59 s", "3 min 10 s", "2 h 5 min", "3 d 4 h"]);
    }
}
