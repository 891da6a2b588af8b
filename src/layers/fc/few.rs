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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Shape;

    /// Against sums in f64 over the outside world's order, for one image, ten and sixteen; inputs
    /// and neurons fill neither sums nor tasks.
    #[test]
    fn few_images_against_f64() {
        let input = Shape { height: 3, width: 5, channels: 11 };
        let fc = Fc { input, outputs: NEURONS + 7 };
        let number = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 504.5 - 1.0;
        let weight: Vec<f32> = (0..fc.outputs * input.len()).map(number).collect();
        let bias: Vec<f32> = (0..fc.outputs).map(|o| number(o + 77)).collect();
        for batch in [1, 10, 16] {
            let x: Vec<f32> = (0..batch * input.len()).map(|i| number(i + 31)).collect();
            let mut y = vec![f32::NAN; batch * fc.outputs];
            let run = Run { batch, training: false, seed: 1, step: 1, first_image: 0 };
            fc.forward_few(&run, &mut y, &x, &weight, &bias);
            for (at, y) in y.iter().enumerate() {
                let (image, o) = (at / fc.outputs, at % fc.outputs);
                let (mut sum, mut size) = (f64::from(bias[o]), 1.0);
                for row in 0..3 {
                    for column in 0..5 {
                        for channel in 0..11 {
                            // NHWC here, channel by channel there.
                            let own = (row * 5 + column) * 11 + channel;
                            let world = (channel * 3 + row) * 5 + column;
                            let x = f64::from(x[image * input.len() + own]);
                            let product = x * f64::from(weight[o * input.len() + world]);
                            sum += product;
                            size += product.abs();
                        }
                    }
                }
                // Eight roundings of at most 6e-8 each on the way of a product to its sum.
                let error = (f64::from(*y) - sum).abs();
                assert!(error < 5e-7 * size, "{batch} images, {at}: {y} for {sum}");
            }
        }
    }
}
