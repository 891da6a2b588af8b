//! Response normalisation on a GPU (`kernels/lrn.cu`). In training the sums are kept for the
//! backward pass.

use super::{Lrn, Region};
use crate::gpu::launch::{Launch, constants};
use crate::kernel_source;
use crate::layers::cuda::{Call, LaunchContext, Launches};
use anyhow::Result;

impl Lrn {
    pub(super) fn launches(&self, context: &LaunchContext) -> LrnLaunches {
        let count = context.images * self.shape.len();
        let mut all = constants(&[
            ("IMAGES", context.images),
            ("H", self.shape.height),
            ("W", self.shape.width),
            ("C", self.shape.channels),
            ("SIZE", self.n),
            ("WITHIN", (self.region == Region::WithinMap).into()),
        ]);
        let numbers = [("K", self.k), ("ALPHA", self.alpha), ("BETA", self.beta)];
        all.extend(numbers.map(|(name, value)| (name, format!("{value:?}"))));
        let source = kernel_source!("lrn.cu");
        let work = |name| Launch::each(source, all.clone(), name, count);
        LrnLaunches {
            forward: work("lrn_forward"),
            backward: context.training.then(|| work("lrn_backward")),
            count,
        }
    }
}

pub(super) struct LrnLaunches {
    forward: Launch,
    backward: Option<Launch>,
    count: usize,
}

impl Launches for LrnLaunches {
    fn launches(&self) -> Vec<&Launch> {
        std::iter::once(&self.forward).chain(&self.backward).collect()
    }

    fn saved(&self) -> usize {
        if self.backward.is_some() { size_of::<f32>() * self.count } else { 0 }
    }

    fn forward(&self, call: &Call<'_>) -> Result<()> {
        // SAFETY: `lrn_forward` reads x and writes y at IMAGES * H * W * C places, the size that
        // the plan gave both, and as many floats of `saved`, if it is given any.
        unsafe {
            self.forward.run(call.stream, |a| {
                let a = a.buffer(call.x);
                let a = if self.backward.is_some() { a.buffer(call.saved) } else { a.nothing() };
                a.buffer(call.y)
            })
        }
    }

    fn backward_input(&self, call: &Call<'_>) -> Result<()> {
        let (dx, dy) = (call.dx()?, call.dy()?);
        let Some(work) = &self.backward else { return Ok(()) };
        // SAFETY: with a backward pass `saved` holds a float for each value, written by the forward
        // pass; x, dy and dx have the layer's size, and dx is no other's memory.
        unsafe {
            work.run(call.stream, |a| a.buffer(call.x).buffer(call.saved).buffer(dy).buffer(dx))
        }
    }
}
