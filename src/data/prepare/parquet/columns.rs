//! Which column holds the pictures and which the labels, and what the labels are called.
//!
//! Hugging Face stores a picture as a struct of `bytes` and `path`, and beside the file's columns a
//! text under the key `huggingface`: JSON that says of each column what it is (`Image`,
//! `ClassLabel` with its names). Where it is missing, columns go by their types and names.

use crate::config_error;
use anyhow::{Context, Result, bail};
use parquet::basic::Type;
use parquet::file::metadata::FileMetaData;
use parquet::schema::types::ColumnDescriptor;
use serde_json::Value;

/// Names of columns of pictures, the likeliest first.
const PICTURES: [&str; 8] = ["image", "img", "picture", "photo", "jpg", "jpeg", "png", "pixels"];
/// Names of columns of labels, the likeliest first.
const LABELS: [&str; 9] =
    ["label", "labels", "fine_label", "class", "cls", "category", "target", "class_label", "y"];

/// What a person names, where it is not clear.
#[derive(Clone, Copy, Debug, Default)]
pub struct Named<'a> {
    /// The column of the pictures.
    pub image: Option<&'a str>,
    /// The column of the labels.
    pub label: Option<&'a str>,
}

/// The columns, by their number among those that hold values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) image: usize,
    pub(super) label: usize,
    /// Names of the labels 0, 1, 2 …
    pub(super) names: Option<Vec<String>>,
    /// What the label's column is called.
    pub(super) label_name: String,
}

/// Finds the columns.
///
/// # Errors
/// If there are none, or several that may be meant; the options that name one are named.
pub(super) fn find(metadata: &FileMetaData, named: Named<'_>) -> Result<Columns> {
    let all = metadata.schema_descr().columns();
    let features = features(metadata);
    let feature = |name: &str| features.as_ref().and_then(|all| all.get(name));
    let is = |name: &str, kind: &str| feature(name).is_some_and(|one| one["_type"] == kind);

    let pictures: Vec<Candidate<'_>> = candidates(all, |column| {
        let plain = column.path().parts().len() == 1 && !is_text(column);
        let in_struct = matches!(column.path().parts(), [_, last] if last == "bytes");
        column.physical_type() == Type::BYTE_ARRAY && (plain || in_struct)
    });
    let sure = |one: &Candidate<'_>| is(one.name, "Image") || !one.plain;
    let option = "--image-column";
    let image = choose(&pictures, sure, named.image, &PICTURES, "pictures", option)
        .with_context(|| columns_of(all))?;

    let labels: Vec<Candidate<'_>> = candidates(all, |column| {
        let kinds = [Type::INT32, Type::INT64, Type::BOOLEAN, Type::BYTE_ARRAY];
        column.path().parts().len() == 1 && kinds.contains(&column.physical_type())
    });
    let labels: Vec<_> = labels.into_iter().filter(|one| one.number != image.number).collect();
    let sure = |one: &Candidate<'_>| is(one.name, "ClassLabel");
    let option = "--label-column";
    let label = choose(&labels, sure, named.label, &LABELS, "labels", option)
        .with_context(|| columns_of(all))?;
    let names = feature(label.name).and_then(|one| names_in(&one["names"]));
    let label_name = label.name.to_string();
    Ok(Columns { image: image.number, label: label.number, names, label_name })
}

/// A column that may be meant.
#[derive(Clone, Copy)]
struct Candidate<'a> {
    name: &'a str,
    number: usize,
    /// It is a column by itself, and no part of a struct.
    plain: bool,
}

/// Those of the columns that hold one value a row and are `wanted`.
fn candidates(
    all: &[std::sync::Arc<ColumnDescriptor>],
    wanted: impl Fn(&ColumnDescriptor) -> bool,
) -> Vec<Candidate<'_>> {
    let one = |(number, column): (usize, &'_ std::sync::Arc<ColumnDescriptor>)| {
        (column.max_rep_level() == 0 && wanted(column)).then_some(number)
    };
    let candidate = |number: usize| {
        let parts = all[number].path().parts();
        Some(Candidate { name: parts.first()?, number, plain: parts.len() == 1 })
    };
    all.iter().enumerate().filter_map(one).filter_map(candidate).collect()
}

/// The one that is `named`; or else the only one that is `sure`, or the likeliest by its name among
/// those that are, or among all.
fn choose<'a>(
    all: &[Candidate<'a>],
    sure: impl Fn(&Candidate<'a>) -> bool,
    named: Option<&str>,
    likely: &[&str],
    what: &str,
    option: &str,
) -> Result<Candidate<'a>> {
    if let Some(name) = named {
        let found = all.iter().find(|one| one.name == name);
        return found
            .copied()
            .ok_or_else(|| config_error!("{option} {name} is no column of {what}"));
    }
    let certain: Vec<Candidate<'a>> = all.iter().copied().filter(|one| sure(one)).collect();
    if let [one] = certain[..] {
        return Ok(one);
    }
    let among = if certain.is_empty() { all } else { &certain };
    let by_name = |name: &&str| among.iter().find(|one| one.name.eq_ignore_ascii_case(name));
    if let Some(one) = likely.iter().find_map(by_name) {
        return Ok(*one);
    }
    match among {
        // A column of bytes that has any name is not taken for pictures.
        [one] if !certain.is_empty() => Ok(*one),
        _ => {
            Err(config_error!("which column holds the {what} is not clear; name it with {option}"))
        }
    }
}

/// The columns, for a person.
fn columns_of(all: &[std::sync::Arc<ColumnDescriptor>]) -> String {
    const MOST: usize = 30;
    let names: Vec<String> = all.iter().take(MOST).map(|one| one.path().string()).collect();
    let more = if all.len() > MOST { " …" } else { "" };
    format!("its columns are {}{more}", names.join(", "))
}

fn is_text(column: &ColumnDescriptor) -> bool {
    column.converted_type() == parquet::basic::ConvertedType::UTF8
        || matches!(column.logical_type_ref(), Some(parquet::basic::LogicalType::String))
}

/// What Hugging Face's libraries say of the columns.
fn features(metadata: &FileMetaData) -> Option<Value> {
    let entries = metadata.key_value_metadata()?;
    let text = entries.iter().find(|entry| entry.key == "huggingface")?.value.as_ref()?;
    let mut value: Value = serde_json::from_str(text).ok()?;
    Some(value.get_mut("info")?.get_mut("features")?.take())
}

/// The names of a class label.
fn names_in(value: &Value) -> Option<Vec<String>> {
    let names = value.as_array()?;
    names.iter().map(|name| name.as_str().map(String::from)).collect()
}

/// Two files of one data set must mean the same by a label.
///
/// # Errors
/// If their names are others; the first difference is named.
pub(super) fn agree(first: (&str, &Columns), other: (&str, &Columns)) -> Result<()> {
    let ((a, ours), (b, theirs)) = (first, other);
    if ours.names != theirs.names {
        let empty = Vec::new();
        let (ours, theirs) =
            (ours.names.as_ref().unwrap_or(&empty), theirs.names.as_ref().unwrap_or(&empty));
        let at = ours.iter().zip(theirs).take_while(|(a, b)| a == b).count();
        let name =
            |names: &Vec<String>| names.get(at).map_or("nothing".into(), |n| format!("`{n}`"));
        bail!(
            "{a} and {b} are of different data sets: label {at} is {} in the one and {} in the \
             other; prepare each by itself",
            name(ours),
            name(theirs)
        );
    }
    Ok(())
}
