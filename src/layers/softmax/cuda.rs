//! Softmax, loss, errors and the gradient of the mean loss on a GPU, all in the forward pass
//! (`kernels/softmax.cu`).

use super::Softmax;
use crate::gpu::launch::Launch;
use crate::kernel_source;
use crate::layers::cuda::{Call, LaunchContext, Launches, When};
use anyhow::Result;

impl Softmax {
    pub(super) fn launches(&self, context: &LaunchContext) -> SoftmaxLaunches {
        let all = context.constants(&[
            ("IMAGES", context.images),
            ("CLASSES", self.shape.len()),
            ("TOP", 5),
            ("TRAINING", context.training.into()),
            ("FLOAT_IN", context.float_input.into()),
        ]);
        let source = kernel_source!("softmax.cu");
        let work = |name, blocks, threads| {
            Launch::new(source, all.clone(), name, (blocks, 1, 1), (threads, 1, 1))
        };
        // Logits, probabilities, the gradient, and three scores an image.
        let (values, float) = (context.images * self.shape.len(), size_of::<f32>());
        let logits = if context.float_input { values * float } else { context.bytes(values) };
        let gradient = if context.training { context.bytes(values) } else { 0 };
        let scores = 3 * context.images * float;
        SoftmaxLaunches {
            softmax: work("softmax", context.images, 256)
                .moving(logits + values * float + gradient + scores),
            sum: work("sum_scores", 1, 32).moving(scores),
            images: context.images,
        }
    }
}

pub(super) struct SoftmaxLaunches {
    softmax: Launch,
    sum: Launch,
    images: usize,
}

impl Launches for SoftmaxLaunches {
    fn launches(&self) -> Vec<(When, &Launch)> {
        use When::{Evaluation, Forward};
        vec![(Forward, &self.softmax), (Evaluation, &self.softmax), (Forward, &self.sum)]
    }

    /// Three scores an image.
    fn saved(&self) -> usize {
        3 * size_of::<f32>() * self.images
    }

    fn forward(&self, call: &Call<'_>) -> Result<()> {
        let count = call.loss.map_or(0, |_| call.run.batch);
        // SAFETY: x, y and dx hold IMAGES times CLASSES values, labels IMAGES, the saved bytes
        // three floats an image (`saved`); the kernel reads labels of the first `count` images
        // alone, and they were checked to be classes before they were uploaded. Without TRAINING it
        // writes no gradient.
        unsafe {
            self.softmax.run(call.queue, |a| {
                let a = a.buffer(call.x);
                let a = match call.loss {
                    Some(loss) => a.buffer(&loss.labels),
                    None => a.nothing(),
                };
                let a = a.word(count as u32).float(call.whole as f32).buffer(call.y);
                // In a network for training always there; without labels it becomes 0.
                let a = match call.dx {
                    Some(dx) => a.buffer(dx),
                    None => a.nothing(),
                };
                a.buffer(call.saved)
            })?;
        }
        let Some(loss) = call.loss else { return Ok(()) };
        // SAFETY: `softmax` has written the three scores of each of IMAGES images, on the same
        // stream; there are three totals.
        unsafe { self.sum.run(call.queue, |a| a.buffer(call.saved).buffer(&loss.totals)) }
    }

    /// Done already.
    fn backward_input(&self, _: &Call<'_>) -> Result<()> {
        Ok(())
    }
}
