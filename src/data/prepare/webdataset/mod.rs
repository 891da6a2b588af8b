//! Web data sets: tar archives in which files of one name are a sample, `KEY.jpg` beside `KEY.cls`
//! (the label, a number or a name) or `KEY.json` (an object that has it).
//!
//! A file's name is parted at the first dot behind its folders, as the `webdataset` package does;
//! what follows says what it is. Archives are read where they are ([`tape`]).

mod pattern;

pub use pattern::expand;

use super::labelled::{Gathered, Parted};
use super::layout::splits_of_files;
use super::{Backing, Content, Source, left_behind, names_given, tape, walk};
use crate::config_error;
use crate::data::preparation::Preparation;
use crate::data::unpack::base_name;
use crate::files::{place_in, text};
use anyhow::{Context, Result, ensure};
use rayon::prelude::*;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Endings of picture files.
const PICTURES: [&str; 9] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "img"];
/// Entries of the JSON object that may be the label; the first found is taken.
const KEYS: [&str; 5] = ["label", "cls", "class", "class_id", "target"];
/// A larger file holds no label.
const MOST_LABEL: u64 = 1 << 20;

/// Where labels and their names are.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    /// Names of classes that are numbers: a file with one a line, or names with commas between.
    pub names: Option<&'a str>,
    /// The entry of KEY.json that is the label; None: one of the usual ones.
    pub key: Option<&'a str>,
}

/// Finds the samples of the archives that `src` names: a folder, an archive, or a pattern.
///
/// # Errors
/// If there are none, one is damaged, or two files of a sample are its picture.
pub fn find(
    src: &Path,
    labels: Labels<'_>,
    preparation: Preparation,
    part: Parted,
) -> Result<Source> {
    let (root, files) = archives(src)?;
    let splits = splits_of_files(&files, &root)?;
    let names = labels.names.map(names_given).transpose()?;
    let mut gathered = Gathered::new(names);
    let of_file = |file: &PathBuf| samples(file, &root, labels.key);
    let found: Vec<Samples> = files.par_iter().map(of_file).collect::<Result<_>>()?;
    for (Samples { place, of, samples }, split) in found.into_iter().zip(splits) {
        for Sample { name, offset, length, label } in samples {
            let name = format!("{place}/{name}");
            match label {
                Err(reason) => gathered.leave_out(name, reason),
                Ok(label) => {
                    let content = Content::Part { of: of.clone(), offset, length };
                    gathered.add(split, &label, name.clone(), content).context(name)?;
                }
            }
        }
    }
    gathered.source("webdataset", src, preparation, part)
}

/// The folder that names are told from, and the archives.
fn archives(src: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    let is_tar = |path: &PathBuf| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tar"));
    if src.is_dir() {
        let mut files = walk(src, 3)?;
        let packed = files.iter().find(|file| {
            let name = super::name_of(file).to_lowercase();
            name.ends_with(".tar.gz") || name.ends_with(".tgz")
        });
        let packed = packed.cloned();
        files.retain(is_tar);
        if files.is_empty() {
            return Err(match packed {
                Some(file) => config_error!(
                    "{} has no .tar files; {} is compressed, unpack it with gunzip",
                    src.display(),
                    file.display()
                ),
                None => config_error!("{} has no .tar files", src.display()),
            });
        }
        return Ok((src.to_path_buf(), files));
    }
    let text = src.to_str().filter(|text| !src.exists() && text.contains('{'));
    let files: Vec<PathBuf> = match text {
        Some(text) => expand(text)?.into_iter().map(PathBuf::from).collect(),
        None => vec![src.to_path_buf()],
    };
    let missing: Vec<&PathBuf> = files.iter().filter(|file| !file.is_file()).collect();
    if let Some(first) = missing.first() {
        return Err(config_error!(
            "{} is not there{}; name a folder of .tar files, one of them, or a pattern such as \
             'train-{{000..009}}.tar'",
            first.display(),
            match missing.len() {
                1 => String::new(),
                n =>
                    format!(", nor are {} more of the {} files that are named", n - 1, files.len()),
            }
        ));
    }
    let whole = |name: &&std::ffi::OsStr| !name.to_string_lossy().contains('{');
    let root: PathBuf = src.parent().unwrap_or(Path::new("")).iter().take_while(whole).collect();
    Ok((root, files))
}

