//! Response normalisation on a GPU (`kernels/lrn.cu`). In training the sums are kept for the backward
//! pass.

use super::{Lrn, Region};
use crate::device::cuda::kernels;
use crate::device::cuda::layer::{Call, Launches, Site, Work, constants};
use anyhow::Result;

impl Lrn {
    pub(super) fn launches(&self, site: &Site) -> LrnLaunches {
        let count = site.images * self.shape.len();
        let mut all = constants(&[
            ("IMAGES", site.images),
            ("H", self.shape.height),
            ("W", self.shape.width),
            ("C", self.shape.channels),
            ("SIZE", self.n),
            ("WITHIN", (self.region == Region::WithinMap).into()),
        ]);
        let numbers = [("K", self.k), ("ALPHA", self.alpha), ("BETA", self.beta)];
        all.extend(numbers.map(|(name, value)| (name, format!("{value:?}"))));
        let work = |name| Work::each(kernels::LRN, all.clone(), name, count);
        LrnLaunches {
            forward: work("lrn_forward"),
            backward: site.training.then(|| work("lrn_backward")),
            count,
        }
    }
}

pub(super) struct LrnLaunches {
    forward: Work,
    backward: Option<Work>,
    count: usize,
}

impl Launches for LrnLaunches {
    fn works(&self) -> Vec<&Work> {
        std::iter::once(&self.forward).chain(&self.backward).collect()
    }

    fn kept(&self) -> usize {
        if self.backward.is_some() { size_of::<f32>() * self.count } else { 0 }
    }

    fn forward(&self, call: &Call<'_>) -> Result<()> {
        // SAFETY: the constants are those of the layer, whose plan sized the buffers.
        unsafe {
            self.forward.run(call.stream, |a| {
                let a = a.buffer(call.x);
                let a = if self.backward.is_some() { a.buffer(call.kept) } else { a.nothing() };
                a.buffer(call.y)
            })
        }
    }

    fn backward_input(&self, call: &Call<'_>) -> Result<()> {
        let (dx, dy) = (call.dx()?, call.dy()?);
        let Some(work) = &self.backward else { return Ok(()) };
        // SAFETY: as above.
        unsafe {
            work.run(call.stream, |a| a.buffer(call.x).buffer(call.kept).buffer(dy).buffer(dx))
        }
    }
}
