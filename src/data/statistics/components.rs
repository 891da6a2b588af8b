//! From exact sums to the statistics: covariance, principal components, deviations.

use super::{Statistics, Sums};

impl Sums {
    /// The covariance of the channels over all pixels of all images, [c, c], from exact sums.
    pub(super) fn covariance(&self) -> Vec<f64> {
        let [h, w, c] = self.shape;
        let n = i128::from(self.images.max(1)) * (h * w) as i128;
        let mut channel = vec![0i128; c];
        for (at, &sum) in self.pixel.iter().enumerate() {
            channel[at % c] += i128::from(sum);
        }
        (0..c * c)
            .map(|at| {
                let product = i128::from(self.product[at]);
                (n * product - channel[at / c] * channel[at % c]) as f64 / (n * n) as f64
            })
            .collect()
    }

    /// The statistics of the images so far.
    pub fn statistics(&self) -> Statistics {
        let c = self.shape[2];
        let images = self.images.max(1) as f64;
        let (values, vectors) = eigen(self.covariance(), c);
        Statistics {
            mean: self.pixel.iter().map(|&sum| (sum as f64 / images) as f32).collect(),
            components: vectors.iter().map(|&x| x as f32).collect(),
            deviations: values.iter().map(|&x| x.max(0.0).sqrt() as f32).collect(),
        }
    }
}

/// Eigenvalues (largest first) and eigenvectors (rows, largest-magnitude entry positive) of the
/// symmetric matrix `a` [n, n], by Jacobi's rotations.
fn eigen(mut a: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    let mut vectors: Vec<f64> = (0..n * n).map(|at| f64::from(at / n == at % n)).collect();
    // A 3×3 matrix is diagonal to the last bit after some six sweeps.
    for _ in 0..64 {
        let rest: f64 =
            (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i * n + j].abs()).sum();
        if rest == 0.0 {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if a[p * n + q] != 0.0 {
                    rotate(&mut a, &mut vectors, n, (p, q));
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| a[j * n + j].total_cmp(&a[i * n + i]));
    let values = order.iter().map(|&i| a[i * n + i]).collect();
    let rows = order.iter().flat_map(|&i| {
        let row = &vectors[i * n..(i + 1) * n];
        let largest = row.iter().fold(0.0f64, |m, &x| if x.abs() > m.abs() { x } else { m });
        let sign = if largest < 0.0 { -1.0 } else { 1.0 };
        row.iter().map(move |x| x * sign).collect::<Vec<f64>>()
    });
    (values, rows.collect())
}

/// Turns the plane of the axes p and q so that `a` [n, n] becomes 0 at (p, q) and (q, p); the rows
/// of `vectors` [n, n] turn along.
fn rotate(a: &mut [f64], vectors: &mut [f64], n: usize, (p, q): (usize, usize)) {
    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * a[p * n + q]);
    let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let cos = 1.0 / t.hypot(1.0);
    let sin = t * cos;
    for k in 0..n {
        let (x, y) = (a[k * n + p], a[k * n + q]);
        a[k * n + p] = cos * x - sin * y;
        a[k * n + q] = sin * x + cos * y;
    }
    for k in 0..n {
        let (x, y) = (a[p * n + k], a[q * n + k]);
        a[p * n + k] = cos * x - sin * y;
        a[q * n + k] = sin * x + cos * y;
        let (x, y) = (vectors[p * n + k], vectors[q * n + k]);
        vectors[p * n + k] = cos * x - sin * y;
        vectors[q * n + k] = sin * x + cos * y;
    }
    a[p * n + q] = 0.0;
    a[q * n + p] = 0.0;
}
