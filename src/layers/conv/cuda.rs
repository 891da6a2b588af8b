//! Convolution on a GPU: an implicit matrix product (`kernels/conv_*.cu`).

use super::Conv;
use crate::gpu::precision::Precision;
use crate::layers::cuda::LaunchContext;
use crate::layers::window::cuda::{Convolution, wide_windows};

impl Conv {
    pub(super) fn launches(&self, context: &LaunchContext) -> Convolution {
        Convolution::new(&self.window, false, context)
    }

    /// In bfloat16 reads of 16 bytes need rows of whole packs of 8: colours are stored as 4
    /// channels where two pixels then make a pack wherever a window begins, else as 8.
    pub(super) fn packed_channels(&self, precision: Precision) -> Option<usize> {
        let (w, pack) = (&self.window, precision.pack());
        let channels = w.input.channels;
        if precision != Precision::Bf16 || w.groups > 1 || channels.is_multiple_of(pack) {
            return None;
        }
        let suits = |stored| wide_windows([w.input.width, stored], 1, w.stride, w.left, pack);
        let half = channels.next_multiple_of(pack / 2);
        Some(if suits(half) { half } else { channels.next_multiple_of(pack) })
    }
}
