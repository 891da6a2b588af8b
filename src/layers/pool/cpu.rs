//! Pooling on the CPU: image by image, the channels of a position side by side. The loops over channels
//! are plain; compiled for the machine's level they become vectors.

use super::{Kernel, Pool};
use crate::layers::simd::{Simd, Work, dispatch};
use crate::layers::{Map, Run};
use rayon::prelude::*;

impl Map for Pool {
    fn forward(&self, run: &Run, y: &mut [f32], x: &[f32]) {
        y.par_chunks_exact_mut(self.output.len())
            .zip(x.par_chunks_exact(self.input.len()))
            .take(run.batch)
            .for_each(|(y, x)| dispatch(Forward { pool: self, y, x }));
    }

    fn backward(&self, run: &Run, dx: &mut [f32], dy: &[f32], x: &[f32]) {
        dx.par_chunks_exact_mut(self.input.len())
            .zip(dy.par_chunks_exact(self.output.len()))
            .zip(x.par_chunks_exact(self.input.len()))
            .take(run.batch)
            .for_each(|((dx, dy), x)| dispatch(Backward { pool: self, dx, dy, x }));
    }
}

impl Pool {
    /// `offsets` ← the input positions of window number `window`, in row-major order, in values.
    #[inline(always)]
    fn window(&self, offsets: &mut Vec<usize>, window: usize) {
        let (row, column) = (window / self.output.width, window % self.output.width);
        let (width, c) = (self.input.width, self.input.channels);
        offsets.clear();
        for y in self.range(row, self.input.height) {
            for x in self.range(column, width) {
                offsets.push((y * width + x) * c);
            }
        }
    }
}

/// One image.
struct Forward<'a> {
    pool: &'a Pool,
    y: &'a mut [f32],
    x: &'a [f32],
}

impl Work for Forward<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { pool, y, x } = self;
        let c = pool.input.channels;
        let mut offsets = Vec::with_capacity(pool.size * pool.size);
        for (window, y) in y.chunks_exact_mut(c).enumerate() {
            pool.window(&mut offsets, window);
            y.copy_from_slice(&x[offsets[0]..][..c]);
            for &at in &offsets[1..] {
                let x = &x[at..][..c];
                match pool.kernel {
                    Kernel::Max => {
                        for (y, &x) in y.iter_mut().zip(x) {
                            // NaN wins and stays.
                            *y = if x > *y || x.is_nan() { x } else { *y };
                        }
                    }
                    Kernel::Average => {
                        for (y, x) in y.iter_mut().zip(x) {
                            *y += x;
                        }
                    }
                }
            }
            if pool.kernel == Kernel::Average {
                let n = offsets.len() as f32;
                for y in y {
                    *y /= n;
                }
            }
        }
    }
}

/// One image.
struct Backward<'a> {
    pool: &'a Pool,
    dx: &'a mut [f32],
    dy: &'a [f32],
    x: &'a [f32],
}

impl Work for Backward<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { pool, dx, dy, x } = self;
        let c = pool.input.channels;
        let mut offsets = Vec::with_capacity(pool.size * pool.size);
        let (mut best, mut from) = (vec![0.0; c], vec![0u32; c]);
        dx.fill(0.0);
        for (window, dy) in dy.chunks_exact(c).enumerate() {
            pool.window(&mut offsets, window);
            if pool.kernel == Kernel::Average {
                let n = offsets.len() as f32;
                for &at in &offsets {
                    for (dx, dy) in dx[at..][..c].iter_mut().zip(dy) {
                        *dx += dy / n;
                    }
                }
                continue;
            }
            best.copy_from_slice(&x[offsets[0]..][..c]);
            from.fill(0);
            for (spot, &at) in offsets.iter().enumerate().skip(1) {
                for ((best, from), &x) in best.iter_mut().zip(&mut from).zip(&x[at..][..c]) {
                    *from = if x > *best { spot as u32 } else { *from };
                    *best = if x > *best { x } else { *best };
                }
            }
            // Every position of the window is written, so that nothing is scattered value by value.
            for (spot, &at) in offsets.iter().enumerate() {
                for ((dx, &from), &dy) in dx[at..][..c].iter_mut().zip(&from).zip(dy) {
                    *dx += if from == spot as u32 { dy } else { 0.0 };
                }
            }
        }
    }
}
