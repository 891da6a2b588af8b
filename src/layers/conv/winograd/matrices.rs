//! The matrices of Winograd's transforms F(m, r): which points, and what follows from them.

/// Most points of a transform here.
pub const MOST: usize = 8;

/// t rows of what a matrix multiplies: t, r or m columns are in use.
pub type Matrix = [[f32; MOST]; MOST];

/// A transform to `T` points for kernels of `R`: M = T − R + 1 outputs.
#[derive(Clone, Copy, Debug)]
pub struct Transform<const T: usize, const R: usize>;

/// Points of a tile of `outputs` for kernels of `size`.
pub const fn points_of(outputs: usize, size: usize) -> usize {
    outputs + size - 1
}

/// The finite points of a transform to `t` points, 0 first, pairs after it, one without a partner
/// last. Errors are root mean squares over 192 and 48 channels of normal values, against f64: for
/// six points ±√½, ±√2 have 1.2·10⁻⁶, the customary ±1, ±2 twice that; for seven these have
/// 3.2·10⁻⁶, ±1, ±2, −½ 3.8; for eight ±1, ±2, ±½ have 2.8·10⁻⁶, and no set tried was better.
const fn points(t: usize) -> [f64; MOST - 1] {
    use std::f64::consts::{FRAC_1_SQRT_2 as HALF, SQRT_2 as TWO};
    match t {
        6 => [0.0, HALF, -HALF, TWO, -TWO, 0.0, 0.0],
        7 => [0.0, 0.55, -0.55, 1.15, -1.15, 2.4, 0.0],
        8 => [0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5],
        _ => panic!("six, seven or eight points"),
    }
}

/// Coefficients of Π (x − p) over the first `count` finite points of `t` without number `skip`.
const fn polynomial(t: usize, count: usize, skip: usize) -> [f64; MOST] {
    let points = points(t);
    let mut product = [0.0; MOST];
    product[0] = 1.0;
    let mut i = 0;
    while i < count {
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
    let coefficients = polynomial(t, t - 1, j);
    let (mut value, mut k) = (0.0, MOST);
    while k > 0 {
        k -= 1;
        value = value * points(t)[j] + coefficients[k];
    }
    value
}

/// The inputs' matrix over the first `count` finite points of `t` and ∞, (count + 1)².
const fn inputs(t: usize, count: usize) -> Matrix {
    let mut matrix = [[0.0; MOST]; MOST];
    let mut j = 0;
    while j <= count {
        // The last row is the point at infinity: no point is left out.
        let row = polynomial(t, count, j);
        let mut k = 0;
        while k <= count {
            matrix[j][k] = row[k] as f32;
            k += 1;
        }
        j += 1;
    }
    matrix
}

/// p^k in row p of `columns`, divided by the point's weight if `divided`; at infinity the highest
/// power only.
const fn powers(t: usize, columns: usize, divided: bool) -> Matrix {
    let mut matrix = [[0.0; MOST]; MOST];
    let mut j = 0;
    while j < t - 1 {
        let (mut power, mut k) = (if divided { 1.0 / weight(t, j) } else { 1.0 }, 0);
        while k < columns {
            matrix[j][k] = power as f32;
            power *= points(t)[j];
            k += 1;
        }
        j += 1;
    }
    matrix[t - 1][columns - 1] = 1.0;
    matrix
}

/// A matrix of `t` points, and which rows are the first of a pair: the next one has the same even
/// and opposite odd terms, but for rounding. Found when this is compiled: as part of the loops it
/// kept AVX2's from being unrolled.
pub struct Paired {
    pub matrix: Matrix,
    pub pairs: [bool; MOST],
    pub t: usize,
}

impl Paired {
    pub const fn new(matrix: Matrix, t: usize) -> Paired {
        let mut pairs = [false; MOST];
        let mut j = 1;
        while j + 1 < t - 1 {
            pairs[j] = true;
            let mut k = 0;
            while k < MOST {
                let (own, other) = (matrix[j][k], matrix[j + 1][k]);
                let mirrored = if k % 2 == 0 { other } else { -other };
                pairs[j] = pairs[j] && (own - mirrored).abs() <= 1e-6 * own.abs();
                k += 1;
            }
            j += 2;
        }
        Paired { matrix, pairs, t }
    }
}

impl<const T: usize, const R: usize> Transform<T, R> {
    /// Outputs of a tile.
    pub const M: usize = T - R + 1;
    /// Of the inputs, T × T.
    pub const B: Matrix = inputs(T, T - 1);
    /// Of the weights, T × R.
    pub const G: Matrix = powers(T, R, true);
    /// Of the outputs, T × M.
    pub const A: Matrix = powers(T, Self::M, false);
    /// For odd T: B of the points without the last finite one.
    pub const PAIRED: Paired = Paired::new(inputs(T, T - 2), T - 1);
    pub const LAST: f32 = points(T)[T - 2] as f32;
}
