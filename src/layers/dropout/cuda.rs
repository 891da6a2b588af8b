//! Dropout on a GPU (`kernels/dropout.cu`): the same masks as on the CPU, made anew in each pass;
//! but above a ReLU in place, whose backward pass it then does too, the output says what was kept.

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
        ]);
        all.push(("PURPOSE", format!("{}u", Purpose::Dropout(&self.name).word())));
        let (source, moves) = (kernel_source!("dropout.cu"), 2 * context.bytes(count));
        let with_relu = || {
            let threads = count / context.pack_of(count);
            let work = Launch::each(source, all.clone(), "dropout_relu_backward", threads);
            work.moving(3 * context.bytes(count))
        };
        DropoutLaunches {
            with_relu: context.mask.then(with_relu),
            mask: Launch::each(source, all.clone(), "dropout", count).moving(moves),
            scale: Launch::each(source, all, "scale", count).moving(moves),
            threshold: self.threshold(),
            first_channel: self.first_channel as u64,
            factors: self.factors(),
        }
    }
}

pub(super) struct DropoutLaunches {
    mask: Launch,
    scale: Launch,
    /// The backward pass, where it is a ReLU's too.
    with_relu: Option<Launch>,
    threshold: u32,
    first_channel: u64,
    factors: (f32, f32),
}

impl DropoutLaunches {
    fn mask(&self, call: &Call<'_>, from: &Buffer<u8>, to: &Buffer<u8>) -> Result<()> {
        let run = call.run;
        // SAFETY: `dropout` takes two buffers and seven words between them; it reads `from` and
        // writes `to` at IMAGES * PIXELS * CHANNELS places. The callers give input and output, or
        // their gradients, all of which the plan made that large.
        unsafe {
            self.mask.run(call.queue, |a| {
                let a = a.buffer(from).own_word(self.first_channel).word(self.threshold);
                let a = a.word(run.seed as u32).word((run.seed >> 32) as u32);
                a.word(run.step).word(run.first_image).float(self.factors.0).buffer(to)
            })
        }
    }
}

impl Launches for DropoutLaunches {
    fn launches(&self) -> Vec<(When, &Launch)> {
        use When::{Evaluation, Forward, Input};
        let backward = self.with_relu.as_ref().unwrap_or(&self.mask);
        vec![(Forward, &self.mask), (Evaluation, &self.scale), (Input, backward)]
    }

    fn forward(&self, call: &Call<'_>) -> Result<()> {
        if call.run.training {
            return self.mask(call, call.x, call.y);
        }
        // SAFETY: `scale` reads x and writes y at as many places as the layer has values, which the
        // plan gave both of them room for.
        unsafe {
            self.scale.run(call.queue, |a| a.buffer(call.x).float(self.factors.1).buffer(call.y))
        }
    }

    fn backward_input(&self, call: &Call<'_>) -> Result<()> {
        let (dy, dx) = (call.dy()?, call.dx()?);
        let Some(work) = &self.with_relu else { return self.mask(call, dy, dx) };
        // SAFETY: `dropout_relu_backward` reads y and dy and writes dx, all of the layer's size.
        unsafe {
            work.run(call.queue, |a| a.buffer(call.y).buffer(dy).float(self.factors.0).buffer(dx))
        }
    }
}
