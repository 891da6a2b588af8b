//! The pictures of a row group, read for the writer in the order of their rows.

use super::pages::Place;
use super::rows::Walk;
use crate::data::prepare::{Fetched, Rows};
use anyhow::{Context, Result, bail, ensure};
use parquet::data_type::ByteArrayType;
use parquet::schema::types::ColumnDescPtr;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Rows that are passed over at a time.
const PASSED: usize = 64;

/// The pictures of a row group.
pub(super) struct Group {
    /// Which of the source it is.
    pub(super) number: usize,
    /// Where they lie.
    pub(super) place: Place,
    pub(super) column: ColumnDescPtr,
    /// How many.
    pub(super) rows: usize,
    /// Bytes of all of them.
    pub(super) bytes: u64,
    /// The source's.
    pub(super) open: Arc<Open>,
}

/// The group in which reading stopped, where the next pictures are likely to lie. There is one for
/// all groups of a source, since each holds a page in memory.
#[derive(Default)]
pub(super) struct Open(Mutex<Option<(usize, Cursor)>>);

/// How far reading a group is.
struct Cursor {
    walk: Walk<ByteArrayType>,
    next: usize,
    /// Why there is nothing more to read.
    broken: Option<String>,
}

impl Rows for Group {
    fn average(&self) -> u64 {
        self.bytes / self.rows.max(1) as u64
    }

    fn fetch(&self, rows: &[usize]) -> Result<Vec<Fetched>> {
        let Some(&first) = rows.first() else { return Ok(Vec::new()) };
        let mut cursor = self.cursor(first);
        let read = |&row: &usize| match cursor.row(row) {
            Ok(Some(bytes)) => Ok(Ok(bytes)),
            Ok(None) => Ok(Err("the row has no picture: its bytes are missing".into())),
            Err(error) if is_of_the_disk(&error) => {
                Err(error.context(format!("{} cannot be read", self.place.of.path().display())))
            }
            Err(error) => Ok(Err(crate::errors::sentence(&error))),
        };
        let fetched = rows.iter().map(read).collect::<Result<_>>()?;
        let mut open = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Of groups that are read at once the last is gone on with.
        if open.as_ref().is_none_or(|(number, _)| *number < self.number) {
            *open = Some((self.number, cursor));
        }
        Ok(fetched)
    }
}

impl Group {
    /// A walk along the group that has not yet passed `row`.
    fn cursor(&self, row: usize) -> Cursor {
        let open = self.open.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let kept = open.filter(|(number, cursor)| *number == self.number && cursor.next <= row);
        let new = || Walk::new(&self.column, self.place.clone());
        kept.map_or_else(|| Cursor { walk: new(), next: 0, broken: None }, |(_, cursor)| cursor)
    }
}

/// Whether a file could not be read; else it is damaged.
fn is_of_the_disk(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<io::Error>())
}

impl Cursor {
    /// The value of `row`, which lies before none that was read.
    fn row(&mut self, row: usize) -> Result<Option<Vec<u8>>> {
        if let Some(reason) = &self.broken {
            bail!("{reason}");
        }
        let result = self.read(row);
        if let Err(error) = &result
            && !is_of_the_disk(error)
        {
            self.broken = Some(crate::errors::sentence(error));
        }
        result
    }

    fn read(&mut self, row: usize) -> Result<Option<Vec<u8>>> {
        while self.next < row {
            let passed = self.walk.read((row - self.next).min(PASSED))?.len();
            ensure!(passed > 0, "the row group ends before this row");
            self.next += passed;
        }
        let one = self.walk.read(1)?.pop();
        self.next += 1;
        let one = one.context("the row group ends before this row")?;
        Ok(one.map(|bytes| bytes.data().to_vec()))
    }
}
