//! Pooling on the CPU: image by image, the channels of a position side by side in vectors.

use super::{Kernel, Pool};
use crate::layers::{Map, Run};
use crate::vectors::{Simd, Work, dispatch, load_some, store_some};
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
    fn run<S: Simd>(self, s: S) {
        let Self { pool, y, x } = self;
        let c = pool.input.channels;
        let mut offsets = Vec::with_capacity(pool.size * pool.size);
        for (window, y) in y.chunks_exact_mut(c).enumerate() {
            pool.window(&mut offsets, window);
            let n = s.splat(offsets.len() as f32);
            for first in (0..c).step_by(S::LANES) {
                let mut result = load_some(s, &x[offsets[0]..][..c][first..]);
                for &at in &offsets[1..] {
                    let x = load_some(s, &x[at..][..c][first..]);
                    result = match pool.kernel {
                        Kernel::Max => {
                            let more = s.if_greater(x, result, x, result);
                            // NaN wins and stays.
                            s.if_equal(x, x, more, x)
                        }
                        Kernel::Average => s.add(result, x),
                    };
                }
                if pool.kernel == Kernel::Average {
                    result = s.div(result, n);
                }
                store_some(s, &mut y[first..], result);
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
    fn run<S: Simd>(self, s: S) {
        let Self { pool, dx, dy, x } = self;
        let c = pool.input.channels;
        let mut offsets = Vec::with_capacity(pool.size * pool.size);
        dx.fill(0.0);
        for (window, dy) in dy.chunks_exact(c).enumerate() {
            pool.window(&mut offsets, window);
            let (zero, n) = (s.splat(0.0), s.splat(offsets.len() as f32));
            for first in (0..c).step_by(S::LANES) {
                let mut dy = load_some(s, &dy[first..]);
                // The place of the first largest value in the window, counted from 0.
                let mut from = zero;
                match pool.kernel {
                    Kernel::Max => {
                        let mut best = load_some(s, &x[offsets[0]..][..c][first..]);
                        for (spot, &at) in offsets.iter().enumerate().skip(1) {
                            let x = load_some(s, &x[at..][..c][first..]);
                            from = s.if_greater(x, best, s.splat(spot as f32), from);
                            best = s.if_greater(x, best, x, best);
                        }
                    }
                    Kernel::Average => dy = s.div(dy, n),
                }
                // Every position of the window is written: nothing is scattered value by value.
                for (spot, &at) in offsets.iter().enumerate() {
                    let share = match pool.kernel {
                        Kernel::Max => s.if_equal(from, s.splat(spot as f32), dy, zero),
                        Kernel::Average => dy,
                    };
                    let dx = &mut dx[at..][..c][first..];
                    let sum = s.add(load_some(s, dx), share);
                    store_some(s, dx, sum);
                }
            }
        }
    }
}
