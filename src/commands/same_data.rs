//! Whether all ranks see the same data set, which may lie on a disk of each machine's own.

use crate::data::dataset::{Class, Dataset};
use crate::data::identity::{Identity, Part};
use crate::mpi::Team;
use crate::train::checkpoint::same_classes;
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a rank sees of its data set.
#[derive(Serialize, Deserialize)]
struct Seen {
    path: PathBuf,
    classes: Vec<Class>,
    /// Size, channels and how images were made.
    made: String,
    identity: Identity,
    /// Checksum of mean image and colours.
    statistics: u32,
}

/// Compares the ranks' data sets: classes, images, labels and their checksums.
///
/// # Errors
/// If two differ; a sentence with both.
pub fn same_data(team: &Team, dataset: &Dataset, identity: &Identity) -> Result<()> {
    if !team.is_several() {
        return Ok(());
    }
    let (header, statistics) = (&dataset.header, &dataset.statistics);
    let mut sum = crc32fast::Hasher::new();
    for values in [&statistics.mean, &statistics.components, &statistics.deviations] {
        sum.update(bytemuck::cast_slice(values));
    }
    let seen = Seen {
        path: dataset.path.clone(),
        classes: header.classes.clone(),
        made: format!(
            "{}, {} channels",
            serde_json::to_string(&header.preparation)?,
            header.channels
        ),
        identity: identity.clone(),
        statistics: sum.finalize(),
    };
    team.round("its data set", serde_json::to_vec(&seen)?, |said| {
        let said: Vec<Seen> =
            said.iter().map(|said| serde_json::from_slice(said)).collect::<Result<_, _>>()?;
        for (rank, other) in said.iter().enumerate().skip(1) {
            same(team, (rank, other), &said[0])?;
        }
        Ok(Vec::new())
    })?;
    Ok(())
}

fn same(team: &Team, (rank, other): (usize, &Seen), first: &Seen) -> Result<()> {
    let name = |rank, seen: &Seen| format!("{} of {}", seen.path.display(), team.name(rank));
    let (ours, theirs) = (name(0, first), name(rank, other));
    same_classes((&ours, &first.classes), (&theirs, &other.classes))?;
    if first.made != other.made {
        bail!(
            "the images of {ours} and {theirs} were made in different ways: {} and {}",
            first.made,
            other.made
        );
    }
    if first.identity != other.identity || first.statistics != other.statistics {
        bail!(
            "the data sets differ: {ours} has {}, {theirs} has {}; give all ranks copies of one \
             data set",
            in_words(first),
            in_words(other)
        );
    }
    Ok(())
}

fn in_words(seen: &Seen) -> String {
    let split = |(name, part): (&String, &Part)| {
        format!("{} images in {name} (checksum {})", part.images, part.sum)
    };
    let splits: Vec<String> = seen.identity.0.iter().map(split).collect();
    format!("{} and a mean image of checksum {:08x}", splits.join(", "), seen.statistics)
}
