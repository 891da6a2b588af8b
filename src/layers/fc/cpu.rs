//! The fully connected layer on the CPU: one matrix product a direction, cut along the neurons.

use super::Fc;
use crate::layers::product::{Matrix, product, product_by_columns};
use crate::layers::{ForwardFew, Learn, Run};
use rayon::prelude::*;

/// Rows of the weights, one an input, in one task.
const ROWS: usize = 128;

impl Learn for Fc {
    fn workspace(&self, _: usize) -> usize {
        0
    }

    fn forward(&self, run: &Run, y: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32]) {
        let (inputs, outputs) = (self.input.len(), self.outputs);
        if self.in_blocks(run.batch) {
            self.forward_in_blocks(run.batch, y, x, weight);
        } else {
            product_by_columns(
                y,
                outputs,
                (run.batch, inputs, outputs),
                Matrix::rows(x, inputs),
                Matrix::rows(weight, outputs),
            );
        }
        for y in y.chunks_exact_mut(outputs).take(run.batch) {
            for (y, b) in y.iter_mut().zip(bias) {
                *y += b;
            }
        }
    }

    fn backward_input(&self, run: &Run, dx: &mut [f32], dy: &[f32], weight: &[f32]) {
        let (inputs, outputs) = (self.input.len(), self.outputs);
        if self.in_blocks(run.batch) {
            return self.backward_input_in_blocks(run.batch, dx, dy, weight);
        }
        product_by_columns(
            dx,
            inputs,
            (run.batch, outputs, inputs),
            Matrix::rows(dy, outputs),
            Matrix::rows(weight, outputs).transposed(),
        );
    }

    fn backward_weights(
        &self,
        run: &Run,
        (dweight, dbias): (&mut [f32], &mut [f32]),
        dy: &[f32],
        x: &[f32],
        _: &mut [f32],
    ) {
        let (inputs, outputs) = (self.input.len(), self.outputs);
        if self.in_blocks(run.batch) {
            self.weights_in_blocks(run.batch, dweight, dy, x);
        } else {
            dweight.par_chunks_mut(ROWS * outputs).enumerate().for_each(|(task, dweight)| {
                product(
                    dweight,
                    outputs,
                    (dweight.len() / outputs, run.batch, outputs),
                    Matrix::rows(&x[task * ROWS..], inputs).transposed(),
                    Matrix::rows(dy, outputs),
                    false,
                );
            });
        }
        dbias.fill(0.0);
        for dy in dy.chunks_exact(outputs).take(run.batch) {
            for (b, d) in dbias.iter_mut().zip(dy) {
                *b += d;
            }
        }
    }

    fn forward_few(&self) -> Option<&dyn ForwardFew> {
        Some(self)
    }

    fn pack(&self, own: (&mut [f32], &mut [f32]), world: (&[f32], &[f32])) {
        own.1.copy_from_slice(world.1);
        let (inputs, outputs) = (self.input.len(), self.outputs);
        own.0.par_chunks_exact_mut(outputs).enumerate().for_each(|(i, row)| {
            let input = self.world_input(i);
            for (o, value) in row.iter_mut().enumerate() {
                *value = world.0[o * inputs + input];
            }
        });
    }

    fn unpack(&self, world: (&mut [f32], &mut [f32]), own: (&[f32], &[f32])) {
        world.1.copy_from_slice(own.1);
        let (inputs, outputs) = (self.input.len(), self.outputs);
        world.0.par_chunks_exact_mut(inputs).enumerate().for_each(|(o, row)| {
            for i in 0..inputs {
                row[self.world_input(i)] = own.0[i * outputs + o];
            }
        });
    }
}

impl Fc {
    /// The outside world's index of input `i`.
    pub(super) fn world_input(&self, i: usize) -> usize {
        let (pixel, channel) = (i / self.input.channels, i % self.input.channels);
        channel * self.input.pixels() + pixel
    }
}
