//! Response normalisation on the CPU: the paper's by vectors (`vectors`), any other β and sums
//! within a map here. The sums s are computed again in the backward pass.

use super::{Lrn, Region, vectors};
use crate::layers::{Map, Run};
use crate::vectors::dispatch;
use crate::vectors::scratch;
use rayon::prelude::*;

/// s^−β
#[inline(always)]
fn inverse_power(s: f32, beta: f32) -> f32 {
    if beta == 0.75 {
        let root = s.sqrt();
        1.0 / (root * root.sqrt())
    } else {
        s.powf(-beta)
    }
}

impl Lrn {
    /// Whether it is the paper's: across maps with β = ¾, and sums that are no denormals.
    pub(in crate::layers) fn by_vectors(&self) -> bool {
        self.region == Region::AcrossMaps && self.beta == 0.75 && self.k >= 1e-30
    }

    /// `sums` `[shape]` ← for each value, the sum of `values` over its neighbourhood. Always added
    /// from the first neighbour to the last.
    fn neighbourhood_sums(&self, sums: &mut [f32], values: &[f32], row_sums: &mut [f32]) {
        let (half, c) = (self.n / 2, self.shape.channels);
        match self.region {
            Region::AcrossMaps => {
                for (sums, values) in sums.chunks_exact_mut(c).zip(values.chunks_exact(c)) {
                    sums.fill(0.0);
                    for offset in 0..self.n {
                        // sums[i] += values[i + offset − half], where that map exists.
                        let first = half.saturating_sub(offset).min(c);
                        let from = offset.saturating_sub(half);
                        for (s, v) in sums[first..].iter_mut().zip(values.iter().skip(from)) {
                            *s += v;
                        }
                    }
                }
            }
            Region::WithinMap => {
                let (height, width) = (self.shape.height, self.shape.width);
                let row = width * c;
                // First along the rows, then along the columns.
                for y in 0..height {
                    let values = &values[y * row..][..row];
                    for (x, sums) in row_sums[y * row..][..row].chunks_exact_mut(c).enumerate() {
                        sums.fill(0.0);
                        for near in x.saturating_sub(half)..(x + half + 1).min(width) {
                            for (s, v) in sums.iter_mut().zip(&values[near * c..]) {
                                *s += v;
                            }
                        }
                    }
                }
                for (y, sums) in sums.chunks_exact_mut(row).enumerate() {
                    sums.fill(0.0);
                    for near in y.saturating_sub(half)..(y + half + 1).min(height) {
                        for (s, v) in sums.iter_mut().zip(&row_sums[near * row..]) {
                            *s += v;
                        }
                    }
                }
            }
        }
    }

    /// s = k + α Σ a² for one image.
    fn scale(&self, s: &mut [f32], x: &[f32], squares: &mut [f32], rows: &mut [f32]) {
        for (q, x) in squares.iter_mut().zip(x) {
            *q = x * x;
        }
        self.neighbourhood_sums(s, squares, rows);
        for s in s {
            *s = self.k + self.alpha * *s;
        }
    }
}

impl Map for Lrn {
    fn forward(&self, run: &Run, y: &mut [f32], x: &[f32]) {
        let n = self.shape.len();
        y.par_chunks_exact_mut(n).zip(x.par_chunks_exact(n)).take(run.batch).for_each(|(y, x)| {
            if self.by_vectors() {
                return scratch::with(vectors::scratch(self), |scratch| {
                    dispatch(vectors::Forward { lrn: self, y, x, scratch })
                });
            }
            scratch::with(2 * n, |scratch| {
                let (squares, rows) = scratch.split_at_mut(n);
                self.scale(y, x, squares, rows);
                for (y, x) in y.iter_mut().zip(x) {
                    *y = x * inverse_power(*y, self.beta);
                }
            });
        });
    }

    fn backward(&self, run: &Run, dx: &mut [f32], dy: &[f32], x: &[f32]) {
        let n = self.shape.len();
        let factor = 2.0 * self.alpha * self.beta;
        dx.par_chunks_exact_mut(n)
            .zip(dy.par_chunks_exact(n))
            .zip(x.par_chunks_exact(n))
            .take(run.batch)
            .for_each(|((dx, dy), x)| {
                if self.by_vectors() {
                    return scratch::with(vectors::scratch(self), |scratch| {
                        dispatch(vectors::Backward { lrn: self, dx, dy, x, scratch })
                    });
                }
                scratch::with(3 * n, |scratch| {
                    let (power, rest) = scratch.split_at_mut(n);
                    let (inner, rows) = rest.split_at_mut(n);
                    self.scale(power, x, inner, rows);
                    for (((inner, dy), x), power) in
                        inner.iter_mut().zip(dy).zip(x).zip(power.iter_mut())
                    {
                        let s = *power;
                        *power = inverse_power(s, self.beta);
                        *inner = dy * x * *power / s;
                    }
                    self.neighbourhood_sums(dx, inner, rows);
                    for (((dx, dy), x), power) in dx.iter_mut().zip(dy).zip(x).zip(&*power) {
                        *dx = dy * power - factor * x * *dx;
                    }
                });
            });
    }
}
