//! The locally connected layer on the CPU: at each position, the patches of several images times
//! that position's kernels.

use super::Local;
use crate::layers::{Learn, Run};
use crate::vectors::product::{Matrix, parts, product};
use rayon::prelude::*;

impl Learn for Local {
    fn workspace(&self, _: usize) -> usize {
        0
    }

    fn forward(&self, run: &Run, y: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32]) {
        let w = &self.window;
        let (patch, out, group) = (w.patch(), w.output.channels, w.group_outputs());
        let (images, _) = parts(run.batch);
        y[..run.batch * w.output.len()]
            .par_chunks_mut(images * w.output.len())
            .zip(x[..run.batch * w.input.len()].par_chunks(images * w.input.len()))
            .for_each(|(y, x)| {
                let count = y.len() / w.output.len();
                let mut patches = vec![0.0; count * patch];
                for y in y.chunks_exact_mut(w.output.len()) {
                    y.copy_from_slice(bias);
                }
                for position in 0..w.output.pixels() {
                    for g in 0..w.groups {
                        self.gather(&mut patches, x, position, g);
                        product(
                            &mut y[position * out + g * group..],
                            w.output.len(),
                            (count, patch, group),
                            Matrix::rows(&patches, patch),
                            Matrix::rows(&weight[position * patch * out + g * group..], out),
                            true,
                        );
                    }
                }
            });
    }

    fn backward_input(&self, run: &Run, dx: &mut [f32], dy: &[f32], weight: &[f32]) {
        let w = &self.window;
        let (patch, out, group) = (w.patch(), w.output.channels, w.group_outputs());
        let (images, _) = parts(run.batch);
        dx[..run.batch * w.input.len()]
            .par_chunks_mut(images * w.input.len())
            .zip(dy[..run.batch * w.output.len()].par_chunks(images * w.output.len()))
            .for_each(|(dx, dy)| {
                let count = dx.len() / w.input.len();
                let mut patches = vec![0.0; count * patch];
                dx.fill(0.0);
                for position in 0..w.output.pixels() {
                    let (row, column) = (position / w.output.width, position % w.output.width);
                    for g in 0..w.groups {
                        product(
                            &mut patches,
                            patch,
                            (count, group, patch),
                            Matrix::rows(&dy[position * out + g * group..], w.output.len()),
                            Matrix::rows(&weight[position * patch * out + g * group..], out)
                                .transposed(),
                            false,
                        );
                        let dx = dx.chunks_exact_mut(w.input.len());
                        for (patch, dx) in patches.chunks_exact(patch).zip(dx) {
                            w.scatter(dx, patch, row, column, g);
                        }
                    }
                }
            });
    }

    fn backward_weights(
        &self,
        run: &Run,
        (dweight, dbias): (&mut [f32], &mut [f32]),
        dy: &[f32],
        x: &[f32],
        _: &mut [f32],
    ) {
        let w = &self.window;
        let (patch, out, group) = (w.patch(), w.output.channels, w.group_outputs());
        let x = &x[..run.batch * w.input.len()];
        dweight
            .par_chunks_exact_mut(patch * out)
            .zip(dbias.par_chunks_exact_mut(out))
            .enumerate()
            .for_each_init(
                || vec![0.0; run.batch * patch],
                |patches, (position, (dweight, dbias))| {
                    let dy = &dy[position * out..];
                    dbias.fill(0.0);
                    for image in 0..run.batch {
                        let row = &dy[image * w.output.len()..][..out];
                        for (b, d) in dbias.iter_mut().zip(row) {
                            *b += d;
                        }
                    }
                    for g in 0..w.groups {
                        self.gather(patches, x, position, g);
                        product(
                            &mut dweight[g * group..],
                            out,
                            (patch, run.batch, group),
                            Matrix::rows(patches, patch).transposed(),
                            Matrix::rows(&dy[g * group..], w.output.len()),
                            false,
                        );
                    }
                },
            );
    }

    fn pack(&self, own: (&mut [f32], &mut [f32]), world: (&[f32], &[f32])) {
        if !own.1.is_empty() {
            self.each_bias(|o, w| own.1[o] = world.1[w]);
        }
        if !own.0.is_empty() {
            self.each_weight(|o, w| own.0[o] = world.0[w]);
        }
    }

    fn unpack(&self, world: (&mut [f32], &mut [f32]), own: (&[f32], &[f32])) {
        if !own.1.is_empty() {
            self.each_bias(|o, w| world.1[w] = own.1[o]);
        }
        if !own.0.is_empty() {
            self.each_weight(|o, w| world.0[w] = own.0[o]);
        }
    }
}

impl Local {
    /// The patches [images, patch] that group `g` sees at `position`.
    fn gather(&self, patches: &mut [f32], x: &[f32], position: usize, g: usize) {
        let w = &self.window;
        let (row, column) = (position / w.output.width, position % w.output.width);
        for (patch, x) in patches.chunks_exact_mut(w.patch()).zip(x.chunks_exact(w.input.len())) {
            w.gather(patch, x, row, column, g);
        }
    }

    /// Calls `pair(own index, outside index)` for each bias.
    fn each_bias(&self, mut pair: impl FnMut(usize, usize)) {
        let (positions, out) = (self.window.output.pixels(), self.window.output.channels);
        for o in 0..out {
            for position in 0..positions {
                pair(position * out + o, o * positions + position);
            }
        }
    }

    /// Calls `pair(own index, outside index)` for each weight.
    fn each_weight(&self, mut pair: impl FnMut(usize, usize)) {
        let w = &self.window;
        let (inputs, spots) = (w.group_inputs(), w.size * w.size);
        self.each_bias(|own, world| {
            let (position, o) = (own / w.output.channels, own % w.output.channels);
            for c in 0..inputs {
                for spot in 0..spots {
                    let own = (position * w.patch() + spot * inputs + c) * w.output.channels + o;
                    pair(own, world * w.patch() + c * spots + spot);
                }
            }
        });
    }
}
