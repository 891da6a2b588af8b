//! The end of a run's `metrics.jsonl`: its last line and the line of its last epoch, found from the
//! end of the file, which may have a hundred megabytes.

use anyhow::Result;
use serde::Deserialize;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Bytes that are read at first; four times as many as long as no epoch has ended in them.
const FIRST: u64 = 64 << 10;

/// What is asked of a line ([`super::metrics::Line`] has all). A number that was none is None.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct LogLine {
    /// `step` or `epoch`.
    pub kind: String,
    /// Steps done.
    pub step: u64,
    /// The epoch at hand, from 1.
    pub epoch: u32,
    /// The learning rate.
    pub learning_rate: Option<f64>,
    /// Of the training images, a fraction.
    pub top1_error: Option<f64>,
    /// Of the validation images, a fraction; None: there are none.
    pub val_top1_error: Option<f64>,
}

/// The end of a log.
#[derive(Debug, Default)]
pub struct Tail {
    /// Its last line; None: it has none.
    pub last: Option<LogLine>,
    /// That of the last epoch that has ended; None: none has.
    pub epoch: Option<LogLine>,
    /// Whether what was read has lines that are none of a run's.
    pub damaged: bool,
}

/// Reads the end of the log `path`. A torn last line, which a running or killed run leaves, is no
/// line yet. Err: the file cannot be read.
pub fn read(path: &Path) -> Result<Tail> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut wanted = FIRST;
    loop {
        let start = length.saturating_sub(wanted);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.by_ref().take(length - start).read_to_end(&mut bytes)?;
        let tail = of_lines(&bytes, start == 0);
        if tail.epoch.is_some() || start == 0 {
            return Ok(tail);
        }
        wanted *= 4;
    }
}

/// The tail that `bytes` are, of which the first line is whole where `from_start`.
fn of_lines(bytes: &[u8], from_start: bool) -> Tail {
    let mut tail = Tail::default();
    let Some(whole) = bytes.iter().rposition(|&byte| byte == b'\n') else { return tail };
    let mut lines = bytes[..whole].rsplit(|&byte| byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        if lines.peek().is_none() && !from_start {
            break;
        }
        match serde_json::from_slice::<LogLine>(line) {
            Ok(line) if ["step", "epoch"].contains(&line.kind.as_str()) => {
                tail.last.get_or_insert_with(|| line.clone());
                if line.kind == "epoch" {
                    tail.epoch = Some(line);
                    break;
                }
            }
            _ => tail.damaged = true,
        }
    }
    tail
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(kind: &str, step: u64, epoch: u32) -> String {
        format!("{{\"kind\":\"{kind}\",\"step\":{step},\"epoch\":{epoch},\"loss\":null}}\n")
    }

    fn tail(text: &str) -> (Option<u64>, Option<u32>, bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        std::fs::write(&path, text).unwrap();
        let Tail { last, epoch, damaged } = read(&path).unwrap();
        (last.map(|line| line.step), epoch.map(|line| line.epoch), damaged)
    }

    #[test]
    fn the_last_line_and_the_last_epoch_are_found_from_the_end() {
        let steps = |from, to, epoch| -> String {
            (from..=to).map(|step| line("step", step, epoch)).collect()
        };
        assert_eq!(tail(""), (None, None, false));
        assert_eq!(tail("{\"kind\":\"st"), (None, None, false));
        assert_eq!(tail(&steps(1, 3, 1)), (Some(3), None, false));
        let one = steps(1, 3, 1) + &line("epoch", 3, 1);
        assert_eq!(tail(&one), (Some(3), Some(1), false));
        // Far more than is read at first, in which no epoch ends; and a torn end.
        let long = one.clone() + &steps(4, 9000, 2);
        assert!(long.len() as u64 > 4 * FIRST);
        assert_eq!(tail(&(long.clone() + "{\"kind\"")), (Some(9000), Some(1), false));
        assert_eq!(tail(&(one.clone() + "no line\n" + &steps(4, 4, 2))), (Some(4), Some(1), true));
        assert_eq!(tail("\n"), (None, None, true));
        assert_eq!(tail("\0\0\0\n"), (None, None, true));
    }
}
