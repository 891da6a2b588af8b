//! Rows of the map on their way through the pass. Each position's maps are filled up with zeros to
//! whole vectors of any machine, so that the loops over a row have no rest, no slice to be checked
//! and nothing to be looked up.
//!
//! What that, the powers without roots, gradients that are collected in place of shared out, and
//! rows that are asked for ahead gave together: on two cores of a Zen 5, the paper's two layers of
//! both towers, batch 128, milliseconds forward and back, 11.7 + 26.8 and 7.0 + 15.6 before, 9.0 +
//! 22.5 and 5.9 + 13.6 now; with AVX2 a quarter less forward and a fifth less back. From the cache
//! one core takes 20 and 55 cycles for a vector of sixteen values (48 maps; 19 and 47 with 128),
//! from memory 30 and 80. What gave nothing: the powers alone, the loops as they were; maps a
//! fourth as wide, whose rows fit the first-level cache; buffers on cache lines. What lost: lrn1's
//! gradient written over its input, 19.5 for 21.9 ms back, but then conv1 took 39.8 for 34.0.

use super::NormalisedPooling;
use crate::layers::activation::cpu::rectified;
use crate::layers::lrn::Lrn;
use crate::layers::lrn::vectors::Formulas;
use crate::vectors::scratch::LINE;
use crate::vectors::{Cache, Simd, prefetch};

/// How a row lies in scratch space: `width` positions of `position` values, or, for sums over
/// neighbours, with `gap` zeros before, between and after them.
#[derive(Clone, Copy)]
pub(super) struct Rows {
    pub width: usize,
    pub position: usize,
    gap: usize,
    half: usize,
}

impl Rows {
    pub fn new(lrn: &Lrn) -> Rows {
        Rows {
            width: lrn.shape.width,
            position: lrn.shape.channels.next_multiple_of(LINE),
            gap: (lrn.n / 2).next_multiple_of(LINE).max(LINE),
            half: lrn.n / 2,
        }
    }
    /// Values of a row.
    pub fn row(self) -> usize {
        self.width * self.position
    }
    /// Values of a row with its gaps.
    pub fn padded(self) -> usize {
        self.gap + self.width * (self.position + self.gap)
    }
    /// Where a position's maps begin in a row with gaps.
    #[inline(always)]
    pub fn place(self, column: usize) -> usize {
        self.gap + column * (self.position + self.gap)
    }
    /// Where the first neighbour of its first map is.
    #[inline(always)]
    pub fn near(self, column: usize) -> usize {
        self.place(column) - self.half
    }
}

/// `a` ← row `x` of the input as normalisation sees it; `near` ← its squares, with gaps, which have
/// to be zeros. What lies a row behind `x`, and `later`, as long as `x`, are asked for meanwhile.
#[inline(always)]
pub(super) fn activate<S: Simd, const RELU: bool>(
    s: S,
    of: &NormalisedPooling,
    (a, near): (&mut [f32], &mut [f32]),
    x: &[f32],
    later: Option<&[f32]>,
) {
    let later = later.map(<[f32]>::as_ptr);
    let (rows, c, line) = (of.rows(), of.lrn.shape.channels, of.line());
    assert!(a.len() >= rows.row() && near.len() >= rows.padded() && x.len() >= line);
    // Where maps do not fill vectors, from a copy that does.
    let whole = c.is_multiple_of(S::LANES);
    if !whole {
        for (a, x) in a.chunks_exact_mut(rows.position).zip(x.chunks_exact(c)) {
            a[..c].copy_from_slice(x);
        }
    }
    let a = a.as_mut_ptr();
    let (from, apart) = if whole { (x.as_ptr(), c) } else { (a.cast_const(), rows.position) };
    for column in 0..rows.width {
        // SAFETY: a row of whole vectors, one with gaps and, where maps fill vectors, a line of
        // the input are there by the assertion.
        unsafe {
            let (from, a) = (from.add(column * apart), a.add(column * rows.position));
            let near = near.as_mut_ptr().add(rows.place(column));
            for first in (0..apart).step_by(S::LANES) {
                prefetch(from.add(first).wrapping_add(line), Cache::Second);
                if let Some(later) = later {
                    prefetch(later.wrapping_add(column * c + first), Cache::Second);
                }
                let x = s.load(from.add(first));
                let x = if RELU { rectified(s, x) } else { x };
                s.store(a.add(first), x);
                s.store(near.add(first), s.mul(x, x));
            }
        }
    }
}

/// `b` ← `a`, normalised by the squares `near`; `powers`, if wanted, ← s^−¾ and 1/s.
#[inline(always)]
pub(super) fn normalise<S: Simd>(
    s: S,
    of: &NormalisedPooling,
    b: &mut [f32],
    (a, near): (&[f32], &[f32]),
    mut powers: Option<[&mut [f32]; 2]>,
) {
    let (rows, formulas) = (of.rows(), Formulas::new(s, &of.lrn));
    assert!(b.len() >= rows.row() && a.len() >= rows.row() && near.len() >= rows.padded());
    assert!(powers.iter().flatten().all(|p| p.len() >= rows.row()));
    for column in 0..rows.width {
        let at = column * rows.position;
        // SAFETY: rows of whole vectors, and one with gaps, are there by the assertions.
        unsafe {
            let (a, b) = (a.as_ptr().add(at), b.as_mut_ptr().add(at));
            let near = near.as_ptr().add(rows.near(column));
            for first in (0..rows.position).step_by(S::LANES) {
                let (p, inverse) = formulas.powers_at(near.add(first));
                s.store(b.add(first), s.mul(s.load(a.add(first)), p));
                if let Some([power, inverses]) = &mut powers {
                    s.store(power.as_mut_ptr().add(at + first), p);
                    s.store(inverses.as_mut_ptr().add(at + first), inverse);
                }
            }
        }
    }
}
