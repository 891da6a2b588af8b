//! The gradient to the weights where its sums over all points are few: the batch is cut into parts,
//! each with sums of its own, and a part's tiles are transformed and multiplied a few rows at a
//! time, so that what lies between the steps stays in a core's cache.
//!
//! Both towers of conv1 on one core of a Zen 3 (512 KiB of second-level cache, AVX2, neighbours in
//! the third), batch 128, best of three: 190 ms; with all of an image between the steps 277 to 356.
//! conv2: 205 to 216, and 173 to 295.

use super::geometry::{Correlation, WeightLayout};
use super::shared::{Among, Shared};
use crate::machine::tasks;
use crate::vectors::kernel::{Finish, Left, Out, Product, Right};
use crate::vectors::panel;
use crate::vectors::product::{MOST_PARTS, parts, sum_parts};
use crate::vectors::scratch::{self, LINE};
use rayon::prelude::*;

/// Most values of such sums: 2 MiB, which takes in the paper's conv1 (334 KiB) and conv2 (1.5 MiB).
/// With conv3 to conv5 the sums go back and forth for too few tiles at a time.
const SUMS: usize = 1 << 19;

/// Values of transformed inputs and gradients that are worked on at a time: 1 MiB, of the size of a
/// second-level cache; half of it is as fast for conv1, slower for conv2.
const STAGE: usize = 1 << 18;

/// Tiles that are worked on at least: sums that a second-level cache does not hold come and go for
/// each product over them. conv2's products took 29.0 ms with 21 tiles and 25.3 with an image's 49
/// (a tower's batch of 128, time of both threads, Zen 5, AVX-512); 47.5 and 42.4 with AVX2.
const SUMMED: usize = 48;

impl<const H: usize, const W: usize, const R: usize> Correlation<H, W, R> {
    /// Whether the gradient is computed here.
    pub(super) fn sums_stay(&self) -> bool {
        self.sums_len() <= SUMS
    }
    pub(super) fn sums_len(&self) -> usize {
        scratch::lines(Self::POINTS * self.sums_apart())
    }
    /// Rows of tiles that are worked on at a time.
    pub(super) fn rows_staged(&self) -> usize {
        let (rows, columns) = self.grid();
        let row = Self::POINTS * columns * (self.depth() + self.output.used);
        let at_once = (STAGE / row).max(SUMMED.div_ceil(columns)).clamp(1, rows);
        rows.div_ceil(rows.div_ceil(at_once))
    }

    /// Scratch space in values: the sums of each part and of all, and the biases' of each part.
    pub(super) fn parts_workspace(&self, batch: usize) -> usize {
        let parts = batch.min(MOST_PARTS);
        LINE + (parts + 1) * self.sums_len() + parts * self.output.used
    }

    /// As [`Correlation::weight_gradient`].
    pub(super) fn gradient_by_parts(
        &self,
        (dweight, layout): (&mut [f32], WeightLayout),
        dbias: &mut [f32],
        (dy, x): (&[f32], &[f32]),
        workspace: &mut [f32],
        add: bool,
    ) {
        let image = self.image();
        let (output, used) = (self.output.len(), self.output.used);
        let (images, count) = parts(dy.len() / output);
        let memory = scratch::aligned(workspace);
        let (all, memory) = memory.split_at_mut(self.sums_len());
        let (sums, biases) = memory.split_at_mut(count * self.sums_len());
        let biases = &mut biases[..count * used];

        let (rows, columns) = self.grid();
        let at_once = self.rows_staged();
        let tiles = at_once * columns;
        let inputs = scratch::lines(Self::POINTS * self.inputs_apart(tiles));
        let outputs = Self::POINTS * self.outputs_apart(tiles);
        let pieces = tasks::pieces(count);
        sums.par_chunks_exact_mut(self.sums_len())
            .zip(biases.par_chunks_exact_mut(used))
            .zip(x.par_chunks(images * image).zip(dy.par_chunks(images * output)))
            .for_each(|((sums, bias), (x, dy))| {
                bias.fill(0.0);
                scratch::with(inputs + outputs, |memory| {
                    let (inputs, outputs) = memory.split_at_mut(inputs);
                    let rows = dy.len() / output * rows;
                    for first in (0..rows).step_by(at_once) {
                        let range = first..(first + at_once).min(rows);
                        let tiles = range.len() * columns;
                        let among = Among { first: 0, all: tiles };
                        let places = (&Shared::new(inputs), &Shared::new(outputs));
                        // SAFETY: nobody else has these.
                        unsafe {
                            self.transform_rows(places, among, bias, (dy, x), range, pieces);
                        }
                        let points = (pieces > 1).then_some(1);
                        let places = (&*inputs, &*outputs);
                        self.multiply_points(sums, places, tiles, points, first == 0);
                    }
                });
            });
        for bias in biases.chunks_exact(used) {
            dbias.iter_mut().zip(bias).for_each(|(sum, b)| *sum += b);
        }
        sum_parts(all, sums);
        self.transform_back((dweight, layout), all, add);
    }
    /// `sums` ← for every point the product over `tiles` tiles; added to what is there but at first.
    /// A point is a task, or some of its inputs where `pieces` of it are wanted; with none all is
    /// done here.
    pub(super) fn multiply_points(
        &self,
        sums: &mut [f32],
        (inputs, outputs): (&[f32], &[f32]),
        tiles: usize,
        pieces: Option<usize>,
        is_first: bool,
    ) {
        let (used, apart) = (self.output.used, self.sums_apart());
        let rows = (self.depth() / pieces.unwrap_or(1) / LINE * LINE).max(LINE);
        let of_point = |(point, sums): (usize, &mut [f32])| {
            let left = &inputs[point * self.inputs_apart(tiles)..];
            let right = &outputs[point * self.outputs_apart(tiles)..];
            let sums = &mut sums[..self.depth() * used];
            if pieces.is_none_or(|pieces| pieces == 1) {
                tasks::begin("products of a point");
                return self.multiply(sums, left, right, tiles, is_first);
            }
            sums.par_chunks_mut(rows * used).enumerate().for_each(|(piece, sums)| {
                tasks::begin("products of a point");
                self.multiply(sums, &left[piece * rows * tiles..], right, tiles, is_first);
            });
        };
        match pieces {
            None => sums.chunks_exact_mut(apart).take(Self::POINTS).enumerate().for_each(of_point),
            Some(_) => {
                let sums = sums.par_chunks_exact_mut(apart).take(Self::POINTS);
                sums.enumerate().for_each(of_point);
            }
        }
    }

    /// `sums` [inputs, used] ← one point's inputs times output gradients over `tiles` tiles, of as many
    /// inputs as there is room for; added to what is there but at first.
    pub(super) fn multiply(
        &self,
        sums: &mut [f32],
        left: &[f32],
        right: &[f32],
        tiles: usize,
        is_first: bool,
    ) {
        Product {
            left,
            order: Left::AlongRows,
            right,
            panels: Right::Panels { apart: tiles * panel() },
            next: &[],
            rows: sums.len() / self.output.used,
            out: sums,
            to: Out::Rows { stride: self.output.used },
            depth: tiles,
            columns: self.output.used,
            finish: if is_first { Finish::Store } else { Finish::Add },
        }
        .compute();
    }
}
