//! The locally connected layer on a GPU: one matrix product a place (`kernels/conv_*.cu`, LOCAL).

use super::Local;
use crate::device::cuda::convolution::Convolution;
use crate::device::cuda::layer::Site;

impl Local {
    pub(super) fn launches(&self, site: &Site) -> Convolution {
        Convolution::new(&self.window, true, site)
    }
}
