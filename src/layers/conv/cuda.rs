//! Convolution on a GPU: an implicit matrix product (`kernels/conv_*.cu`).

use super::Conv;
use crate::layers::cuda::LaunchContext;
use crate::layers::window::cuda::Convolution;

impl Conv {
    pub(super) fn launches(&self, context: &LaunchContext) -> Convolution {
        Convolution::new(&self.window, false, context)
    }
}
