//! The fully connected layer's products on our own kernel. Weights lie in lines of sixteen neurons,
//! `[out / 16][in][16]`, which all three directions read as they lie: forward as the right operand,
//! for the gradient to the inputs as the left one, and the weights' gradient is written so.
//!
//! A task is a range of neurons or inputs, and sums go along the depth in pieces of fixed length, so
//! bits do not depend on the number of threads. Tasks are as large as is fastest, or smaller where
//! there are fewer than four for each thread.

use super::Fc;
use crate::machine::tasks::{self, wanted};
use crate::vectors::kernel::{Finish, Left, Out, Product, Right, Rule};
use crate::vectors::panel;
use crate::vectors::scratch::{self, LINE};
use rayon::prelude::*;

/// Neurons of one task of the forward pass, about, and inputs that it takes at a time.
const OUTPUTS: usize = 256;
const INPUTS: usize = 128;
/// Tasks come in multiples of this, of equal size but for a panel, so that two, four or eight
/// threads have as much to do each. Six tasks, the last a third of the others, kept one of two
/// waiting for a ninth of the time.
const TASKS: usize = 8;
/// Images of a task at least, where threads share them.
const FEWEST_IMAGES: usize = 16;

/// Inputs of one task of the gradient to them, and neurons that one piece takes.
const TASK: usize = 192;
const DEPTH: usize = 256;

/// Neurons of one task of the weights' gradient, and inputs whose share of the batch stays in the
/// second-level cache meanwhile: 128 KiB at 128 images.
const NEURONS: usize = 128;
const ROWS: usize = 256;

/// Columns of one task of [`group`].
const WIDE: usize = 256;

impl Fc {
    /// Whether weights lie in lines: else [in, out], for a library's product.
    pub(super) fn in_lines(&self) -> bool {
        [self.input.len(), self.outputs].iter().all(|n| n.is_multiple_of(LINE))
    }

    /// y ← x · weight, without the bias.
    pub(super) fn forward_in_lines(&self, batch: usize, y: &mut [f32], x: &[f32], weight: &[f32]) {
        let (inputs, outputs) = (self.input.len(), self.outputs);
        let wide = panel().max(LINE);
        let panels = outputs.div_ceil(wide);
        let count = outputs.div_ceil(OUTPUTS).max(wanted()).next_multiple_of(TASKS).min(panels);
        let start = |task: usize| (task * panels / count * wide).min(outputs);
        let most = panels.div_ceil(count) * wide;
        scratch::with(batch * inputs, |left| {
            group(left, x, batch, inputs);
            let left = &*left;
            scratch::with(batch * count * most, |out| {
                let of_task = |task: usize, image: usize, out: &mut [f32]| {
                    tasks::begin("neurons");
                    let first = start(task);
                    for from in (0..inputs).step_by(INPUTS) {
                        let depth = INPUTS.min(inputs - from);
                        let piece = &weight[first * inputs + from * LINE..];
                        Product {
                            left: &left[from * batch + image * LINE..],
                            order: Left::AlongDepth { all: batch },
                            right: piece,
                            panels: Right::Lines { apart: inputs * LINE },
                            next: &piece[depth * LINE..],
                            rows: out.len() / most,
                            out: &mut *out,
                            to: Out::Rows { stride: most },
                            depth,
                            columns: start(task + 1) - first,
                            finish: if from > 0 { Finish::Add } else { Finish::Store },
                        }
                        .compute();
                    }
                };
                // Too few panels for many threads: they share a panel's images.
                let images = batch.div_ceil(tasks::pieces(count)).max(FEWEST_IMAGES).min(batch);
                out.par_chunks_exact_mut(batch * most).enumerate().for_each(|(task, out)| {
                    let pieces = out.par_chunks_mut(images * most).enumerate();
                    pieces.for_each(|(piece, out)| of_task(task, piece * images, out));
                });
                let out = &*out;
                y.par_chunks_exact_mut(outputs).take(batch).enumerate().for_each(|(image, y)| {
                    for task in 0..count {
                        let y = &mut y[start(task)..start(task + 1)];
                        y.copy_from_slice(&out[(task * batch + image) * most..][..y.len()]);
                    }
                });
            });
        });
    }

