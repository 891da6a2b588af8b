//! Data sets of images as Hugging Face stores them: Parquet files with a row a picture, its file's
//! bytes beside its label.
//!
//! The `parquet` crate reads footers ([`footer`]) and values ([`rows`]); pages come to it unpacked
//! ([`pages`]). [`columns`] finds the columns. Pictures stay in their files until the writer asks
//! for them ([`pictures`]).

mod columns;
mod footer;
mod pages;
mod pictures;
mod rows;
mod thrift;

pub use columns::Named;

use super::labelled::{Gathered, Parted};
use super::layout::splits_of_files;
use super::{Backing, Content, Rows, Source, walk};
use crate::config_error;
use crate::data::preparation::Preparation;
use crate::files::place_in;
use anyhow::{Context, Result, ensure};
use columns::Columns;
use pictures::{Group, Open};
use rayon::prelude::*;
use rows::Label;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Folders in folders that files are looked for in.
const DEPTH: usize = 5;

/// Finds the pictures in the Parquet file `src`, or in all of the folder `src`.
///
/// # Errors
/// If there are none, a file is damaged, or it is not clear which columns are meant.
pub fn find(
    src: &Path,
    named: Named<'_>,
    preparation: Preparation,
    part: Parted,
) -> Result<Source> {
    let (root, files) = files(src)?;
    let splits = splits_of_files(&files, &root)?;
    let read = |file: &PathBuf| {
        read(file, named).with_context(|| format!("{} cannot be used", file.display()))
    };
    let all: Vec<File> = files.par_iter().map(read).collect::<Result<_>>()?;
    let names: Vec<String> = files.iter().map(|file| place_in(&root, file)).collect();
    let Some(first) = all.first() else { return Err(config_error!("{} is empty", src.display())) };
    for (file, name) in all.iter().zip(&names) {
        columns::agree((&names[0], &first.columns), (name, &file.columns))?;
    }
    let label_name = first.columns.label_name.clone();
    let mut gathered = Gathered::new(first.columns.names.clone());
    gathered.notes.push(format!("labels are those of the column `{label_name}`"));
    let open = Arc::new(Open::default());
    let mut number = 0;
    for ((File { groups, .. }, place), split) in all.into_iter().zip(&names).zip(splits) {
        let mut in_file = 0;
        for (mut group, labels) in groups {
            (group.number, group.open) = (number, open.clone());
            number += 1;
            let of: Arc<dyn Rows> = Arc::new(group);
            for (row, label) in labels.into_iter().enumerate() {
                let name = format!("{place}/{in_file}");
                in_file += 1;
                let content = Content::Row { of: of.clone(), row };
                add(&mut gathered, split, label, name, content)?;
            }
        }
    }
    gathered.source("parquet", src, preparation, part)
}

/// Adds a row, unless it has no label.
fn add(
    gathered: &mut Gathered,
    split: &str,
    label: Label,
    name: String,
    content: Content,
) -> Result<()> {
    let label = match label {
        Label::None => {
            gathered.leave_out(name, "its label is missing".into());
            return Ok(());
        }
        Label::Number(number) if number < 0 => {
            gathered.leave_out(name, format!("its label is {number}, which stands for none"));
            return Ok(());
        }
        Label::Number(number) => number.to_string(),
        Label::Text(text) => text,
    };
    gathered.add(split, &label, name.clone(), content).context(name)
}

/// The folder that names are told from, and the files.
fn files(src: &Path) -> Result<(PathBuf, Vec<PathBuf>)> {
    if src.is_dir() {
        let mut files = walk(src, DEPTH)?;
        files.retain(|path| path.extension().is_some_and(|e| e.eq_ignore_ascii_case("parquet")));
        if files.is_empty() {
            return Err(config_error!("{} has no .parquet files", src.display()));
        }
        return Ok((src.to_path_buf(), files));
    }
    ensure!(src.exists(), "{} does not exist; name a .parquet file or a folder", src.display());
    Ok((src.parent().unwrap_or(Path::new("")).to_path_buf(), vec![src.to_path_buf()]))
}

/// What is known of a file before its pictures are read.
struct File {
    columns: Columns,
    /// Each row group, and the labels of its rows.
    groups: Vec<(Group, Vec<Label>)>,
}

fn read(path: &Path, named: Named<'_>) -> Result<File> {
    let of = Arc::new(Backing::open(path)?);
    let metadata = footer::read(&of)?;
    let columns = columns::find(metadata.file_metadata(), named)?;
    let schema = metadata.file_metadata().schema_descr();
    let (image, label) = (schema.column(columns.image), schema.column(columns.label));
    let group = |group: &parquet::file::metadata::RowGroupMetaData| {
        let rows = usize::try_from(group.num_rows()).context("its footer is damaged")?;
        let chunk = group.column(columns.image);
        let bytes = chunk.uncompressed_size().max(chunk.compressed_size());
        let pictures = Group {
            number: 0,
            place: footer::place(&of, chunk)?,
            column: image.clone(),
            rows,
            bytes: u64::try_from(bytes).context("its footer is damaged")?,
            open: Arc::default(),
        };
        let place = footer::place(&of, group.column(columns.label))?;
        Ok((pictures, rows::labels(&label, place, rows)?))
    };
    let groups = metadata.row_groups().par_iter().map(group).collect::<Result<_>>()?;
    Ok(File { columns, groups })
}
