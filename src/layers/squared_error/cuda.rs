//! Squared error and the gradient of its mean on a GPU, all in the forward pass
//! (`kernels/squared_error.cu`).

use super::SquaredError;
use crate::gpu::launch::Launch;
use crate::kernel_source;
use crate::layers::cuda::{Call, LaunchContext, Launches, When};
use anyhow::Result;

impl SquaredError {
    pub(super) fn launches(&self, context: &LaunchContext) -> SquaredErrorLaunches {
        let all = context.constants(&[
            ("IMAGES", context.images),
            ("VALUES", self.shape.len()),
            ("TRAINING", context.training.into()),
            ("FLOAT_IN", context.float_input.into()),
        ]);
        let source = kernel_source!("squared_error.cu");
        let work = |name, blocks, threads| {
            Launch::new(source, all.clone(), name, (blocks, 1, 1), (threads, 1, 1))
        };
        // Output, target, what is made of the output, the gradient, and an error an image.
        let (values, float) = (context.images * self.shape.len(), size_of::<f32>());
        let output = if context.float_input { values * float } else { context.bytes(values) };
        let gradient = if context.training { context.bytes(values) } else { 0 };
        let errors = context.images * float;
        SquaredErrorLaunches {
            error: work("squared_error", context.images, 256)
                .moving(output + context.bytes(values) + values * float + gradient + errors),
            sum: work("sum_errors", 1, 32).moving(errors),
            images: context.images,
        }
    }
}

pub(super) struct SquaredErrorLaunches {
    error: Launch,
    sum: Launch,
    images: usize,
}

impl Launches for SquaredErrorLaunches {
    fn launches(&self) -> Vec<(When, &Launch)> {
        use When::{Evaluation, Forward};
        vec![(Forward, &self.error), (Evaluation, &self.error), (Forward, &self.sum)]
    }

    /// The error of each image.
    fn saved(&self) -> usize {
        size_of::<f32>() * self.images
    }

    fn forward(&self, call: &Call<'_>) -> Result<()> {
        let count = call.run.batch;
        // SAFETY: x, the network's input, y and dx hold IMAGES times VALUES values (the plan
        // refuses a network whose input has another size), the saved bytes a float an image.
        // Without TRAINING the kernel writes no gradient.
        unsafe {
            self.error.run(call.queue, |a| {
                let a = a.buffer(call.x).buffer(call.input).word(count as u32);
                let a = a.float(count as f32).buffer(call.y);
                let a = match call.dx {
                    Some(dx) => a.buffer(dx),
                    None => a.nothing(),
                };
                a.buffer(call.saved)
            })?;
        }
        let Some(loss) = call.loss else { return Ok(()) };
        // SAFETY: `squared_error` has written the error of each of IMAGES images, on the same
        // stream; there are three totals.
        unsafe { self.sum.run(call.queue, |a| a.buffer(call.saved).buffer(&loss.totals)) }
    }

    /// Done already.
    fn backward_input(&self, _: &Call<'_>) -> Result<()> {
        Ok(())
    }
}
