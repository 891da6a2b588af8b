//! The fully connected layer on the CPU: one matrix product a direction, on our own kernel
//! (`lines`) or, where the neurons do not fill cache lines, by a library, cut along the neurons.

use super::Fc;
use crate::layers::{ForwardFew, Learn, Run, UpdateAtOnce};
use crate::machine::tasks;
use crate::vectors::kernel::Rule;
use crate::vectors::product::{Matrix, divides, product, product_by_columns};
use crate::vectors::scratch::LINE;
use rayon::prelude::*;

/// Rows of the weights, one an input, in one task, and at least where there are many threads: with
/// 8 fc8's took twice as long on one thread of a Zen 5.
const ROWS: usize = 128;
const FEWEST_ROWS_PACKED: usize = 32;
/// Neurons in one task of the biases' gradient.
const BIASES: usize = 256;

impl Learn for Fc {
    fn workspace(&self, _: usize) -> usize {
        0
    }

    fn forward(&self, run: &Run, y: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32]) {
        let (inputs, outputs) = (self.input.len(), self.outputs);
        if self.in_lines() {
            self.forward_in_lines(run.batch, y, x, weight);
        } else {
            product_by_columns(
                y,
                outputs,
                (run.batch, inputs, outputs),
                Matrix::rows(x, inputs),
                Matrix::rows(weight, outputs),
            );
        }
        y.par_chunks_exact_mut(outputs).take(run.batch).for_each(|y| {
            for (y, b) in y.iter_mut().zip(bias) {
                *y += b;
            }
        });
    }

    fn backward_input(&self, run: &Run, dx: &mut [f32], dy: &[f32], weight: &[f32]) {
        let (inputs, outputs) = (self.input.len(), self.outputs);
        if self.in_lines() {
            return self.backward_input_in_lines(run.batch, dx, dy, weight);
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
        if self.in_lines() {
            self.weights_in_lines(run.batch, dweight, None, dy, x);
        } else {
            let rows = self.rows_of_a_task();
            dweight.par_chunks_mut(rows * outputs).enumerate().for_each(|(task, dweight)| {
                tasks::begin("inputs' weights");
                product(
                    dweight,
                    outputs,
                    (dweight.len() / outputs, run.batch, outputs),
                    Matrix::rows(&x[task * rows..], inputs).transposed(),
                    Matrix::rows(dy, outputs),
                    false,
                );
            });
        }
        self.sum_biases(run.batch, dbias, dy);
    }

    fn update_at_once(&self) -> Option<&dyn UpdateAtOnce> {
        self.in_lines().then_some(self)
    }

    fn forward_few(&self) -> Option<&dyn ForwardFew> {
        Some(self)
    }

    fn pack(&self, own: (&mut [f32], &mut [f32]), world: (&[f32], &[f32])) {
        self.pack_in(self.wide(), own, world);
    }

    fn unpack(&self, world: (&mut [f32], &mut [f32]), own: (&[f32], &[f32])) {
        self.unpack_of(self.wide(), world, own);
    }

    fn pack_for_gpu(&self, own: (&mut [f32], &mut [f32]), world: (&[f32], &[f32])) {
        self.pack_in(self.outputs, own, world);
    }

    fn unpack_for_gpu(&self, world: (&mut [f32], &mut [f32]), own: (&[f32], &[f32])) {
        self.unpack_of(self.outputs, world, own);
    }
}

impl UpdateAtOnce for Fc {
    fn update_at_once(
        &self,
        run: &Run,
        rule: Rule,
        (weight, v): (&mut [f32], &mut [f32]),
        dbias: &mut [f32],
        dy: &[f32],
        x: &[f32],
    ) {
        self.weights_in_lines(run.batch, weight, Some((v, rule)), dy, x);
        self.sum_biases(run.batch, dbias, dy);
    }
}

impl Fc {
    /// Rows of the weights' gradient in one task of a library's product: fewer for many threads
    /// where that changes no bit.
    fn rows_of_a_task(&self) -> usize {
        let inputs = self.input.len();
        if !divides(self.outputs) || !inputs.is_multiple_of(FEWEST_ROWS_PACKED) {
            return ROWS;
        }
        let rows = ROWS / tasks::pieces(inputs.div_ceil(ROWS));
        (rows / FEWEST_ROWS_PACKED * FEWEST_ROWS_PACKED).max(FEWEST_ROWS_PACKED)
    }

    fn sum_biases(&self, batch: usize, dbias: &mut [f32], dy: &[f32]) {
        dbias.par_chunks_mut(BIASES).enumerate().for_each(|(task, dbias)| {
            dbias.fill(0.0);
            for dy in dy.chunks_exact(self.outputs).take(batch) {
                for (b, d) in dbias.iter_mut().zip(&dy[task * BIASES..]) {
                    *b += d;
                }
            }
        });
    }

    /// Neurons of a line: weights lie in `[out / wide][in][wide]`.
    fn wide(&self) -> usize {
        if self.in_lines() { LINE } else { self.outputs }
    }

    /// [`Learn::pack`] into lines of `wide` neurons.
    fn pack_in(&self, wide: usize, own: (&mut [f32], &mut [f32]), world: (&[f32], &[f32])) {
        own.1.copy_from_slice(world.1);
        let inputs = self.input.len();
        own.0.par_chunks_exact_mut(wide).enumerate().for_each(|(n, own)| {
            let (line, input) = (n / inputs, self.world_input(n % inputs));
            for (o, value) in own.iter_mut().enumerate() {
                *value = world.0[(line * wide + o) * inputs + input];
            }
        });
    }

    /// The reverse of `pack_in`, in blocks of 16 inputs and 16 neurons: one by one, the 16 rows
    /// that a line goes to lie a multiple of 4 KiB apart in fc6 and push each other out of the
    /// cache.
    fn unpack_of(&self, wide: usize, world: (&mut [f32], &mut [f32]), own: (&[f32], &[f32])) {
        world.1.copy_from_slice(own.1);
        let inputs = self.input.len();
        // A line of neurons at a time, or a part of one as long.
        world.0.par_chunks_mut(LINE * inputs).enumerate().for_each(|(task, rows)| {
            let (line, first) = (task * LINE / wide, task * LINE % wide);
            let neurons = rows.len() / inputs;
            let mut block = [[0.0; LINE]; LINE];
            for input in (0..inputs).step_by(LINE) {
                let count = LINE.min(inputs - input);
                for (k, block) in block[..count].iter_mut().enumerate() {
                    let at = (line * inputs + self.own_input(input + k)) * wide + first;
                    block[..neurons].copy_from_slice(&own.0[at..at + neurons]);
                }
                for (o, row) in rows.chunks_exact_mut(inputs).enumerate() {
                    for (value, block) in row[input..input + count].iter_mut().zip(&block) {
                        *value = block[o];
                    }
                }
            }
        });
    }

    /// The outside world's index of input `i`.
    pub(super) fn world_input(&self, i: usize) -> usize {
        let (pixel, channel) = (i / self.input.channels, i % self.input.channels);
        channel * self.input.pixels() + pixel
    }

    /// The reverse of `world_input`.
    fn own_input(&self, world: usize) -> usize {
        let (channel, pixel) = (world / self.input.pixels(), world % self.input.pixels());
        pixel * self.input.channels + channel
    }
}
