//! Convolution on the CPU: each direction by Winograd's way where it is shorter, else directly.

use super::Conv;
use crate::layers::{Learn, Run};

/// Images of an evaluation up to which fewer products are not worth more transformed weights.
/// conv3's need 133 points more and save 215 an image, and a point of the weights takes about as
/// long as a product with 16 to 32 tiles.
const FEW: usize = 16;

impl Learn for Conv {
    fn workspace(&self, batch: usize) -> usize {
        match &self.winograd {
            Some(winograd) => winograd.workspace(batch),
            None => self.direct_workspace(batch),
        }
    }

    fn forward(&self, run: &Run, y: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32]) {
        match &self.winograd {
            Some(winograd) => {
                let (y, x) = (&mut y[..self.outputs(run)], &x[..self.inputs(run)]);
                let few = !run.training && run.batch <= FEW;
                winograd.forward(y, x, weight, bias, few);
            }
            None => self.direct_forward(run, y, x, weight, bias),
        }
    }

    fn backward_input(&self, run: &Run, dx: &mut [f32], dy: &[f32], weight: &[f32]) {
        match &self.winograd {
            Some(winograd) if winograd.has_backward_input() => {
                let (dx, dy) = (&mut dx[..self.inputs(run)], &dy[..self.outputs(run)]);
                winograd.backward_input(dx, dy, weight);
            }
            _ => self.direct_backward_input(run, dx, dy, weight),
        }
    }

    fn backward_weights(
        &self,
        run: &Run,
        gradients: (&mut [f32], &mut [f32]),
        dy: &[f32],
        x: &[f32],
        workspace: &mut [f32],
    ) {
        match &self.winograd {
            Some(winograd) => {
                let (dy, x) = (&dy[..self.outputs(run)], &x[..self.inputs(run)]);
                winograd.backward_weights(gradients, dy, x, workspace);
            }
            None => self.direct_backward_weights(run, gradients, dy, x, workspace),
        }
    }

    fn pack(&self, own: (&mut [f32], &mut [f32]), world: (&[f32], &[f32])) {
        own.1.copy_from_slice(world.1);
        if !own.0.is_empty() {
            self.each_weight(|o, w| own.0[o] = world.0[w]);
        }
    }

    fn unpack(&self, world: (&mut [f32], &mut [f32]), own: (&[f32], &[f32])) {
        world.1.copy_from_slice(own.1);
        if !own.0.is_empty() {
            self.each_weight(|o, w| world.0[w] = own.0[o]);
        }
    }
}

impl Conv {
    /// Values of a batch.
    fn inputs(&self, run: &Run) -> usize {
        run.batch * self.window.input.len()
    }
    fn outputs(&self, run: &Run) -> usize {
        run.batch * self.window.output.len()
    }

    /// Calls `pair(own index, outside index)` for each weight.
    fn each_weight(&self, mut pair: impl FnMut(usize, usize)) {
        let w = &self.window;
        let (inputs, out, spots) = (w.group_inputs(), w.output.channels, w.size * w.size);
        for o in 0..out {
            for c in 0..inputs {
                for spot in 0..spots {
                    pair((spot * inputs + c) * out + o, (o * inputs + c) * spots + spot);
                }
            }
        }
    }
}
