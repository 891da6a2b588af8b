//! How the sums of `gradients` are divided into parts, stages and tasks.
//!
//! Tasks do depend on the threads. Few take a part each, or a block and a point. Many take a row of
//! tiles of one side and some of a point's inputs, over several stages at a time where one has too
//! few rows, and all towers at once: so they wait for each other less often too.

use super::geometry::Correlation;
use crate::machine::tasks;
use crate::vectors::product::parts;

/// Most values of sums that a part has of its own: 2 MiB, which takes in the paper's conv1 (334
/// KiB) and conv2 (1.5 MiB). With conv3 to conv5 they would go back and forth for too few tiles at
/// a time.
const SUMS: usize = 1 << 19;

/// Values of transformed inputs and gradients of a part's stage: 1 MiB, of the size of a
/// second-level cache; half of it is as fast for conv1, slower for conv2.
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
    pub part: usize,
    pub parts: usize,
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

    pub(super) fn sums_len(&self) -> usize {
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

    /// How the gradients over so many images and towers are divided for few threads.
    pub(super) fn coarse(&self, batch: usize, towers: usize) -> Division {
        let rows = self.grid().0;
        let stays = self.sums_stay();
        let (images, parts) = if stays { parts(batch) } else { (batch, 1) };
        let part = images * rows;
        let block = if stays { part } else { self.block() * rows };
        let stage = if stays { self.rows_staged() } else { self.blocks_staged(batch) * block };
        let pieces = (!stays).then_some(1);
        let (turn, stages) = (1, 1);
        Division { part, parts, stage, block, towers, turn, stages, rows: None, pieces }
    }

    /// And for those that there are.
    pub(super) fn division(&self, batch: usize, towers: usize) -> Division {
        let coarse = self.coarse(batch, towers);
        let Division { part, parts, stage, block, pieces, .. } = coarse;
        if tasks::threads_are_few() && (pieces.is_none() || stage / block >= tasks::wanted_large())
        {
            return coarse;
        }
        // Rows of the input and of each tower's gradients in a stage of all parts; stages as many
        // as are wanted, and evenly.
        let given = parts * stage * (1 + towers);
        let all = part.div_ceil(stage);
        let stages = all.div_ceil(all.div_ceil(tasks::pieces(given)));
        let rows = (stages * given / tasks::wanted()).clamp(1, stage);
        let pieces = tasks::pieces(parts * towers * Self::POINTS);
        Division { turn: towers, stages, rows: Some(rows), pieces: Some(pieces), ..coarse }
    }
}
