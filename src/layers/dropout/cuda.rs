//! Dropout on a GPU (`kernels/dropout.cu`): the same masks as on the CPU, made anew in each pass.

use super::Dropout;
use crate::gpu::launch::Launch;
use crate::gpu::memory::Buffer;
use crate::kernel_source;
use crate::layers::cuda::{Call, LaunchContext, Launches, When};
use crate::random::Purpose;
use anyhow::Result;

impl Dropout {
    pub(super) fn launches(&self, context: &LaunchContext) -> DropoutLaunches {
        let count = context.images * self.shape.len();
        let mut all = context.constants(&[
            ("IMAGES", context.images),
            ("PIXELS", self.shape.pixels()),
            ("CHANNELS", self.shape.channels),
            ("JOINED_C", self.all_channels),
            ("CHANNEL", self.first_channel),
        ]);
        all.push(("PURPOSE", format!("{}u", Purpose::Dropout(&self.name).word())));
        let (source, moves) = (kernel_source!("dropout.cu"), 2 * context.bytes(count));
        DropoutLaunches {
            mask: Launch::each(source, all.clone(), "dropout", count).moving(moves),
            scale: Launch::each(source, all, "scale", count).moving(moves),
            threshold: self.threshold(),
            factors: self.factors(),
        }
    }
}

pub(super) struct DropoutLaunches {
    mask: Launch,
    scale: Launch,
    threshold: u32,
    factors: (f32, f32),
}

impl DropoutLaunches {
    fn mask(&self, call: &Call<'_>, from: &Buffer<u8>, to: &Buffer<u8>) -> Result<()> {
        let run = call.run;
        // SAFETY: `dropout` takes two buffers and six words between them; it reads `from` and
        // writes `to` at IMAGES * PIXELS * CHANNELS places. The callers give input and output, or
        // their gradients, all of which the plan made that large.
        unsafe {
            self.mask.run(call.stream, |a| {
                let a = a.buffer(from).word(self.threshold);
                let a = a.word(run.seed as u32).word((run.seed >> 32) as u32);
                a.word(run.step).word(run.first_image).float(self.factors.0).buffer(to)
            })
        }
    }
}

impl Launches for DropoutLaunches {
    fn launches(&self) -> Vec<(When, &Launch)> {
        use When::{Evaluation, Forward, Input};
        vec![(Forward, &self.mask), (Evaluation, &self.scale), (Input, &self.mask)]
    }

    fn forward(&self, call: &Call<'_>) -> Result<()> {
        if call.run.training {
            return self.mask(call, call.x, call.y);
        }
        // SAFETY: `scale` reads x and writes y at as many places as the layer has values, which the
        // plan gave both of them room for.
        unsafe {
            self.scale.run(call.stream, |a| a.buffer(call.x).float(self.factors.1).buffer(call.y))
        }
    }

    fn backward_input(&self, call: &Call<'_>) -> Result<()> {
        self.mask(call, call.dy()?, call.dx()?)
    }
}
