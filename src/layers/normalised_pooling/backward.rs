//! Backward: input rows are normalised again as the windows come to them, each row of windows says
//! where its maxima lie, and a row that no later window sees takes its gradient from the windows
//! over it and gives the gradient at its input.

use super::NormalisedPooling;
use super::rows::{activate, normalise};
use crate::layers::activation::cpu::rectified_gradient;
use crate::layers::beside::Gradient;
use crate::layers::lrn::vectors::Formulas;
use crate::layers::pool::Pool;
use crate::vectors::{Simd, Work, store_some};
use std::ops::Range;

/// Scratch space for one image, in values: the two rows with gaps and all of [`Kept`].
pub(super) fn scratch(of: &NormalisedPooling) -> usize {
    2 * of.rows().padded()
        + (1 + 4 * of.slots()) * of.rows().row()
        + 2 * most_over(of) * windows(of)
}

/// Rows of windows that may lie over an input row.
fn most_over(of: &NormalisedPooling) -> usize {
    of.pool.size.div_ceil(of.pool.stride).min(of.pool.output.height)
}

/// Values of a row of windows.
fn windows(of: &NormalisedPooling) -> usize {
    of.pool.output.width * of.rows().position
}

/// `dx` `[input]`, overwritten, from `dy` `[output]` and `x` `[input]` for one image.
pub(super) struct Backward<'a> {
    pub of: &'a NormalisedPooling,
    pub dx: &'a mut [f32],
    pub dy: Gradient<'a>,
    pub x: &'a [f32],
    pub scratch: &'a mut [f32],
}

/// What is kept of input rows and rows of windows, each in its slot, between the steps.
struct Kept<'a> {
    /// The input a as normalisation sees it, and the normalised values b.
    inputs: &'a mut [f32],
    outputs: &'a mut [f32],
    /// s^−¾ and 1/s.
    power: &'a mut [f32],
    inverse: &'a mut [f32],
    /// Of windows: which of its positions, counted from 0, is the largest; and the gradient dy.
    largest: &'a mut [f32],
    shares: &'a mut [f32],
    /// One row of gradients at b; one of squares and one of db · b / s, with gaps.
    gradient: &'a mut [f32],
    near: &'a mut [f32],
    inner: &'a mut [f32],
    across: Vec<Vec<Over>>,
}

/// A window over a column: where its values begin in a row of windows, its columns inside the map,
/// and which of them that is.
#[derive(Clone, Copy)]
struct Over {
    at: usize,
    columns: usize,
    column: usize,
}

/// For each column of the map the windows over it. Made once for an image: for each row it took a
/// fifth of the pass.
fn windows_over(of: &NormalisedPooling) -> Vec<Vec<Over>> {
    let (pool, rows) = (&of.pool, of.rows());
    let of_column = |column: usize| {
        let windows = over(pool, column, pool.output.width).map(|window| {
            let range = pool.range(window, rows.width);
            let at = window * rows.position;
            Over { at, columns: range.len(), column: column - range.start }
        });
        windows.collect()
    };
    (0..rows.width).map(of_column).collect()
}

/// The windows over row or column `x` of a map, of `windows`.
fn over(pool: &Pool, x: usize, windows: usize) -> Range<usize> {
    (x + 1).saturating_sub(pool.size).div_ceil(pool.stride)..(x / pool.stride + 1).min(windows)
}

