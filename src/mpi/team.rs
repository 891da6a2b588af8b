//! The ranks that work together, and what they do with numbers.

use super::link::{For, Link};
use super::member::Member;
use anyhow::Result;

/// Tag of sums on their way.
const SUMS: i32 = 3;

/// The ranks of this run, as one of them sees it; or one process alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Team {
    /// None: alone.
    link: Option<&'static Link>,
}

impl Team {
    /// One process, without MPI.
    pub fn alone() -> Team {
        Team::default()
    }

    pub(super) fn over(link: &'static Link) -> Team {
        Team { link: Some(link) }
    }

    pub(super) fn link(&self) -> Option<&'static Link> {
        self.link
    }

    /// Which rank this is, from 0.
    pub fn rank(&self) -> usize {
        self.link.map_or(0, |link| link.rank)
    }

    /// How many ranks there are.
    pub fn size(&self) -> usize {
        self.link.map_or(1, Link::size)
    }

    /// Whether this rank writes files and shows progress.
    pub fn leads(&self) -> bool {
        self.rank() == 0
    }

    /// Whether there are others.
    pub fn is_several(&self) -> bool {
        self.size() > 1
    }

    /// All ranks; empty where there is one process alone.
    pub fn members(&self) -> &'static [Member] {
        self.link.map_or(&[], |link| link.members())
    }

    /// `rank 3 on worker-2`.
    pub fn name(&self, rank: usize) -> String {
        self.link.map_or_else(|| format!("rank {rank}"), |link| link.name(rank))
    }

    /// The ranks of this one's machine, itself among them, in order.
    pub fn neighbours(&self) -> Vec<&'static Member> {
        let all = self.members();
        all.iter().filter(|member| member.place == all[self.rank()].place).collect()
    }

    /// Threads for this rank's share of its machine. None: as many as a process alone takes.
    pub fn threads(&self) -> Option<usize> {
        let neighbours = self.neighbours();
        (neighbours.len() > 1).then_some(())?;
        self.members()[self.rank()].share_of_cores(&neighbours)
    }

    /// Sends `values` to the rank `to`, which adds them to its own.
    pub fn send_sums(&self, values: &[f32], to: usize) -> Result<()> {
        let Some(link) = self.link else { return Ok(()) };
        let of = For { rank: Some(to), what: "sums of gradients" };
        link.send(bytemuck::cast_slice(values), SUMS, of)
    }

    /// Adds what the rank `from` sends to `sums`: sums ← sums + theirs.
    pub fn receive_sums(&self, sums: &mut [f32], from: usize) -> Result<()> {
        let Some(link) = self.link else { return Ok(()) };
        let of = For { rank: Some(from), what: "sums of gradients" };
        link.receive_sums(sums, SUMS, of)
    }

    /// Hands rank 0's `values` to all.
    pub fn spread(&self, values: &mut [f32]) -> Result<()> {
        self.link.map_or(Ok(()), |link| link.spread(values, "numbers of rank 0"))
    }
}
