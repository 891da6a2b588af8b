//! Progress on standard error: a bar on a terminal, as wide as that is at the moment, now and then a
//! plain line elsewhere. Also how durations and large numbers are written for people.

mod resized;

use crate::errors::speaks;
use crate::log;
use crate::note;
use console::{Term, style};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle, WeakProgressBar};
use resized::Resized;
use std::fmt::Write;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two plain lines.
const PAUSE: Duration = Duration::from_secs(10);
/// Characters of a bar.
const WIDTHS: [usize; 2] = [10, 40];

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

/// What comes after a piece of work, as part of something larger whose end is foretold.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rest {
    /// To be done at the same speed.
    pub count: u64,
    /// For other work.
    pub seconds: f64,
}

/// How far a piece of work has come; counts images, or what else it is told. Threads may share it.
pub struct Progress {
    /// None where standard error is no terminal.
    bar: Option<ProgressBar>,
    total: u64,
    plain: Mutex<Plain>,
    words: Arc<Mutex<Words>>,
}

/// What is written beside the numbers.
struct Words {
    /// The work: `epoch 3/90`.
    what: String,
    /// What is counted: `images`.
    unit: &'static str,
    rest: Rest,
    /// Two spaces between its parts, the more important ones later.
    message: String,
}

/// What a plain line needs to know.
struct Plain {
    /// Images of this run.
    done: u64,
    /// Images of earlier runs.
    before: u64,
    begun: Instant,
    said: Instant,
}

impl Progress {
    /// Begins to count to `total` images; `what` names the work, such as `epoch 3/90`.
    pub fn new(what: &str, total: u64) -> Progress {
        Progress::of(what, total, "images", Rest::default())
    }

    /// Begins to count to `total` of `unit`; the time left is that of `rest` too.
    pub fn of(what: &str, total: u64, unit: &'static str, rest: Rest) -> Progress {
        let words = Words { what: what.to_string(), unit, rest, message: String::new() };
        let words = Arc::new(Mutex::new(words));
        let bar = (speaks() && log::is_heard() && std::io::stderr().is_terminal()).then(|| {
            let target = ProgressDrawTarget::term_like_with_hz(Box::new(Resized::new()), 10);
            let bar = ProgressBar::with_draw_target(Some(total), target);
            let own = words.clone();
            let line = move |state: &ProgressState, out: &mut dyn Write| {
                let words = own.lock().unwrap_or_else(PoisonError::into_inner);
                // The last column makes some terminals begin a new line.
                let width = usize::from(Term::stderr().size().1).saturating_sub(1);
                let _ = out.write_str(&fitted(&words, state.pos(), total, state.per_sec(), width));
            };
            let style = ProgressStyle::with_template("{line}").expect("a valid template");
            bar.set_style(style.with_key("line", line));
            *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar.downgrade());
            bar
        });
        let now = Instant::now();
        let plain = Plain { done: 0, before: 0, begun: now, said: now };
        Progress { bar, total, plain: Mutex::new(plain), words }
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

