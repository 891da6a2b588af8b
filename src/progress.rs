//! Progress on standard error: a bar on a terminal, now and then a plain line elsewhere.

use crate::errors::speaks;
use crate::note;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, WeakProgressBar};
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two plain lines.
const PAUSE: Duration = Duration::from_secs(10);
/// The bar, with what a [`line()`] has too.
const BAR: &str = "{prefix} [{bar:24}] {pos}/{len} images, {per_sec}, {eta} left  {msg}";

/// The bar on the terminal, which lines of any thread have to go round.
static SHOWN: Mutex<Option<WeakProgressBar>> = Mutex::new(None);

fn shown() -> Option<ProgressBar> {
    let shown = SHOWN.lock().unwrap_or_else(PoisonError::into_inner);
    shown.as_ref().and_then(WeakProgressBar::upgrade).filter(|bar| !bar.is_finished())
}

/// A line that stays, above the bar if there is one; from any thread.
pub fn say(line: &str) {
    match shown() {
        Some(bar) => bar.suspend(|| note!("{line}")),
        None => note!("{line}"),
    }
}

/// Takes the bar away, if there is one, before a program's last line.
pub fn clear() {
    if let Some(bar) = shown() {
        bar.finish_and_clear();
    }
}

/// How far a piece of work has come; counts images. Threads may share it.
pub struct Progress {
    /// None where standard error is no terminal.
    bar: Option<ProgressBar>,
    what: String,
    total: u64,
    plain: Mutex<Plain>,
}

/// What a plain line needs to know.
struct Plain {
    /// Images of this run.
    done: u64,
    /// Images of earlier runs.
    before: u64,
    begun: Instant,
    said: Instant,
    message: String,
}

impl Progress {
    /// Begins to count to `total` images; `what` names the work, such as `epoch 3/90`.
    pub fn new(what: &str, total: u64) -> Progress {
        let bar = (speaks() && std::io::stderr().is_terminal()).then(|| {
            let target = ProgressDrawTarget::stderr_with_hz(10);
            let bar = ProgressBar::with_draw_target(Some(total), target);
            let rate = |state: &ProgressState, out: &mut dyn Write| {
                let _ = write!(out, "{:.0} images/s", state.per_sec());
            };
            let style = ProgressStyle::with_template(BAR).expect("a valid template");
            bar.set_style(style.with_key("per_sec", rate).progress_chars("=> "));
            bar.set_prefix(what.to_string());
            *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.downgrade());
            bar
        });
        let now = Instant::now();
        let plain = Plain { done: 0, before: 0, begun: now, said: now, message: String::new() };
        Progress { bar, what: what.to_string(), total, plain: Mutex::new(plain) }
    }

    /// `images` more were done before, in an earlier run: they count as done, but not for the rate.
    pub fn skip(&self, images: u64) {
        self.plain().before += images;
        if let Some(bar) = &self.bar {
            bar.inc(images);
            // The estimate's own position follows the bar's when it is drawn.
            bar.tick();
            bar.reset_eta();
        }
    }

    /// What stands behind the bar, or at the end of a plain line.
    pub fn message(&self, text: String) {
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None => self.plain().message = text,
        }
    }

    /// `images` more are done.
    pub fn advance(&self, images: u64) {
        if let Some(bar) = &self.bar {
            bar.inc(images);
            return;
        }
        let mut plain = self.plain();
        plain.done += images;
        if plain.said.elapsed() >= PAUSE {
            plain.said = Instant::now();
            note!("{}", line(&self.what, self.total, &plain, plain.begun.elapsed()));
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

    fn plain(&self) -> MutexGuard<'_, Plain> {
        self.plain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// A plain line after `time` of this run: `epoch 3/90: 500/2000 images, 100 images/s, 15 s left
/// …`.
fn line(what: &str, total: u64, plain: &Plain, time: Duration) -> String {
    let rate = plain.done as f64 / time.as_secs_f64();
    let position = plain.before + plain.done;
    let left = duration(total.saturating_sub(position) as f64 / rate);
    let line = format!("{what}: {position}/{total} images, {rate:.0} images/s, {left} left  ");
    (line + &plain.message).trim_end().to_string()
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
    use super::*;

    #[test]
    fn durations_read_well() {
        let all = [0.4, 59.0, 190.0, 7500.0, 273_600.0].map(duration);
        assert_eq!(all, ["0 s", "59 s", "3 min 10 s", "2 h 5 min", "3 d 4 h"]);
    }

    /// Images of an earlier run are done, but took none of this run's time.
    #[test]
    fn a_plain_line_tells_rate_and_time_left_of_this_run() {
        let now = Instant::now();
        let mut plain =
            Plain { done: 200, before: 1000, begun: now, said: now, message: String::new() };
        let of = |plain: &Plain| line("prepare", 2000, plain, Duration::from_secs(20));
        assert_eq!(of(&plain), "prepare: 1200/2000 images, 10 images/s, 1 min 20 s left");
        plain.message = "3 skipped".into();
        assert_eq!(
            of(&plain),
            "prepare: 1200/2000 images, 10 images/s, 1 min 20 s left  3 skipped"
        );
    }
}
