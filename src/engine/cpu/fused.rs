//! Several layers of the plan carried out as one pass ([`Fusion`]).

use super::Cpu;
use crate::layers::beside::Gradient;
use crate::layers::{Beside, Layer, Map, Run};
use crate::network::{Fusion, OnCpu, Part, Plan};
use std::mem::take;

/// Values an image of `plan`'s buffers with each of `fusions` in place of its layers: what they
/// hand on among themselves is never there. Normalisation with pooling reads a gradient from the
/// buffer that its own result belongs in, writes to the tower's other one, and the two change
/// places, as they do where towers write side by side ([`super::beside`]); so both are of one size.
pub(super) fn sizes(plan: &Plan, fusions: &[Fusion<OnCpu>]) -> Vec<usize> {
    let mut values: Vec<usize> = plan.buffers.iter().map(|b| b.values).collect();
    for fusion in fusions {
        let OnCpu::NormalisedPooling(_) = fusion.pass else { continue };
        fusion.between(plan).for_each(|buffer| values[buffer] = 0);
        let (_, highest) = fusion.ends(plan);
        if let (Some(dy), Some(dx)) = (highest.dy, highest.dx) {
            let most = values[dy].max(values[dx]);
            (values[dy], values[dx]) = (most, most);
        }
    }
    values
}

/// The layer that goes forward at a task's place: the part's own, or what is that with a ReLU.
pub(super) fn ahead<'a>(part: &'a Part, fusion: Option<&'a Fusion<OnCpu>>) -> &'a dyn Layer {
    match fusion.map(|fusion| &fusion.pass) {
        Some(OnCpu::WithRelu(layer)) => layer.as_ref(),
        _ => part.layer.as_ref(),
    }
}

impl Cpu {
    /// Normalisation with pooling; `false`: the pass is another, at its layer's own place.
    pub(super) fn forward_fused(&mut self, fusion: usize, run: &Run) -> bool {
        let fusion = &self.fusions[fusion];
        let OnCpu::NormalisedPooling(pass) = &fusion.pass else { return false };
        let (lowest, highest) = fusion.ends(&self.plan);
        let side = self.sides.get(&(fusion.layers.end - 1, fusion.part));
        let to = side.map_or(highest.y, |side| side.joined);
        let mut output = take(&mut self.buffers[to]);
        let x = &self.buffers[lowest.x];
        match side {
            Some(side) => pass.forward_beside(run, &mut output, &side.at, x),
            None => pass.forward(run, &mut output, x),
        }
        self.buffers[to] = output;
        true
    }

    /// As `forward_fused`.
    pub(super) fn backward_fused(&mut self, fusion: usize, run: &Run) -> bool {
        let fusion = &self.fusions[fusion];
        let OnCpu::NormalisedPooling(pass) = &fusion.pass else { return false };
        let (lowest, highest) = fusion.ends(&self.plan);
        let (Some(dy), Some(between), Some(dx)) = (highest.dy, highest.dx, lowest.dx) else {
            return true;
        };
        let (highest, part) = (fusion.layers.end - 1, fusion.part);
        if let Some(side) = self.sides.get(&(highest, part)) {
            // Between them is what towers yet to come read.
            let mut gradient = take(&mut self.buffers[dy]);
            let readers = self.of_readers(side);
            let of_readers = Gradient::new(&readers, &side.at);
            let x = &self.buffers[lowest.x];
            pass.backward_beside(run, &mut gradient, of_readers, x);
            self.buffers[dy] = gradient;
            self.has_gone_back(highest, part);
            return true;
        }
        let mut gradient = take(&mut self.buffers[between]);
        pass.backward(run, &mut gradient, &self.buffers[dy], &self.buffers[lowest.x]);
        self.buffers[between] = gradient;
        if dx != between {
            self.buffers.swap(dx, between);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::small::{self, evaluate, gradients};
    use super::*;
    use crate::engine::Engine;
    use crate::network::Mode;

    /// Two towers: layers at once, a join, a ReLU below it that nothing takes in backward, pooling
    /// of maxima and of means.
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
        kernels = 64
        size = 3
        padding = [1, 1, 1, 1]
        input = "all-towers"
        [[layer]]
        name = "relu2"
        kind = "relu"
        [[layer]]
        name = "conv3"
        kind = "conv"
        kernels = 32
        size = 3
        padding = [1, 1, 1, 1]
        [[layer]]
        name = "relu3"
        kind = "relu"
        [[layer]]
        name = "pool3"
        kind = "max-pool"
        size = 3
        stride = 2
        [[layer]]
        name = "conv4"
        kind = "conv"
        kernels = 10
        size = 2
        [[layer]]
        name = "relu4"
        kind = "relu"
        [[layer]]
        name = "pool4"
        kind = "average-pool"
        size = 2
        stride = 2
        [[layer]]
        name = "fc5"
        kind = "fc"
        outputs = 4
        [[layer]]
        name = "softmax"
        kind = "softmax"
    "#;
    fn network(mode: Mode, fused: bool) -> Cpu {
        match fused {
            true => small::network(NETWORK, mode),
            false => small::layer_by_layer(NETWORK, mode),
        }
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn passes_with_relu_have_the_bits_of_layers_alone() {
        let cpu = network(Mode::Training, true);
        let count = |wanted: fn(&OnCpu) -> bool| {
            cpu.fusions.iter().filter(|fusion| wanted(&fusion.pass)).count()
        };
        assert_eq!(count(|pass| matches!(pass, OnCpu::WithRelu(_))), 8);
        assert_eq!(count(|pass| matches!(pass, OnCpu::PastRelu)), 2);
        let all = [true, false].map(|fused| {
            let mut cpu = network(Mode::Training, fused);
            let gradients = gradients(&mut cpu);
            assert!(gradients.iter().all(|gradient| gradient.iter().any(|&g| g != 0.0)));
            let probabilities = bits(&cpu.probabilities().unwrap());
            (probabilities, gradients.iter().map(|g| bits(g)).collect::<Vec<_>>())
        });
        assert!(all[0] == all[1]);
        let evaluated = [true, false].map(|fused| {
            let mut cpu = network(Mode::Evaluation, fused);
            // The second time with weights that were kept.
            let each = [(); 2].map(|()| bits(&evaluate(&mut cpu)));
            assert!(each[0] == each[1]);
            each
        });
        assert!(evaluated[0] == evaluated[1]);
    }
}
