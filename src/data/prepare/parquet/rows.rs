//! Rows of a column in a row group, read in their order; only the page that is in work is held.

use super::pages::{Pages, Place};
use crate::errors::guarded;
use anyhow::{Context, Result, anyhow};
use parquet::basic::Type;
use parquet::column::reader::ColumnReaderImpl;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::schema::types::ColumnDescPtr;
use std::io;

/// Rows that are read at a time.
const ROWS: usize = 1024;
/// A longer label is none.
const LONGEST: usize = 1000;

/// A walk along a column.
pub(super) struct Walk<T: DataType> {
    reader: ColumnReaderImpl<T>,
    /// The level at which a value is there.
    full: i16,
}

impl<T: DataType> Walk<T> {
    pub(super) fn new(column: &ColumnDescPtr, place: Place) -> Walk<T> {
        let reader = ColumnReaderImpl::new(column.clone(), Box::new(Pages::new(place)));
        Walk { reader, full: column.max_def_level() }
    }

    /// The next rows, at most `most`; None for one that has no value.
    ///
    /// # Errors
    /// If the file is damaged; where it could not be read, the cause is an [`io::Error`].
    pub(super) fn read(&mut self, most: usize) -> Result<Vec<Option<T::T>>> {
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let reader = &mut self.reader;
        let read = guarded(|| reader.read_records(most, Some(&mut levels), None, &mut values));
        let (rows, ..) = read.context("the reader failed at it")?.map_err(|error| match error {
            ParquetError::External(cause) => match cause.downcast::<io::Error>() {
                Ok(error) => anyhow::Error::new(*error),
                Err(error) => anyhow!("{error}"),
            },
            ParquetError::General(message) => anyhow!("{message}"),
            error => anyhow!("{error}"),
        })?;
        let mut values = values.into_iter();
        if self.full == 0 {
            return Ok(values.map(Some).collect());
        }
        let value = |&level: &i16| if level == self.full { values.next() } else { None };
        Ok(levels.iter().take(rows).map(value).collect())
    }
}

/// A label as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Label {
    None,
    Number(i64),
    Text(String),
}

/// The labels of a row group of `rows` rows.
///
/// # Errors
/// If the file is damaged, or a label is no text.
pub(super) fn labels(column: &ColumnDescPtr, place: Place, rows: usize) -> Result<Vec<Label>> {
    let number = |number: i64| Ok(Label::Number(number));
    match column.physical_type() {
        Type::INT64 => all(Walk::<Int64Type>::new(column, place), rows, number),
        Type::INT32 => all(Walk::<Int32Type>::new(column, place), rows, |n| number(n.into())),
        Type::BOOLEAN => all(Walk::<BoolType>::new(column, place), rows, |n| number(n.into())),
        _ => all(Walk::<ByteArrayType>::new(column, place), rows, |bytes: ByteArray| {
            let text = std::str::from_utf8(bytes.data()).context("a label is no text")?;
            anyhow::ensure!(text.len() <= LONGEST, "a label has {} bytes", text.len());
            Ok(Label::Text(text.to_string()))
        }),
    }
}

/// All of a column's `rows` values as labels.
fn all<T: DataType>(
    mut walk: Walk<T>,
    rows: usize,
    label: impl Fn(T::T) -> Result<Label>,
) -> Result<Vec<Label>> {
    let mut labels = Vec::new();
    while labels.len() < rows {
        let more = walk.read(ROWS.min(rows - labels.len()))?;
        anyhow::ensure!(!more.is_empty(), "the column of labels ends before its rows do");
        for value in more {
            labels.push(value.map_or(Ok(Label::None), &label)?);
        }
    }
    Ok(labels)
}
