//! The GPUs of one of several processes.

use crate::config_error;
use crate::engine::Choice;
use crate::gpu::library::device_count;
use crate::mpi::Team;
use anyhow::Result;

/// Where nobody has chosen, each rank of a machine has GPUs of its own; where there is no GPU all
/// compute on the CPU.
///
/// # Errors
/// If there are fewer GPUs than ranks.
pub fn choose(team: &Team, choice: &Choice) -> Result<Choice> {
    if *choice != Choice::Auto || !team.is_several() {
        return Ok(choice.clone());
    }
    let Ok(count) = device_count() else { return Ok(Choice::Cpu) };
    let (place, of) = place(team, count)?;
    Ok(Choice::Share { place, of })
}

/// The GPU of this rank, where each has one.
///
/// # Errors
/// If there is none, or fewer than ranks.
pub fn one(team: &Team) -> Result<usize> {
    Ok(place(team, device_count()?)?.0)
}

/// The place of this rank among those of its machine, which has `count` GPUs, and how many they
/// are.
fn place(team: &Team, count: usize) -> Result<(usize, usize)> {
    let neighbours = team.neighbours();
    let mine = team.members()[team.rank()].process;
    let place = neighbours.iter().position(|member| member.process == mine).unwrap_or(0);
    if count < neighbours.len() {
        return Err(config_error!(
            "{} processes on {} and {count} {}: start as many as there are GPUs, or compute with \
             --device cpu",
            neighbours.len(),
            team.members()[team.rank()].host,
            if count == 1 { "GPU" } else { "GPUs" }
        ));
    }
    Ok((place, neighbours.len()))
}
