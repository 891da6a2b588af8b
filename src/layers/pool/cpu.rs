//! Pooling on the CPU: image by image, the channels of a position side by side in vectors. The pass
//! with normalisation (`normalised_pooling`) computes with the same pieces: [`larger`] and
//! [`share`].

use super::{Kernel, Pool};
use crate::layers::activation::cpu::rectified_gradient;
use crate::layers::beside::{Channels, Gradient};
use crate::layers::{Beside, Map, PastRelu, Run};
use crate::vectors::{Simd, Work, dispatch, load_some, store_some};
use rayon::prelude::*;

impl Map for Pool {
    fn forward(&self, run: &Run, y: &mut [f32], x: &[f32]) {
        self.forward_beside(run, y, &Channels::all(self.output.channels), x);
    }

    fn backward(&self, run: &Run, dx: &mut [f32], dy: &[f32], x: &[f32]) {
        let channels = Channels::all(self.output.channels);
        self.backward_beside(run, dx, Gradient::new(&[dy], &channels), x);
    }

    fn beside(&self) -> Option<&dyn Beside> {
        Some(self)
    }
}

impl Beside for Pool {
    fn forward_beside(&self, run: &Run, y: &mut [f32], at: &Channels, x: &[f32]) {
        y.par_chunks_exact_mut(self.output.pixels() * at.all)
            .zip(x.par_chunks_exact(self.input.len()))
            .take(run.batch)
            .for_each(|(y, x)| dispatch(Forward { pool: self, y, at, x }));
    }

    fn backward_beside(&self, run: &Run, dx: &mut [f32], dy: Gradient<'_>, x: &[f32]) {
        self.backward_of(run, dx, dy, x, false);
    }
}

/// A maximum that is not above 0 has no gradient: so nothing but a window's own is looked at.
impl PastRelu for Pool {
    fn backward(&self, run: &Run, dx: &mut [f32], dy: Gradient<'_>, x: &[f32]) {
        self.backward_of(run, dx, dy, x, true);
    }
}

impl Pool {
    /// [`Beside::backward_beside`], or where `relu` [`PastRelu::backward`].
    fn backward_of(&self, run: &Run, dx: &mut [f32], dy: Gradient<'_>, x: &[f32], relu: bool) {
        dx.par_chunks_exact_mut(self.input.len())
            .zip(x.par_chunks_exact(self.input.len()))
            .take(run.batch)
            .enumerate()
            .for_each(|(image, (dx, x))| {
                let dy = dy.from(image * self.output.pixels());
                dispatch(Backward { pool: self, dx, dy, x, relu });
            });
    }

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
    at: &'a Channels,
    x: &'a [f32],
}

