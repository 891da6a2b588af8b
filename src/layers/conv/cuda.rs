//! Convolution on a GPU: an implicit matrix product (`kernels/conv_*.cu`).

use super::Conv;
use crate::device::cuda::convolution::Convolution;
use crate::device::cuda::layer::Site;

impl Conv {
    pub(super) fn launches(&self, site: &Site) -> Convolution {
        Convolution::new(&self.window, false, site)
    }
}
