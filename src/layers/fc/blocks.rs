//! The fully connected layer's products on our own kernel, for batches that fill it: pieces of the
//! weights are laid out for the kernel in the second-level cache, once for the whole batch.
//!
//! A task is a fixed range of neurons, and sums go along the depth in pieces of fixed length, so bits do
//! not depend on the number of threads.

use super::Fc;
use crate::layers::kernel::{Left, Product};
use crate::layers::scratch;
use crate::layers::simd::{Simd, Work, dispatch, panel, prefetch};
use rayon::prelude::*;

/// Neurons of one task of the forward pass, about, and inputs that one piece of its weights takes: 128
/// KiB.
const OUTPUTS: usize = 256;
const INPUTS: usize = 128;
/// Tasks come in multiples of this, of equal size but for a panel, so that two, four or eight threads
/// have as much to do each. Six tasks, the last a third of the others, kept one of two waiting for a ninth
/// of the time.
const TASKS: usize = 8;

/// Inputs of one task of the gradient to them, and neurons that one piece takes.
const TASK: usize = 192;
const DEPTH: usize = 256;

/// Inputs of one task of the weights' gradient.
const ROWS: usize = 64;

/// Images below which laying out the weights costs more than it saves.
const IMAGES: usize = 16;

/// Multiples that inputs and outputs have to be of: the lanes of the widest level.
const LANES: usize = 16;

/// Rows ahead of the one that is copied whose lines are asked for: rows lie pages apart, where the
/// processor does not look ahead by itself.
const AHEAD: usize = 4;

/// Asks for `values`, a cache line at a time.
#[inline(always)]
fn prefetch_all(values: &[f32]) {
    for line in values.chunks(scratch::LINE) {
        prefetch(line.as_ptr());
    }
}

impl Fc {
    /// Whether the products of `batch` images are computed here.
    pub(super) fn in_blocks(&self, batch: usize) -> bool {
        let whole = [self.input.len(), self.outputs].iter().all(|n| n.is_multiple_of(LANES));
        whole && batch >= IMAGES
    }

    /// y ← x · weight, without the bias.
    pub(super) fn forward_in_blocks(&self, batch: usize, y: &mut [f32], x: &[f32], weight: &[f32]) {
        let (inputs, outputs) = (self.input.len(), self.outputs);
        let wide = panel();
        let panels = outputs.div_ceil(wide);
        let tasks = outputs.div_ceil(OUTPUTS).next_multiple_of(TASKS).min(panels);
        let start = |task: usize| (task * panels / tasks * wide).min(outputs);
        let most = panels.div_ceil(tasks) * wide;
        scratch::with(batch * inputs, |left| {
            group(left, x, batch, inputs);
            let left = &*left;
            scratch::with(batch * tasks * most, |out| {
                out.par_chunks_exact_mut(batch * most).enumerate().for_each(|(task, out)| {
                    let first = start(task);
                    let columns = start(task + 1) - first;
                    scratch::with(INPUTS * most, |piece| {
                        for from in (0..inputs).step_by(INPUTS) {
                            let depth = INPUTS.min(inputs - from);
                            dispatch(Panels {
                                to: piece,
                                from: &weight[from * outputs + first..],
                                stride: outputs,
                                rows: depth,
                                columns,
                            });
                            Product {
                                left: &left[from * batch..],
                                order: Left::AlongDepth { all: batch },
                                right: piece,
                                panel_stride: depth * wide,
                                out: &mut *out,
                                stride: most,
                                rows: batch,
                                depth,
                                columns,
                                add: from > 0,
                            }
                            .compute();
                        }
                    });
                });
                for (image, y) in y.chunks_exact_mut(outputs).take(batch).enumerate() {
                    for task in 0..tasks {
                        let y = &mut y[start(task)..start(task + 1)];
                        y.copy_from_slice(&out[(task * batch + image) * most..][..y.len()]);
                    }
                }
            });
        });
    }

