//! Parameters between the outside world, where a tensor has all towers joined along its first
//! dimension, and an engine, which holds each part of a layer by itself.

use super::Tensor;
use crate::layers::{Learn, Role};
use crate::network::{Plan, TensorPlan};
use anyhow::{Result, bail};

/// The tensor, an index into [`Plan::tensors`], from what `part` gives for each part of its layer
/// by the part's index: the values in the outside world's order.
pub(super) fn read(
    plan: &Plan,
    tensor: usize,
    part: impl Fn(&TensorPlan, usize, &dyn Learn) -> Result<Vec<f32>>,
) -> Result<Tensor> {
    let of = &plan.tensors()[tensor];
    let mut values = Vec::with_capacity(of.len());
    for (index, planned) in plan.layers[of.layer].parts.iter().enumerate() {
        let Role::Learn(learn) = planned.layer.role() else { continue };
        values.append(&mut part(of, index, learn)?);
    }
    Ok(Tensor { shape: of.shape.clone(), values })
}

/// The reverse: gives `part` the values of each part in the outside world's order. Refuses a wrong
/// number of values.
pub(super) fn write(
    plan: &Plan,
    tensor: usize,
    values: &[f32],
    mut part: impl FnMut(&TensorPlan, usize, &dyn Learn, &[f32]) -> Result<()>,
) -> Result<()> {
    let of = &plan.tensors()[tensor];
    if values.len() != of.len() {
        bail!("{} has {} values, not {}", of.name, of.len(), values.len());
    }
    let mut rest = values;
    for (index, planned) in plan.layers[of.layer].parts.iter().enumerate() {
        let (Role::Learn(learn), Some(shapes)) = (planned.layer.role(), planned.layer.parameters())
        else {
            continue;
        };
        let (mine, others) = rest.split_at(shapes.sizes()[usize::from(of.is_bias)]);
        rest = others;
        part(of, index, learn, mine)?;
    }
    Ok(())
}

/// A tensor's values as the pair (weights, biases) that [`Learn::pack`] takes, the other one empty.
pub(super) fn pair(is_bias: bool, values: &[f32]) -> (&[f32], &[f32]) {
    if is_bias { (&[], values) } else { (values, &[]) }
}

/// As [`pair`], to be written.
pub(super) fn pair_mut(is_bias: bool, values: &mut [f32]) -> (&mut [f32], &mut [f32]) {
    if is_bias { (&mut [], values) } else { (values, &mut []) }
}
