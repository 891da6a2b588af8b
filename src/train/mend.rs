//! A run's log as it is found when the run is gone on with.
//!
//! What a killed run leaves behind is cut off in silence: a torn end, and lines of steps and epochs
//! after the checkpoint, which will be written again. Whatever else is no line of this run at its
//! place (blank, damaged, put in, out of order) is left out of the log with a warning, and the file
//! as it was is kept beside it.

use crate::files::write_whole;
use crate::note;
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The version of the lines that this program writes and reads. A line says it under the key
/// `format`; one without the key, as all are written today, is of version 1.
const FORMAT: u64 = 1;
/// What every line has, numbers (or null, for one that is none).
const NUMBERS: [&str; 7] = [
    "epoch",
    "learning_rate",
    "loss",
    "top1_error",
    "top5_error",
    "images_per_second",
    "wait_seconds",
];
/// What the line of an epoch that ended in a validation has too.
const VALIDATION: [&str; 3] = ["val_loss", "val_top1_error", "val_top5_error"];
/// What some editors put before a text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Where a line stands in a run.
#[derive(Clone, Copy, Debug)]
struct Place {
    is_epoch: bool,
    step: u64,
    epoch: u64,
}

impl Place {
    /// Whether it is what comes right after `other`.
    fn follows(&self, other: &Place) -> bool {
        match self.is_epoch {
            true => (self.step, self.epoch, false) == (other.step, other.epoch, other.is_epoch),
            false => {
                let epoch = other.epoch + u64::from(other.is_epoch);
                (self.step, self.epoch) == (other.step + 1, epoch)
            }
        }
    }
}

/// What a line is.
enum Line {
    /// One of the run's, up to the checkpoint.
    Kept(Place),
    /// Of a step or epoch after the checkpoint.
    Past,
    /// The beginning of one, at the end of the file.
    Torn,
    /// None that a run writes there.
    Odd,
}

/// Leaves in the log `path` the lines of steps up to `step` and of the first `epochs` epochs, in
/// order. A log that does not exist stays so. Err: it cannot be read or written, or is of a newer
/// version.
pub fn mend(path: &Path, step: u64, epochs: u32) -> Result<()> {
    let old = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        read => read.with_context(|| format!("{} cannot be read", path.display()))?,
    };
    let (kept, odd) = sort_out(&old, step, epochs).with_context(|| path.display().to_string())?;
    if !odd.is_empty() {
        let beside = keep_beside(path, &old)?;
        note!(
            "warning: {}: {} no line of this run at its place; the log goes on without, and as it \
             was it is kept in {}",
            path.display(),
            in_words(&odd),
            beside.display()
        );
    }
    replace(path, &old, &kept).with_context(|| format!("{} cannot be written", path.display()))
}

/// What stays of the log `old`, and the numbers of the odd lines, from 1. Err: it is of a newer
/// version.
fn sort_out(old: &[u8], step: u64, epochs: u32) -> Result<(Vec<u8>, Vec<usize>)> {
    let text = old.strip_prefix(BYTE_ORDER_MARK).unwrap_or(old);
    let pieces: Vec<&[u8]> = text.split_inclusive(|&byte| byte == b'\n').collect();
    let lines = pieces.iter().map(|piece| classify(piece, step, epochs.into()));
    let mut lines: Vec<Line> = lines.collect::<Result<_>>()?;
    part_those_out_of_place(&mut lines);
    let (mut kept, mut odd) = (Vec::with_capacity(text.len()), Vec::new());
    for (index, (piece, line)) in pieces.iter().zip(&lines).enumerate() {
        match line {
            Line::Kept(_) => {
                kept.extend_from_slice(piece.strip_suffix(b"\n").unwrap_or(piece));
                kept.push(b'\n');
            }
            Line::Odd => odd.push(index + 1),
            Line::Past | Line::Torn => {}
        }
    }
    Ok((kept, odd))
}

/// What `piece` is, in a run that stands at `step`, `epochs` epochs being finished. Err: it is of a
/// newer version.
fn classify(piece: &[u8], step: u64, epochs: u64) -> Result<Line> {
    let line: Map<String, Value> = match serde_json::from_slice(piece) {
        Ok(line) => line,
        Err(error) if error.is_eof() && !piece.ends_with(b"\n") => return Ok(Line::Torn),
        Err(_) => return Ok(Line::Odd),
    };
    if let Some(format) = line.get("format").and_then(Value::as_u64) {
        ensure!(
            format <= FORMAT,
            "its lines are of format {format}, written by a newer version of alexnet; this one \
             reads formats up to {FORMAT}"
        );
    }
    let Some(place) = place(&line) else { return Ok(Line::Odd) };
    let next = epochs + 1;
    Ok(match (place.is_epoch, place.step > step, place.epoch > epochs) {
        (false, false, _) if place.epoch <= next => Line::Kept(place),
        (true, false, false) => Line::Kept(place),
        (_, true, true) => Line::Past,
        // The epoch's end was written, its checkpoint was not.
        (true, false, true) if (place.step, place.epoch) == (step, next) => Line::Past,
        _ => Line::Odd,
    })
}

