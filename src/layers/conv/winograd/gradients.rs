//! The gradient to the weights of one convolution, or of several of one shape that read the same
//! input, such as a first layer's towers: its tiles are transformed once for all of them.
//!
//! A sum over all tiles is made stage by stage: a stage's tiles are taken to their points, and what
//! each point's product over them gives is added to that point's sums. Where the sums are few the
//! batch is cut into parts, each with sums of its own, and a stage is a few rows of tiles, so that
//! what lies between the steps stays in a core's cache; else it is what a third-level cache holds of
//! all threads' work. Parts, stages and blocks, which have a sum of the gradients to the biases each,
//! depend on the shapes alone, and so do bits.
//!
//! How that is divided does depend on the threads. Few take a part each, or a block and a point.
//! Many take a row of tiles of one side and some of a point's inputs, over several stages at a time
//! where one has too few rows, and all towers at once: so they wait for each other less often too.
//!
//! Both towers of conv1 on one core of a Zen 3 (512 KiB of second-level cache, AVX2, neighbours in
//! the third), batch 128, best of three: 190 ms; with all of an image between the steps 277 to 356.
//! conv2: 205 to 216, and 173 to 295.

use super::geometry::{Correlation, WeightLayout};
use super::stages::Stages;
use crate::layers::Gradients;
use crate::machine::tasks;
use crate::vectors::product::{MOST_PARTS, parts, sum_parts};
use crate::vectors::scratch::{self, LINE};
use rayon::prelude::*;
use std::ops::Range;

/// Most values of sums that a part has of its own: 2 MiB, which takes in the paper's conv1 (334 KiB)
/// and conv2 (1.5 MiB). With conv3 to conv5 they would go back and forth for too few tiles at a time.
const SUMS: usize = 1 << 19;

/// Values of transformed inputs and gradients of a part's stage: 1 MiB, of the size of a second-level
/// cache; half of it is as fast for conv1, slower for conv2.
const STAGE: usize = 1 << 18;

/// Tiles of a part's stage at least: sums that a second-level cache does not hold come and go for
/// each product over them. conv2's products took 29.0 ms with 21 tiles and 25.3 with an image's 49
/// (a tower's batch of 128, time of both threads, Zen 5, AVX-512); 47.5 and 42.4 with AVX2.
const SUMMED: usize = 48;

/// Values of a stage where the whole batch has one part: 3 MiB, part of a third-level cache; with 6
/// conv3 to conv5 take up to a tenth more.
const WHOLE: usize = 3 << 18;

/// How the work is divided. All counts of rows are of rows of tiles.
#[derive(Clone, Copy)]
pub(super) struct Division {
    /// Rows of a part, and how many parts there are.
    part: usize,
    parts: usize,
    /// Rows of a stage.
    pub stage: usize,
    /// Rows of a block.
    pub block: usize,
    pub towers: usize,
    /// From here on it depends on the threads: towers and stages that are worked on at the same
    /// time.
    pub turn: usize,
    pub stages: usize,
    /// Rows of one side that are a task; `None`: all of a block's, and their sums.
    pub rows: Option<usize>,
    /// Tasks that a point's product is divided into; `None`: a whole part is one.
    pub pieces: Option<usize>,
}

impl<const H: usize, const W: usize, const R: usize> Correlation<H, W, R> {
    /// Whether parts of the batch have sums of their own.
    pub(super) fn sums_stay(&self) -> bool {
        self.sums_len() <= SUMS
    }

    fn sums_len(&self) -> usize {
        Self::POINTS * self.sums_apart()
    }

    /// Rows of a part's stage.
    fn rows_staged(&self) -> usize {
        let (rows, columns) = self.grid();
        let row = Self::POINTS * columns * (self.depth() + self.output.used);
        let at_once = (STAGE / row).max(SUMMED.div_ceil(columns)).clamp(1, rows);
        rows.div_ceil(rows.div_ceil(at_once))
    }

    /// Blocks of a stage, where the whole batch has one part.
    fn blocks_staged(&self, batch: usize) -> usize {
        let tiles = self.block() * self.image_tiles();
        let block = Self::POINTS * (self.inputs_apart(tiles) + self.outputs_apart(tiles));
        (WHOLE / block).max(2).min(batch.div_ceil(self.block())).max(1)
    }

    fn division(&self, batch: usize, towers: usize) -> Division {
        let rows = self.grid().0;
        let stays = self.sums_stay();
        let (images, parts) = if stays { parts(batch) } else { (batch, 1) };
        let part = images * rows;
        let block = if stays { part } else { self.block() * rows };
        let stage = if stays { self.rows_staged() } else { self.blocks_staged(batch) * block };
        let pieces = (!stays).then_some(1);
        let (turn, stages) = (1, 1);
        let coarse =
            Division { part, parts, stage, block, towers, turn, stages, rows: None, pieces };
        if tasks::threads_are_few() && (stays || stage / block >= tasks::wanted_large()) {
            return coarse;
        }
        // Rows of the input and of each tower's gradients in a stage of all parts; stages as many as
        // are wanted, and evenly.
        let given = parts * stage * (1 + towers);
        let all = part.div_ceil(stage);
        let stages = all.div_ceil(all.div_ceil(tasks::pieces(given)));
        let rows = (stages * given / tasks::wanted()).clamp(1, stage);
        let pieces = tasks::pieces(parts * towers * Self::POINTS);
        Division { turn: towers, stages, rows: Some(rows), pieces: Some(pieces), ..coarse }
    }

    /// Values of scratch space that `weight_gradients` needs: the sums of each part and of all, and
    /// the biases' of each block.
    pub(super) fn workspace(&self, batch: usize, towers: usize) -> usize {
        let (sums, blocks) = match self.sums_stay() {
            true => (batch.min(MOST_PARTS) + 1, batch.min(MOST_PARTS)),
            false => (1, batch.div_ceil(self.block())),
        };
        LINE + towers * (sums * self.sums_len() + blocks * self.output.used)
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
        let (biases, all) = rest.split_at_mut(blocks * work.towers * used);
        biases.fill(0.0);
        let sums = if work.parts == 1 {
            self.sums_of_part(work, (sums, biases), (dys, x), 0..rows);
            sums
        } else {
            sums.par_chunks_exact_mut(own)
                .zip(biases.par_chunks_exact_mut(work.towers * used))
                .enumerate()
                .for_each(|(part, to)| {
                    let rows = part * work.part..((part + 1) * work.part).min(rows);
                    self.sums_of_part(work, to, (dys, x), rows);
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

    /// The sums over the rows `all` of a part: of each tower `sums_len` in `sums`, of each block and
    /// tower `used` in `biases`, which are zero.
    fn sums_of_part(
        &self,
        work: &Division,
        (sums, biases): (&mut [f32], &mut [f32]),
        (dys, x): (&[&[f32]], &[f32]),
        all: Range<usize>,
    ) {
        if work.pieces.is_none() {
            tasks::begin("parts");
        }
        let at_once = work.stages * work.stage;
        scratch::with(Stages::memory(self, work), |memory| {
            for first in all.clone().step_by(at_once) {
                let rows = first..(first + at_once).min(all.end);
                let towers =
                    dys.chunks(work.turn).zip(sums.chunks_mut(work.turn * self.sums_len()));
                for (turn, (dys, sums)) in towers.enumerate() {
                    let (tower, part) = (turn * work.turn, all.start);
                    let rows = rows.clone();
                    let stages = Stages { of: self, work, x, dys, tower, part, rows };
                    stages.transform(memory, biases);
                    stages.multiply(sums, memory, first == all.start);
                }
            }
        });
    }
}
