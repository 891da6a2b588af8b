//! Images that are packed together ([`Rows`](crate::data::prepare::Rows)), read some tens of megabytes
//! at a time: those that are packed apart in parallel, others in their order.

use crate::data::prepare::{Content, Fetched, Item};
use anyhow::Result;
use rayon::prelude::*;
use std::sync::Arc;

/// What is read at a time, in bytes, by what an image has on average.
const BATCH: u64 = 32 << 20;
/// And in images.
const MOST: usize = 4096;

/// How many of `items` are read at a time.
pub(super) fn batch(items: &[Item]) -> usize {
    let mut bytes = 0u64;
    let many = items.iter().take(MOST).take_while(|item| {
        let before = bytes;
        if let Content::Row { of, .. } = &item.content {
            bytes = bytes.saturating_add(of.average());
        }
        before < BATCH
    });
    many.count()
}

/// The bytes of `items`, all of which are [`Content::Row`]; inner errors say why one is skipped.
pub(super) fn fetch(items: &[Item]) -> Result<Vec<Fetched>> {
    let together = |a: &Item, b: &Item| match (&a.content, &b.content) {
        (Content::Row { of: a, row }, Content::Row { of: b, row: next }) => {
            Arc::ptr_eq(a, b) && row < next
        }
        _ => false,
    };
    let parts: Vec<&[Item]> = items.chunk_by(together).collect();
    let read = |part: &&[Item]| {
        let row = |item: &Item| match item.content {
            Content::Row { row, .. } => Some(row),
            _ => None,
        };
        let rows: Vec<usize> = part.iter().filter_map(row).collect();
        match &part[0].content {
            Content::Row { of, .. } => of.fetch(&rows),
            _ => Ok(Vec::new()),
        }
    };
    let read: Vec<_> = parts.par_iter().with_max_len(1).map(read).collect::<Result<_>>()?;
    Ok(read.into_iter().flatten().collect())
}
