//! Dropout on a GPU (`kernels/dropout.cu`): the same masks as on the CPU, made anew in each pass.

use super::Dropout;
use crate::gpu::kernels;
use crate::gpu::launch::{Launch, constants};
use crate::gpu::memory::Buffer;
use crate::layers::cuda::{Call, LaunchContext, Launches};
use crate::random::Purpose;
use anyhow::Result;

impl Dropout {
    pub(super) fn launches(&self, context: &LaunchContext) -> DropoutLaunches {
        let count = context.images * self.shape.len();
        let mut all = constants(&[
            ("IMAGES", context.images),
            ("PIXELS", self.shape.pixels()),
            ("C", self.shape.channels),
            ("JOINED_C", self.all_channels),
            ("CHANNEL", self.first_channel),
        ]);
        all.push(("PURPOSE", format!("{}u", Purpose::Dropout(&self.name).word())));
        let scale = constants(&[("COUNT", count)]);
        DropoutLaunches {
            mask: Launch::each(kernels::DROPOUT, all, "dropout", count),
            scale: Launch::each(kernels::ELEMENTWISE, scale, "scale", count),
            threshold: self.threshold(),
            keep: (1.0 - self.rate) as f32,
        }
    }
}

pub(super) struct DropoutLaunches {
    mask: Launch,
    scale: Launch,
    threshold: u32,
    keep: f32,
}

impl DropoutLaunches {
    fn mask(&self, call: &Call<'_>, from: &Buffer<f32>, to: &Buffer<f32>) -> Result<()> {
        let run = call.run;
        // SAFETY: the constants are those of the layer, whose plan sized the buffers.
        unsafe {
            self.mask.run(call.stream, |a| {
                let a = a.buffer(from).word(self.threshold);
                let a = a.word(run.seed as u32).word((run.seed >> 32) as u32);
                a.word(run.step).word(run.first_image).buffer(to)
            })
        }
    }
}

impl Launches for DropoutLaunches {
    fn launches(&self) -> Vec<&Launch> {
        vec![&self.mask, &self.scale]
    }

    fn forward(&self, call: &Call<'_>) -> Result<()> {
        if call.run.training {
            return self.mask(call, call.x, call.y);
        }
        // SAFETY: as above.
        unsafe { self.scale.run(call.stream, |a| a.buffer(call.x).float(self.keep).buffer(call.y)) }
    }

    fn backward_input(&self, call: &Call<'_>) -> Result<()> {
        self.mask(call, call.dy()?, call.dx()?)
    }
}