    /// dx ← dy · weightᵀ, computed as weight · dyᵀ.
    pub(super) fn backward_input_in_lines(
        &self,
        batch: usize,
        dx: &mut [f32],
        dy: &[f32],
        weight: &[f32],
    ) {
        let (inputs, outputs) = (self.input.len(), self.outputs);
        let (wide, padded) = (panel(), batch.next_multiple_of(LINE));
        scratch::with(padded * outputs, |right| {
            // Pieces of the depth one after the other, each in panels of images.
            right.par_chunks_mut(DEPTH * padded).enumerate().for_each(|(piece, to)| {
                let (from, depth) = (piece * DEPTH, to.len() / padded);
                for first in (0..padded).step_by(wide) {
                    let width = wide.min(padded - first);
                    let panel = &mut to[first * depth..][..width * depth];
                    for (image, column) in (first..first + width).zip(0..width) {
                        for o in 0..depth {
                            panel[o * width + column] =
                                if image < batch { dy[image * outputs + from + o] } else { 0.0 };
                        }
                    }
                }
            });
            let right = &*right;
            scratch::with(inputs * padded, |out| {
                let rows = share(inputs, TASK);
                out.par_chunks_mut(rows * padded).enumerate().for_each(|(task, out)| {
                    tasks::begin("inputs");
                    for from in (0..outputs).step_by(DEPTH) {
                        let depth = DEPTH.min(outputs - from);
                        let piece = &right[from * padded..];
                        Product {
                            left: &weight[from * inputs + task * rows * LINE..],
                            order: Left::AlongDepth { all: inputs },
                            right: piece,
                            panels: Right::Panels { apart: depth * wide },
                            next: &piece[depth * padded..],
                            rows: out.len() / padded,
                            out: &mut *out,
                            to: Out::Rows { stride: padded },
                            depth,
                            columns: padded,
                            finish: if from > 0 { Finish::Add } else { Finish::Store },
                        }
                        .compute();
                    }
                });
                let out = &*out;
                dx[..batch * inputs].par_chunks_mut(LINE * inputs).enumerate().for_each(
                    |(block, dx)| {
                        for (i, out) in out.chunks_exact(padded).enumerate() {
                            let out = &out[block * LINE..];
                            for (dx, out) in dx.chunks_exact_mut(inputs).zip(out) {
                                dx[i] = *out;
                            }
                        }
                    },
                );
            });
        });
    }

    /// dweight ← xᵀ · dy, in lines; or, with a rule and the update's v, the weights in its place
    /// updated.
    pub(super) fn weights_in_lines(
        &self,
        batch: usize,
        weights: &mut [f32],
        update: Option<(&mut [f32], Rule)>,
        dy: &[f32],
        x: &[f32],
    ) {
        let (inputs, outputs) = (self.input.len(), self.outputs);
        scratch::with(batch * inputs, |left| {
            group(left, x, batch, inputs);
            let left = &*left;
            scratch::with(batch * outputs, |right| {
                group(right, dy, batch, outputs);
                let right = &*right;
                let neurons = share(outputs, NEURONS);
                let task = |task: usize,
                            weights: &mut [f32],
                            mut update: Option<(&mut [f32], Rule)>| {
                    tasks::begin("neurons' weights");
                    let right = &right[task * neurons * batch..];
                    for row in (0..inputs).step_by(ROWS) {
                        let at = row * LINE;
                        Product {
                            left: &left[row * batch..],
                            order: Left::AlongRows,
                            right,
                            panels: Right::Lines { apart: batch * LINE },
                            next: &[],
                            rows: ROWS.min(inputs - row),
                            columns: weights.len() / inputs,
                            out: &mut weights[at..],
                            to: Out::Lines { apart: inputs * LINE },
                            depth: batch,
                            finish: match &mut update {
                                Some((v, rule)) => Finish::Update { v: &mut v[at..], rule: *rule },
                                None => Finish::Store,
                            },
                        }
                        .compute();
                    }
                };
                let chunk = neurons * inputs;
                let weights = weights.par_chunks_mut(chunk).enumerate();
                match update {
                    Some((v, rule)) => weights
                        .zip(v.par_chunks_mut(chunk))
                        .for_each(|((t, weights), v)| task(t, weights, Some((v, rule)))),
                    None => weights.for_each(|(t, weights)| task(t, weights, None)),
                }
            });
        });
    }
}

/// Values of one task of `all`: `most`, or fewer whole lines where there would be too few tasks.
fn share(all: usize, most: usize) -> usize {
    (all / wanted() / LINE * LINE).clamp(LINE, most)
}

/// `to` `[columns / 16][rows][16]` ← `from` `[rows, columns]`.
fn group(to: &mut [f32], from: &[f32], rows: usize, columns: usize) {
    let most = share(columns, WIDE);
    to[..rows * columns].par_chunks_mut(rows * most).enumerate().for_each(|(piece, to)| {
        let wide = to.len() / rows;
        for (row, from) in from.chunks_exact(columns).take(rows).enumerate() {
            let from = &from[piece * most..][..wide];
            for (i, from) in from.as_chunks::<LINE>().0.iter().enumerate() {
                to[(i * rows + row) * LINE..][..LINE].copy_from_slice(from);
            }
        }
    });
}
