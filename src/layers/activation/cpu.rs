//! Activation functions on the CPU, value by value in place, and ReLU of a vector for passes that
//! apply it as they load (`normalised_pooling`).
//!
//! The layer's own ReLU leaves vectors to the compiler: of [`rectified`] in place it makes a masked
//! store under AVX2, which an AMD EPYC takes six times as long for (67 against 11 µs for 140,000
//! values).

use super::{Activation, Function};
use crate::layers::{Pointwise, Run};
use crate::vectors::Simd;
use rayon::prelude::*;

/// Values of one task.
const BLOCK: usize = 1 << 14;

impl Pointwise for Activation {
    /// ReLU needs the sign of its output only, which dropout and ReLU keep wherever a gradient
    /// passes; tanh needs its output itself.
    fn chains(&self) -> bool {
        self.function == Function::Relu
    }

    fn forward(&self, run: &Run, y: &mut [f32]) {
        y[..run.batch * self.shape.len()].par_chunks_mut(BLOCK).for_each(|y| match self.function {
            Function::Relu => rectify(y),
            Function::Tanh => y.iter_mut().for_each(|y| *y = y.tanh()),
        });
    }

    fn backward(&self, run: &Run, dy: &mut [f32], y: &[f32]) {
        dy[..run.batch * self.shape.len()].par_chunks_mut(BLOCK).zip(y.par_chunks(BLOCK)).for_each(
            |(dy, y)| match self.function {
                Function::Relu => {
                    for (dy, y) in dy.iter_mut().zip(y) {
                        *dy = if *y > 0.0 { *dy } else { 0.0 };
                    }
                }
                Function::Tanh => {
                    for (dy, y) in dy.iter_mut().zip(y) {
                        *dy *= 1.0 - y * y;
                    }
                }
            },
        );
    }
}

/// ReLU in place, written so that NaN stays NaN: a diverged run must show itself.
pub fn rectify(y: &mut [f32]) {
    y.iter_mut().for_each(|y| *y = if *y < 0.0 { 0.0 } else { *y });
}

/// ReLU of a vector, with the layer's bits: NaN stays NaN.
#[inline(always)]
pub fn rectified<S: Simd>(s: S, x: S::V) -> S::V {
    s.larger(s.splat(0.0), x)
}

/// The gradient at ReLU's input: `dy` where its output `y` is above 0, else 0.
#[inline(always)]
pub fn rectified_gradient<S: Simd>(s: S, dy: S::V, y: S::V) -> S::V {
    let zero = s.splat(0.0);
    s.if_greater(y, zero, dy, zero)
}
