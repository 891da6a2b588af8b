//! Softmax, loss, errors and the gradient of the mean loss on a GPU, all in the forward pass
//! (`kernels/softmax.cu`).

use super::Softmax;
use crate::device::cuda::kernels;
use crate::device::cuda::layer::{Call, Launches, Site, Work, constants};
use anyhow::Result;

impl Softmax {
    pub(super) fn launches(&self, site: &Site) -> SoftmaxLaunches {
        let all = constants(&[
            ("IMAGES", site.images),
            ("CLASSES", self.shape.len()),
            ("TOP", 5),
            ("TRAINING", site.training.into()),
        ]);
        let work = |name, blocks, threads| {
            Work::new(kernels::SOFTMAX, all.clone(), name, (blocks, 1, 1), (threads, 1, 1))
        };
        SoftmaxLaunches {
            softmax: work("softmax", site.images, 256),
            sum: work("sum_scores", 1, 32),
            images: site.images,
        }
    }
}

pub(super) struct SoftmaxLaunches {
    softmax: Work,
    sum: Work,
    images: usize,
}

impl Launches for SoftmaxLaunches {
    fn works(&self) -> Vec<&Work> {
        vec![&self.softmax, &self.sum]
    }

    /// Three scores an image.
    fn kept(&self) -> usize {
        3 * size_of::<f32>() * self.images
    }

    fn forward(&self, call: &Call<'_>) -> Result<()> {
        let count = call.loss.map_or(0, |_| call.run.batch);
        // SAFETY: the constants are those of the layer, whose plan sized the buffers; labels were
        // checked before they were uploaded.
        unsafe {
            self.softmax.run(call.stream, |a| {
                let a = a.buffer(call.x);
                let a = match call.loss {
                    Some(loss) => a.buffer(&loss.labels),
                    None => a.nothing(),
                };
                let a = a.word(count as u32).float(count as f32).buffer(call.y);
                // In a network for training always there; without labels it becomes 0.
                let a = match call.dx {
                    Some(dx) => a.buffer(dx),
                    None => a.nothing(),
                };
                a.buffer(call.kept)
            })?;
            if let Some(loss) = call.loss {
                self.sum.run(call.stream, |a| a.buffer(call.kept).buffer(&loss.totals))?;
            }
        }
        Ok(())
    }

    /// Done already.
    fn backward_input(&self, _: &Call<'_>) -> Result<()> {
        Ok(())
    }
}
