//! Response normalisation on the CPU. The sums s are computed again in the backward pass: cheaper than
//! storing and fetching them.

use super::{Lrn, Region};
use crate::layers::{Map, Run};
use rayon::prelude::*;
use std::cell::RefCell;

thread_local! {
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Room for `n` values that this thread keeps.
fn with_scratch(n: usize, work: impl FnOnce(&mut [f32])) {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(scratch.len().max(n), 0.0);
        work(&mut scratch[..n]);
    });
}

/// s^−β. For the paper's β = ¾ by two square roots and a division, which vectorise; `powf` does not.
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
    /// `sums` [shape] ← for each value, the sum of `values` over its neighbourhood. Always added from
    /// the first neighbour to the last.
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
            with_scratch(2 * n, |scratch| {
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
                with_scratch(3 * n, |scratch| {
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