impl Work for Forward<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { pool, y, at, x } = self;
        let c = pool.input.channels;
        let mut offsets = Vec::with_capacity(pool.size * pool.size);
        for (window, y) in at.of_mut(y).enumerate() {
            pool.window(&mut offsets, window);
            let n = s.splat(offsets.len() as f32);
            for first in (0..c).step_by(S::LANES) {
                let mut result = load_some(s, &x[offsets[0]..][..c][first..]);
                for &at in &offsets[1..] {
                    let x = load_some(s, &x[at..][..c][first..]);
                    result = match pool.kernel {
                        Kernel::Max => larger(s, result, x),
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
    dy: Gradient<'a>,
    x: &'a [f32],
    relu: bool,
}

impl Work for Backward<'_> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { pool, dx, dy, x, relu } = self;
        let c = pool.input.channels;
        let mut offsets = Vec::with_capacity(pool.size * pool.size);
        let mut of_window = vec![0.0; c];
        dx.fill(0.0);
        for window in 0..pool.output.pixels() {
            pool.window(&mut offsets, window);
            dy.copy(window, &mut of_window);
            match pool.kernel {
                Kernel::Max => share(s, (dx, x), (&of_window, relu), &offsets, c),
                Kernel::Average => share_evenly(s, dx, &of_window, &offsets),
            }
        }
    }
}

/// The larger of two vectors, lane by lane; NaN wins and stays.
#[inline(always)]
pub fn larger<S: Simd>(s: S, best: S::V, x: S::V) -> S::V {
    s.if_equal(x, x, s.larger(x, best), x)
}

/// One window's gradient `dy` `[channels]`, added to `dx` at the place where `x` is largest,
/// channel by channel; of equal ones the first. The positions of the window begin at `offsets`, in
/// its order, in both, and `room` values, no fewer than there are channels, may be touched at each.
/// If `relu`, only where that largest value is above 0.
///
/// Every position is written, most with a 0 added: nothing is scattered value by value.
#[inline(always)]
pub fn share<S: Simd>(
    s: S,
    (dx, x): (&mut [f32], &[f32]),
    (dy, relu): (&[f32], bool),
    offsets: &[usize],
    room: usize,
) {
    let furthest = offsets.iter().max().map_or(0, |&at| at + room);
    assert!(furthest <= x.len() && furthest <= dx.len() && dy.len() <= room);
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    for first in (0..dy.len()).step_by(S::LANES) {
        let dy = load_some(s, &dy[first..]);
        // SAFETY: `first` is below `room`, and every position ends before `furthest`.
        let value = |at: usize| unsafe { x.get_unchecked(at + first..at + room) };
        // The place of the largest in the window, counted from 0.
        let (mut from, mut number) = (zero, zero);
        let mut best = load_some(s, value(offsets[0]));
        for &at in &offsets[1..] {
            number = s.add(number, one);
            let x = load_some(s, value(at));
            from = s.if_greater(x, best, number, from);
            best = s.larger(x, best);
        }
        let dy = if relu { rectified_gradient(s, dy, best) } else { dy };
        let mut number = zero;
        for &at in offsets {
            let share = s.if_equal(from, number, dy, zero);
            // SAFETY: `first` is below `room`, and `dx` too reaches to `furthest`.
            let dx = unsafe { dx.get_unchecked_mut(at + first..at + room) };
            let sum = s.add(load_some(s, dx), share);
            store_some(s, dx, sum);
            number = s.add(number, one);
        }
    }
}

/// One window's gradient `dy` `[channels]`, the same part of it added to each position of `dx`.
#[inline(always)]
fn share_evenly<S: Simd>(s: S, dx: &mut [f32], dy: &[f32], offsets: &[usize]) {
    let n = s.splat(offsets.len() as f32);
    for first in (0..dy.len()).step_by(S::LANES) {
        let part = s.div(load_some(s, &dy[first..]), n);
        for &at in offsets {
            let dx = &mut dx[at..][..dy.len()][first..];
            let sum = s.add(load_some(s, dx), part);
            store_some(s, dx, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::activation::{Activation, Function};
    use crate::layers::{Layer, Pointwise, Shape};
    use crate::random::numbers;

    /// Half of the windows of two by two have no value above 0, so that zeros are equal.
    #[test]
    fn backward_past_relu_is_one_after_the_other() {
        for (side, channels, size, stride) in [(13, 32, 3, 2), (8, 5, 2, 2), (9, 21, 2, 3)] {
            let input = Shape { height: side, width: side, channels };
            let extent = (side - size).div_ceil(stride).min((side - 1) / stride) + 1;
            let output = Shape { height: extent, width: extent, channels };
            let pool = Pool { kernel: Kernel::Max, input, output, size, stride };
            let run = Run { batch: 3, training: true, seed: 1, step: 1, first_image: 0 };
            let mut x: Vec<f32> =
                numbers(3 * input.len(), 1).into_iter().map(|x| x - 0.6).collect();
            let relu = Activation { function: Function::Relu, shape: input };
            relu.forward(&run, &mut x);
            (x[3], x[4], x[channels + 3]) = (f32::NAN, -0.0, f32::INFINITY);
            let dy = numbers(3 * output.len(), 2);
            let mut dx = vec![f32::NAN; x.len()];
            Map::backward(&pool, &run, &mut dx, &dy, &x);
            let all = dx.clone();
            relu.backward(&run, &mut dx, &x);
            assert!(all != dx && dx.iter().any(|&dx| dx != 0.0), "{side}");
            let mut one = vec![f32::NAN; x.len()];
            let channels = Channels::all(channels);
            let dys = [&dy[..]];
            let dy = Gradient::new(&dys, &channels);
            pool.past_relu().unwrap().backward(&run, &mut one, dy, &x);
            let bits = |all: &[f32]| all.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert!(bits(&one) == bits(&dx), "{side}");
        }
        let average = Pool {
            kernel: Kernel::Average,
            input: Shape { height: 4, width: 4, channels: 1 },
            output: Shape { height: 2, width: 2, channels: 1 },
            size: 2,
            stride: 2,
        };
        assert!(average.past_relu().is_none());
    }
}
