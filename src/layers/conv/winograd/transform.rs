//! Winograd's transforms F(m×m, r×r): m×m outputs of an r×r kernel from t×t products, t = m + r − 1
//! (Winograd 1980; Lavin and Gray 2016 for convolutions).
//!
//! In one dimension outputs are y = Aᵀ·[(G·g) ∘ (B·d)]: t inputs d and r weights g are taken to t
//! points (as polynomials evaluated there, up to factors), multiplied, and taken back. Transposed,
//! the same matrices give the weights' gradient, Gᵀ·[(A·dy) ∘ (B·d)]. All three are computed from
//! the points when this is compiled (`matrices`). Points come as 0, ±a, ±b, … and ∞, so that two
//! rows share their even and odd terms; of seven one has no partner.
//!
//! In two dimensions rows and columns are transformed one after the other; every value is a vector
//! of channels.

#![expect(
    clippy::needless_range_loop,
    reason = "rows and columns read like the matrices, and unroll"
)]

use super::matrices::{MOST, Matrix, Paired, Transform};
use crate::vectors::Simd;
use std::mem::MaybeUninit;

/// Vectors along one direction; as many are in use as the matrix has rows or columns.
pub type Line<S> = [<S as Simd>::V; MOST];

/// One direction of a transform: a matrix of `POINTS` × `WIDTH`.
pub trait Direction {
    const POINTS: usize;
    const WIDTH: usize;
    const MATRIX: Matrix;
    const PAIRED: Paired = Paired::new(Self::MATRIX, Self::POINTS);

    /// To the points: matrix · x
    #[inline(always)]
    fn expand<S: Simd>(s: S, x: &Line<S>) -> Line<S> {
        expand(s, &Self::PAIRED, x, Self::WIDTH)
    }

    /// Back from them: matrixᵀ · x
    #[inline(always)]
    fn contract<S: Simd>(s: S, x: &Line<S>) -> Line<S> {
        contract(s, &Self::PAIRED, x, Self::WIDTH)
    }
}

/// Inputs: B.
pub struct Inputs<const T: usize, const R: usize>;

impl<const T: usize, const R: usize> Direction for Inputs<T, R> {
    const POINTS: usize = T;
    const WIDTH: usize = T;
    const MATRIX: Matrix = Transform::<T, R>::B;

    /// With a point c that has no partner, the other points' polynomials all have the factor x − c:
    /// it comes first, and what is left has its even and odd terms again.
    #[inline(always)]
    fn expand<S: Simd>(s: S, x: &Line<S>) -> Line<S> {
        if T.is_multiple_of(2) {
            return expand(s, &Self::PAIRED, x, T);
        }
        let (paired, c) = (&Transform::<T, R>::PAIRED, s.splat(-Transform::<T, R>::LAST));
        let mut by_c = *x;
        for k in 0..T - 1 {
            by_c[k] = s.fma(c, x[k], x[k + 1]);
        }
        let mut out = expand(s, paired, &by_c, T - 1);
        out[T - 1] = out[T - 2];
        out[T - 2] = dot(s, &paired.matrix[T - 2], x, T - 1, (0, 1));
        out
    }
}

/// Weights and their gradient: G.
pub struct Weights<const T: usize, const R: usize>;

impl<const T: usize, const R: usize> Direction for Weights<T, R> {
    const POINTS: usize = T;
    const WIDTH: usize = R;
    const MATRIX: Matrix = Transform::<T, R>::G;
}

/// Outputs and their gradient: A.
pub struct Outputs<const T: usize, const R: usize>;

impl<const T: usize, const R: usize> Direction for Outputs<T, R> {
    const POINTS: usize = T;
    const WIDTH: usize = Transform::<T, R>::M;
    const MATRIX: Matrix = Transform::<T, R>::A;
}

/// Σ `row[k] · x[k]` over k = `first`, `first` + `step`, … below `n`; terms with 0 or 1 cost
/// nothing more.
#[inline(always)]
fn dot<S: Simd>(
    s: S,
    row: &[f32; MOST],
    x: &Line<S>,
    n: usize,
    (first, step): (usize, usize),
) -> S::V {
    let mut sum = None;
    for k in (first..n).step_by(step) {
        sum = add_times::<S>(s, sum, row[k], x[k]);
    }
    sum.unwrap_or(s.splat(0.0))
}

