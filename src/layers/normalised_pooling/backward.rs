//! Backward: input rows are normalised again as the windows come to them, the windows share their
//! gradient out among the rows that they see, and a row that no later window sees gives the
//! gradient at its input.

use super::NormalisedPooling;
use crate::layers::lrn::vectors::{Formulas, stride};
use crate::layers::pool::cpu::share;
use crate::vectors::{Simd, Work, store_some};

/// Scratch space for one image, in values: the two padded rows and the four rings of [`Rows`].
pub(super) fn scratch(of: &NormalisedPooling) -> usize {
    2 * of.padded_row() + 4 * of.slots() * of.row()
}

/// `dx` `[input]`, overwritten, from `dy` `[output]` and `x` `[input]` for one image.
pub(super) struct Backward<'a> {
    pub of: &'a NormalisedPooling,
    pub dx: &'a mut [f32],
    pub dy: &'a [f32],
    pub x: &'a [f32],
    pub scratch: &'a mut [f32],
}

/// What is kept of the rows between the first window over them and the last, each in its slot.
struct Rows<'a> {
    /// The normalised values b.
    outputs: &'a mut [f32],
    /// s^−¾ and s^−7/4.
    power: &'a mut [f32],
    more: &'a mut [f32],
    /// The gradient at b.
    gradient: &'a mut [f32],
    /// One row of squares, and one of a · db · s^−7/4, with zeros around each position's maps.
    near: &'a mut [f32],
    inner: &'a mut [f32],
}

impl Rows<'_> {
    /// Row `x` of the input, normalised, to the slot that begins at `slot`.
    #[inline(always)]
    fn begin<S: Simd>(&mut self, s: S, of: &NormalisedPooling, x: &[f32], slot: usize) {
        let (c, position, row) = (of.lrn.shape.channels, of.position(), of.row());
        let formulas = Formulas::new(s, &of.lrn);
        of.squares(s, formulas, self.near, x);
        self.gradient[slot..][..row].fill(0.0);
        let places = self.outputs[slot..][..row].chunks_exact_mut(position);
        let places = places.zip(self.power[slot..][..row].chunks_exact_mut(position));
        let places = places.zip(self.more[slot..][..row].chunks_exact_mut(position));
        let near = self.near.chunks_exact(stride(&of.lrn));
        for ((x, near), ((output, power), more)) in x.chunks_exact(c).zip(near).zip(places) {
            for first in (0..c).step_by(S::LANES) {
                let (p, m) = formulas.powers(near, first);
                let a = of.activated(s, &x[first..]);
                store_some(s, &mut output[first..], s.mul(a, p));
                store_some(s, &mut power[first..], p);
                store_some(s, &mut more[first..], m);
            }
        }
    }

    /// `dx` ← the gradient at row `x` of the input, from the slot that begins at `slot`.
    #[inline(always)]
    fn finish<S: Simd>(
        &mut self,
        s: S,
        of: &NormalisedPooling,
        (dx, x): (&mut [f32], &[f32]),
        slot: usize,
    ) {
        let (c, position, row) = (of.lrn.shape.channels, of.position(), of.row());
        let formulas = Formulas::new(s, &of.lrn);
        let kept = |values: &[f32]| -> *const f32 { values[slot..][..row].as_ptr() };
        let (gradient, power, more) = (kept(self.gradient), kept(self.power), kept(self.more));
        let inner = self.inner.chunks_exact_mut(stride(&of.lrn));
        for (i, (x, inner)) in x.chunks_exact(c).zip(inner).enumerate() {
            for first in (0..c).step_by(S::LANES) {
                // SAFETY: a position has room for whole vectors, and a row has `width` positions.
                let (db, more) = unsafe {
                    let at = i * position + first;
                    (s.load(gradient.add(at)), s.load(more.add(at)))
                };
                formulas.inner(inner, first, (db, of.activated(s, &x[first..]), more));
            }
        }
        let inner = self.inner.chunks_exact(stride(&of.lrn));
        let positions = dx.chunks_exact_mut(c).zip(x.chunks_exact(c));
        for (i, ((dx, x), inner)) in positions.zip(inner).enumerate() {
            for first in (0..c).step_by(S::LANES) {
                // SAFETY: `gradient` and `power` too have `width` positions of whole vectors.
                let (db, power) = unsafe {
                    let at = i * position + first;
                    (s.load(gradient.add(at)), s.load(power.add(at)))
                };
                let a = of.activated(s, &x[first..]);
                let da = formulas.gradient(inner, first, (db, a, power));
                store_some(s, &mut dx[first..], of.through_relu(s, da, a));
            }
        }
    }
}

impl Work for Backward<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, dx, dy, x, scratch } = self;
        let (shape, pool, line) = (of.lrn.shape, &of.pool, of.line());
        let (position, kept) = (of.position(), of.slots() * of.row());
        scratch.fill(0.0);
        let (near, rest) = scratch.split_at_mut(of.padded_row());
        let (inner, rest) = rest.split_at_mut(of.padded_row());
        let (outputs, rest) = rest.split_at_mut(kept);
        let (power, rest) = rest.split_at_mut(kept);
        let (more, gradient) = rest.split_at_mut(kept);
        let mut rows = Rows { outputs, power, more, gradient, near, inner };
        let mut spots = Vec::with_capacity(pool.size * pool.size);
        let (mut ready, mut finished) = (0, 0);
        for (o, dy) in dy.chunks_exact(pool.output.width * shape.channels).enumerate() {
            let seen = pool.range(o, shape.height);
            for r in ready..seen.end {
                rows.begin(s, of, &x[r * line..][..line], of.slot(r));
            }
            ready = ready.max(seen.end);
            for (column, dy) in dy.chunks_exact(shape.channels).enumerate() {
                let columns = pool.range(column, shape.width);
                spots.clear();
                for slot in seen.clone().map(|r| of.slot(r)) {
                    spots.extend(columns.clone().map(|c| slot + c * position));
                }
                share(s, (rows.gradient, rows.outputs), dy, &spots, position);
            }
            // Rows that no later window sees.
            let last = o + 1 == pool.output.height;
            let end = if last { shape.height } else { (o + 1) * pool.stride };
            for r in finished..end {
                let (x, slot) = (&x[r * line..][..line], of.slot(r));
                if r >= ready {
                    rows.begin(s, of, x, slot);
                    ready = r + 1;
                }
                rows.finish(s, of, (&mut dx[r * line..][..line], x), slot);
            }
            finished = end;
        }
    }
}
