//! Our own matrix product for operands that are laid out for it: a block of rows and two or three vectors of
//! columns stay in registers over the whole depth.
//!
//! The left operand is read value by value (broadcast), the right one in panels: `PANEL · LANES` columns
//! side by side, row after row, the last panel narrower. Both layouts cost nothing where a transform
//! writes the operands anyway, which is what Winograd's convolution does.

#![expect(clippy::needless_range_loop, reason = "loops of constant length over registers")]

use super::simd::{Simd, Work, dispatch};

/// The left operand: `rows × depth` with the values in groups of one vector's lanes.
#[derive(Clone, Copy)]
pub enum Left {
    /// `[depth / LANES][all][LANES]`: lanes run along the depth, `all` rows lie in memory.
    AlongDepth { all: usize },
    /// `[rows / LANES][depth][LANES]`: lanes run along the rows.
    AlongRows,
}

/// out [rows, columns], rows `stride` apart, ← left · right, added to what is there if `add`.
///
/// `depth` of [`Left::AlongDepth`] and `rows` of [`Left::AlongRows`] are multiples of the lanes;
/// `columns` always is.
pub struct Product<'a> {
    pub left: &'a [f32],
    pub order: Left,
    /// Panels [columns / (PANEL · LANES)][depth][PANEL · LANES], `panel_stride` values apart.
    pub right: &'a [f32],
    pub panel_stride: usize,
    pub out: &'a mut [f32],
    pub stride: usize,
    pub rows: usize,
    pub depth: usize,
    pub columns: usize,
    pub add: bool,
}

impl Product<'_> {
    /// Computes it at the machine's level.
    pub fn compute(self) {
        dispatch(self);
    }
}

impl Work for Product<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Product { rows, depth, columns, stride, .. } = self;
        let width = S::PANEL * S::LANES;
        let panels = columns.div_ceil(width);
        if rows == 0 || columns == 0 || depth == 0 {
            return;
        }
        // All that the loops below read and write.
        assert!(columns.is_multiple_of(S::LANES) && columns <= stride);
        assert!((rows - 1) * stride + columns <= self.out.len());
        let last = columns - (panels - 1) * width;
        assert!((panels - 1) * self.panel_stride + depth * last <= self.right.len());
        assert!(panels == 1 || depth * width <= self.panel_stride);
        let along_rows = match self.order {
            Left::AlongDepth { all } => {
                assert!(depth.is_multiple_of(S::LANES) && rows <= all);
                assert!(
                    (depth / S::LANES - 1) * all * S::LANES + rows * S::LANES <= self.left.len()
                );
                false
            }
            Left::AlongRows => {
                assert!(rows.is_multiple_of(S::LANES) && rows * depth <= self.left.len());
                true
            }
        };
        let jump = if let Left::AlongDepth { all } = self.order { all * S::LANES } else { 0 };
        for panel in 0..panels {
            let first = panel * width;
            let vectors = (columns - first).min(width) / S::LANES;
            let right = self.right[panel * self.panel_stride..].as_ptr();
            // Blocks of even height: a last one of a row or two would wait for its own sums.
            let blocks = rows.div_ceil(S::ROWS);
            let mut row = 0;
            for block in 0..blocks {
                let count = (rows - row).div_ceil(blocks - block);
                // SAFETY: `left`, `right` and `out` reach by the assertions above.
                unsafe {
                    let tile = Tile {
                        left: self.left.as_ptr(),
                        row,
                        jump,
                        right,
                        out: self.out.as_mut_ptr().add(row * stride + first),
                        stride,
                        depth,
                        add: self.add,
                    };
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

/// One block of rows and one panel.
struct Tile {
    /// The whole left operand, and the block's first row in it.
    left: *const f32,
    row: usize,
    /// Values from one group of depth to the next.
    jump: usize,
    right: *const f32,
    out: *mut f32,
    stride: usize,
    depth: usize,
    add: bool,
}

impl Tile {
    #[inline(always)]
    unsafe fn of_width<S: Simd, const ALONG_ROWS: bool>(&self, s: S, rows: usize, vectors: usize) {
        // SAFETY: the caller's word.
        unsafe {
            match vectors {
                3 if S::PANEL >= 3 => self.of_height::<S, ALONG_ROWS, 3>(s, rows),
                2 => self.of_height::<S, ALONG_ROWS, 2>(s, rows),
                _ => self.of_height::<S, ALONG_ROWS, 1>(s, rows),
            }
        }
    }

    #[inline(always)]
    unsafe fn of_height<S: Simd, const A: bool, const N: usize>(&self, s: S, rows: usize) {
        // SAFETY: the caller's word.
        unsafe {
            match rows {
                8 if S::ROWS >= 8 => self.compute::<S, A, N, 8>(s),
                7 if S::ROWS >= 8 => self.compute::<S, A, N, 7>(s),
                6 if S::ROWS >= 6 => self.compute::<S, A, N, 6>(s),
                5 if S::ROWS >= 6 => self.compute::<S, A, N, 5>(s),
                4 => self.compute::<S, A, N, 4>(s),
                3 => self.compute::<S, A, N, 3>(s),
                2 => self.compute::<S, A, N, 2>(s),
                _ => self.compute::<S, A, N, 1>(s),
            }
        }
    }

    #[inline(always)]
    unsafe fn compute<S: Simd, const ALONG_ROWS: bool, const N: usize, const R: usize>(
        &self,
        s: S,
    ) {
        let lanes = S::LANES;
        // Groups of depth; in each, values `step` apart.
        let (groups, inner) =
            if ALONG_ROWS { (1, self.depth) } else { (self.depth / lanes, lanes) };
        let step = if ALONG_ROWS { lanes } else { 1 };
        let start = |row: usize| match ALONG_ROWS {
            false => row * lanes,
            true => row / lanes * self.depth * lanes + row % lanes,
        };
        let mut sums = [[s.splat(0.0); N]; R];
        let mut right = self.right;
        // SAFETY: the caller's word for every address.
        unsafe {
            let mut rows = [self.left; R];
            for r in 0..R {
                rows[r] = self.left.add(start(self.row + r));
            }
            for group in 0..groups {
                let mut at = group * self.jump;
                for _ in 0..inner {
                    let mut b = [s.splat(0.0); N];
                    for n in 0..N {
                        b[n] = s.load(right.add(n * lanes));
                    }
                    for r in 0..R {
                        let a = s.splat(*rows[r].add(at));
                        for n in 0..N {
                            sums[r][n] = s.fma(a, b[n], sums[r][n]);
                        }
                    }
                    at += step;
                    right = right.add(N * lanes);
                }
            }
            for r in 0..R {
                for n in 0..N {
                    let out = self.out.add(r * self.stride + n * lanes);
                    let sum = if self.add { s.add(s.load(out), sums[r][n]) } else { sums[r][n] };
                    s.store(out, sum);
                }
            }
        }
    }
}
