//! Activation functions on a GPU (`kernels/activation.cu`). A ReLU above a layer with weights is
//! part of that layer's forward pass; its own is then not called.

use super::{Activation, Function};
use crate::gpu::launch::Launch;
use crate::kernel_source;
use crate::layers::cuda::{Call, LaunchContext, Launches, When, one_each_way};
use anyhow::Result;

impl Activation {
    pub(super) fn launches(&self, context: &LaunchContext) -> ActivationLaunches {
        let count = context.images * self.shape.len();
        let (forward, backward) = match self.function {
            Function::Relu => ("relu_forward", "relu_backward"),
            Function::Tanh => ("tanh_forward", "tanh_backward"),
        };
        let all = context.constants(&[("COUNT", count)]);
        let source = kernel_source!("activation.cu");
        let work = |name, buffers| {
            let work = Launch::each(source, all.clone(), name, count / context.pack_of(count));
            work.moving(buffers * context.bytes(count))
        };
        ActivationLaunches {
            forward: work(forward, 2),
            backward: context.training.then(|| work(backward, 3)),
        }
    }
}

pub(super) struct ActivationLaunches {
    forward: Launch,
    backward: Option<Launch>,
}

impl Launches for ActivationLaunches {
    fn launches(&self) -> Vec<(When, &Launch)> {
        one_each_way(&self.forward, &self.backward)
    }

    fn forward(&self, call: &Call<'_>) -> Result<()> {
        // SAFETY: `relu_forward` and `tanh_forward` read x and write y at COUNT places, images
        // times the layer's shape, which is the size of both.
        unsafe { self.forward.run(call.queue, |a| a.buffer(call.x).buffer(call.y)) }
    }

    fn backward_input(&self, call: &Call<'_>) -> Result<()> {
        let (dx, dy) = (call.dx()?, call.dy()?);
        let Some(work) = &self.backward else { return Ok(()) };
        // SAFETY: the backward kernels read y and dy and write dx at COUNT places; the gradients of
        // a pointwise layer are as large as its output.
        unsafe { work.run(call.queue, |a| a.buffer(call.y).buffer(dy).buffer(dx)) }
    }
}