/// sum + factor · x
#[inline(always)]
fn add_times<S: Simd>(s: S, sum: Option<S::V>, factor: f32, x: S::V) -> Option<S::V> {
    match sum {
        sum if factor == 0.0 => sum,
        None if factor == 1.0 => Some(x),
        None => Some(s.mul(s.splat(factor), x)),
        Some(sum) if factor == 1.0 => Some(s.add(sum, x)),
        Some(sum) if factor == -1.0 => Some(s.sub(sum, x)),
        Some(sum) => Some(s.fma(s.splat(factor), x, sum)),
    }
}

/// matrix [t, n] · x
#[inline(always)]
fn expand<S: Simd>(s: S, paired: &Paired, x: &Line<S>, n: usize) -> Line<S> {
    let (matrix, t) = (&paired.matrix, paired.t);
    let mut out = [s.splat(0.0); MOST];
    out[0] = dot(s, &matrix[0], x, n, (0, 1));
    out[t - 1] = dot(s, &matrix[t - 1], x, n, (0, 1));
    for j in (1..t - 1).step_by(2) {
        if j + 1 == t - 1 {
            out[j] = dot(s, &matrix[j], x, n, (0, 1));
        } else if paired.pairs[j] {
            let even = dot(s, &matrix[j], x, n, (0, 2));
            let odd = dot(s, &matrix[j], x, n, (1, 2));
            out[j] = s.add(even, odd);
            out[j + 1] = s.sub(even, odd);
        } else {
            out[j] = dot(s, &matrix[j], x, n, (0, 1));
            out[j + 1] = dot(s, &matrix[j + 1], x, n, (0, 1));
        }
    }
    out
}

/// matrixᵀ [n, t] · x
#[inline(always)]
fn contract<S: Simd>(s: S, paired: &Paired, x: &Line<S>, n: usize) -> Line<S> {
    let (matrix, t) = (&paired.matrix, paired.t);
    let (mut sums, mut differences) = ([x[0]; MOST], [x[0]; MOST]);
    for j in (1..t - 2).step_by(2) {
        sums[j] = s.add(x[j], x[j + 1]);
        differences[j] = s.sub(x[j], x[j + 1]);
    }
    let mut out = [s.splat(0.0); MOST];
    for k in 0..n {
        let mut sum = add_times(s, None, matrix[0][k], x[0]);
        for j in (1..t - 1).step_by(2) {
            if j + 1 == t - 1 {
                sum = add_times(s, sum, matrix[j][k], x[j]);
            } else if paired.pairs[j] {
                let pair = if k % 2 == 0 { sums[j] } else { differences[j] };
                sum = add_times(s, sum, matrix[j][k], pair);
            } else {
                sum = add_times(s, sum, matrix[j][k], x[j]);
                sum = add_times(s, sum, matrix[j + 1][k], x[j + 1]);
            }
        }
        sum = add_times(s, sum, matrix[t - 1][k], x[t - 1]);
        out[k] = sum.unwrap_or(s.splat(0.0));
    }
    out
}

/// Vectors at `from`, `strides` apart by row and column, as wide as the directions down (`D`) and
/// across (`A`) are, to their points at `to`, `apart` values apart.
///
/// # Safety
/// D × A vectors are readable at `from`, and their points' writable at `to`.
#[inline(always)]
pub unsafe fn expand_tile<S: Simd, D: Direction, A: Direction>(
    s: S,
    from: *const f32,
    strides: (usize, usize),
    to: *mut f32,
    apart: usize,
) {
    let mut half = [[MaybeUninit::<S::V>::uninit(); MOST]; MOST];
    // SAFETY: as many rows and columns are read as the directions are wide, and written as they
    // have points, which the caller vouches for; of `half` only what was written is read.
    unsafe {
        for column in 0..A::WIDTH {
            let mut x = [s.splat(0.0); MOST];
            for row in 0..D::WIDTH {
                x[row] = s.load(from.add(row * strides.0 + column * strides.1));
            }
            let y = D::expand(s, &x);
            for row in 0..D::POINTS {
                half[row][column].write(y[row]);
            }
        }
        for row in 0..D::POINTS {
            let mut x = [s.splat(0.0); MOST];
            for column in 0..A::WIDTH {
                x[column] = half[row][column].assume_init();
            }
            let y = A::expand(s, &x);
            for column in 0..A::POINTS {
                s.store(to.add((row * A::POINTS + column) * apart), y[column]);
            }
        }
    }
}

