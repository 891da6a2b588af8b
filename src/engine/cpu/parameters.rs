//! The parameters of one part of a layer: values, gradients, the update rule's v.

use crate::engine::Slot;
use crate::files::mapped::MappedFloats;
use crate::layers::{Learn, ParameterShapes, Rule, Run};
use crate::machine::memory::zeros;
use anyhow::Result;
use rayon::prelude::*;

/// One part's parameters in the layer's own order, weights and biases.
#[derive(Default)]
pub(super) struct Parameters {
    pub value: [Vec<f32>; 2],
    pub gradient: [Vec<f32>; 2],
    pub momentum: [Vec<f32>; 2],
    /// Weights used where they lie in a file, in the outside world's order; then the first of
    /// `value` is not.
    pub adopted: Option<MappedFloats>,
    /// What evaluation keeps of the weights, and whether they have been used since they were
    /// written.
    kept: Vec<f32>,
    used: bool,
}

impl Parameters {
    /// Of these shapes, zero; gradients and momentum for training only.
    pub fn new(shapes: Option<ParameterShapes>, training: bool) -> Result<Parameters> {
        let Some([weights, biases]) = shapes.map(|shapes| shapes.sizes()) else {
            return Ok(Parameters::default());
        };
        let both = |wanted: bool| -> Result<[Vec<f32>; 2]> {
            let size = |n: usize| if wanted { n } else { 0 };
            Ok([zeros(size(weights))?, zeros(size(biases))?])
        };
        let (value, gradient, momentum) = (both(true)?, both(training)?, both(training)?);
        Ok(Parameters { value, gradient, momentum, ..Parameters::default() })
    }

    pub fn of(&self, slot: Slot) -> &[Vec<f32>; 2] {
        match slot {
            Slot::Value => &self.value,
            Slot::Gradient => &self.gradient,
            Slot::Momentum => &self.momentum,
        }
    }
    pub fn of_mut(&mut self, slot: Slot) -> &mut [Vec<f32>; 2] {
        match slot {
            Slot::Value => &mut self.value,
            Slot::Gradient => &mut self.gradient,
            Slot::Momentum => &mut self.momentum,
        }
    }

    /// Weights are about to be written: nothing that was made of them is right any more.
    pub fn forget(&mut self) {
        (self.kept, self.used) = (Vec::new(), false);
    }

    /// The forward pass of an evaluation with what is kept of the weights. `false`: there is no
    /// such pass, or they are used for the first time, which may be the last.
    pub fn forward_kept(&mut self, learn: &dyn Learn, run: &Run, y: &mut [f32], x: &[f32]) -> bool {
        let Some(keeps) = learn.keeps() else { return false };
        let values = keeps.len(run.batch);
        if self.kept.is_empty() && self.used {
            // Without the memory it goes on as before.
            self.kept = zeros(values).unwrap_or_default();
            if !self.kept.is_empty() {
                keeps.keep(run.batch, &mut self.kept, &self.value[0]);
            }
        }
        self.used = true;
        let fits = self.kept.len() == values;
        if fits {
            keeps.forward(run, y, x, &self.kept, &self.value[1]);
        }
        fits
    }

    /// The gradients of one batch; with a rule, and if the layer can, the weights are updated
    /// instead of their gradient written.
    pub fn backward(
        &mut self,
        learn: &dyn Learn,
        run: &Run,
        rule: Option<Rule>,
        dy: &[f32],
        x: &[f32],
        workspace: &mut [f32],
    ) {
        let [dweight, dbias] = &mut self.gradient;
        match rule.zip(learn.update_at_once()) {
            Some((rule, layer)) => {
                let weights = (&mut self.value[0][..], &mut self.momentum[0][..]);
                layer.update_at_once(run, rule, weights, dbias, dy, x);
            }
            None => learn.backward_weights(run, (dweight, dbias), dy, x, workspace),
        }
    }

    /// The rule on weights and biases; without one they are frozen. `done`: not on the weights.
    pub fn update(&mut self, rules: [Option<Rule>; 2], done: bool) {
        for (index, rule) in rules.into_iter().enumerate().skip(usize::from(done)) {
            if let Some(rule) = rule {
                let gradient = &self.gradient[index];
                update(&mut self.value[index], &mut self.momentum[index], gradient, rule);
            }
        }
    }
}

/// Values of one task.
pub(super) const BLOCK: usize = 1 << 15;

fn update(w: &mut [f32], v: &mut [f32], g: &[f32], rule: Rule) {
    let Rule { momentum, decay, rate } = rule;
    w.par_chunks_mut(BLOCK).zip(v.par_chunks_mut(BLOCK)).zip(g.par_chunks(BLOCK)).for_each(
        |((w, v), g)| {
            for ((w, v), g) in w.iter_mut().zip(v).zip(g) {
                *v = (momentum * *v - decay * *w) - rate * g;
                *w += *v;
            }
        },
    );
}
