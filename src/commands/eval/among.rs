//! What ranks settle before they share an evaluation.

use super::Args;
use crate::commands::model::Model;
use crate::commands::same_data::same_data;
use crate::config_error;
use crate::data::dataset::{Dataset, Split};
use crate::data::identity::Identity;
use crate::mpi::Team;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// What a rank is about to do.
#[derive(Serialize, Deserialize)]
struct Told {
    /// What it was asked for.
    command: String,
    /// Its checkpoints, and a checksum of what each says it holds.
    checkpoints: Vec<(String, u32)>,
    /// Images that its networks take at once.
    batch: usize,
}

/// Crops at once on all ranks, once they are known to be asked for the same, with the same networks
/// and images.
///
/// # Errors
/// If two differ; a sentence with both.
pub fn alike(
    team: &Team,
    args: &Args,
    models: &[Model],
    (dataset, split): (&Dataset, &Split),
) -> Result<usize> {
    let batch = models.iter().map(|m| m.engine.plan().batch).min().unwrap_or(1);
    if !team.is_several() {
        return Ok(batch);
    }
    let paths = models.iter().map(|model| model.checkpoint.path.as_path());
    let told = Told {
        command: format!("--split {} --weights {:?} {:?}", args.split, args.weights, args.crops()),
        checkpoints: paths
            .map(|path| Ok((path.display().to_string(), contents(path)?)))
            .collect::<Result<_>>()?,
        batch,
    };
    let answer = team.round("its checkpoints", serde_json::to_vec(&told)?, |said| {
        let said: Vec<Told> =
            said.iter().map(|said| serde_json::from_slice(said)).collect::<Result<_, _>>()?;
        for (rank, other) in said.iter().enumerate() {
            same(team, (rank, other), &said[0])?;
        }
        let batch = said.iter().map(|told| told.batch).min().unwrap_or(batch);
        Ok(batch.to_le_bytes().to_vec())
    })?;
    let mut identity = Identity::default();
    identity.add(&args.split, split);
    same_data(team, dataset, &identity)?;
    Ok(answer.try_into().map_or(batch, usize::from_le_bytes))
}

fn same(team: &Team, (rank, other): (usize, &Told), first: &Told) -> Result<()> {
    let [first_name, name] = [0, rank].map(|rank| team.name(rank));
    if other.command != first.command || other.checkpoints.len() != first.checkpoints.len() {
        return Err(config_error!(
            "{name} was started with other arguments than {first_name}: {} there, {} here",
            other.command,
            first.command
        ));
    }
    let mut both = first.checkpoints.iter().zip(&other.checkpoints);
    match both.find(|(ours, theirs)| ours.1 != theirs.1) {
        None => Ok(()),
        Some(((ours, _), (theirs, _))) => Err(config_error!(
            "{theirs} of {name} is another checkpoint than {ours} of {first_name}; give all ranks \
             the same"
        )),
    }
}

/// A checksum of a checkpoint's header, in which there are those of its tensors.
fn contents(path: &Path) -> Result<u32> {
    let read = || {
        let mut file = File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let mut header = Vec::new();
        file.take(u64::from_le_bytes(length)).read_to_end(&mut header)?;
        std::io::Result::Ok(crc32fast::hash(&header))
    };
    read().with_context(|| path.display().to_string())
}

/// Rank 0's `weights`, on all ranks.
pub fn of_rank_0(team: &Team, weights: Vec<f64>) -> Result<Vec<f64>> {
    if !team.is_several() {
        return Ok(weights);
    }
    let mine = serde_json::to_vec(&weights)?;
    let answer = team.round("its weights", mine, |mut said| Ok(said.swap_remove(0)))?;
    Ok(serde_json::from_slice(&answer)?)
}