/// What becomes of what a tile of points gives.
#[derive(Clone, Copy)]
pub enum Then<V> {
    /// The same is added everywhere, and what is below the floor becomes it: one code with ReLU, whose
    /// floor is 0, and without, at −∞.
    Add { bias: V, floor: V },
    /// What is there is added.
    AddToItself,
}

/// Points at `from`, `apart` values apart, to the first `rows` × `columns` of the tile at `to`,
/// `strides` apart, each as `then` says.
///
/// # Safety
/// The points' vectors are readable at `from`, and `rows` × `columns` writable at `to`.
#[inline(always)]
pub unsafe fn contract_tile<S: Simd, D: Direction, A: Direction>(
    s: S,
    (from, apart): (*const f32, usize),
    (to, strides): (*mut f32, (usize, usize)),
    (rows, columns): (usize, usize),
    then: Then<S::V>,
) {
    let mut half = [[MaybeUninit::<S::V>::uninit(); MOST]; MOST];
    // SAFETY: all points are read, and `rows` and `columns` written, which the caller vouches for;
    // of `half` only what was written is read.
    unsafe {
        for column in 0..A::POINTS {
            let mut x = [s.splat(0.0); MOST];
            for row in 0..D::POINTS {
                x[row] = s.load(from.add((row * A::POINTS + column) * apart));
            }
            let y = D::contract(s, &x);
            for row in 0..D::WIDTH {
                half[row][column].write(y[row]);
            }
        }
        for row in 0..D::WIDTH {
            let mut x = [s.splat(0.0); MOST];
            for column in 0..A::POINTS {
                x[column] = half[row][column].assume_init();
            }
            let y = A::contract(s, &x);
            for column in 0..A::WIDTH {
                if row < rows && column < columns {
                    let to = to.add(row * strides.0 + column * strides.1);
                    let value = match then {
                        // NaN stays NaN, and a zero's sign.
                        Then::Add { bias, floor } => s.larger(floor, s.add(y[column], bias)),
                        Then::AddToItself => s.add(y[column], s.load(to)),
                    };
                    s.store(to, value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// y = Aᵀ[(G g) ∘ (B d)] in f64 is the correlation of d and g.
    fn one_dimension<const T: usize, const R: usize>() {
        let (b, g, a) = (Transform::<T, R>::B, Transform::<T, R>::G, Transform::<T, R>::A);
        let d: Vec<f64> = (0..T).map(|i| ((i * 7 + 3) % 5) as f64 - 1.7).collect();
        let w: Vec<f64> = (0..R).map(|i| ((i * 3 + 1) % 4) as f64 - 1.2).collect();
        let at = |matrix: &Matrix, j: usize, x: &[f64]| -> f64 {
            x.iter().zip(&matrix[j]).map(|(x, &m)| x * f64::from(m)).sum()
        };
        let products: Vec<f64> = (0..T).map(|j| at(&b, j, &d) * at(&g, j, &w)).collect();
        for o in 0..Transform::<T, R>::M {
            let y: f64 = (0..T).map(|j| f64::from(a[j][o]) * products[j]).sum();
            let truth: f64 = (0..R).map(|k| d[o + k] * w[k]).sum();
            assert!((y - truth).abs() < 1e-5, "{T} points, output {o}: {y}, {truth}");
        }
    }

    #[test]
    fn the_matrices_give_a_correlation() {
        one_dimension::<6, 3>();
        one_dimension::<7, 3>();
        one_dimension::<8, 5>();
    }

    #[test]
    fn eight_points_give_the_known_matrix() {
        // The inputs' matrix of F(6×6, 3×3) has the same points, as printed in many places: rows up
        // to the sign that goes into the weights.
        let b = Transform::<8, 5>::B;
        assert_eq!(b[0], [-1.0, 0.0, 5.25, 0.0, -5.25, 0.0, 1.0, 0.0]);
        assert_eq!(b[1], [0.0, 1.0, 1.0, -4.25, -4.25, 1.0, 1.0, 0.0]);
        assert_eq!(b[7], [0.0, -1.0, 0.0, 5.25, 0.0, -5.25, 0.0, 1.0]);
        assert_eq!(Transform::<8, 5>::A[4][..4], [1.0, -2.0, 4.0, -8.0]);
    }
}
