//! Numbers of which each rank has a share: gathered, so that all have all of them; and sums over
//! ranks of which each gets its share, which is the reverse. Each rank sends to every other one
//! what that wants, all at once, and adds up in the order of ranks.

use super::link::{For, Swap};
use super::team::Team;
use anyhow::Result;
use rayon::prelude::*;
use std::mem::take;
use std::ops::Range;

/// Tags of shares on their way to all, of parts of sums, and to rank 0.
const SHARES: i32 = 5;
const PARTS: i32 = 6;
const TO_RANK_0: i32 = 7;
/// Values of one task of adding up.
const BLOCK: usize = 1 << 14;

/// `all` cut into blocks, one a rank, which follow one another.
fn blocks<'a>(mut all: &'a mut [f32], shares: &[Range<usize>]) -> Vec<&'a mut [f32]> {
    let cut = |share: &Range<usize>| {
        let (block, rest) = take(&mut all).split_at_mut(share.len());
        all = rest;
        block
    };
    shares.iter().map(cut).collect()
}

impl Team {
    /// Fills `all` with what each rank has in its share of it. Shares follow one another, the first
    /// begins at 0.
    ///
    /// # Errors
    /// Those of the library; a wait without end.
    pub fn gather(&self, all: &mut [f32], shares: &[Range<usize>]) -> Result<()> {
        let Some(link) = self.link() else { return Ok(()) };
        let mut blocks = blocks(all, shares);
        let mine: &mut [f32] = take(&mut blocks[link.rank]);
        let mine: &[f32] = mine;
        let others = blocks.into_iter().enumerate().filter(|&(rank, _)| rank != link.rank);
        let swap = |(rank, ours)| Swap { theirs: mine, to: rank, ours, from: rank };
        let swaps = others.map(swap).collect();
        link.swap(swaps, SHARES, "values of its neurons or images")
    }

    /// Adds up what the ranks have in `all`, of which each gets its share; the rest of `all` is as
    /// before. `room` is memory for what comes in.
    ///
    /// # Errors
    /// As [`Team::gather`].
    pub fn scatter_sums(
        &self,
        all: &mut [f32],
        shares: &[Range<usize>],
        room: &mut Vec<f32>,
    ) -> Result<()> {
        let Some(link) = self.link() else { return Ok(()) };
        let own = shares[link.rank].clone();
        let len = own.len();
        room.resize((self.size() - 1) * len, 0.0);
        let others = (0..self.size()).filter(|&rank| rank != link.rank);
        let mut rooms = &mut room[..];
        let swap = |rank: usize| {
            let (ours, rest) = take(&mut rooms).split_at_mut(len);
            rooms = rest;
            Swap { theirs: &all[shares[rank].clone()], to: rank, ours, from: rank }
        };
        let swaps = others.map(swap).collect();
        link.swap(swaps, PARTS, "sums of gradients of activations")?;
        if len == 0 {
            return Ok(());
        }
        let (before, after) = room.split_at(link.rank * len);
        let sums = all[own].par_chunks_mut(BLOCK).enumerate();
        sums.for_each(|(block, sums)| {
            let first = block * BLOCK;
            let (n, mut sum) = (sums.len(), vec![0.0; sums.len()]);
            let mut add = |part: &[f32]| sum.iter_mut().zip(part).for_each(|(s, p)| *s += p);
            before.chunks_exact(len).for_each(|part| add(&part[first..first + n]));
            add(sums);
            after.chunks_exact(len).for_each(|part| add(&part[first..first + n]));
            sums.copy_from_slice(&sum);
        });
        Ok(())
    }

    /// Fills `all` on rank 0 with what each rank has in its share of it.
    ///
    /// # Errors
    /// As [`Team::gather`].
    pub fn collect(&self, all: &mut [f32], shares: &[Range<usize>]) -> Result<()> {
        let Some(link) = self.link() else { return Ok(()) };
        let what = "its share of a checkpoint";
        if !self.leads() {
            let mine: &[u8] = bytemuck::cast_slice(&all[shares[link.rank].clone()]);
            return link.send(mine, TO_RANK_0, For { rank: Some(0), what });
        }
        for (rank, share) in shares.iter().enumerate().skip(1) {
            let theirs: &mut [u8] = bytemuck::cast_slice_mut(&mut all[share.clone()]);
            link.receive(theirs, TO_RANK_0, For { rank: Some(rank), what })?;
        }
        Ok(())
    }

    /// Bytes of numbers that this rank has sent so far, gradients and activations; what is
    /// said in rounds, checkpoints and sums with `train.parts` are not counted.
    pub fn bytes_sent(&self) -> u64 {
        self.link().map_or(0, |link| link.bytes_sent())
    }
}
