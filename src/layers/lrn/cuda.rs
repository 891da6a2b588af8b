//! Response normalisation on a GPU (`kernels/lrn.cu`). In training the sums within a map are kept
//! for the backward pass; those over maps it makes again.

use super::{Lrn, Region};
use crate::gpu::launch::Launch;
use crate::kernel_source;
use crate::layers::cuda::{Call, LaunchContext, Launches, When, one_each_way};
use anyhow::Result;

impl Lrn {
    pub(super) fn launches(&self, context: &LaunchContext) -> LrnLaunches {
        let count = context.images * self.shape.len();
        let within = self.region == Region::WithinMap;
        let mut all = context.constants(&[
            ("IMAGES", context.images),
            ("HEIGHT", self.shape.height),
            ("WIDTH", self.shape.width),
            ("CHANNELS", self.shape.channels),
            ("SIZE", self.n),
            ("WITHIN", within.into()),
            ("MASK", context.mask.into()),
        ]);
        let numbers = [("OFFSET", self.k), ("ALPHA", self.alpha), ("BETA", self.beta)];
        all.extend(numbers.map(|(name, value)| (name, format!("{value:?}"))));
        let source = kernel_source!("lrn.cu");
        let threads = if within { count } else { count / context.pack_of(self.shape.channels) };
        let sums = if within && context.training { count } else { 0 };
        let work = |name, buffers| {
            let moves = buffers * context.bytes(count) + sums * size_of::<f32>();
            Launch::each(source, all.clone(), name, threads).moving(moves)
        };
        LrnLaunches {
            forward: work("lrn_forward", 2),
            backward: context.training.then(|| work("lrn_backward", 3)),
            sums,
        }
    }
}

pub(super) struct LrnLaunches {
    forward: Launch,
    backward: Option<Launch>,
    /// Sums that are kept.
    sums: usize,
}

impl Launches for LrnLaunches {
    fn launches(&self) -> Vec<(When, &Launch)> {
        one_each_way(&self.forward, &self.backward)
    }

    fn saved(&self) -> usize {
        size_of::<f32>() * self.sums
    }

    fn forward(&self, call: &Call<'_>) -> Result<()> {
        // SAFETY: `lrn_forward` reads x and writes y at IMAGES * H * W * C places, the size that
        // the plan gave both, and as many floats of `saved`, if it is given any.
        unsafe {
            self.forward.run(call.queue, |a| {
                let a = a.buffer(call.x);
                a.optional((self.sums > 0).then_some(call.saved)).buffer(call.y)
            })
        }
    }

    fn backward_input(&self, call: &Call<'_>) -> Result<()> {
        let (dx, dy) = (call.dx()?, call.dy()?);
        let Some(work) = &self.backward else { return Ok(()) };
        // SAFETY: where sums are kept `saved` holds a float for each value, written by the forward
        // pass, and else it is not read; x, dy and dx have the layer's size, and dx is no other's
        // memory.
        unsafe {
            work.run(call.queue, |a| a.buffer(call.x).buffer(call.saved).buffer(dy).buffer(dx))
        }
    }
}