    /// What stands behind the bar, or at the end of a plain line; where a terminal is too narrow, of
    /// parts with two spaces between them the last.
    pub fn message(&self, text: String) {
        self.words().message = text;
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
            note!("{}", line(&self.words(), self.total, &plain, plain.begun.elapsed()));
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

    fn words(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Time left after `done` of `total` at `rate` a second, in words; none as long as nothing is known.
fn left(rest: &Rest, done: u64, total: u64, rate: f64) -> Option<String> {
    let count = total.saturating_sub(done).saturating_add(rest.count);
    let seconds = count as f64 / rate + rest.seconds;
    (rate > 0.0 && seconds.is_finite()).then(|| format!("{} left", duration(seconds)))
}

/// A bar and what is said of it in at most `width` characters: what is least worth knowing is left
/// out where there is no room for all.
fn fitted(words: &Words, done: u64, total: u64, rate: f64, width: usize) -> String {
    let part = if total == 0 { 1.0 } else { (done as f64 / total as f64).min(1.0) };
    let percent = format!("{:.0} %", (100.0 * part).floor());
    let speed = format!("{} {}/s", grouped(rate.round() as u64), words.unit);
    let left = left(&words.rest, done, total, rate).unwrap_or_default();
    let message: Vec<&str> = words.message.split("  ").filter(|part| !part.is_empty()).collect();
    // Each with less in it than the one before.
    let all = message.join(", ");
    let last = message.last().copied().unwrap_or_default();
    let choices = [
        vec![&percent[..], &speed, &left, &all],
        vec![&speed[..], &left, &all],
        vec![&speed[..], &left, last],
        vec![&left[..], last],
        vec![&left[..]],
        vec![],
    ];
    let behind = choices.map(|parts| {
        parts.iter().filter(|part| !part.is_empty()).fold(String::new(), |mut text, part| {
            text.push_str("  ");
            text.push_str(part);
            text
        })
    });
    let count = |text: &str| text.chars().count();
    let before = count(&words.what) + 3;
    let room = |behind: &String| width.saturating_sub(before + count(behind));
    let Some(behind) = behind.iter().find(|behind| room(behind) >= WIDTHS[0]) else {
        return words.what.chars().take(width).collect();
    };
    let bar = room(behind).min(WIDTHS[1]);
    let full = ((bar as f64 * part) as usize).min(bar);
    let tip = if full > 0 && full < bar { ">" } else { "" };
    let filled = format!("{}{tip}", "=".repeat(full - tip.len()));
    let filled = style(filled).for_stderr().cyan();
    format!("{} [{filled}{}]{behind}", words.what, " ".repeat(bar - full))
}

/// A plain line after `time` of this run: `epoch 3/90: 500/2,000 images, 100 images/s, 15 s left
/// …`.
fn line(words: &Words, total: u64, plain: &Plain, time: Duration) -> String {
    let rate = plain.done as f64 / time.as_secs_f64();
    let done = plain.before + plain.done;
    let Words { what, unit, message, rest } = words;
    let left = left(rest, done, total, rate).map_or(String::new(), |left| format!(", {left}"));
    let (done, total, rate) = (grouped(done), grouped(total), grouped(rate.round() as u64));
    let line = format!("{what}: {done}/{total} {unit}, {rate} {unit}/s{left}  ");
    (line + message).trim_end().to_string()
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

/// 60965224 as 60,965,224.
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of a thing, `1 shard` or `2,000 shards`.
pub fn count(n: u64, one: &str, several: &str) -> String {
    format!("{} {}", grouped(n), if n == 1 { one } else { several })
}

/// Memory: `35 MiB`, `1.25 GiB`.
pub fn memory(bytes: u64) -> String {
    match bytes as f64 / (1u64 << 20) as f64 {
        small if small < 10.0 => format!("{small:.1} MiB"),
        middle if middle < 1000.0 => format!("{middle:.0} MiB"),
        large => format!("{:.2} GiB", large / 1024.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(message: &str) -> Words {
        let rest = Rest { count: 1000, seconds: 5.0 };
        Words { what: "epoch 3/90".into(), unit: "images", rest, message: message.into() }
    }

    #[test]
    fn durations_and_numbers_read_well() {
        let all = [0.4, 59.0, 190.0, 7500.0, 273_600.0].map(duration);
        assert_eq!(all, ["0 s", "59 s", "3 min 10 s", "2 h 5 min", "3 d 4 h"]);
        assert_eq!([0, 999, 1000, 60_965_224].map(grouped), ["0", "999", "1,000", "60,965,224"]);
        assert_eq!([1, 2].map(|n| count(n, "shard", "shards")), ["1 shard", "2 shards"]);
        let all = [1 << 20, 35 << 20, 1000 << 20, 5 << 30].map(memory);
        assert_eq!(all, ["1.0 MiB", "35 MiB", "0.98 GiB", "5.00 GiB"]);
    }

    /// Images of an earlier run are done, but took none of this run's time.
    #[test]
    fn a_plain_line_tells_rate_and_time_left_of_this_run() {
        let now = Instant::now();
        let plain = Plain { done: 200, before: 1000, begun: now, said: now };
        let mut words = words("");
        (words.what, words.rest) = ("prepare".into(), Rest::default());
        let of = |words: &Words| line(words, 2000, &plain, Duration::from_secs(20));
        assert_eq!(of(&words), "prepare: 1,200/2,000 images, 10 images/s, 1 min 20 s left");
        words.message = "3 skipped".into();
        assert_eq!(
            of(&words),
            "prepare: 1,200/2,000 images, 10 images/s, 1 min 20 s left  3 skipped"
        );
    }

    /// The time left is that of what comes after, too.
    #[test]
    fn a_bar_fits_any_width() {
        console::set_colors_enabled_stderr(false);
        let words = words("loss 0.534  error 20.1 %");
        let at = |width| fitted(&words, 500, 2000, 100.0, width);
        assert_eq!(
            at(119),
            "epoch 3/90 [=========>                              ]  25 %  100 images/s  30 s left  \
             loss 0.534, error 20.1 %"
        );
        assert_eq!(
            at(79),
            "epoch 3/90 [==>            ]  100 images/s  30 s left  loss 0.534, error 20.1 %"
        );
        assert_eq!(at(50), "epoch 3/90 [==>         ]  30 s left  error 20.1 %");
        assert_eq!(at(5), "epoch");
        for width in 0..200 {
            assert!(at(width).chars().count() <= width, "{width}: {}", at(width));
        }
        assert!(fitted(&words, 0, 0, 0.0, 79).contains("=]"), "nothing to do is done");
    }
}
