//! Forward: every input row is normalised once, into a ring of as many rows as a window sees, and
//! each row of windows is pooled as soon as its last input row is there.

use super::NormalisedPooling;
use super::rows::{activate, normalise};
use crate::layers::beside::Channels;
use crate::layers::pool::cpu::larger;
use crate::vectors::{Simd, Work, store_some};

/// Scratch space for one image, in values: a row of squares, the input's row, the ring.
pub(super) fn scratch(of: &NormalisedPooling) -> usize {
    of.rows().padded() + (1 + of.slots()) * of.rows().row()
}

/// `at` of `y` `[output pixels, all]` from `x` `[input]` for one image.
pub(super) struct Forward<'a> {
    pub of: &'a NormalisedPooling,
    pub y: &'a mut [f32],
    pub at: &'a Channels,
    pub x: &'a [f32],
    pub scratch: &'a mut [f32],
}

impl Work for Forward<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if self.of.relu { self.rows::<S, true>(s) } else { self.rows::<S, false>(s) }
    }
}

impl Forward<'_> {
    #[inline(always)]
    fn rows<S: Simd, const RELU: bool>(self, s: S) {
        let Self { of, y, at, x, scratch } = self;
        let (pool, row) = (&of.pool, of.rows().row());
        scratch.fill(0.0);
        let (near, rest) = scratch.split_at_mut(of.rows().padded());
        let (a, ring) = rest.split_at_mut(row);
        let mut slots = Vec::with_capacity(pool.size);
        let mut ready = 0;
        for (o, y) in y.chunks_exact_mut(pool.output.width * at.all).enumerate() {
            let seen = pool.range(o, of.lrn.shape.height);
            for r in ready.max(seen.start)..seen.end {
                activate::<S, RELU>(s, of, (a, near), &x[r * of.line()..][..of.line()], None);
                normalise(s, of, &mut ring[of.slot(r)..][..row], (a, near), None);
            }
            ready = seen.end;
            slots.clear();
            slots.extend(seen.map(|r| of.slot(r)));
            largest(s, of, (y, at), (ring, &slots));
        }
    }
}

/// `at` of a row `y` [output width, all] of windows over the rows of `ring` that begin at `slots`.
#[inline(always)]
fn largest<S: Simd>(
    s: S,
    of: &NormalisedPooling,
    (y, at): (&mut [f32], &Channels),
    (ring, slots): (&[f32], &[usize]),
) {
    let (c, position) = (of.pool.output.channels, of.rows().position);
    for (o, y) in at.of_mut(y).enumerate() {
        let columns = of.pool.range(o, of.lrn.shape.width);
        let start = columns.start * position;
        let most = slots.iter().max().map_or(0, |slot| slot + columns.end * position);
        assert!(most <= ring.len() && !columns.is_empty());
        for first in (0..c).step_by(S::LANES) {
            // SAFETY: `column` is of the window, all of whose columns lie in the ring by the
            // assertion, with room for whole vectors.
            let value = |slot: usize, column: usize| unsafe {
                s.load(ring.as_ptr().add(slot + start + column * position + first))
            };
            let mut best = value(slots[0], 0);
            match *slots {
                // The paper's windows have code without a loop.
                [top, middle, bottom] if columns.len() == 3 => {
                    for slot in [top, middle, bottom] {
                        for column in 0..3 {
                            best = larger(s, best, value(slot, column));
                        }
                    }
                }
                _ => {
                    for &slot in slots {
                        for column in 0..columns.len() {
                            best = larger(s, best, value(slot, column));
                        }
                    }
                }
            }
            store_some(s, &mut y[first..], best);
        }
    }
}