/// The samples of an archive.
struct Samples {
    /// What it is called.
    place: String,
    of: Arc<Backing>,
    samples: Vec<Sample>,
}

/// A picture and its label, or why it has none.
struct Sample {
    /// The picture's name in the archive.
    name: String,
    offset: u64,
    length: u64,
    label: std::result::Result<String, String>,
}

/// The files of a sample.
#[derive(Default)]
struct Files {
    picture: Option<tape::Entry>,
    label: Option<tape::Entry>,
    /// Whether the label is an entry of a JSON object.
    json: bool,
}

/// The samples of the archive `file`, in the order of their first files.
fn samples(file: &Path, root: &Path, key: Option<&str>) -> Result<Samples> {
    let context = || file.display().to_string();
    let of = Arc::new(Backing::open(file)?);
    let entries = tape::list(&of, 0, of.len()).with_context(context)?;
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let mut all: Vec<Files> = Vec::new();
    for entry in entries {
        let base = base_name(&entry.name);
        let folder = &entry.name[..entry.name.len() - base.len()];
        let Some((stem, ending)) = base.split_once('.').filter(|_| !left_behind(base)) else {
            continue;
        };
        let ending = ending.to_lowercase();
        let (is_picture, json) = (PICTURES.contains(&&*ending), ending == "json");
        if !is_picture && !json && ending != "cls" {
            continue;
        }
        let number = *numbers.entry(format!("{folder}{stem}")).or_insert(all.len());
        if number == all.len() {
            all.push(Files::default());
        }
        let files = &mut all[number];
        if is_picture {
            if let Some(other) = files.picture.replace(entry.clone()) {
                return Err(config_error!(
                    "{}: {} and {} are both the picture of one sample; prepare it as one of them \
                     only",
                    file.display(),
                    other.name,
                    entry.name
                ));
            }
        } else if files.label.is_none() || !json {
            // KEY.cls is nothing but the label.
            (files.label, files.json) = (Some(entry), json);
        }
    }
    let place = place_in(root, file);
    let sample = |Files { picture, label, json }: Files| {
        let tape::Entry { name, offset, length } = picture?;
        let label = match label {
            None => Err("it has no .cls or .json beside it".to_string()),
            Some(entry) => label_in(&of, &entry, json, key)
                .map_err(|error| format!("{}: {}", entry.name, crate::errors::sentence(&error))),
        };
        Some(Sample { name: name.trim_start_matches("./").to_string(), offset, length, label })
    };
    let samples = all.into_iter().filter_map(sample).collect();
    Ok(Samples { place, of, samples })
}

/// The label that a file of an archive holds.
fn label_in(of: &Backing, entry: &tape::Entry, json: bool, key: Option<&str>) -> Result<String> {
    ensure!(entry.length <= MOST_LABEL, "it is too large to hold a label");
    let mut bytes = vec![0; entry.length as usize];
    of.read_at(entry.offset, &mut bytes)?;
    let text = text::decoded(&bytes)?;
    let label = if json { label_of(&text, key)? } else { text.trim().to_string() };
    ensure!(!label.is_empty(), "it is empty");
    ensure!(!label.contains('\n') && label.len() <= 1000, "it holds more than a label");
    let none = label.parse().is_ok_and(|number: i64| number < 0);
    ensure!(!none, "the label is {label}, which stands for none");
    Ok(label)
}

/// The label in a JSON object.
fn label_of(text: &str, key: Option<&str>) -> Result<String> {
    let value: Value = serde_json::from_str(text).context("it is no JSON")?;
    let found = match key {
        Some(key) => value.get(key),
        None => KEYS.iter().find_map(|key| value.get(key)),
    };
    match found {
        Some(Value::String(label)) => Ok(label.trim().to_string()),
        Some(Value::Number(label)) if !label.is_f64() => Ok(label.to_string()),
        Some(_) => anyhow::bail!("its label is neither a whole number nor a text"),
        None => anyhow::bail!(
            "it has no entry {}; --label-key names the one that is the label",
            key.map_or_else(|| KEYS.join(", "), String::from)
        ),
    }
}
