//! A layer's towers computed at once where they read one input, as the paper's conv1 does: what is
//! made of the input is made once.

use super::Cpu;
use super::fused::ahead;
use crate::layers::{Gradients, Role, Run, Together};
use crate::machine::tasks::threads_are_few;
use crate::network::{Plan, PlannedLayer};
use std::mem::take;
use std::time::Instant;

/// Images a thread from which on; with fewer each tower's work by itself is divided more finely.
const IMAGES: usize = 4;

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

/// Whether images alone give every thread enough to do.
pub(super) fn is_enough(batch: usize) -> bool {
    batch >= IMAGES * rayon::current_num_threads()
}

impl Cpu {
    fn together(&self, layer: usize, run: &Run) -> Option<&dyn Together> {
        of(&self.plan.layers[layer]).filter(|_| is_enough(run.batch) && !self.rounded.is_on())
    }

    /// The forward pass of all parts, with the ReLUs above them if that is their fusion, at the turn
    /// of the first; `false`: each has its own.
    pub(super) fn forward_together(
        &mut self,
        (layer, part): (usize, usize),
        fusion: Option<usize>,
        run: &Run,
    ) -> bool {
        if self.together(layer, run).is_none() {
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

    /// The gradients of all parts' weights at the turn of the first; `false`: each has its own, as
    /// where many threads share the work on a part of the batch.
    pub(super) fn weights_together(&mut self, layer: usize, part: usize, run: &Run) -> bool {
        if self.together(layer, run).is_none() || !threads_are_few() {
            return false;
        }
        if part > 0 {
            return true;
        }
        let begun = Instant::now();
        let own = self.parameters[layer].iter_mut();
        let mut gradients: Vec<[Vec<f32>; 2]> = own.map(|own| take(&mut own.gradient)).collect();
        let mut workspace = take(&mut self.workspace);
        if let Some(pass) = self.together(layer, run) {
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
    use super::super::small::{self, evaluate, gradients, run, write};
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
    fn network(mode: Mode) -> Cpu {
        small::network(NETWORK, mode)
    }

    fn on<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
    }

    /// One thread has images enough for towers at once and for weights that are kept, eight do not.
    #[test]
    fn towers_at_once_and_kept_weights_change_no_bit() {
        let is_together = || {
            let cpu = network(Mode::Training);
            cpu.together(0, &run(true)).is_some()
        };
        assert!(on(1, is_together) && !on(8, is_together));
        let trained = [1, 8].map(|threads| on(threads, || gradients(&mut network(Mode::Training))));
        assert!(trained[0] == trained[1]);
        assert!(trained[0].iter().all(|gradient| gradient.iter().any(|&g| g != 0.0)));

        let evaluated = [1, 8].map(|threads| {
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
        assert!(evaluated[0] == evaluated[1]);
    }
}
