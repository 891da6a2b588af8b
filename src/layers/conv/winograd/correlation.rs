//! One correlation from end to end: which images and tiles make a task, and the memory between the
//! steps. What is done with a task's tiles is in `tiles`.
//!
//! A task is a few whole images, and what it writes depends on nothing else; the weights' gradient
//! is summed block by block in order, one task a point. So bits do not depend on the number of
//! threads.

use super::geometry::{Correlation, WeightLayout};
use super::tiles::{Correlate, TransformBack, TransformBoth, TransformWeights};
use crate::vectors::scratch::{self, LINE};
use crate::vectors::{dispatch, panel};
use rayon::prelude::*;

/// Values of transformed inputs and gradients that are kept for one round of products in
/// [`Correlation::weight_gradient`]: 6 MiB, part of a third-level cache.
const ROUND: usize = 3 << 19;

impl<const T: usize, const R: usize> Correlation<T, R> {
    /// `y` ← correlation of `x` with `weight`, plus `bias` if there is one; both hold whole images.
    pub fn run(
        &self,
        y: &mut [f32],
        x: &[f32],
        (weight, layout): (&[f32], WeightLayout),
        bias: Option<&[f32]>,
    ) {
        let apart = self.weights_apart(panel());
        let panels = self.output.used.div_ceil(panel());
        let image = self.source.height * self.source.width * self.source.channels;
        let block = self.block();
        let tiles = self.rows_at_once() * self.grid().1;
        let (strip_rows, strip_width) = self.input_strip();
        let strip = scratch::lines(strip_rows * strip_width * self.depth());
        let inputs = scratch::lines(T * T * self.inputs_apart(tiles));
        let outputs = T * T * self.outputs_apart(tiles);
        scratch::with(panels * T * T * apart, |transformed| {
            transformed.par_chunks_mut(T * T * apart).enumerate().for_each(|(panel, to)| {
                dispatch(TransformWeights { of: self, panel, to, weight, layout });
            });
            let transformed = &*transformed;
            y.par_chunks_mut(block * self.output.len()).zip(x.par_chunks(block * image)).for_each(
                |(y, x)| {
                    scratch::with(strip + inputs + outputs, |memory| {
                        let (strip, rest) = memory.split_at_mut(strip);
                        let (inputs, outputs) = rest.split_at_mut(inputs);
                        let weights = (transformed, apart);
                        dispatch(Correlate {
                            of: self,
                            y,
                            x,
                            weights,
                            bias,
                            strip,
                            inputs,
                            outputs,
                        });
                    });
                },
            );
        });
    }

    /// Images of one round of [`Correlation::weight_gradient`], in blocks.
    fn round(&self, batch: usize) -> usize {
        let tiles = self.block() * self.image_tiles();
        let block = T * T * (self.inputs_apart(tiles) + self.outputs_apart(tiles));
        (ROUND / block).max(2).min(batch.div_ceil(self.block())).max(1)
    }

    /// Values of scratch space that `weight_gradient` needs.
    pub fn workspace(&self, batch: usize) -> usize {
        if self.sums_stay() {
            return self.parts_workspace(batch);
        }
        let tiles = self.block() * self.image_tiles();
        let block = scratch::lines(T * T * self.inputs_apart(tiles))
            + scratch::lines(T * T * self.outputs_apart(tiles))
            + scratch::lines(self.output.used);
        LINE + self.round(batch) * block + T * T * self.sums_apart()
    }

