//! Normalisation across maps with the paper's β = ¾, by vectors of maps. s^−¾, and 1/s for the
//! backward pass, come from a guess and multiply-adds ([`powers`]), closer than two square roots and
//! a division came.
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
fn stride(lrn: &Lrn) -> usize {
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
///
/// # Safety
/// n − 1 values and a vector are readable at `near`.
#[inline(always)]
unsafe fn sum<S: Simd>(s: S, near: *const f32, n: usize) -> S::V {
    // The paper's five values have code without a loop.
    // SAFETY: as the caller says.
    unsafe { if n == 5 { sum_of(s, near, 5) } else { sum_of(s, near, n) } }
}

/// # Safety
/// As [`sum`]'s.
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

/// s^−¾ and 1/s.
///
/// From a guess at s^−¼ two steps of y ← y · (1 + e)^−¼, e = s·y⁴ − 1: the first by the series up
/// to e³, which leaves e below 1.1 · 10⁻⁴; the second, up to e, goes at once to the powers that are
/// wanted. Errors against f64 are in the test.
#[inline(always)]
fn powers<S: Simd>(s: S, scale: S::V) -> (S::V, S::V) {
    // y² and e.
    let far = |y| {
        let square = s.mul(y, y);
        (square, s.fma(s.mul(scale, square), square, s.splat(-1.0)))
    };
    let y = s.fourth_root_guess(scale);
    let (_, e) = far(y);
    let series = s.fma(s.fma(e, s.splat(-15.0 / 128.0), s.splat(5.0 / 32.0)), e, s.splat(-0.25));
    let y = s.fma(s.mul(y, e), series, y);
    let (square, e) = far(y);
    let (cube, fourth) = (s.mul(y, square), s.mul(square, square));
    (s.fma(s.mul(cube, e), s.splat(-0.75), cube), s.sub(fourth, s.mul(fourth, e)))
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
    fn square(self, near: &mut [f32], first: usize, a: S::V) {
        store_some(self.s, &mut near[self.n / 2 + first..], self.s.mul(a, a));
    }

    /// s^−¾ and 1/s from the squares of a position; b is a times the first.
    #[inline(always)]
    fn powers(self, near: &[f32], first: usize) -> (S::V, S::V) {
        let near = &near[first..];
        assert!(near.len() >= self.n - 1 + S::LANES);
        // SAFETY: by the assertion.
        unsafe { self.powers_at(near.as_ptr()) }
    }

    /// The same from the squares from the first neighbour's on.
    ///
    /// # Safety
    /// n − 1 values and a vector are readable at `near`.
    #[inline(always)]
    pub unsafe fn powers_at(self, near: *const f32) -> (S::V, S::V) {
        // SAFETY: as the caller says.
        let sum = unsafe { sum(self.s, near, self.n) };
        powers(self.s, self.s.fma(self.alpha, sum, self.k))
    }

    /// db · b / s, from db, b and 1/s. Past the last map db and b are 0.
    #[inline(always)]
    pub fn inner(self, (db, b, inverse): (S::V, S::V, S::V)) -> S::V {
        self.s.mul(self.s.mul(db, b), inverse)
    }

    /// da, from what [`Formulas::inner`] gave of a position, db, a and s^−¾.
    #[inline(always)]
    fn gradient(self, inner: &[f32], first: usize, of: (S::V, S::V, S::V)) -> S::V {
        let inner = &inner[first..];
        assert!(inner.len() >= self.n - 1 + S::LANES);
        // SAFETY: by the assertion.
        unsafe { self.gradient_at(inner.as_ptr(), of) }
    }

    /// The same from what [`Formulas::inner`] gave from the first neighbour on.
    ///
    /// # Safety
    /// n − 1 values and a vector are readable at `inner`.
    #[inline(always)]
    pub unsafe fn gradient_at(self, inner: *const f32, (db, a, power): (S::V, S::V, S::V)) -> S::V {
        let s = self.s;
        // SAFETY: as the caller says.
        let sums = s.mul(self.factor, unsafe { sum(s, inner, self.n) });
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
                    let (direct, inverse) = formulas.powers(near, first);
                    let (db, a) = (load_some(s, &dy[first..]), load_some(s, &x[first..]));
                    store_some(
                        s,
                        &mut inner[lrn.n / 2 + first..],
                        formulas.inner((db, s.mul(a, direct), inverse)),
                    );
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vectors::at_each_level;

    /// The largest errors of the two powers over `scales`, in units of 2⁻²⁴ of the power.
    struct Errors<'a>(&'a [f32]);

    impl Work for Errors<'_> {
        type Out = [f64; 2];
        #[inline(always)]
        fn run<S: Simd>(self, s: S) -> [f64; 2] {
            let mut most = [0f64; 2];
            for scales in self.0.chunks_exact(S::LANES) {
                let (power, inverse) = powers(s, load_some(s, scales));
                for (most, (found, exponent)) in
                    most.iter_mut().zip([(power, -0.75), (inverse, -1.0)])
                {
                    let mut values = vec![0.0; S::LANES];
                    store_some(s, &mut values, found);
                    for (value, scale) in values.iter().zip(scales) {
                        let wanted = f64::from(*scale).powf(exponent);
                        *most = most.max((f64::from(*value) / wanted - 1.0).abs() * 16_777_216.0);
                    }
                }
            }
            most
        }
    }

    /// From the smallest sums that come here to the largest: no worse than the 4.6 of two square
    /// roots and a division, and than two roundings a multiplication.
    #[test]
    fn powers_are_close() {
        let scales: Vec<f32> = (0..1 << 18)
            .map(|i| (f64::from(i) / f64::from(1 << 18) * 210.0 - 99.0).exp2() as f32)
            .chain((0..1 << 18).map(|i| 1.0 + 15.0 * i as f32 / (1 << 18) as f32))
            .collect();
        at_each_level(|level| {
            let [power, inverse] = crate::vectors::dispatch(Errors(&scales));
            println!("{level:?}: {power:.2}, {inverse:.2}");
            assert!(power < 3.5 && inverse < 4.0, "{level:?}: {power}, {inverse}");
        });
    }
}
