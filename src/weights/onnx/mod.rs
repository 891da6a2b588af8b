//! ONNX models, in the messages of `onnx.proto` (Apache 2.0; the field numbers are the format).
//! Operators are taken as far as networks of this family have them, one on the output of the other;
//! what is none of them is named.

mod chain;
mod node;
mod tensor;

use super::graph::Graph;
use super::wire::{Field, Message};
use super::{MOST_TENSORS, Source, Tensor, Weights};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::path::Path;

/// Nodes of a graph; torchvision's has 22.
const MOST_NODES: usize = 1 << 12;
/// Bytes of a node without its tensors; exporters keep lines of the source with it.
const MOST_NODE: usize = 1 << 18;

/// Whether `bytes` begin as a model does: with the version of its format.
pub fn begins(bytes: &[u8]) -> bool {
    matches!(bytes, [0x08, 1..=127, ..])
}

/// The parts of a model's graph.
#[derive(Default)]
struct Parts<'a> {
    nodes: Vec<Message<'a>>,
    initialisers: Vec<Message<'a>>,
    inputs: Vec<Message<'a>>,
    outputs: usize,
}

/// Reads the model that `source` is; tensors that it keeps in files of their own lie in `folder`.
///
/// # Errors
/// A sentence: it is damaged, or has an operator or a form that is not known.
pub fn read(source: &Source, folder: Option<&Path>) -> Result<Weights> {
    let mut graph = None;
    Message::of(source.bytes())
        .fields(|number, field| {
            if let (7, Field::Bytes(message)) = (number, field) {
                ensure!(graph.is_none(), "it has two graphs");
                graph = Some(message);
            }
            Ok(())
        })
        .context("this is no ONNX model, or it is damaged")?;
    let graph = graph.context("this is no ONNX model: it has no graph")?;
    let parts = parts(graph).context("its graph is damaged")?;
    let mut files = tensor::Files::new(source, folder);
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    for message in &parts.initialisers {
        let Some(tensor) = files.tensor(*message)? else { continue };
        let name = tensor.name.clone();
        ensure!(tensors.insert(name.clone(), tensor).is_none(), "tensor {name} is there twice");
    }
    let mut nodes = Vec::new();
    for message in &parts.nodes {
        nodes.push(node::read(*message, &mut files)?);
    }
    let inputs = parts.inputs.iter().map(|input| node::input(*input));
    let inputs = inputs.collect::<Result<Vec<_>>>()?;
    let (graph, tensors) = chain::follow(nodes, inputs, tensors)?;
    check(&graph, &tensors)?;
    Ok(Weights { format: "an ONNX model", tensors, graph: Some(graph), metadata: BTreeMap::new() })
}

fn parts(graph: Message<'_>) -> Result<Parts<'_>> {
    let mut parts = Parts::default();
    graph.fields(|number, field| {
        let Field::Bytes(message) = field else { return Ok(()) };
        match number {
            1 => parts.nodes.push(message),
            5 => parts.initialisers.push(message),
            11 => parts.inputs.push(message),
            12 => parts.outputs += 1,
            15 => bail!("it has sparse tensors, which are not read"),
            _ => {}
        }
        ensure!(parts.nodes.len() <= MOST_NODES, "it has more than {MOST_NODES} nodes");
        let tensors = parts.initialisers.len().max(parts.inputs.len());
        ensure!(tensors <= MOST_TENSORS, "it has more than {MOST_TENSORS} tensors");
        Ok(())
    })?;
    ensure!(!parts.nodes.is_empty(), "it has no nodes");
    ensure!(parts.outputs == 1, "it has {} outputs; one is wanted, the classes'", parts.outputs);
    Ok(parts)
}

fn check(graph: &Graph, tensors: &[Tensor]) -> Result<()> {
    ensure!(!tensors.is_empty() && !graph.steps.is_empty(), "no layer of it has weights");
    Ok(())
}
