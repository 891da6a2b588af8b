//! Our own matrix product for operands that are laid out for it: a block of rows and one to four
//! vectors of columns stay in registers over the whole depth (`tile`).
//!
//! The left operand is read value by value (broadcast), the right one in vectors. The layouts cost
//! nothing where a transform writes the operands anyway, which is what Winograd's convolution does,
//! or where weights lie so for good, as a fully connected layer's do.
//!
//! From a second-level cache that holds the operands the kernel reaches 94 to 100 % of the
//! multiply-add peak on a Zen 3. What comes from further away is asked for ahead: the next panel of
//! the right operand while this one is used. On one core of a Zen 3, with neighbours in the
//! third-level cache, conv3's forward pass, which reads 7 MB of weights for every 32 tiles, took
//! 209 ms with it and 275 without (best of five runs in turn); with both cores at work the gain is
//! lost in the noise.

mod tile;

use super::scratch::LINE;
use super::{Simd, Work, dispatch};
use std::ops::Range;
use tile::{Ahead, Then, Tile};

/// The left operand, `rows × depth`: the values lie in groups of a cache line, sixteen.
#[derive(Clone, Copy)]
pub enum Left {
    /// `[depth / 16][all][16]`: groups run along the depth, `all` rows lie in memory.
    AlongDepth {
        /// Rows in memory, of which the product may take the first ones.
        all: usize,
    },
    /// `[rows / 16][depth][16]`: groups run along the rows.
    AlongRows,
}

/// The right operand, `depth × columns`.
#[derive(Clone, Copy)]
pub enum Right {
    /// `[columns / panel][depth][panel]`, panels (`vectors::panel`) `apart` values apart, the last
    /// one narrower.
    Panels {
        /// Values from one panel to the next.
        apart: usize,
    },
    /// `[columns / 16][depth][16]`, `apart` values from one line of columns to the next: an order
    /// that does not depend on the machine.
    Lines {
        /// Values from one line of columns to the next.
        apart: usize,
    },
}

/// Where a column is whose row 0 lies in lines, `apart` values from one to the next.
fn in_lines(column: usize, apart: usize) -> usize {
    column / LINE * apart + column % LINE
}

impl Right {
    /// Where row 0 of a column is; `panel` columns are a panel.
    fn place(self, column: usize, panel: usize) -> usize {
        match self {
            Right::Panels { apart } => column / panel * apart + column % panel,
            Right::Lines { apart } => in_lines(column, apart),
        }
    }
}

/// The result, `rows × columns`.
#[derive(Clone, Copy)]
pub enum Out {
    /// Rows `stride` values apart.
    Rows {
        /// Values from one row to the next.
        stride: usize,
    },
    /// `[columns / 16][rows][16]`, `apart` values from one line of columns to the next.
    Lines {
        /// Values from one line of columns to the next.
        apart: usize,
    },
}

impl Out {
    /// Where row 0 of a column is.
    fn place(self, column: usize) -> usize {
        match self {
            Out::Rows { .. } => column,
            Out::Lines { apart } => in_lines(column, apart),
        }
    }
    /// Values from one row to the next.
    fn stride(self) -> usize {
        match self {
            Out::Rows { stride } => stride,
            Out::Lines { .. } => LINE,
        }
    }
}

/// What becomes of the product.
pub enum Finish<'a> {
    /// It is what is there from now on.
    Store,
    /// It is added to what is there.
    Add,
    /// It is the gradient of the weights that are there, which are updated; `v` lies as they do.
    Update {
        /// The update rule's v of these weights.
        v: &'a mut [f32],
        /// Its constants.
        rule: Rule,
    },
}

/// The update rule v ← m·v − decay·w − rate·g; w ← w + v (paper section 5).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// m
    pub momentum: f32,
    /// The weight decay times the rate.
    pub decay: f32,
    /// The learning rate.
    pub rate: f32,
}

/// out ← left · right.
///
/// Multiples of 16 are `depth` of [`Left::AlongDepth`], `rows` of [`Left::AlongRows`] and `columns`
/// of lines; other `columns` are multiples of the lanes.
pub struct Product<'a> {
    /// `rows × depth`, in `order`.
    pub left: &'a [f32],
    /// How `left` lies.
    pub order: Left,
    /// `depth × columns`, in `panels`.
    pub right: &'a [f32],
    /// How `right` lies.
    pub panels: Right,
    /// What is read after this, such as the next product's right operand: it is asked for
    /// meanwhile.
    pub next: &'a [f32],
    /// `rows × columns`.
    pub out: &'a mut [f32],
    /// How `out` lies.
    pub to: Out,
    /// Rows of the result.
    pub rows: usize,
    /// Values that each sum runs over.
    pub depth: usize,
    /// Columns of the result.
    pub columns: usize,
    /// What becomes of it.
    pub finish: Finish<'a>,
}

