//! One correlation from end to end: which images and tiles make a task, and the memory between the
//! steps. What is done with a task's tiles is in `tiles`.
//!
//! A task is a few whole images, and what it writes depends on nothing else; the weights' gradient
//! is summed block by block in order, one task a point. So bits do not depend on the number of
//! threads.

use super::geometry::{Correlation, WeightLayout};
use super::shared::{Among, Shared};
use super::tiles::{Correlate, TransformBack, TransformBoth, TransformWeights};
use crate::vectors::scratch::{self, LINE};
use crate::vectors::{dispatch, panel};
use rayon::prelude::*;

/// Values of transformed inputs and gradients that are kept for one round of products in
/// [`Correlation::weight_gradient`]: 3 MiB, part of a third-level cache; with 6 conv3 to conv5 take
/// up to a tenth more.
const ROUND: usize = 3 << 18;

/// The fewest tiles of a task, where there are so many.
const FEWEST: usize = 8;

impl<const H: usize, const W: usize, const R: usize> Correlation<H, W, R> {
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
        let image = self.image();
        let block = self.images_of_a_task(x.len() / image);
        let tiles = self.rows_at_once() * self.grid().1;
        let (strip_rows, strip_width) = self.input_strip();
        let strip = scratch::lines(strip_rows * strip_width * self.depth());
        let inputs = scratch::lines(Self::POINTS * self.inputs_apart(tiles));
        let outputs = Self::POINTS * self.outputs_apart(tiles);
        scratch::with(panels * Self::POINTS * apart, |transformed| {
            transformed.par_chunks_mut(Self::POINTS * apart).enumerate().for_each(|(panel, to)| {
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

    /// Images of a task of [`Correlation::run`]: a block's, or fewer where threads would have none
    /// to do, but not so few that a product has less than [`FEWEST`] rows for all the weights that
    /// it reads. Bits are the same however many there are.
    fn images_of_a_task(&self, batch: usize) -> usize {
        let each = batch.div_ceil(rayon::current_num_threads());
        each.max(FEWEST.div_ceil(self.image_tiles())).min(self.block()).max(1)
    }

    /// Images of one round of [`Correlation::weight_gradient`], in blocks.
    fn round(&self, batch: usize) -> usize {
        let tiles = self.block() * self.image_tiles();
        let block = Self::POINTS * (self.inputs_apart(tiles) + self.outputs_apart(tiles));
        (ROUND / block).max(2).min(batch.div_ceil(self.block())).max(1)
    }

    /// Values of scratch space that `weight_gradient` needs.
    pub fn workspace(&self, batch: usize) -> usize {
        if self.sums_stay() {
            return self.parts_workspace(batch);
        }
        let sizes = self.round_sizes(self.round(batch));
        LINE + sizes.iter().sum::<usize>() + Self::POINTS * self.sums_apart()
    }

    /// Values of what lies between the steps of a round of `blocks`: inputs, output gradients, and
    /// each block's sums of gradients.
    fn round_sizes(&self, blocks: usize) -> [usize; 3] {
        let tiles = blocks * self.block() * self.image_tiles();
        [
            scratch::lines(Self::POINTS * self.inputs_apart(tiles)),
            scratch::lines(Self::POINTS * self.outputs_apart(tiles)),
            blocks * self.output.used,
        ]
    }

    /// `dweight` and `dbias` ← sums over this region of the images of `x` and `dy`; added to what
    /// is there if `add`.
    pub fn weight_gradient(
        &self,
        (dweight, layout): (&mut [f32], WeightLayout),
        dbias: &mut [f32],
        (dy, x): (&[f32], &[f32]),
        workspace: &mut [f32],
        add: bool,
    ) {
        if !add {
            dbias.fill(0.0);
        }
        if self.sums_stay() {
            return self.gradient_by_parts((dweight, layout), dbias, (dy, x), workspace, add);
        }
        let image = self.image();
        let batch = dy.len() / self.output.len();
        let round = self.round(batch);
        let [inputs, outputs, biases] = self.round_sizes(round);
        let (inputs, rest) = scratch::aligned(workspace).split_at_mut(inputs);
        let (outputs, rest) = rest.split_at_mut(outputs);
        let (sums, rest) = rest.split_at_mut(Self::POINTS * self.sums_apart());
        let biases = &mut rest[..biases];
        for first in (0..batch).step_by(round * self.block()) {
            let images = first..(first + round * self.block()).min(batch);
            let tiles = images.len() * self.image_tiles();
            let x = &x[images.start * image..images.end * image];
            let dy = &dy[images.start * self.output.len()..images.end * self.output.len()];
            self.transform_round((inputs, outputs, biases), tiles, dy, x);
            let blocks = images.len().div_ceil(self.block());
            for bias in biases.chunks_exact(self.output.used).take(blocks) {
                dbias.iter_mut().zip(bias).for_each(|(sum, b)| *sum += b);
            }
            sums.par_chunks_exact_mut(self.sums_apart()).enumerate().for_each(|(point, sums)| {
                let left = &inputs[point * self.inputs_apart(tiles)..];
                let right = &outputs[point * self.outputs_apart(tiles)..];
                self.multiply(sums, left, right, tiles, first == 0);
            });
        }
        self.transform_back((dweight, layout), sums, add);
    }

    /// One round's inputs and output gradients to all points, and the gradients' sums, block by
    /// block; the images of `x` and `dy` have `tiles` tiles.
    fn transform_round(
        &self,
        (inputs, outputs, biases): (&mut [f32], &mut [f32], &mut [f32]),
        tiles: usize,
        dy: &[f32],
        x: &[f32],
    ) {
        let (block, strip) = (self.block(), self.gradient_strip());
        let (inputs, outputs) = (&Shared::new(inputs), &Shared::new(outputs));
        biases
            .par_chunks_exact_mut(self.output.used)
            .zip(x.par_chunks(block * self.image()))
            .zip(dy.par_chunks(block * self.output.len()))
            .enumerate()
            .for_each(|(task, ((bias, x), dy))| {
                let range = 0..dy.len() / self.output.len() * self.grid().0;
                bias.fill(0.0);
                // SAFETY: each task has tiles of its own, and so places.
                let (inputs, outputs) = unsafe { (inputs.part(), outputs.part()) };
                let among = Among { first: task * block * self.image_tiles(), all: tiles };
                scratch::with(strip, |strip| {
                    dispatch(TransformBoth {
                        of: self,
                        inputs,
                        outputs,
                        among,
                        bias,
                        x,
                        dy,
                        range,
                        strip,
                    });
                });
            });
    }

    /// The sums of all points to `dweight`; added to what is there if `add`.
    pub(super) fn transform_back(
        &self,
        (dweight, layout): (&mut [f32], WeightLayout),
        sums: &[f32],
        add: bool,
    ) {
        let dweight = &Shared::new(dweight);
        (0..self.depth().div_ceil(LINE)).into_par_iter().for_each(|task| {
            let inputs = task * LINE..((task + 1) * LINE).min(self.depth());
            // SAFETY: each task writes the weights of inputs of its own.
            let dweight = unsafe { dweight.part() };
            dispatch(TransformBack { of: self, dweight, layout, inputs, sums, add });
        });
    }
}
