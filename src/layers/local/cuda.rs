//! The locally connected layer on a GPU: one matrix product a place (`kernels/conv_*.cu`, LOCAL).

use super::Local;
use crate::layers::cuda::LaunchContext;
use crate::layers::window::cuda::Convolution;

impl Local {
    pub(super) fn launches(&self, context: &LaunchContext) -> Convolution {
        Convolution::new(&self.window, true, context)
    }
}