impl Product<'_> {
    /// Computes it at the machine's level.
    pub fn compute(self) {
        dispatch(self);
    }

    /// Panics unless the operands hold all that the loops read and write.
    fn check(&self, lanes: usize, width: usize) {
        let Self { rows, depth, columns, .. } = *self;
        let (panels, lines) = (columns.div_ceil(width), columns / LINE);
        assert!(columns.is_multiple_of(lanes));
        let left = match self.order {
            Left::AlongDepth { all } => {
                assert!(depth.is_multiple_of(LINE) && rows <= all);
                ((depth / LINE - 1) * all + rows) * LINE
            }
            Left::AlongRows => {
                assert!(rows.is_multiple_of(LINE));
                rows * depth
            }
        };
        let right = match self.panels {
            Right::Panels { apart } => {
                assert!(panels == 1 || depth * width <= apart);
                (panels - 1) * apart + depth * (columns - (panels - 1) * width)
            }
            Right::Lines { apart } => {
                assert!(columns.is_multiple_of(LINE));
                (lines - 1) * apart + depth * LINE
            }
        };
        let out = match self.to {
            Out::Rows { stride } => {
                assert!(columns <= stride);
                (rows - 1) * stride + columns
            }
            Out::Lines { apart } => {
                assert!(columns.is_multiple_of(LINE) && (lines == 1 || rows * LINE <= apart));
                (lines - 1) * apart + rows * LINE
            }
        };
        assert!(left <= self.left.len() && right <= self.right.len() && out <= self.out.len());
        if let Finish::Update { v, .. } = &self.finish {
            assert!(out <= v.len());
        }
    }

    /// What block number `block`, rows `rows`, asks for while the panel that begins at column
    /// `first` is used: one line of columns of what follows; then, while the first panel is used,
    /// the left operand's next rows, which later panels find in the cache. Blocks after that have
    /// nothing to ask for but what they read.
    fn ahead(&self, first: usize, width: usize, block: usize, rows: Range<usize>) -> Ahead {
        let (line, next) = (block * LINE, first + width);
        let at = |column| self.right.as_ptr().wrapping_add(self.panels.place(column, width));
        let step = match self.panels {
            Right::Panels { .. } => (self.columns - first).min(width),
            Right::Lines { .. } => LINE,
        };
        let right = |at| Ahead { at, jump: step * LINE, step };
        match (line < width, next < self.columns, self.order) {
            (true, true, _) => right(at(next + line)),
            (true, false, _) => right(self.next.as_ptr().wrapping_add(line)),
            (false, _, Left::AlongDepth { all }) if first == 0 => {
                let at = self.left.as_ptr().wrapping_add(rows.end * LINE);
                Ahead { at, jump: all * LINE, step: LINE }
            }
            (false, ..) => right(at(first)),
        }
    }
}

impl Work for Product<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let Product { rows, depth, columns, .. } = self;
        if rows == 0 || columns == 0 || depth == 0 {
            return;
        }
        let width = S::PANEL * S::LANES;
        self.check(S::LANES, width);
        let jump = if let Left::AlongDepth { all } = self.order { all * LINE } else { 0 };
        let along_rows = matches!(self.order, Left::AlongRows);
        let then = match &mut self.finish {
            Finish::Store => Then::Store,
            Finish::Add => Then::Add,
            Finish::Update { v, rule } => Then::Update { v: v.as_mut_ptr(), rule: *rule },
        };
        let (results, stride) = (self.out.as_mut_ptr(), self.to.stride());
        // Blocks of even height: a last one of a row or two would wait for its own sums.
        let blocks = rows.div_ceil(S::ROWS);
        for first in (0..columns).step_by(width) {
            let vectors = (columns - first).min(width) / S::LANES;
            let column = |n: usize| first + n.min(vectors - 1) * S::LANES;
            let right =
                [0, 1, 2, 3].map(|n| self.right[self.panels.place(column(n), width)..].as_ptr());
            let out = [0, 1, 2, 3].map(|n| self.to.place(column(n)));
            let step = match self.panels {
                Right::Panels { .. } => vectors * S::LANES,
                Right::Lines { .. } => LINE,
            };
            let mut row = 0;
            for block in 0..blocks {
                let count = (rows - row).div_ceil(blocks - block);
                let tile = Tile {
                    left: self.left.as_ptr(),
                    row,
                    jump,
                    right,
                    step,
                    out: out.map(|at| at + row * stride),
                    stride,
                    results,
                    then,
                    depth,
                    ahead: self.ahead(first, width, block, row..row + count),
                };
                // SAFETY: `left`, `right`, `out` and `v` reach by the check, for `count` rows from
                // `row` on and `vectors` vectors from `first` on.
                unsafe {
                    match along_rows {
                        false => tile.of_width::<S, false>(s, count, vectors),
                        true => tile.of_width::<S, true>(s, count, vectors),
                    }
                }
                row += count;
            }
        }
    }
}