    /// dx ← dy · weightᵀ, computed as weight · dyᵀ: so the weights are copied in whole vectors.
    pub(super) fn backward_input_in_blocks(
        &self,
        batch: usize,
        dx: &mut [f32],
        dy: &[f32],
        weight: &[f32],
    ) {
        let (inputs, outputs) = (self.input.len(), self.outputs);
        let (wide, padded) = (panel(), batch.next_multiple_of(LANES));
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
                out.par_chunks_mut(TASK * padded).enumerate().for_each(|(task, out)| {
                    let rows = out.len() / padded;
                    scratch::with(DEPTH * TASK, |piece| {
                        for from in (0..outputs).step_by(DEPTH) {
                            let depth = DEPTH.min(outputs - from);
                            dispatch(Groups {
                                to: piece,
                                from: &weight[task * TASK * outputs + from..],
                                stride: outputs,
                                rows,
                                columns: depth,
                            });
                            Product {
                                left: piece,
                                order: Left::AlongDepth { all: rows },
                                right: &right[from * padded..],
                                panel_stride: depth * wide,
                                out: &mut *out,
                                stride: padded,
                                rows,
                                depth,
                                columns: padded,
                                add: from > 0,
                            }
                            .compute();
                        }
                    });
                });
                let out = &*out;
                dx[..batch * inputs].par_chunks_mut(LANES * inputs).enumerate().for_each(
                    |(block, dx)| {
                        for (i, out) in out.chunks_exact(padded).enumerate() {
                            let out = &out[block * LANES..];
                            for (dx, out) in dx.chunks_exact_mut(inputs).zip(out) {
                                dx[i] = *out;
                            }
                        }
                    },
                );
            });
        });
    }

    /// dweight ← xᵀ · dy
    pub(super) fn weights_in_blocks(
        &self,
        batch: usize,
        dweight: &mut [f32],
        dy: &[f32],
        x: &[f32],
    ) {
        let (inputs, outputs) = (self.input.len(), self.outputs);
        let wide = panel();
        scratch::with(batch * inputs, |left| {
            group(left, x, batch, inputs);
            let left = &*left;
            scratch::with(batch * outputs, |right| {
                let all =
                    Panels { to: right, from: dy, stride: outputs, rows: batch, columns: outputs };
                dispatch(all);
                let right = &*right;
                dweight.par_chunks_mut(ROWS * outputs).enumerate().for_each(|(task, dweight)| {
                    Product {
                        left: &left[task * ROWS * batch..],
                        order: Left::AlongRows,
                        right,
                        panel_stride: batch * wide,
                        rows: dweight.len() / outputs,
                        out: dweight,
                        stride: outputs,
                        depth: batch,
                        columns: outputs,
                        add: false,
                    }
                    .compute();
                });
            });
        });
    }
}

/// `to` [columns / LANES][rows][LANES] ← `from` [rows, columns], all of it, over all threads.
fn group(to: &mut [f32], from: &[f32], rows: usize, columns: usize) {
    to[..rows * columns].par_chunks_mut(rows * DEPTH).enumerate().for_each(|(piece, to)| {
        let wide = to.len() / rows;
        dispatch(Groups { to, from: &from[piece * DEPTH..], stride: columns, rows, columns: wide });
    });
}

/// `to` [columns / LANES][rows][LANES] ← `from` [rows, columns], rows `stride` apart.
struct Groups<'a> {
    to: &'a mut [f32],
    from: &'a [f32],
    stride: usize,
    rows: usize,
    columns: usize,
}

impl Work for Groups<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { to, from, stride, rows, columns } = self;
        for row in 0..rows {
            if row + AHEAD < rows {
                prefetch_all(&from[(row + AHEAD) * stride..][..columns]);
            }
            for (i, from) in from[row * stride..][..columns].chunks_exact(S::LANES).enumerate() {
                let to = &mut to[(i * rows + row) * S::LANES..][..S::LANES];
                // SAFETY: both have the length of a vector.
                unsafe { s.store(to.as_mut_ptr(), s.load(from.as_ptr())) };
            }
        }
    }
}

/// `to` in panels, [columns / (PANEL · LANES)][rows][PANEL · LANES], ← `from` [rows, columns], rows `stride`
/// apart.
struct Panels<'a> {
    to: &'a mut [f32],
    from: &'a [f32],
    stride: usize,
    rows: usize,
    columns: usize,
}

impl Work for Panels<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { to, from, stride, rows, columns } = self;
        let wide = S::PANEL * S::LANES;
        for row in 0..rows {
            if row + AHEAD < rows {
                prefetch_all(&from[(row + AHEAD) * stride..][..columns]);
            }
            for (panel, from) in from[row * stride..][..columns].chunks(wide).enumerate() {
                let to = &mut to[panel * rows * wide + row * from.len()..][..from.len()];
                for (to, from) in to.chunks_exact_mut(S::LANES).zip(from.chunks_exact(S::LANES)) {
                    // SAFETY: both have the length of a vector.
                    unsafe { s.store(to.as_mut_ptr(), s.load(from.as_ptr())) };
                }
            }
        }
    }
}
