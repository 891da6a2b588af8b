//! The fully connected layer for one or a few images: bound by reading the weights, which are
//! therefore read once, from where they lie, in the outside world's order [out, in].

use super::Fc;
use crate::layers::{ForwardFew, Run};
use rayon::prelude::*;

/// Neurons of one task: at the paper's fc6 a megabyte of weights.
const NEURONS: usize = 32;
/// Sums that run side by side: enough for the widest registers' latency.
const SUMS: usize = 64;

impl ForwardFew for Fc {
    fn forward_few(&self, run: &Run, y: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32]) {
        let (inputs, outputs) = (self.input.len(), self.outputs);
        // Inputs in the weights' order: by channel, row, column.
        let mut ordered = vec![0.0; run.batch * inputs];
        for (ordered, x) in ordered.chunks_exact_mut(inputs).zip(x.chunks_exact(inputs)) {
            for (i, x) in x.iter().enumerate() {
                ordered[self.world_input(i)] = *x;
            }
        }
        // [neuron, image], so that a task writes a piece of its own.
        let mut sums = vec![0.0; outputs * run.batch];
        sums.par_chunks_mut(NEURONS * run.batch).zip(weight.par_chunks(NEURONS * inputs)).for_each(
            |(sums, weight)| {
                let rows = weight.chunks_exact(inputs);
                for (sums, row) in sums.chunks_exact_mut(run.batch).zip(rows) {
                    for (sum, x) in sums.iter_mut().zip(ordered.chunks_exact(inputs)) {
                        *sum = dot(row, x);
                    }
                }
            },
        );
        for (image, y) in y.chunks_exact_mut(outputs).take(run.batch).enumerate() {
            for (o, (y, b)) in y.iter_mut().zip(bias).enumerate() {
                *y = sums[o * run.batch + image] + b;
            }
        }
    }
}

/// The product of two vectors, always in the same order.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; SUMS];
    let (a_chunks, b_chunks) = (a.chunks_exact(SUMS), b.chunks_exact(SUMS));
    let rest = a_chunks.remainder().iter().zip(b_chunks.remainder());
    let rest: f32 = rest.map(|(a, b)| a * b).sum();
    for (a, b) in a_chunks.zip(b_chunks) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let mut width = SUMS / 2;
    while width > 0 {
        for i in 0..width {
            sums[i] += sums[i + width];
        }
        width /= 2;
    }
    sums[0] + rest
}
