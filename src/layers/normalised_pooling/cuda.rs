//! Normalisation and max-pooling on a GPU in one pass (`kernels/lrn_pool.cu`). A ReLU below is part
//! of other layers' passes there.

use super::NormalisedPooling;
use crate::gpu::launch::Launch;
use crate::kernel_source;
use crate::layers::cuda::{Call, LaunchContext, Launches, When, one_each_way};
use anyhow::Result;

impl NormalisedPooling {
    /// Whether a GPU has the pass: places in windows of up to 16 rows are kept in 8 bits. And
    /// whether it is worth its while: each value is normalised for every window that holds it,
    /// which for more than four takes longer than to write the map and read it again.
    pub fn suits_gpus(&self) -> bool {
        const MOST_ROWS: usize = 16;
        let (size, stride) = (self.pool.size, self.pool.stride);
        size <= MOST_ROWS && size <= 2 * stride
    }

    /// Its launches, from normalisation's input to pooling's output and back.
    pub fn cuda(&self, context: &LaunchContext) -> Box<dyn Launches> {
        let (lrn, pool) = (&self.lrn, &self.pool);
        let mut all = context.constants(&[
            ("IMAGES", context.images),
            ("IN_H", pool.input.height),
            ("IN_W", pool.input.width),
            ("CHANNELS", pool.input.channels),
            ("OUT_H", pool.output.height),
            ("OUT_W", pool.output.width),
            ("SIZE", pool.size),
            ("STRIDE", pool.stride),
            ("NEIGHBOURS", lrn.n),
            ("MASK", context.mask.into()),
        ]);
        let numbers = [("OFFSET", lrn.k), ("ALPHA", lrn.alpha), ("BETA", lrn.beta)];
        all.extend(numbers.map(|(name, value)| (name, format!("{value:?}"))));
        let [inputs, outputs] = [pool.input, pool.output].map(|shape| context.images * shape.len());
        let source = kernel_source!("lrn_pool.cu");
        let pack = context.pack_of(pool.input.channels);
        let saved = if context.training { outputs } else { 0 };
        let work = |name, threads, maps| {
            let moves = context.bytes(maps) + saved;
            Launch::each(source, all.clone(), name, threads / pack).moving(moves)
        };
        let backward = || work("lrn_pool_backward", inputs, 2 * inputs + outputs);
        Box::new(NormalisedPoolingLaunches {
            forward: work("lrn_pool_forward", outputs, inputs + outputs),
            backward: context.training.then(backward),
            saved,
        })
    }
}

struct NormalisedPoolingLaunches {
    forward: Launch,
    backward: Option<Launch>,
    /// Bytes of the maxima's places.
    saved: usize,
}

impl Launches for NormalisedPoolingLaunches {
    fn launches(&self) -> Vec<(When, &Launch)> {
        one_each_way(&self.forward, &self.backward)
    }

    fn saved(&self) -> usize {
        self.saved
    }

    fn forward(&self, call: &Call<'_>) -> Result<()> {
        // SAFETY: `lrn_pool_forward` reads x, IMAGES of normalisation's input, and writes IMAGES of
        // pooling's output to y and, unless it is given nothing, a byte for each value to `saved`.
        unsafe {
            self.forward.run(call.queue, |a| {
                let a = a.buffer(call.x).buffer(call.y);
                a.optional((self.saved > 0).then_some(call.saved))
            })
        }
    }

    fn backward_input(&self, call: &Call<'_>) -> Result<()> {
        let (dx, dy) = (call.dx()?, call.dy()?);
        let Some(work) = &self.backward else { return Ok(()) };
        // SAFETY: x and dx have the input's size and dy the output's; the forward pass has written
        // `saved`; dx is no other's memory.
        unsafe {
            work.run(call.queue, |a| a.buffer(call.x).buffer(dy).buffer(call.saved).buffer(dx))
        }
    }
}
