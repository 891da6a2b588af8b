//! Tiles for the matrix product of `kernels/product.cuh`: how a product of `lines` x `columns` sums
//! over `depth` values is shared out to blocks, so that little work is wasted at the edges and all
//! multiprocessors have some.
//!
//! The choice depends on the shape and the number of multiprocessors alone, so one kind of GPU
//! always sums in the same order.

use super::compile::Constant;
use super::precision::Precision;

/// The shape of a product, repeated `count` times (groups, or places of a locally connected layer).
#[derive(Clone, Copy, Debug)]
pub struct ProductShape {
    /// Rows of the result.
    pub lines: usize,
    /// Columns of the result.
    pub columns: usize,
    /// Values that a sum runs over, as the kernel counts them (windows padded).
    pub depth: usize,
    /// How many such products one launch makes.
    pub count: usize,
    /// Whether lines are read 16 bytes at a time, see `wide_windows` in
    /// `src/layers/window/cuda.rs`.
    pub wide: bool,
    /// Whether a sum may be shared out to several blocks (a reduction has to follow).
    pub may_split: bool,
    /// Of its factors.
    pub precision: Precision,
}

/// A block's share: see `kernels/product.cuh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    warps: (usize, usize),
    thread: (usize, usize),
    depth: usize,
    /// Blocks that find room on a multiprocessor, from ptxas's register counts.
    resident: usize,
    /// How fast its sums come, as a share of the fastest tile's, as measured.
    efficiency: usize,
    precision: Precision,
    /// Buffers in shared memory (`kernels/product_tensor.cuh`; the other has always two).
    stages: usize,
}

const fn tf32(
    warps: (usize, usize),
    thread: (usize, usize),
    stages: usize,
    resident: usize,
    efficiency: usize,
) -> Tile {
    Tile { warps, thread, depth: 16, resident, efficiency, precision: Precision::Tf32, stages }
}

const fn bf16(
    warps: (usize, usize),
    thread: (usize, usize),
    stages: usize,
    resident: usize,
    efficiency: usize,
) -> Tile {
    Tile { warps, thread, depth: 32, resident, efficiency, precision: Precision::Bf16, stages }
}

const fn tile(
    warps: (usize, usize),
    thread: (usize, usize),
    depth: usize,
    resident: usize,
    efficiency: usize,
) -> Tile {
    Tile { warps, thread, depth, resident, efficiency, precision: Precision::F32, stages: 2 }
}

/// The tiles to choose from.
pub const TILES: [Tile; 26] = [
    tile((2, 4), (8, 8), 16, 2, 88),   // 128 x 128
    tile((2, 2), (8, 12), 16, 2, 100), // 128 x 96
    tile((2, 2), (8, 8), 16, 3, 86),   // 128 x 64
    tile((3, 1), (8, 12), 16, 2, 80),  // 192 x 48
    tile((2, 1), (8, 12), 16, 4, 94),  // 128 x 48
    tile((4, 1), (8, 8), 8, 3, 59),    // 256 x 32
    tile((1, 4), (4, 4), 8, 6, 54),    // 32 x 64
    tile((1, 1), (4, 4), 8, 12, 38),   // 32 x 16
    tf32((2, 2), (8, 16), 4, 2, 100),  // 128 x 128
    tf32((2, 4), (8, 8), 4, 2, 62),    // 128 x 128
    tf32((2, 2), (8, 12), 4, 2, 85),   // 128 x 96
    tf32((2, 2), (8, 8), 4, 3, 68),    // 128 x 64
    tf32((4, 1), (8, 16), 3, 2, 91),   // 256 x 64
    tf32((4, 1), (8, 12), 3, 2, 57),   // 256 x 48
    tf32((2, 1), (8, 12), 4, 4, 65),   // 128 x 48
    tf32((2, 2), (4, 8), 4, 5, 46),    // 64 x 64
    tf32((1, 1), (4, 4), 3, 12, 20),   // 32 x 16
    bf16((2, 2), (8, 16), 4, 2, 82),   // 128 x 128
    bf16((2, 4), (8, 8), 4, 2, 50),    // 128 x 128
    bf16((2, 2), (8, 12), 4, 2, 82),   // 128 x 96
    bf16((2, 2), (8, 8), 4, 3, 47),    // 128 x 64
    bf16((4, 1), (8, 16), 3, 2, 76),   // 256 x 64
    bf16((4, 1), (8, 12), 3, 2, 60),   // 256 x 48
    bf16((2, 1), (8, 12), 4, 4, 56),   // 128 x 48
    bf16((2, 2), (4, 8), 4, 5, 43),    // 64 x 64
    bf16((1, 1), (4, 4), 3, 12, 20),   // 32 x 16
];

