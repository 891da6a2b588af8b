//! Convolution on the CPU: each direction by Winograd's way where it is shorter, else directly.

use super::Conv;
use super::winograd::Winograd;
use crate::layers::{Gradients, Keeps, Learn, Run, Together};

/// Images of an evaluation up to which fewer products are not worth more transformed weights.
/// conv3's need 133 points more and save 215 an image, and a point of the weights takes about as
/// long as a product with 16 to 32 tiles.
const FEW: usize = 16;

fn is_few(run: &Run) -> bool {
    !run.training && run.batch <= FEW
}

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
                winograd.forward(y, x, weight, bias, is_few(run));
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

    fn keeps(&self) -> Option<&dyn Keeps> {
        self.winograd.as_ref().map(|_| self as &dyn Keeps)
    }

    fn together(&self) -> Option<&dyn Together> {
        let winograd = self.winograd.as_ref();
        winograd.filter(|w| w.goes_together()).map(|_| self as &dyn Together)
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

impl Keeps for Conv {
    fn len(&self, batch: usize) -> usize {
        self.winograd_way().kept_len(batch <= FEW)
    }

    fn keep(&self, batch: usize, kept: &mut [f32], weight: &[f32]) {
        self.winograd_way().keep(kept, weight, batch <= FEW);
    }

    fn forward(&self, run: &Run, y: &mut [f32], x: &[f32], kept: &[f32], bias: &[f32]) {
        let (y, x) = (&mut y[..self.outputs(run)], &x[..self.inputs(run)]);
        self.winograd_way().forward_kept(y, x, kept, bias, is_few(run));
    }
}

impl Together for Conv {
    fn workspace(&self, batch: usize, layers: usize) -> usize {
        self.winograd_way().workspace_together(batch, layers)
    }

    fn forward(&self, run: &Run, ys: &mut [&mut [f32]], x: &[f32], parameters: &[[&[f32]; 2]]) {
        let mut ys: Vec<&mut [f32]> = ys.iter_mut().map(|y| &mut y[..self.outputs(run)]).collect();
        let x = &x[..self.inputs(run)];
        self.winograd_way().forward_together(&mut ys, x, parameters, is_few(run));
    }

    fn backward_weights(
        &self,
        run: &Run,
        gradients: &mut [Gradients<'_>],
        dys: &[&[f32]],
        x: &[f32],
        workspace: &mut [f32],
    ) {
        let dys: Vec<&[f32]> = dys.iter().map(|dy| &dy[..self.outputs(run)]).collect();
        let x = &x[..self.inputs(run)];
        self.winograd_way().backward_weights_together(gradients, &dys, x, workspace);
    }
}

impl Conv {
    fn winograd_way(&self) -> &Winograd {
        self.winograd.as_ref().expect("it is asked of layers that go this way")
    }

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
