//! Normalisation across maps with the paper's β = ¾, by vectors of maps. s^−¾ comes from two square
//! roots and a division: s · 1 / (s · √s · √√s), of which the backward pass needs the second factor
//! too.
//!
//! One task is an image, worked on row by row. A row's squares lie in scratch space with zeros
//! around each position's maps, so that the sum over neighbours is n shifted loads, added from the
//! first to the last. The backward pass computes the sums again, which costs less than to store and
//! fetch them.
//!
//! The formulas stand in [`Formulas`], for a vector of maps; the pass with pooling
//! (`normalised_pooling`) computes with them too.

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
fn sum<S: Simd>(s: S, near: &[f32], n: usize) -> S::V {
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
fn powers<S: Simd>(s: S, scale: S::V) -> (S::V, S::V) {
    let root = s.sqrt(scale);
    let more = s.div(s.splat(1.0), s.mul(scale, s.mul(root, s.sqrt(root))));
    (s.mul(more, scale), more)
}

/// One layer's formulas, with its constants as vectors: a the input, b the output, s = k + α Σ a².
///
/// `near` and `inner` are one position's maps with half of n zeros before and zeros after them,
/// [`stride`] values; `first` is the map at which the vector begins.
#[derive(Clone, Copy)]
pub struct Formulas<S: Simd> {
    s: S,
    n: usize,
    k: S::V,
    alpha: S::V,
    /// −2αβ
    factor: S::V,
}

impl<S: Simd> Formulas<S> {
    #[inline(always)]
    pub fn new(s: S, lrn: &Lrn) -> Formulas<S> {
        let factor = s.splat(-2.0 * lrn.alpha * lrn.beta);
        Formulas { s, n: lrn.n, k: s.splat(lrn.k), alpha: s.splat(lrn.alpha), factor }
    }

    /// a² to its place in `near`. Past the last map `a` is 0.
    #[inline(always)]
    pub fn square(self, near: &mut [f32], first: usize, a: S::V) {
        store_some(self.s, &mut near[self.n / 2 + first..], self.s.mul(a, a));
    }

    /// s^−¾ and s^−7/4 from the squares of a position; b is a times the first.
    #[inline(always)]
    pub fn powers(self, near: &[f32], first: usize) -> (S::V, S::V) {
        powers(self.s, self.s.fma(self.alpha, sum(self.s, &near[first..], self.n), self.k))
    }

    /// db · b / s, as db · a · s^−7/4, to its place in `inner`. Past the last map both are 0.
    #[inline(always)]
    pub fn inner(self, inner: &mut [f32], first: usize, (db, a, more): (S::V, S::V, S::V)) {
        let product = self.s.mul(self.s.mul(db, a), more);
        store_some(self.s, &mut inner[self.n / 2 + first..], product);
    }

    /// da, from what [`Formulas::inner`] left of a position, db, a and s^−¾.
    #[inline(always)]
    pub fn gradient(self, inner: &[f32], first: usize, (db, a, power): (S::V, S::V, S::V)) -> S::V {
        let s = self.s;
        let sums = s.mul(self.factor, sum(s, &inner[first..], self.n));
        s.fma(a, sums, s.mul(db, power))
    }

    /// The squares of a row's values into their places.
    #[inline(always)]
    fn squares(self, near: &mut [f32], x: &[f32], lrn: &Lrn) {
        let c = lrn.shape.channels;
        for (x, near) in x.chunks_exact(c).zip(near.chunks_exact_mut(stride(lrn))) {
            for first in (0..c).step_by(S::LANES) {
                self.square(near, first, load_some(self.s, &x[first..]));
            }
        }
    }
}

impl Work for Forward<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { lrn, y, x, scratch } = self;
        let (c, row) = (lrn.shape.channels, lrn.shape.width * lrn.shape.channels);
        let formulas = Formulas::new(s, lrn);
        scratch.fill(0.0);
        for (x, y) in x.chunks_exact(row).zip(y.chunks_exact_mut(row)) {
            formulas.squares(scratch, x, lrn);
            let positions = x.chunks_exact(c).zip(y.chunks_exact_mut(c));
            for ((x, y), near) in positions.zip(scratch.chunks_exact(stride(lrn))) {
                for first in (0..c).step_by(S::LANES) {
                    let power = formulas.powers(near, first).0;
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
        let (c, apart) = (lrn.shape.channels, stride(lrn));
        let (width, row) = (lrn.shape.width, lrn.shape.width * c);
        let formulas = Formulas::new(s, lrn);
        scratch.fill(0.0);
        let (near, rest) = scratch.split_at_mut(width * apart);
        let (inner, power) = rest.split_at_mut(width * apart);
        for ((dx, dy), x) in
            dx.chunks_exact_mut(row).zip(dy.chunks_exact(row)).zip(x.chunks_exact(row))
        {
            formulas.squares(near, x, lrn);
            let places = near.chunks_exact(apart).zip(inner.chunks_exact_mut(apart));
            let places = places.zip(power.chunks_exact_mut(apart));
            let positions = dy.chunks_exact(c).zip(x.chunks_exact(c));
            for (((near, inner), power), (dy, x)) in places.zip(positions) {
                for first in (0..c).step_by(S::LANES) {
                    let (direct, more) = formulas.powers(near, first);
                    let (db, a) = (load_some(s, &dy[first..]), load_some(s, &x[first..]));
                    formulas.inner(inner, first, (db, a, more));
                    store_some(s, &mut power[first..], direct);
                }
            }
            let places = inner.chunks_exact(apart).zip(power.chunks_exact(apart));
            let positions = dx.chunks_exact_mut(c).zip(dy.chunks_exact(c)).zip(x.chunks_exact(c));
            for ((inner, power), ((dx, dy), x)) in places.zip(positions) {
                for first in (0..c).step_by(S::LANES) {
                    let (db, a) = (load_some(s, &dy[first..]), load_some(s, &x[first..]));
                    let power = load_some(s, &power[first..]);
                    store_some(
                        s,
                        &mut dx[first..],
                        formulas.gradient(inner, first, (db, a, power)),
                    );
                }
            }
        }
    }
}
