//! Winograd's transforms F(m×m, r×r): m×m outputs of an r×r kernel from t×t products, t = m + r − 1
//! (Winograd 1980; Lavin and Gray 2016 for convolutions).
//!
//! In one dimension outputs are y = Aᵀ·[(G·g) ∘ (B·d)]: t inputs d and r weights g are taken to t
//! points (as polynomials evaluated there, up to factors), multiplied, and taken back. Transposed,
//! the same matrices give the weights' gradient, Gᵀ·[(A·dy) ∘ (B·d)]. All three are computed from
//! the points when this is compiled. Points come as 0, ±a, ±b, … and ∞, so that two rows share
//! their even and odd terms.
//!
//! In two dimensions rows and columns are transformed one after the other; every value is a vector
//! of channels.

#![expect(
    clippy::needless_range_loop,
    reason = "rows and columns read like the matrices, and unroll"
)]

use crate::vectors::Simd;

/// Most points of a transform here.
const MOST: usize = 8;

/// t rows of what a matrix multiplies: t, r or m columns are in use.
pub type Matrix = [[f32; MOST]; MOST];

/// A transform to `T` points for kernels of `R`; outputs M = T − R + 1.
#[derive(Clone, Copy, Debug)]
pub struct Transform<const T: usize, const R: usize>;

/// Outputs a side of one tile, for both kernel sizes.
pub const M: usize = 4;

/// The finite points of a transform to `t` points, 0 first, pairs after it. Errors are root mean
/// squares over 192 and 48 channels of normal values, against f64: for six points ±√½, ±√2 have
/// 1.2·10⁻⁶, the customary ±1, ±2 twice that; for eight ±1, ±2, ±½ have 2.8·10⁻⁶, and no set tried
/// was better.
const fn points(t: usize) -> [f64; MOST - 1] {
    use std::f64::consts::{FRAC_1_SQRT_2 as HALF, SQRT_2 as TWO};
    match t {
        6 => [0.0, HALF, -HALF, TWO, -TWO, 0.0, 0.0],
        8 => [0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5],
        _ => panic!("six or eight points"),
    }
}

/// Coefficients of Π (x − p) over the finite points without number `skip`.
const fn polynomial(t: usize, skip: usize) -> [f64; MOST] {
    let points = points(t);
    let mut product = [0.0; MOST];
    product[0] = 1.0;
    let mut i = 0;
    while i < t - 1 {
        if i != skip {
            let mut k = MOST - 1;
            while k > 0 {
                product[k] = product[k - 1] - points[i] * product[k];
                k -= 1;
            }
            product[0] *= -points[i];
        }
        i += 1;
    }
    // Every other coefficient of a product over pairs is 0 but for rounding.
    let mut k = 0;
    while k < MOST {
        if product[k].abs() < 1e-12 {
            product[k] = 0.0;
        }
        k += 1;
    }
    product
}

/// Point number `j`'s value of the product over the other points.
const fn weight(t: usize, j: usize) -> f64 {
    let coefficients = polynomial(t, j);
    let (mut value, mut k) = (0.0, MOST);
    while k > 0 {
        k -= 1;
        value = value * points(t)[j] + coefficients[k];
    }
    value
}

impl<const T: usize, const R: usize> Transform<T, R> {
    /// Of the inputs, T × T.
    pub const B: Matrix = Self::inputs();
    /// Of the weights, T × R.
    pub const G: Matrix = Self::powers(R, true);
    /// Of the outputs, T × M.
    pub const A: Matrix = Self::powers(M, false);

    const fn inputs() -> Matrix {
        let mut matrix = [[0.0; MOST]; MOST];
        let mut j = 0;
        while j < T {
            // The last row is the point at infinity: no point is left out.
            let row = polynomial(T, j);
            let mut k = 0;
            while k < T {
                matrix[j][k] = row[k] as f32;
                k += 1;
            }
            j += 1;
        }
        matrix
    }

    /// p^k in row p, divided by the point's weight if `divided`; at infinity the highest power
    /// only.
    const fn powers(columns: usize, divided: bool) -> Matrix {
        let mut matrix = [[0.0; MOST]; MOST];
        let mut j = 0;
        while j < T - 1 {
            let (mut power, mut k) = (if divided { 1.0 / weight(T, j) } else { 1.0 }, 0);
            while k < columns {
                matrix[j][k] = power as f32;
                power *= points(T)[j];
                k += 1;
            }
            j += 1;
        }
        matrix[T - 1][columns - 1] = 1.0;
        matrix
    }
}