/// Where `line` stands; None: a run does not write such a line.
fn place(line: &Map<String, Value>) -> Option<Place> {
    let has = |key: &&str| line.get(*key).is_some_and(|v| v.is_number() || v.is_null());
    let validated = VALIDATION.iter().filter(|key| line.contains_key(**key)).count();
    let is_epoch = match line.get("kind")?.as_str()? {
        "step" => false,
        "epoch" => true,
        _ => return None,
    };
    let whole =
        NUMBERS.iter().all(has) && (validated == 0 || is_epoch && VALIDATION.iter().all(has));
    let number = |key| line.get(key)?.as_u64().filter(|&number| number > 0);
    let place = Place { is_epoch, step: number("step")?, epoch: number("epoch")? };
    whole.then_some(place)
}

/// Marks as odd: of the lines to keep those that are not in the order of steps and epochs, as few
/// as can be; and of those past the checkpoint all that others follow.
fn part_those_out_of_place(lines: &mut [Line]) {
    // The line of an epoch comes after that of its last step.
    keep_rising(lines, |place| (place.step, place.is_epoch));
    let mut index = 0;
    keep_rising(lines, |place| {
        index += 1;
        (place.epoch, index)
    });
    let last = lines.iter().rposition(|line| matches!(line, Line::Kept(_))).unwrap_or(0);
    for line in &mut lines[..last] {
        if matches!(line, Line::Past) {
            *line = Line::Odd;
        }
    }
}

/// Marks as odd all lines to keep but a longest run of them whose keys rise; of several such runs
/// one with the most lines that go on from a neighbour.
fn keep_rising<K: Ord>(lines: &mut [Line], key: impl FnMut(&Place) -> K) {
    let kept = lines.iter().enumerate();
    let (at, places): (Vec<usize>, Vec<Place>) = kept
        .filter_map(|(index, line)| match line {
            Line::Kept(place) => Some((index, *place)),
            _ => None,
        })
        .unzip();
    let one = 2 * places.len() as u64 + 1;
    let mut weights = vec![one; places.len()];
    for index in 1..places.len() {
        if places[index].follows(&places[index - 1]) {
            weights[index - 1] += 1;
            weights[index] += 1;
        }
    }
    let keys: Vec<K> = places.iter().map(key).collect();
    let mut stays = vec![false; places.len()];
    heaviest_rising(&keys, &weights).into_iter().for_each(|index| stays[index] = true);
    for (index, _) in at.into_iter().zip(stays).filter(|(_, stays)| !stays) {
        lines[index] = Line::Odd;
    }
}

/// The indices of a subsequence of keys that rises, of the largest sum of weights.
fn heaviest_rising<K: Ord>(keys: &[K], weights: &[u64]) -> Vec<usize> {
    let mut ranked: Vec<&K> = keys.iter().collect();
    ranked.sort();
    ranked.dedup();
    // A Fenwick tree over the keys' ranks: the heaviest subsequence up to a rank, and its end.
    let mut tree: Vec<(u64, Option<usize>)> = vec![(0, None); ranked.len() + 1];
    let up_to = |tree: &[(u64, Option<usize>)], mut rank: usize| {
        let mut best = (0, None);
        while rank > 0 {
            best = if tree[rank].0 > best.0 { tree[rank] } else { best };
            rank -= rank & rank.wrapping_neg();
        }
        best
    };
    let mut before = Vec::with_capacity(keys.len());
    for (index, key) in keys.iter().enumerate() {
        let smaller = ranked.partition_point(|other| *other < key);
        let (weight, end) = up_to(&tree, smaller);
        before.push(end);
        let own = (weight + weights[index], Some(index));
        let mut rank = smaller + 1;
        while rank < tree.len() {
            tree[rank] = if own.0 > tree[rank].0 { own } else { tree[rank] };
            rank += rank & rank.wrapping_neg();
        }
    }
    let end = up_to(&tree, ranked.len()).1;
    let mut found: Vec<usize> = std::iter::successors(end, |&index| before[index]).collect();
    found.reverse();
    found
}

/// Keeps the content `old` of the log beside it; where.
fn keep_beside(log: &Path, old: &[u8]) -> Result<PathBuf> {
    let numbered = |n: u32| {
        let mut name = log.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".odd-{n}"));
        log.with_file_name(name)
    };
    let free = (1..).map(numbered).find(|path| !path.exists()).expect("numbers do not end");
    write_whole(&free, |out| Ok(out.write_all(old)?))?;
    Ok(free)
}

