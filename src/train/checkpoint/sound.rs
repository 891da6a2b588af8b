//! Which checkpoint of a run to use where the one that is wanted is damaged.

use super::{Checkpoint, OtherFormat};
use crate::errors::sentence;
use crate::note;
use crate::train::runs::RunFolder;
use anyhow::Result;
use std::path::Path;

/// Opens the checkpoint `wanted` of `run`, every byte of it verified. Where it is damaged, the
/// newest sound one of the run's others, and a warning names both. Err: there is no sound one; what
/// is wrong with `wanted`.
pub fn open_sound(run: &RunFolder, wanted: &Path) -> Result<Checkpoint> {
    let error = match verified(wanted) {
        Ok(checkpoint) => return Ok(checkpoint),
        // A newer version's is no damage, and an older one is not to take its place.
        Err(error) if error.is::<OtherFormat>() || may_pass(&error) => return Err(error),
        Err(error) => error,
    };
    let others = [run.last(), run.best()].into_iter().chain(run.kept());
    let others = others.filter(|other| other != wanted && other.exists());
    let mut others: Vec<Checkpoint> = others.filter_map(|o| Checkpoint::open(&o).ok()).collect();
    others.sort_by_key(|other| (other.state.epoch, other.state.step));
    let sound = others.into_iter().rev().find(|other| other.verify().is_ok());
    let Some(sound) = sound else { return Err(error) };
    note!(
        "{}; in its place: {}, after step {}",
        sentence(&error),
        sound.path.display(),
        sound.state.step
    );
    Ok(sound)
}

/// Whether a file could not be read for a reason that is not its own: rights, a disk or a server that
/// does not answer. It may be whole, and nothing older is to take its place.
fn may_pass(error: &anyhow::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| !matches!(cause.kind(), NotFound | UnexpectedEof | InvalidData))
}

fn verified(path: &Path) -> Result<Checkpoint> {
    let checkpoint = Checkpoint::open(path)?;
    checkpoint.verify()?;
    Ok(checkpoint)
}
