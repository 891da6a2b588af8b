//! Forward: every input row is normalised once, into a ring of as many rows as a window sees, and
//! each row of windows is pooled as soon as its last input row is there.

use super::NormalisedPooling;
use crate::layers::lrn::vectors::{Formulas, stride};
use crate::layers::pool::cpu::larger;
use crate::vectors::{Simd, Work, load_some, store_some};

/// Scratch space for one image, in values: a row of squares, the ring, a row of the largest.
pub(super) fn scratch(of: &NormalisedPooling) -> usize {
    of.padded_row() + (of.slots() + 1) * of.row()
}

/// `y` `[output]` from `x` `[input]` for one image.
pub(super) struct Forward<'a> {
    pub of: &'a NormalisedPooling,
    pub y: &'a mut [f32],
    pub x: &'a [f32],
    pub scratch: &'a mut [f32],
}

impl Work for Forward<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, y, x, scratch } = self;
        let (pool, c, row) = (&of.pool, of.lrn.shape.channels, of.row());
        scratch.fill(0.0);
        let (near, rest) = scratch.split_at_mut(of.padded_row());
        let (ring, tallest) = rest.split_at_mut(of.slots() * row);
        let mut ready = 0;
        for (o, y) in y.chunks_exact_mut(pool.output.width * c).enumerate() {
            let rows = pool.range(o, of.lrn.shape.height);
            for r in ready.max(rows.start)..rows.end {
                let x = &x[r * of.line()..][..of.line()];
                normalise(s, of, &mut ring[of.slot(r)..][..row], near, x);
            }
            ready = rows.end;
            tallest.copy_from_slice(&ring[of.slot(rows.start)..][..row]);
            for r in rows.start + 1..rows.end {
                taller(s, tallest, &ring[of.slot(r)..][..row]);
            }
            widest(s, of, y, tallest);
        }
    }
}

/// Row `x` of the input, normalised, to `to` [width, position].
#[inline(always)]
fn normalise<S: Simd>(s: S, of: &NormalisedPooling, to: &mut [f32], near: &mut [f32], x: &[f32]) {
    let c = of.lrn.shape.channels;
    let formulas = Formulas::new(s, &of.lrn);
    of.squares(s, formulas, near, x);
    let places = near.chunks_exact(stride(&of.lrn)).zip(to.chunks_exact_mut(of.position()));
    for (x, (near, to)) in x.chunks_exact(c).zip(places) {
        for first in (0..c).step_by(S::LANES) {
            let power = formulas.powers(near, first).0;
            let a = of.activated(s, &x[first..]);
            store_some(s, &mut to[first..], s.mul(a, power));
        }
    }
}

/// `tallest` ← the larger of itself and `row`, value by value.
#[inline(always)]
fn taller<S: Simd>(s: S, tallest: &mut [f32], row: &[f32]) {
    for (best, x) in tallest.chunks_exact_mut(S::LANES).zip(row.chunks_exact(S::LANES)) {
        let more = larger(s, load_some(s, best), load_some(s, x));
        store_some(s, best, more);
    }
}

/// A row `y` [output width, channels] of windows from the largest values of their rows.
#[inline(always)]
fn widest<S: Simd>(s: S, of: &NormalisedPooling, y: &mut [f32], tallest: &[f32]) {
    let (c, position) = (of.lrn.shape.channels, of.position());
    for (o, y) in y.chunks_exact_mut(c).enumerate() {
        let columns = of.pool.range(o, of.lrn.shape.width);
        let window = &tallest[columns.start * position..columns.end * position];
        for first in (0..c).step_by(S::LANES) {
            let mut best = load_some(s, &window[first..]);
            for x in window.chunks_exact(position).skip(1) {
                best = larger(s, best, load_some(s, &x[first..]));
            }
            store_some(s, &mut y[first..], best);
        }
    }
}