impl Tile {
    fn lines(self) -> usize {
        self.warps.0 * 8 * self.thread.0
    }
    fn columns(self) -> usize {
        self.warps.1 * 4 * self.thread.1
    }
    fn threads(self) -> usize {
        self.warps.0 * self.warps.1 * 32
    }
    /// Bytes of shared memory that a launch has to ask for; 0 where the kernel declares its own.
    fn shared(self) -> usize {
        if self.precision == Precision::F32 {
            return 0;
        }
        // Rows of a factor are longer than what they hold: by a pack along k, across by 8 values.
        let (pack, bytes) = (self.precision.pack(), self.precision.format().bytes());
        let side = |span: usize| (span * (self.depth + pack)).max(self.depth * (span + 8));
        bytes * self.stages * (side(self.lines()) + side(self.columns()))
    }
    /// What it computes in.
    pub fn precision(self) -> Precision {
        self.precision
    }
    /// Whether it can compute this product.
    pub fn suits(self, product: ProductShape) -> bool {
        self.precision == product.precision && self.finds_room(product.wide)
    }
    /// Whether the registers suffice, by ptxas: lines that are read value by value need four times
    /// as many to know where they are.
    fn finds_room(self, wide: bool) -> bool {
        wide || self.precision != Precision::F32
            || (self.thread.0 * self.thread.1 <= 64 && self.threads() <= 128)
    }
}

/// How a product is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    tile: Tile,
    /// Blocks that share a sum; above 1 the kernel writes that many parts for `reduce_splits`.
    pub splits: usize,
    split_depth: usize,
    grid: (usize, usize, usize),
    /// Blocks along the lines.
    line_blocks: usize,
}

/// Blocks of a grid along z, on every GPU; what is repeated more often stands along x.
const MOST_ALONG_Z: usize = 65_535;

impl Tiling {
    /// The cheapest way by a simple model: the time of the last multiprocessor to finish, in
    /// multiply-adds, and some of them for each value of a part that goes out and comes back.
    pub fn choose(product: ProductShape, multiprocessors: usize) -> Tiling {
        TILES
            .iter()
            .filter(|tile| tile.suits(product))
            .flat_map(|&tile| {
                let most = if product.may_split { product.depth.div_ceil(256).min(256) } else { 1 };
                (1..=most).map(move |splits| Tiling::new(product, tile, splits))
            })
            .min_by(|a, b| {
                let cost = |plan: &Tiling| plan.cost(product, multiprocessors);
                cost(a).total_cmp(&cost(b))
            })
            .expect("there is at least one tile")
    }

    /// The plan with this tile and at most this many splits.
    pub fn new(product: ProductShape, tile: Tile, splits: usize) -> Tiling {
        let split_depth = product.depth.div_ceil(splits).next_multiple_of(tile.depth);
        let splits = product.depth.div_ceil(split_depth).max(1);
        let lines = product.lines.div_ceil(tile.lines());
        let columns = product.columns.div_ceil(tile.columns());
        let repeated = product.count * splits;
        let grid = (lines, columns, repeated);
        let tiling = Tiling { tile, splits, split_depth, grid, line_blocks: lines };
        if repeated > MOST_ALONG_Z { tiling.along_x() } else { tiling }
    }

    /// The same with what stands along z beside the lines instead, where there is room for more.
    pub fn along_x(self) -> Tiling {
        let (lines, columns, repeated) = self.grid;
        Tiling { grid: (lines * repeated, columns, 1), ..self }
    }

