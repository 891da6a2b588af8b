//! Normalisation across maps with the paper's β = ¾, by vectors of maps. s^−¾ comes from two square
//! roots and a division: s · 1 / (s · √s · √√s), of which the backward pass needs the second factor
//! too.
//!
//! One task is an image, worked on row by row. A row's squares lie in scratch space with zeros
//! around each position's maps, so that the sum over neighbours is n shifted loads, added from the
//! first to the last. The backward pass computes the sums again, which costs less than to store and
//! fetch them.

use super::Lrn;
use crate::vectors::scratch::LINE;
use crate::vectors::{Simd, Work, load_some, store_some};

/// Maps of one position with room for whole vectors and for neighbours on both sides.
pub fn stride(lrn: &Lrn) -> usize {
    lrn.shape.channels.next_multiple_of(LINE) + lrn.n
}

/// Scratch space for one image, in values.
pub fn scratch(lrn: &Lrn) -> usize {
    3 * lrn.shape.width * stride(lrn) + LINE
}

/// y ← x / s^¾ for one image.
pub struct Forward<'a> {
    pub lrn: &'a Lrn,
    pub y: &'a mut [f32],
    pub x: &'a [f32],
    pub scratch: &'a mut [f32],
}

/// dx for one image.
pub struct Backward<'a> {
    pub lrn: &'a Lrn,
    pub dx: &'a mut [f32],
    pub dy: &'a [f32],
    pub x: &'a [f32],
    pub scratch: &'a mut [f32],
}

/// Sum of the n values from `near` on, for a vector of positions.
#[inline(always)]
pub fn sum<S: Simd>(s: S, near: &[f32], n: usize) -> S::V {
    assert!(near.len() >= n - 1 + S::LANES);
    let near = near.as_ptr();
    // The paper's five values have code without a loop.
    // SAFETY: n − 1 values and a vector are there by the assertion.
    unsafe { if n == 5 { sum_of(s, near, 5) } else { sum_of(s, near, n) } }
}

/// # Safety
/// n − 1 values and a vector are readable at `near`.
#[inline(always)]
unsafe fn sum_of<S: Simd>(s: S, near: *const f32, n: usize) -> S::V {
    // SAFETY: the n-th vector begins n − 1 values on, as far as the caller's word goes.
    unsafe {
        let mut sum = s.load(near);
        for k in 1..n {
            sum = s.add(sum, s.load(near.add(k)));
        }
        sum
    }
}

/// s^−¾ and s^−7/4, by two square roots and a division.
#[inline(always)]
pub fn powers<S: Simd>(s: S, scale: S::V) -> (S::V, S::V) {
    let root = s.sqrt(scale);
    let more = s.div(s.splat(1.0), s.mul(scale, s.mul(root, s.sqrt(root))));
    (s.mul(more, scale), more)
}

/// The squares of a row's values into their places, [width][half zeros, maps, zeros].
#[inline(always)]
fn squares<S: Simd>(s: S, lrn: &Lrn, squares: &mut [f32], x: &[f32]) {
    let (c, half) = (lrn.shape.channels, lrn.n / 2);
    for (x, q) in x.chunks_exact(c).zip(squares.chunks_exact_mut(stride(lrn))) {
        for first in (0..c).step_by(S::LANES) {
            let a = load_some(s, &x[first..]);
            store_some(s, &mut q[half + first..], s.mul(a, a));
        }
    }
}

impl Work for Forward<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { lrn, y, x, scratch } = self;
        let (c, apart) = (lrn.shape.channels, stride(lrn));
        let row = lrn.shape.width * c;
        let (k, alpha) = (s.splat(lrn.k), s.splat(lrn.alpha));
        scratch.fill(0.0);
        for (x, y) in x.chunks_exact(row).zip(y.chunks_exact_mut(row)) {
            squares(s, lrn, scratch, x);
            let positions = x.chunks_exact(c).zip(y.chunks_exact_mut(c));
            for ((x, y), q) in positions.zip(scratch.chunks_exact(apart)) {
                for first in (0..c).step_by(S::LANES) {
                    let scale = s.fma(alpha, sum(s, &q[first..], lrn.n), k);
                    let power = powers(s, scale).0;
                    store_some(s, &mut y[first..], s.mul(load_some(s, &x[first..]), power));
                }
            }
        }
    }
}

impl Work for Backward<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { lrn, dx, dy, x, scratch } = self;
        let (c, half, apart) = (lrn.shape.channels, lrn.n / 2, stride(lrn));
        let (width, row) = (lrn.shape.width, lrn.shape.width * c);
        let (k, alpha) = (s.splat(lrn.k), s.splat(lrn.alpha));
        let factor = s.splat(-2.0 * lrn.alpha * lrn.beta);
        scratch.fill(0.0);
        let (near, rest) = scratch.split_at_mut(width * apart);
        let (inner, power) = rest.split_at_mut(width * apart);
        for ((dx, dy), x) in
            dx.chunks_exact_mut(row).zip(dy.chunks_exact(row)).zip(x.chunks_exact(row))
        {
            squares(s, lrn, near, x);
            let places = near.chunks_exact(apart).zip(inner.chunks_exact_mut(apart));
            let places = places.zip(power.chunks_exact_mut(apart));
            let positions = dy.chunks_exact(c).zip(x.chunks_exact(c));
            for (((near, inner), power), (dy, x)) in places.zip(positions) {
                for first in (0..c).step_by(S::LANES) {
                    let scale = s.fma(alpha, sum(s, &near[first..], lrn.n), k);
                    let (direct, more) = powers(s, scale);
                    let product = s.mul(load_some(s, &dy[first..]), load_some(s, &x[first..]));
                    store_some(s, &mut inner[half + first..], s.mul(product, more));
                    store_some(s, &mut power[first..], direct);
                }
            }
            let places = inner.chunks_exact(apart).zip(power.chunks_exact(apart));
            let positions = dx.chunks_exact_mut(c).zip(dy.chunks_exact(c)).zip(x.chunks_exact(c));
            for ((inner, power), ((dx, dy), x)) in places.zip(positions) {
                for first in (0..c).step_by(S::LANES) {
                    let sums = s.mul(factor, sum(s, &inner[first..], lrn.n));
                    let direct = s.mul(load_some(s, &dy[first..]), load_some(s, &power[first..]));
                    store_some(s, &mut dx[first..], s.fma(load_some(s, &x[first..]), sums, direct));
                }
            }
        }
    }
}
