//! Which finished shards of an interrupted data set are kept.
//!
//! The end is to be the same as if nothing had happened, and the source's images may be others by
//! now: those that could not be read were mended, or taken away. So a shard is kept as long as it
//! holds, in order, the images that a new one would hold. What lies between them and was skipped
//! before is tried again. From the first shard that does not agree, all are made again.

use super::ready::Maker;
use super::resume::SplitState;
use crate::data::prepare::{Item, Skipped};
use crate::data::shard::{Shard, ShardInfo};
use crate::data::statistics::Sums;
use crate::note;
use anyhow::Result;
use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

/// Where the shards are.
pub(super) struct Place<'a> {
    pub(super) out: &'a Path,
    pub(super) split: &'a str,
    /// Records of a full shard.
    pub(super) full: usize,
}

/// What of `old` is kept for `items`; with `sums`, the kept shards' pixels are added to it.
pub(super) fn kept(
    place: &Place<'_>,
    maker: &Maker<'_>,
    items: &[Item],
    old: &SplitState,
    mut sums: Option<&mut Sums>,
) -> Result<SplitState> {
    let skipped: HashSet<&str> = old.skipped.iter().map(|image| image.file.as_str()).collect();
    let mut kept = SplitState::default();
    for (number, info) in old.shards.iter().enumerate() {
        let Some(shard) = sound(place, maker, info) else { break };
        let Some(held) = held(&shard, place.full, items, kept.items, &skipped) else { break };
        let Some(bad) = still_bad(maker, &items[held.items.clone()], &held.left_out)? else {
            break;
        };
        if let Some(sums) = &mut sums {
            // Its records are damaged: made again, it is sound.
            let Ok(own) = maker.sum_shard(&shard) else { break };
            sums.merge(&own);
        }
        kept.items = held.items.end;
        kept.shards.push(shard.info());
        kept.enlarged.push(old.enlarged.get(number).copied().unwrap_or(0));
        kept.skipped.extend(bad);
    }
    let again = old.shards.len() - kept.shards.len();
    if again == 0 {
        // Otherwise nobody knows which of them belong to the shards that are made again.
        kept.noted = old.noted.clone();
    } else {
        note!(
            "{}: {again} of {} finished shards are made again, since the source's images are \
             others now or the shards are damaged",
            place.split,
            old.shards.len()
        );
    }
    Ok(kept)
}

/// The shard, if it is the one that was written.
fn sound(place: &Place<'_>, maker: &Maker<'_>, info: &ShardInfo) -> Option<Shard> {
    let path = place.out.join(&info.file);
    let shard = Shard::open(&path, &maker.shape, maker.source.classes.len(), false).ok()?;
    info.is(&shard.info()).then_some(shard)
}

/// The items that a shard was made of.
struct Held {
    items: Range<usize>,
    /// Those of them that are not in it, counted from the first.
    left_out: Vec<usize>,
}

/// The items from `start` on that the `shard` holds, where it leaves out none but those `skipped`;
/// None where a new shard would hold others.
fn held(
    shard: &Shard,
    full: usize,
    items: &[Item],
    start: usize,
    skipped: &HashSet<&str>,
) -> Option<Held> {
    let (mut at, mut left_out) = (start, Vec::new());
    for record in 0..shard.len() {
        loop {
            let item = items.get(at)?;
            at += 1;
            if item.name == shard.name(record) && item.label == shard.label(record) {
                break;
            }
            skipped.contains(item.name.as_str()).then_some(())?;
            left_out.push(at - 1 - start);
        }
    }
    // One that is not full is the last: nothing that can be used follows.
    if shard.len() != full {
        for item in &items[at..] {
            skipped.contains(item.name.as_str()).then_some(())?;
            left_out.push(at - start);
            at += 1;
        }
    }
    Some(Held { items: start..at, left_out })
}

/// Tries those of `items` again that were left out; None where one of them can be used now.
fn still_bad(
    maker: &Maker<'_>,
    items: &[Item],
    left_out: &[usize],
) -> Result<Option<Vec<Skipped>>> {
    let again: Vec<Item> = left_out.iter().map(|&at| items[at].clone()).collect();
    let mut bad = Vec::new();
    for (item, image) in again.iter().zip(maker.decode(&again)?) {
        match image {
            Ok(_) => return Ok(None),
            Err(reason) => bad.push(Skipped { file: item.name.clone(), reason }),
        }
    }
    Ok(Some(bad))
}