    /// [`Tiling::grid`] with blocks behind it for the columns of every repetition
    /// (`kernels/bias.cuh`); `local`: places are repeated.
    pub fn grid_with_biases(&self, local: bool) -> (usize, usize, usize) {
        let (x, columns, repeated) = self.grid;
        if x > self.line_blocks {
            (x + x / self.line_blocks, columns, 1)
        } else if local {
            (x + 1, columns, repeated)
        } else {
            (x, columns, repeated + repeated.div_ceil(x))
        }
    }

    fn cost(&self, product: ProductShape, multiprocessors: usize) -> f64 {
        let blocks = self.grid.0 * self.grid.1 * self.grid.2;
        // As fits the times of all ways on an H200 best (`benches/tiles.rs`), without conv1's
        // weights, whose ways were tried with too few parts: for one tower's products 7.55 ms in
        // f32, 2.85 in TF32 and 1.64 in bfloat16, where each one's fastest way makes 7.19, 2.79
        // and 1.62.
        let (moving, warps, start) = match self.tile.precision {
            Precision::F32 => (50.0, 10.0, 32),
            Precision::Tf32 => (700.0, 10.0, 0),
            Precision::Bf16 => (1700.0, 6.0, 192),
        };
        let sums = self.tile.lines() * self.tile.columns() * (self.split_depth + start);
        // A multiprocessor needs some warps at least to be busy; blocks beyond its share queue up.
        let rounds = blocks.div_ceil(multiprocessors);
        let idle =
            (warps / (rounds.min(self.tile.resident) * self.tile.threads() / 32) as f64).max(1.0);
        let parts = if self.splits > 1 { self.splits } else { 0 };
        let moved = (parts * product.lines * product.columns * product.count) as f64;
        rounds as f64 * sums as f64 * idle * 100.0 / self.tile.efficiency as f64
            + moving * moved / multiprocessors as f64
    }

    /// The constants the kernels need.
    pub fn constants(&self) -> Vec<Constant> {
        let mut all = [
            ("TILE_WARPS_M", self.tile.warps.0),
            ("TILE_WARPS_N", self.tile.warps.1),
            ("TILE_THREAD_M", self.tile.thread.0),
            ("TILE_THREAD_N", self.tile.thread.1),
            ("TILE_DEPTH", self.tile.depth),
            ("TILE_TENSOR", usize::from(self.tile.precision != Precision::F32)),
            ("SPLITS", self.splits),
            ("SPLIT_K", self.split_depth),
        ]
        .map(|(name, value)| (name, value.to_string()))
        .to_vec();
        if self.grid.0 > self.line_blocks {
            all.push(("LINE_BLOCKS", self.line_blocks.to_string()));
        }
        if self.tile.precision != Precision::F32 {
            all.extend(self.tile.precision.format().constant());
            let more = [
                ("TILE_STAGES", self.tile.stages),
                ("TILE_SHARED", self.shared()),
                ("TILE_BLOCKS", if self.tile.threads() > 128 { 1 } else { 2 }),
            ];
            all.extend(more.map(|(name, value)| (name, value.to_string())));
        }
        all
    }

    /// Bytes of shared memory that the launch asks for.
    pub fn shared(&self) -> usize {
        self.tile.shared()
    }

    /// A block's share.
    pub fn tile(&self) -> Tile {
        self.tile
    }

    /// Blocks of the launch.
    pub fn grid(&self) -> (usize, usize, usize) {
        self.grid
    }

    /// Threads of a block.
    pub fn block(&self) -> (usize, usize, usize) {
        (self.tile.threads(), 1, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_grid_has_no_room_for_along_z_stands_along_x() {
        let product = |count| ProductShape {
            lines: 100,
            columns: 70,
            depth: 9,
            count,
            wide: false,
            may_split: false,
            precision: Precision::F32,
        };
        let of = |count| {
            let plan = Tiling::choose(product(count), 108);
            let all = plan.constants().into_iter();
            let blocks: Vec<_> = all.filter(|(name, _)| *name == "LINE_BLOCKS").collect();
            (plan.grid(), blocks)
        };
        let ((lines, columns, z), none) = of(65_535);
        assert_eq!((z, none), (65_535, vec![]));
        let lines_each = vec![("LINE_BLOCKS", lines.to_string())];
        assert_eq!(of(65_536), ((lines * 65_536, columns, 1), lines_each));
    }
}
