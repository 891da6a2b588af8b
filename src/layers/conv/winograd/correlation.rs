//! One correlation from end to end: which images and tiles make a task, and the memory between the
//! steps. What is done with a task's tiles is in `tiles`.
//!
//! A task is a few rows of tiles, of whole images where threads are few, and what it writes depends
//! on nothing else; the weights' gradient is summed block by block in order, one task a point or
//! some of its inputs. So bits do not depend on the number of threads.

use super::geometry::{Correlation, WeightLayout};
use super::shared::{Among, Shared};
use super::tiles::{
    Correlate, Ending, SumGradients, TransformBack, TransformBoth, TransformWeights,
};
use crate::machine::tasks;
use crate::vectors::scratch::{self, LINE};
use crate::vectors::{dispatch, panel};
use rayon::prelude::*;
use std::ops::Range;

/// Values of transformed inputs and gradients that are kept for one round of products in
/// [`Correlation::weight_gradient`]: 3 MiB, part of a third-level cache; with 6 conv3 to conv5 take
/// up to a tenth more.
const ROUND: usize = 3 << 18;

/// The fewest tiles of a task, where there are so many.
const FEWEST: usize = 8;

impl<const H: usize, const W: usize, const R: usize> Correlation<H, W, R> {
    /// As [`Correlation::run`] with weights as they lie in a layer, for each of `ys` its own.
    ///
    /// # Safety
    /// Nobody else uses the region meanwhile.
    pub unsafe fn run_from(
        &self,
        ys: &[Shared<'_>],
        x: &[f32],
        (weights, layout): (&[&[f32]], WeightLayout),
        endings: &[Ending<'_>],
        regions: usize,
    ) {
        let own = self.weights_len();
        scratch::with(ys.len() * own, |transformed| {
            for (to, weight) in transformed.chunks_exact_mut(own).zip(weights) {
                self.transform_weights(to, (weight, layout));
            }
            // SAFETY: by the caller's word.
            unsafe { self.run(ys, x, transformed, endings, regions) }
        });
    }

    /// Values of all weights at their points.
    pub fn weights_len(&self) -> usize {
        self.output.used.div_ceil(panel()) * Self::POINTS * self.weights_apart(panel())
    }

    /// `to` ← the weights at their points.
    pub fn transform_weights(&self, to: &mut [f32], (weight, layout): (&[f32], WeightLayout)) {
        let panels = to.par_chunks_exact_mut(Self::POINTS * self.weights_apart(panel()));
        panels.enumerate().for_each(|(panel, to)| {
            dispatch(TransformWeights { of: self, panel, to, weight, layout });
        });
    }

    /// This region of each of `ys` ← correlation of `x` with its weights, stored as its ending says;
    /// all hold whole images. Weights at their points lie in `weights` one after the other. The
    /// region is one of `regions` that are computed at the same time.
    ///
    /// # Safety
    /// Nobody else uses the region meanwhile.
    pub unsafe fn run(
        &self,
        ys: &[Shared<'_>],
        x: &[f32],
        weights: &[f32],
        endings: &[Ending<'_>],
        regions: usize,
    ) {
        let all = x.len() / self.image() * self.grid().0;
        let rows = self.rows_of_a_task(all, regions);
        let tiles = self.rows_at_once().min(rows) * self.grid().1;
        let (strip_rows, strip_width) = self.input_strip();
        let strip = scratch::lines(strip_rows * strip_width * self.depth());
        let inputs = scratch::lines(Self::POINTS * self.inputs_apart(tiles));
        let outputs = Self::POINTS * self.outputs_apart(tiles);
        (0..all.div_ceil(rows)).into_par_iter().for_each(|task| {
            tasks::begin("tiles");
            let range = task * rows..((task + 1) * rows).min(all);
            // SAFETY: tasks have rows of their own, in a region that nobody else uses.
            let ys = ys.iter().map(|y| unsafe { y.part() }).collect();
            scratch::with(strip + inputs + outputs, |memory| {
                let (strip, rest) = memory.split_at_mut(strip);
                let (inputs, outputs) = rest.split_at_mut(inputs);
                let of = self;
                dispatch(Correlate { of, ys, x, range, weights, endings, strip, inputs, outputs });
            });
        });
    }

    /// Rows of tiles of a task of [`Correlation::run`], of `all`: a block's, or fewer where threads
    /// would have too few tasks, but not so few that a product has less than [`FEWEST`] rows for all
    /// the weights that it reads. Bits are the same however many there are.
    fn rows_of_a_task(&self, all: usize, regions: usize) -> usize {
        let (rows, columns) = self.grid();
        let each = all / tasks::wanted_large().div_ceil(regions).max(1);
        each.max(FEWEST.div_ceil(columns)).min(self.block() * rows).max(1)
    }

    /// Whether this region alone has tasks enough, of so many images.
    pub(super) fn is_enough(&self, images: usize) -> bool {
        let all = images * self.grid().0;
        all.div_ceil(self.rows_of_a_task(all, 1)) >= tasks::wanted_large()
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
            let pieces = Some(tasks::pieces(Self::POINTS));
            self.multiply_points(sums, (inputs, outputs), tiles, pieces, first == 0);
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
        let block = self.block();
        let (inputs, outputs) = (&Shared::new(inputs), &Shared::new(outputs));
        let pieces = tasks::pieces((x.len() / self.image()).div_ceil(block));
        biases
            .par_chunks_exact_mut(self.output.used)
            .zip(x.par_chunks(block * self.image()))
            .zip(dy.par_chunks(block * self.output.len()))
            .enumerate()
            .for_each(|(task, ((bias, x), dy))| {
                let range = 0..dy.len() / self.output.len() * self.grid().0;
                bias.fill(0.0);
                let among = Among { first: task * block * self.image_tiles(), all: tiles };
                // SAFETY: each task has tiles of its own, and so places.
                unsafe {
                    self.transform_rows((inputs, outputs), among, bias, (dy, x), range, pieces)
                }
            });
    }

    /// The rows of tiles `range`, counted over the images of `x`, to all points, in the places of
    /// the tiles `among`, and the sums of their gradients added to `bias`; in so many `pieces`, and
    /// the sums apart, if there are several.
    ///
    /// # Safety
    /// Nobody else uses these places meanwhile.
    pub(super) unsafe fn transform_rows(
        &self,
        (inputs, outputs): (&Shared<'_>, &Shared<'_>),
        among: Among,
        bias: &mut [f32],
        (dy, x): (&[f32], &[f32]),
        range: Range<usize>,
        pieces: usize,
    ) {
        let transform = |rows: Range<usize>, bias: Option<&mut [f32]>| {
            tasks::begin("tiles to all points");
            let first = among.first + (rows.start - range.start) * self.grid().1;
            // SAFETY: rows have places of their own, by the caller's word nobody else's.
            let (inputs, outputs) = unsafe { (inputs.part(), outputs.part()) };
            let among = Among { first, ..among };
            scratch::with(self.gradient_strip(), |strip| {
                let range = rows;
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
        };
        if pieces == 1 {
            return transform(range.clone(), Some(bias));
        }
        let rows = (range.len() / pieces).max(1);
        let each = || {
            (0..range.len().div_ceil(rows)).into_par_iter().for_each(|piece| {
                let first = range.start + piece * rows;
                transform(first..(first + rows).min(range.end), None);
            });
        };
        let sum = || {
            scratch::with(self.gradient_strip(), |strip| {
                dispatch(SumGradients { of: self, bias, dy, range: range.clone(), strip });
            });
        };
        rayon::join(each, sum);
    }

    /// The sums of all points to `dweight`; added to what is there if `add`.
    pub(super) fn transform_back(
        &self,
        (dweight, layout): (&mut [f32], WeightLayout),
        sums: &[f32],
        add: bool,
    ) {
        let dweight = &Shared::new(dweight);
        let each = (self.depth() / tasks::wanted()).clamp(1, LINE);
        (0..self.depth().div_ceil(each)).into_par_iter().for_each(|task| {
            tasks::begin("sums to weights");
            let inputs = task * each..((task + 1) * each).min(self.depth());
            // SAFETY: each task writes the weights of inputs of its own.
            let dweight = unsafe { dweight.part() };
            dispatch(TransformBack { of: self, dweight, layout, inputs, sums, add });
        });
    }
}
