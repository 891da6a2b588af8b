//! A table of pictures: path, label and perhaps split in each line of a CSV file.
//!
//! The first line may name the columns; without such names they are path, label, split. Commas
//! divide, or tabs or semicolons where the first line has no comma. Paths are relative to the
//! table's folder.

use super::labelled::{Gathered, Parted};
use super::layout::split_called;
use super::{Content, MOST_TEXT, Source};
use crate::config_error;
use crate::data::preparation::Preparation;
use crate::files::text;
use anyhow::{Context, Result, bail, ensure};
use csv::{ReaderBuilder, StringRecord};
use rayon::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};

/// Names that the first line may give the columns, in any case; the first found is taken.
const PATHS: &[&str] =
    &["path", "file", "filename", "file_name", "filepath", "file_path", "image", "img"];
const LABELS: &[&str] = &["label", "labels", "class", "class_name", "category", "target"];
const SPLITS: &[&str] = &["split", "set", "subset"];

/// A longer line is none of a picture: paths have some 4,096 bytes at most.
const LONGEST: usize = 16 << 10;

/// A line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The line of the file, from 1.
    pub line: u64,
    /// The picture's path, as it is written.
    pub path: String,
    /// Its class.
    pub label: String,
    /// `train`, `val` or `test`.
    pub split: &'static str,
}

/// Finds the pictures that the table `file` lists.
///
/// # Errors
/// If it cannot be read, a line is none of a picture, or no picture is there. A picture that is
/// missing is left to the writer, which skips it.
pub fn find(file: &Path, preparation: Preparation, part: Parted) -> Result<Source> {
    ensure!(
        !file.is_dir(),
        "{} is a folder; name the CSV file in it, or take folders of pictures with `alexnet \
         prepare image-folder`",
        file.display()
    );
    let text = text::read(file, MOST_TEXT)
        .with_context(|| format!("{} cannot be read", file.display()))?;
    let rows = rows(&text).with_context(|| file.display().to_string())?;
    let folder = file.parent().unwrap_or(Path::new(""));
    let paths: Vec<PathBuf> = rows.iter().map(|row| folder.join(&row.path)).collect();
    let there = |path: &PathBuf| fs::metadata(path).ok().map(|found| found.is_file());
    let there: Vec<Option<bool>> = paths.par_iter().map(there).collect();
    if let Some(at) = there.iter().position(|found| *found == Some(false)) {
        bail!(
            "{}: line {}: {} is no file; name the pictures themselves",
            file.display(),
            rows[at].line,
            paths[at].display()
        );
    }
    if let (Some(row), true) = (rows.first(), there.iter().all(Option::is_none)) {
        bail!(
            "{}: none of its pictures is there; the first, in line {}, was looked for as {}: paths \
             are relative to the table's folder",
            file.display(),
            row.line,
            paths[0].display()
        );
    }
    let mut gathered = Gathered::new(None);
    for (row, path) in rows.into_iter().zip(paths) {
        gathered.add(row.split, &row.label, row.path, Content::File(path))?;
    }
    gathered.source("list", file, preparation, part)
}

/// The lines of a table.
///
/// # Errors
/// If a line has no path or no label, or a split that is none; the line is named.
pub fn rows(text: &str) -> Result<Vec<Row>> {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .delimiter(delimiter(text))
        .from_reader(text.as_bytes());
    let mut record = StringRecord::new();
    let mut columns = None;
    let mut rows = Vec::new();
    loop {
        let before = reader.position().line();
        if !reader.read_record(&mut record).with_context(|| format!("line {before}"))? {
            break;
        }
        // The reader begins a record where the one before ended, blank lines and all.
        let begins = record.position().map_or(text.len(), |at| at.byte() as usize);
        let blank = text.as_bytes().iter().skip(begins).take_while(|byte| b"\r\n".contains(byte));
        let line = before + blank.filter(|&&byte| byte == b'\n').count() as u64;
        if columns.is_none() {
            let named = Columns::named(&record).with_context(|| format!("line {line}"))?;
            columns = Some(named.unwrap_or(Columns { path: 0, label: 1, split: Some(2) }));
            if named.is_some() {
                continue;
            }
        }
        let Some(columns) = &columns else { continue };
        rows.push(columns.row(&record, line).with_context(|| format!("line {line}"))?);
    }
    if rows.is_empty() {
        return Err(config_error!("it lists no pictures; path,label is expected in each line"));
    }
    Ok(rows)
}

/// What divides the columns.
fn delimiter(text: &str) -> u8 {
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("");
    let others = [b'\t', b';'];
    let other = others.into_iter().find(|&other| first.contains(char::from(other)));
    if first.contains(',') { b',' } else { other.unwrap_or(b',') }
}

/// Which column is which.
#[derive(Clone, Copy)]
struct Columns {
    path: usize,
    label: usize,
    split: Option<usize>,
}

impl Columns {
    /// As the first line names them; None: it names none, and is of a picture.
    ///
    /// # Errors
    /// If it names the paths alone.
    fn named(first: &StringRecord) -> Result<Option<Columns>> {
        let column = |names: &[&str]| {
            let is = |name: &&str, field: &str| field.to_lowercase() == **name;
            names.iter().find_map(|name| first.iter().position(|field| is(name, field)))
        };
        let Some(path) = column(PATHS) else { return Ok(None) };
        let label = column(LABELS).with_context(|| {
            format!(
                "it names the column {} of the paths, but none of {}; call the one of the labels so",
                &first[path],
                LABELS.join(", ")
            )
        })?;
        Ok(Some(Columns { path, label, split: column(SPLITS) }))
    }

    fn row(&self, record: &StringRecord, line: u64) -> Result<Row> {
        let field = |at: usize| record.get(at).filter(|field| !field.is_empty());
        let path = field(self.path).context("it has no path; path,label is expected")?;
        ensure!(
            record.as_slice().len() <= LONGEST,
            "it has {} bytes; a quotation mark may be open",
            record.as_slice().len()
        );
        let label = field(self.label)
            .with_context(|| format!("{path} has no label; path,label is expected"))?;
        let split = match self.split.and_then(field) {
            None => "train",
            Some(name) => split_called(name).with_context(|| {
                format!(
                    "`{name}` is no split's name; give train, val or test{}",
                    if record.len() > 3 {
                        ", and write what has commas in it in quotation marks"
                    } else {
                        ""
                    }
                )
            })?,
        };
        Ok(Row { line, path: path.to_string(), label: label.to_string(), split })
    }
}
