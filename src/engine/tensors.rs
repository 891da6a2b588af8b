//! Parameters between the outside world, where a tensor has all towers joined along its first
//! dimension, and an engine, which holds each part of a layer by itself.

use super::Tensor;
use crate::layers::{Learn, Role};
use crate::network::{Plan, TensorPlan};
use anyhow::{Result, bail};

/// The tensor, an index into [`Plan::tensors`], filled by `part` for each part of its layer, by the
/// part's index: its share of the values, in the outside world's order. `values` is memory to put
/// it into.
pub(super) fn read(
    plan: &Plan,
    tensor: usize,
    mut values: Vec<f32>,
    mut part: impl FnMut(&TensorPlan, usize, &dyn Learn, &mut [f32]) -> Result<()>,
) -> Result<Tensor> {
    let of = &plan.tensors()[tensor];
    values.resize(of.len(), 0.0);
    let mut rest = &mut values[..];
    for (index, learn, size) in parts(plan, of) {
        let (mine, others) = rest.split_at_mut(size);
        rest = others;
        part(of, index, learn, mine)?;
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
    for (index, learn, size) in parts(plan, of) {
        let (mine, others) = rest.split_at(size);
        rest = others;
        part(of, index, learn, mine)?;
    }
    Ok(())
}

/// The parts of a tensor's layer that have some of it: index, layer, and how many values.
fn parts<'a>(
    plan: &'a Plan,
    of: &TensorPlan,
) -> impl Iterator<Item = (usize, &'a dyn Learn, usize)> + use<'a> {
    let is_bias = usize::from(of.is_bias);
    plan.layers[of.layer].parts.iter().enumerate().filter_map(move |(index, part)| {
        let Role::Learn(learn) = part.layer.role() else { return None };
        Some((index, learn, part.layer.parameters()?.sizes()[is_bias]))
    })
}

/// A tensor's values as the pair (weights, biases) that [`Learn::pack`] takes, the other one empty.
pub(super) fn pair(is_bias: bool, values: &[f32]) -> (&[f32], &[f32]) {
    if is_bias { (&[], values) } else { (values, &[]) }
}

/// As [`pair`], to be written.
pub(super) fn pair_mut(is_bias: bool, values: &mut [f32]) -> (&mut [f32], &mut [f32]) {
    if is_bias { (&mut [], values) } else { (values, &mut []) }
}
