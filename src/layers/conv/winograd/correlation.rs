//! One correlation from end to end: which images and tiles make a task, and the memory between the
//! steps. What is done with a task's tiles is in `tiles`.
//!
//! A task is a few rows of tiles, of whole images where threads are few, and what it writes depends
//! on nothing else. So bits do not depend on the number of threads. The weights' gradient is in
//! `gradients`.

use super::geometry::{Correlation, WeightLayout};
use super::shared::Shared;
use super::tiles::{Correlate, Ending, TransformBack, TransformWeights};
use crate::machine::tasks;
use crate::vectors::scratch::{self, LINE};
use crate::vectors::{dispatch, panel};
use rayon::prelude::*;

/// The fewest tiles of a task, where there are so many: all read all weights. With 4 conv3 to conv5
/// took 1.29 to 1.38 times as long on one thread of a Zen 5, with 2 1.83 to 2.06 times. 128 threads
/// take 8 in two rounds of tasks and would take 4 in three, of 0.65 of the time each.
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
        let (panels, own) = (self.output.used.div_ceil(panel()), self.weights_apart(panel()));
        let each = (self.depth() / tasks::wanted().div_ceil(panels)).max(LINE);
        let pieces = self.depth().div_ceil(each);
        let to = &Shared::new(to);
        (0..panels * pieces).into_par_iter().for_each(|task| {
            tasks::begin("weights to points");
            let (panel, first) = (task / pieces, task % pieces * each);
            let inputs = first..(first + each).min(self.depth());
            // SAFETY: each task writes to its panel in the places of inputs of its own.
            let to = unsafe { to.part() }.after(panel * Self::POINTS * own);
            dispatch(TransformWeights { of: self, panel, inputs, to, weight, layout });
        });
    }

    /// This region of each of `ys` ← correlation of `x` with its weights, stored as its ending
    /// says; all hold whole images. Weights at their points lie in `weights` one after the other.
    /// The region is one of `regions` that are computed at the same time.
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
    /// would have too few tasks, but not so few that a product has less than [`FEWEST`] rows for
    /// all the weights that it reads. Bits are the same however many there are.
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

    /// The sums of all points to `dweight`; added to what is there if `add`.
    pub(super) fn transform_back(
        &self,
        (dweight, layout): (&mut [f32], WeightLayout),
        sums: &[f32],
        add: bool,
    ) {
        let dweight = &Shared::new(dweight);
        tasks::round("sums to weights");
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
