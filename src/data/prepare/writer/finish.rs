//! What comes after the shards, `dataset.json` last; then `unfinished.json` goes.

use super::resume::Unfinished;
use super::twins;
use super::{Options, Summary};
use crate::data::dataset::{
    Dataset, FORMAT, HEADER_FILE, Header, SKIPPED_FILE, STATISTICS_FILE, SplitInfo, UNFINISHED_FILE,
};
use crate::data::prepare::{Skipped, Source};
use crate::data::seal;
use crate::data::statistics::Sums;
use crate::files;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

/// Writes what comes after the shards. `total`: all images of the source.
pub(super) fn finish(
    source: &Source,
    options: &Options,
    state: Unfinished,
    sums: &Sums,
    total: usize,
) -> Result<Summary> {
    let out = &options.out;
    let skipped: Vec<&Skipped> =
        source.splits.iter().flat_map(|(split, _)| &state.splits[split].skipped).collect();
    let lines: Vec<&Skipped> = skipped.iter().copied().chain(&source.left_out).collect();
    match lines.is_empty() {
        true => remove_old(&out.join(SKIPPED_FILE))?,
        false => files::write_whole(&out.join(SKIPPED_FILE), |file| {
            for line in lines {
                writeln!(file, "{}", serde_json::to_string(line)?)?;
            }
            Ok(())
        })?,
    }
    let bad = skipped.len() as u64;
    let allowed = options.max_bad.unwrap_or(total as u64 / 100);
    if bad > allowed {
        bail!(
            "{bad} of {total} images could not be used, more than the {allowed} allowed; \
             {} names each with its reason; mend or remove them, or allow more with --max-bad",
            out.join(SKIPPED_FILE).display()
        );
    }
    ensure!(sums.images() > 0, "no image is left for the training split");

    sums.write(&out.join(STATISTICS_FILE))?;
    let facts = Facts::of(&state);
    let header = header(source, options, state)?;
    tidy(out, &header)?;
    let text = seal::sealed(&serde_json::to_string_pretty(&header)?);
    files::write_text(&out.join(HEADER_FILE), &text)?;
    fs::remove_file(out.join(UNFINISHED_FILE))?;
    summary(out, facts)
}

/// Takes away what an earlier start has left, whose images have been mended since.
fn remove_old(file: &Path) -> Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// The end of a `prepare` that was killed after it wrote `dataset.json`.
pub(super) fn again(out: &Path, state: &Unfinished) -> Result<Summary> {
    fs::remove_file(out.join(UNFINISHED_FILE))?;
    summary(out, Facts::of(state))
}

/// What only `unfinished.json` knows.
struct Facts {
    skipped: u64,
    notes: Vec<String>,
    enlarged: u64,
}

impl Facts {
    fn of(state: &Unfinished) -> Facts {
        let splits = || state.splits.values();
        Facts {
            skipped: splits().map(|split| split.skipped.len() as u64).sum(),
            notes: notes(state),
            enlarged: splits().flat_map(|split| &split.enlarged).sum(),
        }
    }
}

/// What was wrong with images that were used, with how many they are and the first of them.
fn notes(state: &Unfinished) -> Vec<String> {
    let mut all: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for (what, noted) in state.splits.values().flat_map(|split| &split.noted) {
        all.entry(what).or_insert((0, &noted.first)).0 += noted.images;
    }
    let line = |(what, (images, first)): (&str, (u64, &str))| match images {
        1 => format!("{first}: {what}"),
        _ => format!("{first} and {} more: {what}", images - 1),
    };
    all.into_iter().map(line).collect()
}

fn header(source: &Source, options: &Options, state: Unfinished) -> Result<Header> {
    let [height, width] = state.preparation.size;
    let splits = state.splits.into_iter().map(|(name, split)| {
        let images = split.shards.iter().map(|shard| shard.records).sum();
        (name, SplitInfo { images, shards: split.shards })
    });
    // Nothing may have been left out.
    let files = [SKIPPED_FILE, STATISTICS_FILE].into_iter();
    let files = files.filter(|name| options.out.join(name).exists());
    let sum_of = |name: &str| Ok((name.to_string(), seal::of_file(&options.out.join(name))?));
    Ok(Header {
        format: FORMAT,
        source: source.kind.clone(),
        height,
        width,
        channels: source.channels,
        store: options.store(),
        quality: options.jpeg_quality,
        preparation: state.preparation,
        classes: source.classes.clone(),
        splits: splits.collect(),
        files: files.map(sum_of).collect::<Result<_>>()?,
    })
}

/// Takes away shards of an interrupted `prepare` that had more, and halves of files.
fn tidy(out: &Path, header: &Header) -> Result<()> {
    let shards: Vec<&str> = header
        .splits
        .values()
        .flat_map(|split| &split.shards)
        .map(|shard| shard.file.as_str())
        .collect();
    let ours = [UNFINISHED_FILE, HEADER_FILE, STATISTICS_FILE, SKIPPED_FILE];
    for entry in fs::read_dir(out)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let whole = name.strip_suffix(".tmp").unwrap_or(&name);
        let is_shard = whole.ends_with(".shard") && !shards.contains(&name.as_str());
        if is_shard || (whole != name && ours.contains(&whole)) {
            fs::remove_file(out.join(&name))?;
        }
    }
    Ok(())
}

/// The finished data set, opened, and what it holds.
fn summary(out: &Path, facts: Facts) -> Result<Summary> {
    let dataset = Dataset::open(out)?;
    let count = |name: &String| {
        let split = dataset.split(name)?;
        let mut images = vec![0u64; dataset.header.classes.len()];
        (0..split.len()).for_each(|image| images[split.label(image) as usize] += 1);
        Ok((name.clone(), images))
    };
    let images = dataset.header.splits.keys().map(count).collect::<Result<_>>()?;
    let twins = twins::find(&dataset)?;
    let Facts { skipped, notes, enlarged } = facts;
    Ok(Summary { dataset, skipped, notes, images, enlarged, twins })
}
