//! A file's tensors as the layers of a network: weights with their biases, from the input to the
//! outputs.

use crate::weights::graph::{Graph, Operator};
use crate::weights::{Numbers, Tensor, Weights};
use anyhow::{Result, bail};
use std::collections::BTreeMap;

/// The weights of one layer.
#[derive(Clone, Debug)]
pub struct Learnt {
    /// What the file calls it: `features.0`.
    pub name: String,
    /// conv: [out, in per group, height, width]; fc: [out, in].
    pub weight: Tensor,
    /// `[out]`; none: all 0.
    pub bias: Option<Tensor>,
}

impl Learnt {
    /// Sizes of the weights.
    pub fn shape(&self) -> &[usize] {
        self.weight.numbers.shape()
    }

    /// Whether it is a convolution, by its shape.
    pub fn slides(&self) -> bool {
        self.shape().len() == 4
    }
}

/// The layers with weights of `file`, in order: by its graph, or, where it has none, convolutions
/// first and each kind in the order of the names.
///
/// # Errors
/// A tensor that is neither weights nor biases of a layer.
pub fn layers(file: &Weights) -> Result<Vec<Learnt>> {
    match &file.graph {
        Some(graph) => Ok(of_graph(file, graph)),
        None => of_names(file),
    }
}

fn of_graph(file: &Weights, graph: &Graph) -> Vec<Learnt> {
    let learnt = graph.steps.iter().filter_map(|step| match step.operator {
        Operator::Conv { weight, bias, .. } | Operator::Fc { weight, bias } => Some(Learnt {
            name: step.name.clone(),
            weight: file.tensors[weight].clone(),
            bias: bias.map(|bias| file.tensors[bias].clone()),
        }),
        _ => None,
    });
    learnt.collect()
}

fn of_names(file: &Weights) -> Result<Vec<Learnt>> {
    let mut biases: BTreeMap<&str, &Tensor> = BTreeMap::new();
    let mut learnt = Vec::new();
    for tensor in &file.tensors {
        match tensor.name.rsplit_once('.') {
            Some((layer, "weight")) if matches!(tensor.numbers.shape().len(), 2 | 4) => {
                let (name, weight) = (layer.to_string(), tensor.clone());
                learnt.push(Learnt { name, weight, bias: None });
            }
            Some((layer, "bias")) if tensor.numbers.shape().len() == 1 => {
                biases.insert(layer, tensor);
            }
            _ => bail!(
                "its tensor {} of the shape {:?} is neither weights nor biases of a convolution or \
                 a fully connected layer; networks of this family have no others",
                tensor.name,
                tensor.numbers.shape()
            ),
        }
    }
    for layer in &mut learnt {
        layer.bias = biases.remove(layer.name.as_str()).cloned();
    }
    if let Some((layer, _)) = biases.first_key_value() {
        bail!("it has {layer}.bias, but no {layer}.weight");
    }
    let (slide, full) = learnt.into_iter().partition::<Vec<_>, _>(Learnt::slides);
    Ok([slide, full].concat())
}

/// A sentence for a shape that does not fit, in the words of both.
pub fn differs(theirs: &str, shape: &[usize], ours: &str, wanted: &[usize]) -> String {
    format!("{theirs} has the shape {shape:?}, and {ours} of the network needs {wanted:?}")
}

/// The same numbers in the shape that `ours` needs: fully connected weights come as convolutions
/// over the whole map too.
///
/// # Errors
/// If they do not fit.
pub fn shaped(theirs: &Tensor, ours: &str, wanted: &[usize]) -> Result<Numbers> {
    let shape = theirs.numbers.shape();
    if shape == wanted {
        return Ok(theirs.numbers.clone());
    }
    let flat = |shape: &[usize]| [shape[0], shape[1..].iter().product()];
    if shape.len() == 4 && wanted.len() == 2 && flat(shape) == *wanted {
        return theirs.numbers.reshaped(wanted.to_vec());
    }
    bail!("{}", differs(&theirs.name, shape, ours, wanted))
}