/// Σ `row[k] · x[k]` over k = `first`, `first` + `step`, …; terms with 0 or 1 cost nothing more.
#[inline(always)]
fn dot<S: Simd, const N: usize>(
    s: S,
    row: &[f32; MOST],
    x: &[S::V; N],
    (first, step): (usize, usize),
) -> S::V {
    let mut sum = None;
    for k in (first..N).step_by(step) {
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

/// matrix [T, N] · x
#[inline(always)]
fn expand<S: Simd, const N: usize, const T: usize>(
    s: S,
    matrix: &Matrix,
    x: &[S::V; N],
) -> [S::V; T] {
    let mut out = [s.splat(0.0); T];
    out[0] = dot(s, &matrix[0], x, (0, 1));
    out[T - 1] = dot(s, &matrix[T - 1], x, (0, 1));
    for j in (1..T - 1).step_by(2) {
        let even = dot(s, &matrix[j], x, (0, 2));
        let odd = dot(s, &matrix[j], x, (1, 2));
        out[j] = s.add(even, odd);
        out[j + 1] = s.sub(even, odd);
    }
    out
}

/// matrixᵀ [N, T] · x
#[inline(always)]
fn contract<S: Simd, const T: usize, const N: usize>(
    s: S,
    matrix: &Matrix,
    x: &[S::V; T],
) -> [S::V; N] {
    let (mut sums, mut differences) = ([x[0]; T], [x[0]; T]);
    for j in (1..T - 1).step_by(2) {
        sums[j] = s.add(x[j], x[j + 1]);
        differences[j] = s.sub(x[j], x[j + 1]);
    }
    let mut out = [s.splat(0.0); N];
    for (k, out) in out.iter_mut().enumerate() {
        let mut sum = add_times(s, None, matrix[0][k], x[0]);
        for j in (1..T - 1).step_by(2) {
            let pair = if k % 2 == 0 { sums[j] } else { differences[j] };
            sum = add_times(s, sum, matrix[j][k], pair);
        }
        sum = add_times(s, sum, matrix[T - 1][k], x[T - 1]);
        *out = sum.unwrap_or(s.splat(0.0));
    }
    out
}

/// N × N vectors at `from`, `strides` apart by row and column, to T × T at `to`, `apart` values
/// apart.
///
/// # Safety
/// N × N vectors are readable at `from` and T × T writable at `to`.
#[inline(always)]
pub unsafe fn expand_tile<S: Simd, const N: usize, const T: usize>(
    s: S,
    matrix: &Matrix,
    from: *const f32,
    strides: (usize, usize),
    to: *mut f32,
    apart: usize,
) {
    let mut half = [[s.splat(0.0); N]; T];
    // SAFETY: N rows and columns are read and T written, which the caller vouches for.
    unsafe {
        for column in 0..N {
            let mut x = [s.splat(0.0); N];
            for (row, x) in x.iter_mut().enumerate() {
                *x = s.load(from.add(row * strides.0 + column * strides.1));
            }
            let y: [S::V; T] = expand(s, matrix, &x);
            for row in 0..T {
                half[row][column] = y[row];
            }
        }
        for (row, half) in half.iter().enumerate() {
            let y: [S::V; T] = expand(s, matrix, half);
            for (column, y) in y.into_iter().enumerate() {
                s.store(to.add((row * T + column) * apart), y);
            }
        }
    }
}

/// T × T vectors at `from`, `apart` values apart, to the first `rows` × `columns` of N × N at `to`,
/// `strides` apart; `bias` is added to each.
///
/// # Safety
/// T × T vectors are readable at `from`, and `rows` × `columns` of N × N writable at `to`.
#[inline(always)]
pub unsafe fn contract_tile<S: Simd, const T: usize, const N: usize>(
    s: S,
    matrix: &Matrix,
    (from, apart): (*const f32, usize),
    (to, strides): (*mut f32, (usize, usize)),
    (rows, columns): (usize, usize),
    bias: S::V,
) {
    let mut half = [[s.splat(0.0); T]; N];
    // SAFETY: T rows and columns are read, and `rows` and `columns` written, which the caller
    // vouches for.
    unsafe {
        for column in 0..T {
            let mut x = [s.splat(0.0); T];
            for (row, x) in x.iter_mut().enumerate() {
                *x = s.load(from.add((row * T + column) * apart));
            }
            let y: [S::V; N] = contract(s, matrix, &x);
            for row in 0..N {
                half[row][column] = y[row];
            }
        }
        for row in 0..N {
            let y: [S::V; N] = contract(s, matrix, &half[row]);
            for (column, y) in y.into_iter().enumerate() {
                if row < rows && column < columns {
                    s.store(to.add(row * strides.0 + column * strides.1), s.add(y, bias));
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
        for o in 0..M {
            let y: f64 = (0..T).map(|j| f64::from(a[j][o]) * products[j]).sum();
            let truth: f64 = (0..R).map(|k| d[o + k] * w[k]).sum();
            assert!((y - truth).abs() < 1e-5, "{T} points, output {o}: {y}, {truth}");
        }
    }

    #[test]
    fn the_matrices_give_a_correlation() {
        one_dimension::<6, 3>();
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