/// Makes the log `path`, which is `old`, `new`.
fn replace(path: &Path, old: &[u8], new: &[u8]) -> Result<()> {
    if old.starts_with(new) {
        OpenOptions::new().write(true).open(path)?.set_len(new.len() as u64)?;
        return Ok(());
    }
    write_whole(path, |out| Ok(out.write_all(new)?))
}

/// `line 7 is`, `lines 7, 9 and 12 are`, at most five of them by number.
fn in_words(lines: &[usize]) -> String {
    let shown: Vec<String> = lines.iter().take(5).map(usize::to_string).collect();
    match lines.len() {
        1 => format!("line {} is", shown[0]),
        n if n > shown.len() => format!("lines {} and {} more are", shown.join(", "), n - 5),
        n => format!("lines {} and {} are", shown[..n - 1].join(", "), shown[n - 1]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of `epochs` epochs of three steps each.
    fn log(epochs: u64) -> Vec<String> {
        let line = |kind: &str, step: u64, epoch: u64| {
            let numbers = r#""learning_rate":0.01,"top1_error":0.5,"top5_error":0.0,"loss":1."#;
            let speed = r#","images_per_second":9.0,"wait_seconds":0.0"#;
            let validation = r#","val_loss":1.0,"val_top1_error":0.5,"val_top5_error":0.0"#;
            let validation = if kind == "epoch" { validation } else { "" };
            format!(
                r#"{{"kind":"{kind}","step":{step},"epoch":{epoch},{numbers}{step}{speed}{validation}}}"#
            )
        };
        let of_epoch = |e| {
            let steps = (3 * e - 2..=3 * e).map(move |s| line("step", s, e));
            steps.chain([line("epoch", 3 * e, e)])
        };
        (1..=epochs).flat_map(of_epoch).collect()
    }

    /// The log that is left of `text`, and how many lines were odd.
    fn mended(text: &[u8], step: u64, epochs: u32) -> (Vec<u8>, usize) {
        let (kept, odd) = sort_out(text, step, epochs).unwrap();
        (kept, odd.len())
    }

    fn joined(lines: &[String]) -> Vec<u8> {
        lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
    }

    #[test]
    fn a_torn_end_and_steps_past_the_checkpoint_are_cut_in_silence() {
        let lines = log(3);
        let all = joined(&lines);
        for (step, epochs, keep) in [(9, 3, 12), (9, 2, 11), (7, 2, 9), (6, 2, 8), (0, 0, 0)] {
            assert_eq!(mended(&all, step, epochs), (joined(&lines[..keep]), 0), "{step} {epochs}");
        }
        for cut in 0..all.len() {
            let (left, odd) = mended(&all[..cut], 9, 3);
            // A whole line that lacks its end only is a line.
            let whole = all[..cut + 1].iter().filter(|&&byte| byte == b'\n').count();
            assert_eq!((left, odd), (joined(&lines[..whole]), 0), "{cut} bytes");
        }
        let marked = [BYTE_ORDER_MARK, &all].concat();
        assert_eq!(mended(&marked, 9, 3), (all, 0));
    }

    #[test]
    fn whatever_is_put_in_is_left_out_and_kept_beside() {
        let lines = log(3);
        for at in 0..=lines.len() {
            for more in ["", "{}", "null", "# a note", "\0\0\0", &lines[0], &lines[11], &lines[3]] {
                let mut with = lines.clone();
                with.insert(at, more.to_string());
                assert_eq!(mended(&joined(&with), 9, 3), (joined(&lines), 1), "{more:?} at {at}");
            }
        }
    }

    #[test]
    fn a_flipped_bit_takes_no_other_line_with_it() {
        let lines = log(3);
        let all = joined(&lines);
        for bit in 0..8 * all.len() {
            let mut bad = all.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let (left, odd) = mended(&bad, 9, 3);
            let left: Vec<String> =
                String::from_utf8(left).unwrap().lines().map(String::from).collect();
            let ended = all[bit / 8] == b'\n';
            let gone = lines.iter().filter(|line| !left.contains(line)).count();
            assert!(gone <= 1 + usize::from(ended), "bit {bit}: {gone} lines gone");
            // What is still a line of its place may stay; all else is odd.
            assert!(odd > 0 || left.len() == lines.len(), "bit {bit}: {left:?}");
        }
    }

    #[test]
    fn a_newer_log_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        fs::write(&path, "{\"format\":2,\"kind\":\"step\"}\n").unwrap();
        let error = format!("{:#}", mend(&path, 1, 1).unwrap_err());
        assert!(error.contains("newer version") && error.contains("metrics.jsonl"), "{error}");
    }
}
