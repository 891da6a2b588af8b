//! Pooling on the CPU: image by image, the channels of a position side by side.

use super::{Kernel, Pool};
use crate::layers::{Map, Run};
use rayon::prelude::*;

impl Pool {
    /// Calls `visit(output offset, input offsets in row-major order)` for each window.
    fn windows(&self, mut visit: impl FnMut(usize, &[usize])) {
        let (input, c) = (self.input, self.input.channels);
        let mut offsets = Vec::with_capacity(self.size * self.size);
        for oy in 0..self.output.height {
            for ox in 0..self.output.width {
                offsets.clear();
                for y in self.range(oy, input.height) {
                    offsets.extend(self.range(ox, input.width).map(|x| (y * input.width + x) * c));
                }
                visit((oy * self.output.width + ox) * c, &offsets);
            }
        }
    }
}

impl Map for Pool {
    fn forward(&self, run: &Run, y: &mut [f32], x: &[f32]) {
        let c = self.input.channels;
        y.par_chunks_exact_mut(self.output.len())
            .zip(x.par_chunks_exact(self.input.len()))
            .take(run.batch)
            .for_each(|(y, x)| {
                self.windows(|out, window| {
                    let y = &mut y[out..out + c];
                    y.copy_from_slice(&x[window[0]..window[0] + c]);
                    for &at in &window[1..] {
                        let x = &x[at..at + c];
                        match self.kernel {
                            // NaN wins and stays.
                            Kernel::Max => y.iter_mut().zip(x).for_each(|(y, &x)| {
                                *y = if x > *y || x.is_nan() { x } else { *y };
                            }),
                            Kernel::Average => y.iter_mut().zip(x).for_each(|(y, x)| *y += x),
                        }
                    }
                    if self.kernel == Kernel::Average {
                        let n = window.len() as f32;
                        y.iter_mut().for_each(|y| *y /= n);
                    }
                });
            });
    }

    fn backward(&self, run: &Run, dx: &mut [f32], dy: &[f32], x: &[f32]) {
        let c = self.input.channels;
        dx.par_chunks_exact_mut(self.input.len())
            .zip(dy.par_chunks_exact(self.output.len()))
            .zip(x.par_chunks_exact(self.input.len()))
            .take(run.batch)
            .for_each(|((dx, dy), x)| {
                dx.fill(0.0);
                let (mut best, mut from) = (vec![0.0; c], vec![0u32; c]);
                self.windows(|out, window| {
                    let dy = &dy[out..out + c];
                    if self.kernel == Kernel::Average {
                        let n = window.len() as f32;
                        for &at in window {
                            dx[at..at + c].iter_mut().zip(dy).for_each(|(dx, dy)| *dx += dy / n);
                        }
                        return;
                    }
                    best.copy_from_slice(&x[window[0]..window[0] + c]);
                    from.fill(window[0] as u32);
                    for &at in &window[1..] {
                        let x = &x[at..at + c];
                        for ((best, from), &x) in best.iter_mut().zip(&mut from).zip(x) {
                            *from = if x > *best { at as u32 } else { *from };
                            *best = if x > *best { x } else { *best };
                        }
                    }
                    for (channel, (from, dy)) in from.iter().zip(dy).enumerate() {
                        dx[*from as usize + channel] += dy;
                    }
                });
            });
    }
}
