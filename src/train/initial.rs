//! The first weights (paper section 5): Gaussian with mean zero, biases constant.

use crate::engine::{Engine, Slot};
use crate::layers::Weights;
use crate::network::{Plan, TensorPlan};
use crate::random::{Purpose, Stream};
use anyhow::Result;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;

/// Writes every parameter of a new network.
pub fn initialise(engine: &mut dyn Engine) -> Result<()> {
    for (index, tensor) in engine.plan().tensors().iter().enumerate() {
        let values = values(engine.plan(), tensor);
        engine.write(Slot::Value, index, &values)?;
    }
    Ok(())
}

/// The initial values of one parameter: a stream of random numbers for each kernel or neuron, so
/// that they depend neither on threads nor on towers.
fn values(plan: &Plan, tensor: &TensorPlan) -> Vec<f32> {
    let layer = &plan.layers[tensor.layer];
    let weights: &Weights = layer.weights.as_ref().expect("only layers that learn have parameters");
    if tensor.is_bias {
        return vec![weights.bias as f32; tensor.len()];
    }
    let mut values = vec![0.0; tensor.len()];
    let unit = tensor.len() / tensor.shape[0];
    let sigma = weights.weight_sigma as f32;
    values.par_chunks_mut(unit).enumerate().for_each(|(index, unit)| {
        let mut stream = Stream::new(plan.seed, Purpose::Weights(&layer.name), 0, index as u32);
        for value in unit {
            let draw: f32 = StandardNormal.sample(&mut stream);
            *value = sigma * draw;
        }
    });
    values
}
