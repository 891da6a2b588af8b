//! Convolution the direct way: blocks of patches laid out side by side, then a matrix product.
//!
//! One task is one image; a block of output positions keeps its patches in the core's own cache.

use super::Conv;
use crate::layers::Run;
use crate::layers::activation::cpu::rectify;
use crate::layers::window::Window;
use crate::vectors::product::{MOST_PARTS, Matrix, parts, product, sum_parts};
use rayon::prelude::*;
use std::cell::RefCell;
use std::ops::Range;

/// Values of one block of patches: 1 MiB, of the size of a core's second-level cache.
const BLOCK_VALUES: usize = 1 << 18;

thread_local! {
    static PATCHES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work(positions, patches)` for blocks of output positions of one image and group, with
/// room for the patches [positions, patch].
fn blocks(window: &Window, mut work: impl FnMut(Range<usize>, &mut [f32])) {
    let (positions, patch) = (window.output.pixels(), window.patch());
    let block = (BLOCK_VALUES / patch).clamp(1, positions);
    PATCHES.with_borrow_mut(|patches| {
        patches.resize(patches.len().max(block * patch), 0.0);
        for first in (0..positions).step_by(block) {
            let range = first..(first + block).min(positions);
            let values = range.len() * patch;
            work(range, &mut patches[..values]);
        }
    });
}

fn gather_block(
    window: &Window,
    patches: &mut [f32],
    x: &[f32],
    positions: Range<usize>,
    g: usize,
) {
    for (patch, position) in patches.chunks_exact_mut(window.patch()).zip(positions) {
        let (row, column) = (position / window.output.width, position % window.output.width);
        window.gather(patch, x, row, column, g);
    }
}

impl Conv {
    pub(super) fn direct_workspace(&self, batch: usize) -> usize {
        let w = &self.window;
        batch.min(MOST_PARTS) * (w.patch() + 1) * w.output.channels
    }

    pub(super) fn direct_forward(
        &self,
        run: &Run,
        y: &mut [f32],
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
    ) {
        let w = &self.window;
        let (patch, out, group) = (w.patch(), w.output.channels, w.group_outputs());
        y[..run.batch * w.output.len()]
            .par_chunks_exact_mut(w.output.len())
            .zip(x.par_chunks_exact(w.input.len()))
            .for_each(|(y, x)| {
                for row in y.chunks_exact_mut(out) {
                    row.copy_from_slice(bias);
                }
                for g in 0..w.groups {
                    blocks(w, |positions, patches| {
                        gather_block(w, patches, x, positions.clone(), g);
                        product(
                            &mut y[positions.start * out + g * group..],
                            out,
                            (positions.len(), patch, group),
                            Matrix::rows(patches, patch),
                            Matrix::rows(&weight[g * group..], out),
                            true,
                        );
                    });
                }
                if self.relu {
                    rectify(y);
                }
            });
    }

    pub(super) fn direct_backward_input(
        &self,
        run: &Run,
        dx: &mut [f32],
        dy: &[f32],
        weight: &[f32],
    ) {
        let w = &self.window;
        let (patch, out, group) = (w.patch(), w.output.channels, w.group_outputs());
        dx[..run.batch * w.input.len()]
            .par_chunks_exact_mut(w.input.len())
            .zip(dy.par_chunks_exact(w.output.len()))
            .for_each(|(dx, dy)| {
                dx.fill(0.0);
                for g in 0..w.groups {
                    blocks(w, |positions, patches| {
                        product(
                            patches,
                            patch,
                            (positions.len(), group, patch),
                            Matrix::rows(&dy[positions.start * out + g * group..], out),
                            Matrix::rows(&weight[g * group..], out).transposed(),
                            false,
                        );
                        for (patch, position) in patches.chunks_exact(patch).zip(positions) {
                            let (row, column) =
                                (position / w.output.width, position % w.output.width);
                            w.scatter(dx, patch, row, column, g);
                        }
                    });
                }
            });
    }

    pub(super) fn direct_backward_weights(
        &self,
        run: &Run,
        (dweight, dbias): (&mut [f32], &mut [f32]),
        dy: &[f32],
        x: &[f32],
        workspace: &mut [f32],
    ) {
        let w = &self.window;
        let (patch, out, group) = (w.patch(), w.output.channels, w.group_outputs());
        let (images, count) = parts(run.batch);
        let (weights, biases) = workspace.split_at_mut(count * patch * out);
        let biases = &mut biases[..count * out];
        weights
            .par_chunks_exact_mut(patch * out)
            .zip(biases.par_chunks_exact_mut(out))
            .enumerate()
            .for_each(|(part, (dweight, dbias))| {
                dweight.fill(0.0);
                dbias.fill(0.0);
                for image in part * images..((part + 1) * images).min(run.batch) {
                    let x = &x[image * w.input.len()..][..w.input.len()];
                    let dy = &dy[image * w.output.len()..][..w.output.len()];
                    for row in dy.chunks_exact(out) {
                        for (b, d) in dbias.iter_mut().zip(row) {
                            *b += d;
                        }
                    }
                    for g in 0..w.groups {
                        blocks(w, |positions, patches| {
                            gather_block(w, patches, x, positions.clone(), g);
                            product(
                                &mut dweight[g * group..],
                                out,
                                (patch, positions.len(), group),
                                Matrix::rows(patches, patch).transposed(),
                                Matrix::rows(&dy[positions.start * out + g * group..], out),
                                true,
                            );
                        });
                    }
                }
            });
        sum_parts(dweight, weights);
        sum_parts(dbias, biases);
    }
}
