//! A layer's towers computed at once where they read one input, as the paper's conv1 does: what is
//! made of the input is made once.

use super::Cpu;
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

    /// The forward pass of all parts at the turn of the first; `false`: each has its own.
    pub(super) fn forward_together(&mut self, layer: usize, part: usize, run: &Run) -> bool {
        if self.together(layer, run).is_none() {
            return false;
        }
        if part > 0 {
            return true;
        }
        let parts = &self.plan.layers[layer].parts;
        let mut ys: Vec<Vec<f32>> = parts.iter().map(|p| take(&mut self.buffers[p.y])).collect();
        if let Some(pass) = self.together(layer, run) {
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
    use super::*;
    use crate::config::Config;
    use crate::data::form::CropView;
    use crate::engine::{Engine, Slot};
    use crate::layers::Classes;
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
    const BATCH: usize = 20;

    fn values(seed: usize, n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1000.0 - 1.0).collect()
    }

    fn network(mode: Mode) -> Cpu {
        let config = Config::parse(NETWORK, &[], "test").unwrap();
        let plan = Plan::new(&config, BATCH, mode, &[0, 0], Classes::Any).unwrap();
        let mut cpu = Cpu::new(plan).unwrap();
        write(&mut cpu, 0);
        cpu
    }

    fn write(cpu: &mut Cpu, seed: usize) {
        for (index, tensor) in cpu.plan.tensors().iter().enumerate() {
            let small: Vec<f32> =
                values(index + seed, tensor.len()).iter().map(|v| v / 20.0).collect();
            cpu.write(Slot::Value, index, &small).unwrap();
        }
    }

    fn run(training: bool) -> Run {
        Run { batch: BATCH, training, seed: 1, step: 1, first_image: 0 }
    }

    fn evaluate(cpu: &mut Cpu) -> Vec<f32> {
        let images = values(9, BATCH * cpu.plan.input.len());
        cpu.forward(&run(false), CropView::Floats(&images)).unwrap();
        cpu.probabilities().unwrap()
    }

    fn gradients(cpu: &mut Cpu) -> Vec<Vec<f32>> {
        let images = values(9, BATCH * cpu.plan.input.len());
        let labels: Vec<u32> = (0..BATCH as u32).map(|i| i % 4).collect();
        cpu.gradients(&run(true), CropView::Floats(&images), &labels).unwrap();
        let mut all = Vec::new();
        cpu.each_gradient(&mut |gradient| {
            all.push(gradient.to_vec());
            Ok(())
        })
        .unwrap();
        all
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
