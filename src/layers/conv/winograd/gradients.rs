//! The gradient to the weights of one convolution, or of several of one shape that read the same
//! input, such as a first layer's towers: its tiles are transformed once for all of them.
//!
//! A sum over all tiles is made stage by stage: a stage's tiles are taken to their points, and what
//! each point's product over them gives is added to that point's sums. Where the sums are few the
//! batch is cut into parts, each with sums of its own, and a stage is a few rows of tiles, so that
//! what lies between the steps stays in a core's cache; else it is what a third-level cache holds
//! of all threads' work. Parts, stages and blocks, which have a sum of the gradients to the biases
//! each, depend on the shapes alone, and so do bits.
//!
//! Both towers of conv1 on one core of a Zen 3 (512 KiB of second-level cache, AVX2, neighbours in
//! the third), batch 128, best of three: 190 ms; with all of an image between the steps 277 to 356.
//! conv2: 205 to 216, and 173 to 295.

use super::division::Division;
use super::geometry::{Correlation, WeightLayout};
use super::stages::Stages;
use crate::layers::Gradients;
use crate::machine::tasks;
use crate::vectors::product::{MOST_PARTS, sum_parts};
use crate::vectors::scratch::{self, LINE};
use rayon::prelude::*;
use std::ops::Range;

impl<const H: usize, const W: usize, const R: usize> Correlation<H, W, R> {
    /// Values of scratch space that `weight_gradients` needs: the sums of each part and of all, and
    /// the biases' of each block; where sums do not stay what few threads need between the steps.
    pub(super) fn workspace(&self, batch: usize, towers: usize) -> usize {
        let (sums, blocks, stages) = match self.sums_stay() {
            true => (batch.min(MOST_PARTS) + 1, batch.min(MOST_PARTS), 0),
            false => {
                let stages = Stages::memory(self, &self.coarse(batch, towers));
                (1, batch.div_ceil(self.block()), stages)
            }
        };
        let biases = scratch::lines(blocks * towers * self.output.used);
        LINE + towers * sums * self.sums_len() + biases + stages
    }

    /// `to` ← for each of `dys` the sums over this region of its images and those of `x`; added to
    /// what is there if `add`.
    pub(super) fn weight_gradients(
        &self,
        (to, layout): (&mut [Gradients<'_>], WeightLayout),
        (dys, x): (&[&[f32]], &[f32]),
        workspace: &mut [f32],
        add: bool,
    ) {
        let (used, sums_len) = (self.output.used, self.sums_len());
        let batch = x.len() / self.image();
        let (work, rows) = (&self.division(batch, dys.len()), batch * self.grid().0);
        let own = work.towers * sums_len;
        let (sums, rest) = scratch::aligned(workspace).split_at_mut(work.parts * own);
        let blocks = rows.div_ceil(work.block);
        let (biases, all) = rest.split_at_mut(scratch::lines(blocks * work.towers * used));
        let biases = &mut biases[..blocks * work.towers * used];
        biases.fill(0.0);
        let between = Stages::memory(self, work);
        let sums = if work.parts == 1 {
            let to = (&mut *sums, &mut *biases);
            let sum = |memory: &mut [f32]| self.sums_of_part(work, to, memory, (dys, x), 0..rows);
            match all.get_mut(..between) {
                Some(memory) => sum(memory),
                None => scratch::with(between, sum),
            }
            sums
        } else {
            sums.par_chunks_exact_mut(own)
                .zip(biases.par_chunks_exact_mut(work.towers * used))
                .enumerate()
                .for_each(|(part, to)| {
                    let rows = part * work.part..((part + 1) * work.part).min(rows);
                    scratch::with(between, |memory| {
                        self.sums_of_part(work, to, memory, (dys, x), rows);
                    });
                });
            sum_parts(&mut all[..own], sums);
            &mut all[..own]
        };
        for (tower, (dweight, dbias)) in to.iter_mut().enumerate() {
            if !add {
                dbias.fill(0.0);
            }
            for bias in biases.chunks_exact(used).skip(tower).step_by(work.towers) {
                dbias.iter_mut().zip(bias).for_each(|(sum, b)| *sum += b);
            }
            self.transform_back((dweight, layout), &sums[tower * sums_len..][..sums_len], add);
        }
    }

    /// The sums over the rows `all` of a part: of each tower `sums_len` in `sums`, of each block
    /// and tower `used` in `biases`, which are zero. `memory` is for what lies between the steps.
    fn sums_of_part(
        &self,
        work: &Division,
        (sums, biases): (&mut [f32], &mut [f32]),
        memory: &mut [f32],
        (dys, x): (&[&[f32]], &[f32]),
        all: Range<usize>,
    ) {
        if work.pieces.is_none() {
            tasks::begin("parts");
        }
        let at_once = work.stages * work.stage;
        for first in all.clone().step_by(at_once) {
            let rows = first..(first + at_once).min(all.end);
            let towers = dys.chunks(work.turn).zip(sums.chunks_mut(work.turn * self.sums_len()));
            for (turn, (dys, sums)) in towers.enumerate() {
                let (tower, part) = (turn * work.turn, all.start);
                let rows = rows.clone();
                let stages = Stages { of: self, work, x, dys, tower, part, rows };
                stages.transform(memory, biases);
                stages.multiply(sums, memory, first == all.start);
            }
        }
    }
}