    /// `dweight` and `dbias` ← sums over the images of `x` and `dy`.
    pub fn weight_gradient(
        &self,
        (dweight, layout): (&mut [f32], WeightLayout),
        dbias: &mut [f32],
        dy: &[f32],
        x: &[f32],
        workspace: &mut [f32],
    ) {
        if self.sums_stay() {
            return self.gradient_by_parts((dweight, layout), dbias, dy, x, workspace);
        }
        let image = self.source.height * self.source.width * self.source.channels;
        let batch = dy.len() / self.output.len();
        let round = self.round(batch);
        let (mut memory, sums) = RoundMemory::new(self, round, workspace);
        let sums = &mut sums[..T * T * self.sums_apart()];
        dbias.fill(0.0);
        for first in (0..batch).step_by(round * self.block()) {
            let images = first..(first + round * self.block()).min(batch);
            let x = &x[images.start * image..images.end * image];
            let dy = &dy[images.start * self.output.len()..images.end * self.output.len()];
            self.transform_round(&mut memory, dy, x);
            for bias in memory.biases.chunks_exact(memory.sizes[2]).take(self.blocks(images.len()))
            {
                dbias.iter_mut().zip(bias).for_each(|(sum, b)| *sum += b);
            }
            self.multiply_round(sums, &memory, images.len(), first == 0);
        }
        dispatch(TransformBack { of: self, dweight, layout, sums });
    }

    /// Blocks of a round of `images`; the last may be smaller.
    fn blocks(&self, images: usize) -> usize {
        images.div_ceil(self.block())
    }

    /// One round's inputs and output gradients to all points, and the gradients' sums, block by
    /// block.
    fn transform_round(&self, memory: &mut RoundMemory<'_>, dy: &[f32], x: &[f32]) {
        let image = self.source.height * self.source.width * self.source.channels;
        let (block, strip) = (self.block(), self.gradient_strip());
        let [inputs_size, outputs_size, biases_size] = memory.sizes;
        memory
            .inputs
            .par_chunks_mut(inputs_size)
            .zip(memory.outputs.par_chunks_mut(outputs_size))
            .zip(memory.biases.par_chunks_mut(biases_size))
            .zip(x.par_chunks(block * image))
            .zip(dy.par_chunks(block * self.output.len()))
            .for_each(|((((inputs, outputs), bias), x), dy)| {
                let range = 0..dy.len() / self.output.len() * self.grid().0;
                bias.fill(0.0);
                scratch::with(strip, |strip| {
                    dispatch(TransformBoth {
                        of: self,
                        inputs,
                        outputs,
                        bias,
                        x,
                        dy,
                        range,
                        strip,
                    });
                });
            });
    }

    /// `sums` ← for every point the products of one round of `images`, in the blocks' order; added
    /// to what is there but in the first round.
    fn multiply_round(
        &self,
        sums: &mut [f32],
        memory: &RoundMemory<'_>,
        images: usize,
        is_first: bool,
    ) {
        let (inputs, outputs) = (&*memory.inputs, &*memory.outputs);
        sums.par_chunks_exact_mut(self.sums_apart()).enumerate().for_each(|(point, sums)| {
            for b in 0..self.blocks(images) {
                let tiles = self.block().min(images - b * self.block()) * self.image_tiles();
                let left = b * memory.sizes[0] + point * self.inputs_apart(tiles);
                let right = b * memory.sizes[1] + point * self.outputs_apart(tiles);
                let (left, right) = (&inputs[left..], &outputs[right..]);
                self.multiply(sums, left, right, tiles, is_first && b == 0);
            }
        });
    }
}

/// What lies between the steps of one round of the weights' gradient, block after block.
struct RoundMemory<'a> {
    inputs: &'a mut [f32],
    outputs: &'a mut [f32],
    biases: &'a mut [f32],
    /// Values of one block of each.
    sizes: [usize; 3],
}

impl<'a> RoundMemory<'a> {
    /// Room for `round` blocks out of `workspace`, and what is left of it.
    fn new<const T: usize, const R: usize>(
        of: &Correlation<T, R>,
        round: usize,
        workspace: &'a mut [f32],
    ) -> (RoundMemory<'a>, &'a mut [f32]) {
        let tiles = of.block() * of.image_tiles();
        let sizes = [
            scratch::lines(T * T * of.inputs_apart(tiles)),
            scratch::lines(T * T * of.outputs_apart(tiles)),
            scratch::lines(of.output.used),
        ];
        let memory = scratch::aligned(workspace);
        let (inputs, memory) = memory.split_at_mut(round * sizes[0]);
        let (outputs, memory) = memory.split_at_mut(round * sizes[1]);
        let (biases, rest) = memory.split_at_mut(round * sizes[2]);
        (RoundMemory { inputs, outputs, biases, sizes }, rest)
    }
}
