//! The fully connected layer on a GPU: a convolution of a map of one pixel, whose channels are the
//! inputs as they lie in memory (`kernels/conv_*.cu`).

use super::Fc;
use crate::layers::Shape;
use crate::layers::cuda::LaunchContext;
use crate::layers::window::Window;
use crate::layers::window::cuda::Convolution;

impl Fc {
    pub(super) fn launches(&self, context: &LaunchContext) -> Convolution {
        let pixel = |channels| Shape { height: 1, width: 1, channels };
        let window = Window {
            input: pixel(self.input.len()),
            output: pixel(self.outputs),
            size: 1,
            stride: 1,
            top: 0,
            left: 0,
            groups: 1,
        };
        Convolution::new(&window, false, context)
    }
}