impl<'a> Kept<'a> {
    fn new(of: &NormalisedPooling, scratch: &'a mut [f32]) -> Kept<'a> {
        scratch.fill(0.0);
        let (mut rest, rows) = (scratch, of.rows());
        let mut take = |values: usize| {
            let (taken, others) = std::mem::take(&mut rest).split_at_mut(values);
            rest = others;
            taken
        };
        let (ring, windows) = (of.slots() * rows.row(), most_over(of) * windows(of));
        Kept {
            across: windows_over(of),
            near: take(rows.padded()),
            inner: take(rows.padded()),
            gradient: take(rows.row()),
            inputs: take(ring),
            outputs: take(ring),
            power: take(ring),
            inverse: take(ring),
            largest: take(windows),
            shares: take(windows),
        }
    }

    /// Row `x` of the input, normalised, to the slot that begins at `slot`.
    #[inline(always)]
    fn begin<S: Simd, const RELU: bool>(
        &mut self,
        s: S,
        of: &NormalisedPooling,
        (x, dx): (&[f32], &[f32]),
        slot: usize,
    ) {
        let slot = slot..slot + of.rows().row();
        let a = &mut self.inputs[slot.clone()];
        activate::<S, RELU>(s, of, (a, self.near), x, Some(dx));
        let powers = [&mut self.power[slot.clone()], &mut self.inverse[slot.clone()]];
        normalise(s, of, &mut self.outputs[slot], (a, self.near), Some(powers));
    }

    /// The places of the maxima, and the gradient `dy`, of row `o` of windows.
    #[inline(always)]
    fn pool<S: Simd>(
        &mut self,
        s: S,
        of: &NormalisedPooling,
        dy: Gradient<'_>,
        slots: &[usize],
        o: usize,
    ) {
        let (c, position) = (of.pool.output.channels, of.rows().position);
        let base = o % most_over(of) * windows(of);
        let places = base..base + windows(of);
        let largest = self.largest[places.clone()].chunks_exact_mut(position);
        let shares = self.shares[places].chunks_exact_mut(position);
        for (o, (largest, share)) in largest.zip(shares).enumerate() {
            let columns = of.pool.range(o, of.lrn.shape.width);
            for first in (0..c).step_by(S::LANES) {
                let from = place(s, self.outputs, slots, &columns, (position, first));
                store_some(s, &mut largest[first..], from);
                store_some(s, &mut share[first..], dy.load(s, o, first));
            }
        }
    }

    /// `dx` ← the gradient at row `r` of the input.
    #[inline(always)]
    fn finish<S: Simd, const RELU: bool>(
        &mut self,
        s: S,
        of: &NormalisedPooling,
        dx: &mut [f32],
        r: usize,
    ) {
        let (rows, c) = (of.rows(), of.lrn.shape.channels);
        let (formulas, slot) = (Formulas::new(s, &of.lrn), of.slot(r));
        self.collect(s, of, formulas, r);
        let row = |values: &[f32]| -> *const f32 { values[slot..][..rows.row()].as_ptr() };
        let (a, power) = (row(self.inputs), row(self.power));
        assert!(self.gradient.len() >= rows.row() && self.inner.len() >= rows.padded());
        assert!(dx.len() >= of.line());
        let gradient = self.gradient.as_mut_ptr();
        // Where maps do not fill vectors, to the row of gradients first.
        let whole = c.is_multiple_of(S::LANES);
        let (to, apart) = if whole { (dx.as_mut_ptr(), c) } else { (gradient, rows.position) };
        for column in 0..rows.width {
            let at = column * rows.position;
            // SAFETY: rows of whole vectors, and one with gaps, by the assertions; what is written
            // to the row of gradients has been read.
            unsafe {
                let (a, power, gradient) = (a.add(at), power.add(at), gradient.add(at));
                let (inner, to) =
                    (self.inner.as_ptr().add(rows.near(column)), to.add(column * apart));
                for first in (0..apart).step_by(S::LANES) {
                    let a = s.load(a.add(first));
                    let at_b = (s.load(gradient.add(first)), a, s.load(power.add(first)));
                    let da = formulas.gradient_at(inner.add(first), at_b);
                    s.store(to.add(first), if RELU { rectified_gradient(s, da, a) } else { da });
                }
            }
        }
        if !whole {
            let from = self.gradient.chunks_exact(rows.position);
            for (dx, from) in dx.chunks_exact_mut(c).zip(from) {
                dx.copy_from_slice(&from[..c]);
            }
        }
    }

    /// The gradient at b of row `r`: the shares of all windows that have their maximum there, added
    /// in the windows' order; and db · b / s with it.
    #[inline(always)]
    fn collect<S: Simd>(&mut self, s: S, of: &NormalisedPooling, formulas: Formulas<S>, r: usize) {
        let (pool, rows, slot) = (&of.pool, of.rows(), of.slot(r));
        let (kept, ring) = (windows(of), most_over(of) * windows(of));
        assert!(self.largest.len() >= ring && self.shares.len() >= ring);
        assert!(self.gradient.len() >= rows.row() && self.inner.len() >= rows.padded());
        let row = |values: &[f32]| -> *const f32 { values[slot..][..rows.row()].as_ptr() };
        let (b, inverse) = (row(self.outputs), row(self.inverse));
        // Rows of windows over it: where each begins, and which of a window's rows it is there.
        let down = over(pool, r, pool.output.height);
        let down: Vec<_> = down.map(|o| (o % most_over(of) * kept, r - o * pool.stride)).collect();
        let mut found = Vec::with_capacity(most_over(of) * most_over(of));
        for (column, across) in self.across.iter().enumerate() {
            // Where each window over it lies, and the number that it has in it.
            found.clear();
            for (start, row) in &down {
                found.extend(across.iter().map(|window| {
                    let number = row * window.columns + window.column;
                    (start + window.at, s.splat(number as f32))
                }));
            }
            let at = column * rows.position;
            // SAFETY: rows, and one with gaps, all of whole vectors, by the assertions; so are the
            // rows of windows in which `found` lies.
            unsafe {
                let position = Position {
                    values: rows.position,
                    largest: self.largest.as_ptr(),
                    shares: self.shares.as_ptr(),
                    b: b.add(at),
                    inverse: inverse.add(at),
                    gradient: self.gradient.as_mut_ptr().add(at),
                    inner: self.inner.as_mut_ptr().add(rows.place(column)),
                };
                // The paper's windows have code without a loop.
                match found[..] {
                    [one] => position.collect(s, formulas, &[one]),
                    [one, two] => position.collect(s, formulas, &[one, two]),
                    [one, two, three, four] => {
                        position.collect(s, formulas, &[one, two, three, four])
                    }
                    _ => position.collect(s, formulas, &found),
                }
            }
        }
    }
}

/// One position of a row of the input, as [`Kept::collect`] works on it.
struct Position {
    values: usize,
    /// The first rows of windows.
    largest: *const f32,
    shares: *const f32,
    /// Its own values.
    b: *const f32,
    inverse: *const f32,
    gradient: *mut f32,
    inner: *mut f32,
}

impl Position {
    /// # Safety
    /// `values` of its own values are readable and writable, and of the windows that begin at
    /// `found`, which comes with the position's number in each.
    #[inline(always)]
    unsafe fn collect<S: Simd>(&self, s: S, formulas: Formulas<S>, found: &[(usize, S::V)]) {
        for first in (0..self.values).step_by(S::LANES) {
            // SAFETY: as the caller says.
            unsafe {
                let mut db = s.splat(0.0);
                for &(at, number) in found {
                    let from = s.load(self.largest.add(at + first));
                    let share = s.load(self.shares.add(at + first));
                    db = s.add(db, s.if_equal(from, number, share, s.splat(0.0)));
                }
                s.store(self.gradient.add(first), db);
                let of = (db, s.load(self.b.add(first)), s.load(self.inverse.add(first)));
                s.store(self.inner.add(first), formulas.inner(of));
            }
        }
    }
}

/// Which of a window's positions, counted from 0 row by row, has the largest value of `ring`, for
/// the vector of maps that begins at `first`; of equal ones the first. The window has `columns` of
/// the rows that begin at `slots`, and a position `position` values.
#[inline(always)]
fn place<S: Simd>(
    s: S,
    ring: &[f32],
    slots: &[usize],
    columns: &Range<usize>,
    (position, first): (usize, usize),
) -> S::V {
    let most = slots.iter().max().map_or(0, |slot| slot + columns.end * position);
    assert!(most <= ring.len() && first + S::LANES <= position && !columns.is_empty());
    // SAFETY: all columns lie in the ring by the assertion, with room for whole vectors.
    let value = |slot: usize, column: usize| unsafe {
        s.load(ring.as_ptr().add(slot + (columns.start + column) * position + first))
    };
    let (mut from, mut best) = (s.splat(0.0), value(slots[0], 0));
    let mut see = |number: usize, x| {
        from = s.if_greater(x, best, s.splat(number as f32), from);
        best = s.larger(x, best);
    };
    match *slots {
        // The paper's windows have code without a loop.
        [top, middle, bottom] if columns.len() == 3 => {
            for (row, slot) in [top, middle, bottom].into_iter().enumerate() {
                for column in 0..3 {
                    see(3 * row + column, value(slot, column));
                }
            }
        }
        _ => {
            for (row, &slot) in slots.iter().enumerate() {
                for column in 0..columns.len() {
                    see(row * columns.len() + column, value(slot, column));
                }
            }
        }
    }
    from
}

impl Work for Backward<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if self.of.relu { self.rows::<S, true>(s) } else { self.rows::<S, false>(s) }
    }
}

