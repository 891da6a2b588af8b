//! The fully connected layer's products on our own kernel. Weights lie in lines of sixteen neurons,
//! `[out / 16][in][16]`, which all three directions read as they lie: forward as the right operand,
//! for the gradient to the inputs as the left one, and the weights' gradient is written so.
//!
//! A task is a range of neurons or inputs, and sums go along the depth in pieces of fixed length,
//! so bits do not depend on the number of threads. Tasks are as large as is fastest, or smaller
//! where there are fewer than four for each thread.

use super::Fc;
use crate::machine::tasks::{self, wanted};
use crate::vectors::kernel::{Finish, Left, Out, Product, Right, Rule};
use crate::vectors::panel;
use crate::vectors::scratch::{self, LINE};
use crate::vectors::shared::Shared;
use rayon::prelude::*;

/// Neurons of one task of the forward pass, about, and inputs that it takes at a time.
const OUTPUTS: usize = 256;
const INPUTS: usize = 128;
/// Tasks come in multiples of this, of equal size but for a panel, so that two, four or eight
/// threads have as much to do each. Six tasks, the last a third of the others, kept one of two
/// waiting for a ninth of the time.
const TASKS: usize = 8;
/// Images of a task at least, where threads share them.
const FEWEST_IMAGES: usize = 8;

/// Inputs of one task of the gradient to them, and neurons that one piece takes.
const TASK: usize = 192;
const DEPTH: usize = 256;

/// Neurons of one task of the weights' gradient, and inputs whose share of the batch stays in the
/// second-level cache meanwhile: 128 KiB at 128 images.
const NEURONS: usize = 128;
const ROWS: usize = 256;

/// Images that [`transpose`] writes at a time: their rows lie whole pages apart, where sixteen
/// compete for the places of a first-level cache; fc6's and fc7's gradients took a tenth longer
/// with them (Zen 5, AVX-512).
const AT_ONCE: usize = 8;

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
            in_panels(right, dy, batch, outputs);
            let right = &*right;
            let rows = share(inputs, TASK);
            let count = inputs.div_ceil(rows);
            // Too few inputs for many threads: they share panels of images.
            let columns = padded.div_ceil(wide).div_ceil(tasks::pieces(count)) * wide;
            let pieces = padded.div_ceil(columns);
            let dx = &Shared::new(&mut dx[..batch * inputs]);
            (0..count * pieces).into_par_iter().for_each(|task| {
                tasks::begin("inputs");
                let (first, column) = (task / pieces * rows, task % pieces * columns);
                let rows = rows.min(inputs - first);
                let columns = columns.min(padded - column);
                scratch::with(rows * columns, |out| {
                    for from in (0..outputs).step_by(DEPTH) {
                        let depth = DEPTH.min(outputs - from);
                        let next = from + depth;
                        let next = next * padded + column * DEPTH.min(outputs - next);
                        Product {
                            left: &weight[from * inputs + first * LINE..],
                            order: Left::AlongDepth { all: inputs },
                            right: &right[from * padded + column * depth..],
                            panels: Right::Panels { apart: depth * wide },
                            next: &right[next..],
                            rows,
                            out: &mut *out,
                            to: Out::Rows { stride: columns },
                            depth,
                            columns,
                            finish: if from > 0 { Finish::Add } else { Finish::Store },
                        }
                        .compute();
                    }
                    let images = columns.min(batch.saturating_sub(column));
                    // SAFETY: a task has inputs and images of its own.
                    unsafe {
                        transpose(dx, (column * inputs + first, inputs), out, (images, columns))
                    }
                });
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
                // Too few lines for many threads: they share a line's inputs.
                let pieces = match neurons {
                    LINE => tasks::pieces(outputs / LINE),
                    _ => 1,
                };
                let rows = (inputs / pieces / LINE * LINE).max(LINE);
                let task = |line: usize, row: usize, weights: &mut [f32], update: Update<'_>| {
                    tasks::begin("neurons' weights");
                    let operands = (&left[row * batch..], &right[line * neurons * batch..]);
                    self.weights_of_a_task(batch, weights, update, operands, pieces > 1);
                };
                let (chunk, piece) =
                    (neurons * inputs, if pieces > 1 { rows * LINE } else { neurons * inputs });
                let weights = weights.par_chunks_mut(chunk).enumerate();
                match update {
                    Some((v, rule)) => {
                        weights.zip(v.par_chunks_mut(chunk)).for_each(|((line, weights), v)| {
                            let both = weights.par_chunks_mut(piece).zip(v.par_chunks_mut(piece));
                            both.enumerate().for_each(|(n, (weights, v))| {
                                task(line, n * rows, weights, Some((v, rule)))
                            });
                        })
                    }
                    None => weights.for_each(|(line, weights)| {
                        let weights = weights.par_chunks_mut(piece).enumerate();
                        weights.for_each(|(n, weights)| task(line, n * rows, weights, None));
                    }),
                }
            });
        });
    }

    /// The gradients of some lines' weights, or of one line's from some input on, as far as
    /// `weights` go.
    fn weights_of_a_task(
        &self,
        batch: usize,
        weights: &mut [f32],
        mut update: Update<'_>,
        (left, right): (&[f32], &[f32]),
        is_one: bool,
    ) {
        let columns = if is_one { LINE } else { weights.len() / self.input.len() };
        let inputs = weights.len() / columns;
        for row in (0..inputs).step_by(ROWS) {
            let at = row * LINE;
            Product {
                left: &left[row * batch..],
                order: Left::AlongRows,
                right,
                panels: Right::Lines { apart: batch * LINE },
                next: &[],
                rows: ROWS.min(inputs - row),
                columns,
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
    }
}

/// The update's v of some weights, and its rule.
type Update<'a> = Option<(&'a mut [f32], Rule)>;

/// Images' rows of `to`, `stride` apart, from `first` on ← the columns of `from` [inputs, images],
/// of which the first `count` are images.
///
/// # Safety
/// Nobody else uses these places.
unsafe fn transpose(
    to: &Shared<'_>,
    (first, stride): (usize, usize),
    from: &[f32],
    (count, columns): (usize, usize),
) {
    let inputs = from.len() / columns;
    // SAFETY: by the caller's word.
    let to = unsafe { to.part() };
    assert!(count == 0 || first + (count - 1) * stride + inputs <= to.len());
    for block in (0..count).step_by(AT_ONCE) {
        let images = block..(block + AT_ONCE).min(count);
        for (input, from) in from.chunks_exact(columns).enumerate() {
            for (image, value) in images.clone().zip(&from[block..]) {
                // SAFETY: inside by the assertion.
                unsafe { to.at().add(first + image * stride + input).write(*value) }
            }
        }
    }
}

/// `to` ← `dy` [images, outputs], in pieces of [`DEPTH`] outputs one after the other, each in
/// panels of images, whose last is filled up with zeros.
fn in_panels(to: &mut [f32], dy: &[f32], batch: usize, outputs: usize) {
    let (wide, padded) = (panel(), to.len() / outputs);
    to.par_chunks_mut(DEPTH * padded).enumerate().for_each(|(piece, to)| {
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
