//! A network whose fully connected layers processes divide by neurons, as the outside world sees it
//! ([`Halves`](crate::network::Halves)): each process has its own part of what they learn, and the
//! whole is put together where it is asked for.

use super::{Slot, Tensor};
use crate::mpi::Team;
use crate::network::{BufferId, Plan, Share};
use anyhow::{Result, bail, ensure};
use std::collections::BTreeMap;
use std::ops::Range;

/// Which parameters are whose.
pub(super) struct Owned {
    /// The processes.
    pub team: Team,
    /// This one's share.
    pub share: Share,
    /// Parameters that all have, those of the lower half; the upper one's follow.
    lower: usize,
    /// On rank 0, until all have it: what a new or gone on with run begins with.
    whole: BTreeMap<(bool, usize), Vec<f32>>,
}

/// Where what a layer of the whole network leaves is to be found.
pub(super) enum Left {
    /// In the lower half.
    Below(BufferId),
    /// In the upper half.
    Above(BufferId),
    /// There, the rows of this process's images.
    Rows(BufferId),
    /// In neither.
    Nowhere,
}

/// A range of each process, each value so many times.
pub(super) fn times(ranges: &[Range<usize>], values: usize) -> Vec<Range<usize>> {
    ranges.iter().map(|range| range.start * values..range.end * values).collect()
}

/// What no process does by itself.
pub(super) fn steps_only<T>() -> Result<T> {
    bail!(
        "processes with a share of a network each make steps only; this is an error in the program"
    )
}

impl Owned {
    /// For a lower half of `below`.
    pub fn new(team: Team, share: Share, below: &Plan) -> Owned {
        Owned { team, share, lower: below.tensors().len(), whole: BTreeMap::new() }
    }

    /// The images of each process in a pass of evaluation over all of theirs, of which this one has
    /// `own`.
    pub fn images_of_all(&self, own: usize) -> Result<Vec<Range<usize>>> {
        if !self.team.is_several() {
            return Ok(self.share.each(own));
        }
        let mine = own.to_le_bytes().to_vec();
        let counts = self.team.round("a pass of all", mine, |said| Ok(said.concat()))?;
        let mut end = 0;
        let count = |bytes: &[u8]| {
            let start = end;
            end += usize::from_le_bytes(bytes.try_into().unwrap_or_default());
            start..end
        };
        Ok(counts.chunks_exact(size_of::<usize>()).map(count).collect())
    }

    /// The images of each process in a step of at most `batch` images of which there are `whole`.
    pub fn images_of_step(&self, batch: usize, whole: usize) -> Vec<Range<usize>> {
        let each = self.share.each(batch).into_iter();
        each.map(|own| own.start.min(whole)..own.end.min(whole)).collect()
    }

    /// Whether each process has a part of this parameter only.
    pub fn is_shared(&self, tensor: usize) -> bool {
        tensor >= self.lower
    }

    /// Which parameter of the upper half it is.
    pub fn above(&self, tensor: usize) -> usize {
        tensor - self.lower
    }

    /// The values of a parameter that each process has; `None`: all have all.
    fn ranges(&self, plan: &Plan, tensor: usize) -> Option<Vec<Range<usize>>> {
        self.is_shared(tensor).then(|| {
            let of = &plan.tensors()[tensor];
            times(&self.share.each(of.shape[0]), of.len() / of.shape[0])
        })
    }

    /// A parameter that is shared: this process's part, which `mine` reads, and zeros in the
    /// others' place; or all of it, where that is to be handed out. `memory` to put it into.
    pub fn read(
        &self,
        plan: &Plan,
        (slot, tensor): (Slot, usize),
        mut memory: Vec<f32>,
        mine: impl FnOnce(usize) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let shape = plan.tensors()[tensor].shape.clone();
        if let Some(values) = self.whole.get(&(slot == Slot::Momentum, tensor)) {
            return Ok(Tensor { shape, values: values.clone() });
        }
        let mine = mine(self.above(tensor))?.values;
        memory.clear();
        memory.resize(shape.iter().product(), 0.0);
        for own in self.ranges(plan, tensor).iter().map(|each| each[self.share.rank].clone()) {
            memory[own].copy_from_slice(&mine);
        }
        Ok(Tensor { shape, values: memory })
    }

    /// Puts together on rank 0 what each process has of a parameter.
    pub fn collect(&self, plan: &Plan, tensor: usize, values: &mut [f32]) -> Result<()> {
        let ranges = self.ranges(plan, tensor);
        ranges.map_or(Ok(()), |ranges| self.team.collect(values, &ranges))
    }

    /// Of all `values` of a parameter that is shared those of this process.
    pub fn keep<'a>(
        &mut self,
        plan: &Plan,
        (slot, tensor): (Slot, usize),
        values: &'a [f32],
    ) -> Result<&'a [f32]> {
        let of = &plan.tensors()[tensor];
        ensure!(values.len() == of.len(), "{} has {} values", of.name, of.len());
        if self.team.leads() {
            self.whole.insert((slot == Slot::Momentum, tensor), values.to_vec());
        }
        let own = self.ranges(plan, tensor).map(|each| each[self.share.rank].clone());
        Ok(own.map_or(values, |own| &values[own]))
    }

    /// All have what was written on rank 0.
    pub fn handed_out(&mut self) {
        self.whole.clear();
    }
}

/// Where what the network of `plan` leaves in `buffer` is in its halves.
pub(super) fn left_in(plan: &Plan, (below, above): (&Plan, &Plan), buffer: BufferId) -> Left {
    if buffer == plan.probabilities() {
        return Left::Rows(above.probabilities());
    }
    if buffer == plan.logits() {
        return Left::Rows(above.logits());
    }
    let part = plan.layers.iter().enumerate().find_map(|(layer, planned)| {
        planned.parts.iter().position(|part| part.y == buffer).map(|part| (layer, part))
    });
    match part.map(|(layer, part)| (layer.checked_sub(below.layers.len()), layer, part)) {
        None => Left::Nowhere,
        Some((None, layer, part)) => Left::Below(below.layers[layer].parts[part].y),
        Some((Some(layer), ..)) => Left::Above(above.layers[layer].parts[0].y),
    }
}