impl Backward<'_> {
    #[inline(always)]
    fn rows<S: Simd, const RELU: bool>(self, s: S) {
        let Self { of, dx, dy, x, scratch } = self;
        let (shape, pool, line) = (of.lrn.shape, &of.pool, of.line());
        let mut kept = Kept::new(of, scratch);
        let mut slots = Vec::with_capacity(pool.size);
        let (mut ready, mut finished) = (0, 0);
        for o in 0..pool.output.height {
            let seen = pool.range(o, shape.height);
            for r in ready..seen.end {
                let rows = (&x[r * line..][..line], &dx[r * line..][..line]);
                kept.begin::<S, RELU>(s, of, rows, of.slot(r));
            }
            ready = ready.max(seen.end);
            slots.clear();
            slots.extend(seen.map(|r| of.slot(r)));
            kept.pool(s, of, dy.from(o * pool.output.width), &slots, o);
            // Rows that no later window sees.
            let last = o + 1 == pool.output.height;
            let end = if last { shape.height } else { (o + 1) * pool.stride };
            for r in finished..end {
                if r >= ready {
                    let rows = (&x[r * line..][..line], &dx[r * line..][..line]);
                    kept.begin::<S, RELU>(s, of, rows, of.slot(r));
                    ready = r + 1;
                }
                kept.finish::<S, RELU>(s, of, &mut dx[r * line..][..line], r);
            }
            finished = end;
        }
    }
}
