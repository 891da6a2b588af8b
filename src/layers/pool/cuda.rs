//! Pooling on a GPU (`kernels/pool.cu`). In training a maximum's place in its window is kept for
//! the backward pass.

use super::{Kernel, Pool};
use crate::gpu::launch::Launch;
use crate::kernel_source;
use crate::layers::cuda::{Call, LaunchContext, Launches, When, one_each_way};
use anyhow::{Result, bail};

/// Places of a window are 16-bit numbers, and 8-bit ones in a window of so many rows.
const WIDEST: usize = 256;
const NARROW: usize = 16;

impl Pool {
    pub(super) fn launches(&self, context: &LaunchContext) -> Result<PoolLaunches> {
        if self.size > WIDEST {
            bail!("size = {}: on a GPU a pooling window has at most {WIDEST} rows", self.size);
        }
        let all = context.constants(&[
            ("IMAGES", context.images),
            ("IN_H", self.input.height),
            ("IN_W", self.input.width),
            ("CHANNELS", self.input.channels),
            ("OUT_H", self.output.height),
            ("OUT_W", self.output.width),
            ("SIZE", self.size),
            ("STRIDE", self.stride),
            ("MASK", context.mask.into()),
        ]);
        let (inputs, outputs) =
            (context.images * self.input.len(), context.images * self.output.len());
        let is_max = self.kernel == Kernel::Max;
        let (forward, backward) = match self.kernel {
            Kernel::Max => ("max_forward", "max_backward"),
            Kernel::Average => ("average_forward", "average_backward"),
        };
        let source = kernel_source!("pool.cu");
        let pack = if is_max { context.pack_of(self.input.channels) } else { 1 };
        let choice = if self.size <= NARROW { size_of::<u8>() } else { size_of::<u16>() };
        let saved = if is_max && context.training { choice * outputs } else { 0 };
        let both = context.bytes(inputs + outputs) + saved;
        let masks = if is_max && context.mask { context.bytes(outputs) } else { 0 };
        let work = |name, count, moves| {
            Launch::each(source, all.clone(), name, count / pack).moving(moves)
        };
        Ok(PoolLaunches {
            forward: work(forward, outputs, both),
            backward: context.training.then(|| work(backward, inputs, both + masks)),
            is_max,
            saved,
        })
    }
}

pub(super) struct PoolLaunches {
    forward: Launch,
    backward: Option<Launch>,
    is_max: bool,
    saved: usize,
}

impl Launches for PoolLaunches {
    fn launches(&self) -> Vec<(When, &Launch)> {
        one_each_way(&self.forward, &self.backward)
    }

    fn saved(&self) -> usize {
        self.saved
    }

    fn forward(&self, call: &Call<'_>) -> Result<()> {
        // SAFETY: the kernel reads x, IMAGES of the layer's input, and writes IMAGES of its output
        // to y; a maximum's also writes a choice for each of them to `saved`, unless it is given
        // nothing. The average's takes no third argument.
        unsafe {
            self.forward.run(call.queue, |a| {
                let a = a.buffer(call.x).buffer(call.y);
                match (self.is_max, self.saved > 0) {
                    (true, true) => a.buffer(call.saved),
                    (true, false) => a.nothing(),
                    (false, _) => a,
                }
            })
        }
    }

    fn backward_input(&self, call: &Call<'_>) -> Result<()> {
        let (dx, dy) = (call.dx()?, call.dy()?);
        let Some(work) = &self.backward else { return Ok(()) };
        // SAFETY: dy has the output's size and dx the input's; for maxima the forward pass has
        // written `saved`, whose places lie within a window, and y.
        unsafe {
            work.run(call.queue, |a| {
                let a = a.buffer(dy);
                if self.is_max { a.buffer(call.saved).buffer(call.y) } else { a }.buffer(dx)
            })
        }
    }
}
