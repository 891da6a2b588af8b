//! The sizes of one correlation: its maps, its tiles, and how far apart things lie between the
//! steps.

use super::split::Region;
use super::strip::Padded;
use crate::vectors::scratch::LINE;

/// Tiles that are worked on at a time: enough rows for a product, few enough to stay in the cache.
/// 16 to 128 are within 5 % of each other on a Zen 5 with 1 MiB of second-level cache.
const TILES: usize = 32;

/// A correlation with stride 1 of one group's maps, as far as tiles of one shape go: `H` × `W`
/// points for kernels of `R`.
#[derive(Clone, Copy, Debug)]
pub struct Correlation<const H: usize, const W: usize, const R: usize> {
    pub source: Padded,
    pub output: Maps,
    pub region: Region,
}

/// Where outputs go: channels `first` .. `first` + `used` of NHWC images.
#[derive(Clone, Copy, Debug)]
pub struct Maps {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    pub first: usize,
    pub used: usize,
}

impl Maps {
    pub(super) fn len(&self) -> usize {
        self.height * self.width * self.channels
    }
    /// As a source of tiles without an edge.
    pub(super) fn source(&self) -> Padded {
        Padded {
            height: self.height,
            width: self.width,
            channels: self.channels,
            first: self.first,
            used: self.used,
            fold: 1,
            top: 0,
            left: 0,
        }
    }
}

/// Values from one point to the next where each has `values`: an odd number of cache lines, so that
/// points, which are written one after the other, have places of their own in a cache. A line more
/// than needed is not that: 21 tiles of conv2's 48 channels came to 64 lines, where all 64 points
/// compete for one place, and transforming its inputs took 5.5 ms in place of 2.4, for the weights'
/// gradient 8.6 in place of 2.5 (a tower's batch of 128, time of both threads, Zen 5).
fn apart(values: usize) -> usize {
    (values.div_ceil(LINE) | 1) * LINE
}

/// Weights in memory: one vector of outputs for each kernel row, kernel column and input.
#[derive(Clone, Copy)]
pub struct WeightLayout {
    /// Values from a kernel row, a kernel column and an input to the next.
    pub strides: (usize, usize, usize),
    /// Of kernel row 0, column 0, input 0, output 0.
    pub start: usize,
}

impl<const H: usize, const W: usize, const R: usize> Correlation<H, W, R> {
    /// Points of a tile, and outputs of it down and across.
    pub(super) const POINTS: usize = H * W;
    pub(super) const TILE: (usize, usize) = (H - R + 1, W - R + 1);

    pub(super) fn depth(&self) -> usize {
        self.source.depth()
    }
    /// Values of one image of the source.
    pub(super) fn image(&self) -> usize {
        self.source.height * self.source.width * self.source.channels
    }
    /// Rows of tiles, and tiles in one.
    pub(super) fn grid(&self) -> (usize, usize) {
        (self.region.rows, self.region.columns)
    }
    /// The first output row and column of tile row `row`, counted over the images.
    pub(super) fn corner(&self, row: usize) -> (usize, usize) {
        (self.region.top + row % self.region.rows * Self::TILE.0, self.region.left)
    }
    pub(super) fn image_tiles(&self) -> usize {
        self.grid().0 * self.grid().1
    }
    /// Images of one task.
    pub(super) fn block(&self) -> usize {
        (TILES / self.image_tiles()).max(1)
    }
    /// Rows of tiles worked on at a time, within a task.
    pub(super) fn rows_at_once(&self) -> usize {
        let (rows, columns) = self.grid();
        let most = (TILES / columns).max(1);
        if rows <= most { self.block() * rows } else { rows.div_ceil(rows.div_ceil(most)) }
    }
    /// Values of one point's transformed inputs of `tiles` tiles.
    pub(super) fn inputs_apart(&self, tiles: usize) -> usize {
        apart(self.depth() * tiles)
    }
    pub(super) fn outputs_apart(&self, tiles: usize) -> usize {
        apart(self.output.used * tiles)
    }
    /// Values of one point's transformed weights in a panel of `columns`.
    pub(super) fn weights_apart(&self, columns: usize) -> usize {
        apart(self.depth() * columns)
    }
    /// Rows and columns of the input, and of the output, under a row of tiles.
    pub(super) fn input_strip(&self) -> (usize, usize) {
        (H, self.region.columns * Self::TILE.1 + R - 1)
    }
    pub(super) fn output_strip(&self) -> (usize, usize) {
        (Self::TILE.0, self.region.columns * Self::TILE.1)
    }

    /// Values of the strip that both sides of the weights' gradient take turns with.
    pub(super) fn gradient_strip(&self) -> usize {
        let size = |(rows, width): (usize, usize), depth: usize| rows * width * depth;
        size(self.input_strip(), self.depth()).max(size(self.output_strip(), self.output.used))
    }

    pub(super) fn sums_apart(&self) -> usize {
        apart(self.depth() * self.output.used)
    }
}
