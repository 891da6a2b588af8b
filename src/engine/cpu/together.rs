//! A layer's towers computed at once where they read one input, as the paper's conv1 does: what is
//! made of the input is made once.

use super::Cpu;
use super::fused::ahead;
use crate::layers::{Gradients, Role, Run, Together};
use crate::network::{Plan, PlannedLayer};
use std::mem::take;
use std::time::Instant;

/// The pass of all parts of a layer, if it has one.
fn of(layer: &PlannedLayer) -> Option<&dyn Together> {
    let [first, others @ ..] = &layer.parts[..] else { return None };
    let Role::Learn(learn) = first.layer.role() else { return None };
    let same = others.iter().all(|part| {
        part.x == first.x && part.dx.is_none() && part.layer.output() == first.layer.output()
    });
    let apart = first.join.is_none() && first.dx.is_none();
    learn.together().filter(|_| !others.is_empty() && same && apart)
}

/// Values of scratch space that all passes need.
pub(super) fn workspace(plan: &Plan, batch: usize) -> usize {
    let together = plan.layers.iter().filter_map(|layer| Some((of(layer)?, layer.parts.len())));
    let most = together.map(|(pass, parts)| pass.workspace(batch, parts)).max();
    most.unwrap_or(0).max(plan.workspace_of(0, batch))
}

impl Cpu {
    fn together(&self, layer: usize) -> Option<&dyn Together> {
        of(&self.plan.layers[layer]).filter(|_| !self.rounded.is_on())
    }

    /// The forward pass of all parts, with the ReLUs above them if that is their fusion, at the
    /// turn of the first; `false`: each has its own.
    pub(super) fn forward_together(
        &mut self,
        (layer, part): (usize, usize),
        fusion: Option<usize>,
        run: &Run,
    ) -> bool {
        if self.together(layer).is_none() {
            return false;
        }
        if part > 0 {
            return true;
        }
        let parts = &self.plan.layers[layer].parts;
        let mut ys: Vec<Vec<f32>> = parts.iter().map(|p| take(&mut self.buffers[p.y])).collect();
        let fusion = fusion.map(|fusion| &self.fusions[fusion]);
        if let Role::Learn(learn) = ahead(&parts[0], fusion).role()
            && let Some(pass) = learn.together()
        {
            let own = self.parameters[layer].iter();
            let parameters: Vec<[&[f32]; 2]> =
                own.map(|own| own.value.each_ref().map(|values| &values[..])).collect();
            let mut ys: Vec<&mut [f32]> = ys.iter_mut().map(|y| &mut y[..]).collect();
            pass.forward(run, &mut ys, &self.buffers[parts[0].x], &parameters);
        }
        for (part, y) in parts.iter().zip(ys) {
            self.buffers[part.y] = y;
        }
        true
    }

    /// The gradients of all parts' weights at the turn of the first; `false`: each has its own.
    pub(super) fn weights_together(&mut self, layer: usize, part: usize, run: &Run) -> bool {
        if self.together(layer).is_none() {
            return false;
        }
        if part > 0 {
            return true;
        }
        let begun = Instant::now();
        let own = self.parameters[layer].iter_mut();
        let mut gradients: Vec<[Vec<f32>; 2]> = own.map(|own| take(&mut own.gradient)).collect();
        let mut workspace = take(&mut self.workspace);
        if let Some(pass) = self.together(layer) {
            let parts = &self.plan.layers[layer].parts;
            let dys = parts.iter().map(|p| p.dy.map_or(&[][..], |id| &self.buffers[id][..]));
            let mut to: Vec<Gradients<'_>> =
                gradients.iter_mut().map(|[w, b]| (&mut w[..], &mut b[..])).collect();
            let (dys, x) = (dys.collect::<Vec<_>>(), &self.buffers[parts[0].x]);
            pass.backward_weights(run, &mut to, &dys, x, &mut workspace);
        }
        self.workspace = workspace;
        for (own, gradient) in self.parameters[layer].iter_mut().zip(gradients) {
            own.gradient = gradient;
        }
        self.spent(layer, begun, |t| &mut t.backward_weights);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory;
    use super::super::small::{self, BATCH, evaluate, gradients, run, write};
    use super::*;
    use crate::network::Mode;

    const NETWORK: &str = r#"
        towers = 2
        [data]
        crop = 47
        classes = 4
        [train]
        batch = 20
        [schedule]
        rate = 0.1
        [[layer]]
        name = "conv1"
        kind = "conv"
        kernels = 32
        size = 11
        stride = 4
        [[layer]]
        name = "relu1"
        kind = "relu"
        [[layer]]
        name = "conv2"
        kind = "conv"
        kernels = 32
        size = 3
        padding = [1, 1, 1, 1]
        input = "all-towers"
        [[layer]]
        name = "fc3"
        kind = "fc"
        outputs = 4
        [[layer]]
        name = "softmax"
        kind = "softmax"
    "#;
    const THREADS: [usize; 5] = [1, 2, 5, 24, 128];

    fn network(mode: Mode) -> Cpu {
        small::network(NETWORK, mode)
    }

    fn on<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
    }

    /// Up to five threads have images enough for weights that are kept, more have not. All take the
    /// towers at once; what comes of it is what each tower's own pass makes of the same buffers.
    #[test]
    fn towers_at_once_and_kept_weights_change_no_bit() {
        let trained = THREADS.map(|threads| {
            on(threads, || {
                let mut cpu = network(Mode::Training);
                assert!(cpu.together(0).is_some() && memory::keeps(BATCH) == (threads <= 5));
                let all = gradients(&mut cpu);
                for (part, own) in cpu.plan.layers[0].parts.iter().zip(&cpu.parameters[0]) {
                    let Role::Learn(learn) = part.layer.role() else { panic!("it learns") };
                    let [mut weight, mut bias] = own.gradient.clone().map(|g| vec![9.0; g.len()]);
                    let mut workspace = vec![0.0; learn.workspace(BATCH)];
                    let dy = &cpu.buffers[part.dy.unwrap()];
                    let x = &cpu.buffers[part.x];
                    let to = (&mut weight[..], &mut bias[..]);
                    learn.backward_weights(&run(true), to, dy, x, &mut workspace);
                    assert!(own.gradient == [weight, bias], "{threads} threads");
                }
                all
            })
        });
        assert!(trained.iter().all(|other| *other == trained[0]));
        assert!(trained[0].iter().all(|gradient| gradient.iter().any(|&g| g != 0.0)));

        let evaluated = THREADS.map(|threads| {
            on(threads, || {
                let mut cpu = network(Mode::Evaluation);
                let first = evaluate(&mut cpu);
                // From the second time on they may be kept.
                assert!([(); 2].iter().all(|()| evaluate(&mut cpu) == first));
                write(&mut cpu, 5);
                let other = evaluate(&mut cpu);
                assert!(other != first && evaluate(&mut cpu) == other);
                (first, other)
            })
        });
        assert!(evaluated.iter().all(|other| *other == evaluated[0]));
    }
}
