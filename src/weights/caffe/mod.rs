//! Caffe's files: a network with its weights (`.caffemodel`) and a mean image (`.binaryproto`), in
//! the messages of Caffe's `caffe.proto` (BSD; the field numbers are the format). The layers come
//! under `layers` (files of before 2015, such as the reference models) or `layer`.
//!
//! Colours are in the order blue, green, red, as OpenCV has them.

mod blob;
mod parameters;

use super::graph::{Graph, Step};
use super::wire::{Field, Message};
use super::{MOST_TENSORS, Numbers, Source, Tensor, Weights};
use anyhow::{Context, Result, bail, ensure};
use parameters::Made;
use std::collections::BTreeMap;

/// What a file is.
pub const FORMAT: &str = "a network of Caffe's";
/// Layers of a network; the reference models have 24.
const MOST_LAYERS: usize = 1 << 12;
/// Bytes of one layer's settings.
const MOST_SETTINGS: usize = 1 << 16;

/// Whether `bytes` begin as a network of Caffe's does: with its name or a layer.
pub fn begins(bytes: &[u8]) -> bool {
    matches!(bytes, [0x0a | 0x12, ..] | [0xa2, 0x06, ..])
}

/// A layer as either of the two forms has it.
#[derive(Default)]
struct Layer<'a> {
    name: String,
    kind: String,
    blobs: Vec<Message<'a>>,
    settings: parameters::Settings,
}

/// Reads a network with its weights.
///
/// # Errors
/// A sentence: the file is damaged or no network, or has a layer of a kind that is not known.
pub fn read(source: &Source) -> Result<Weights> {
    let mut layers = Vec::new();
    Message::of(source.bytes())
        .fields(|number, field| {
            match (number, field) {
                (1, Field::Bytes(name)) => _ = name.text()?,
                (2 | 100, Field::Bytes(message)) => {
                    ensure!(layers.len() < MOST_LAYERS, "it has more than {MOST_LAYERS} layers");
                    let what = || format!("layer {} of the file", layers.len() + 1);
                    let layer = layer(message, number == 2).with_context(what)?;
                    layers.push(layer);
                }
                _ => {}
            }
            Ok(())
        })
        .context("this is no network of Caffe's, or it is damaged")?;
    ensure!(
        layers.iter().any(|layer| !layer.blobs.is_empty()),
        "there are no weights in it; a mean image (.binaryproto) is named with --mean"
    );
    let mut weights =
        Weights { format: FORMAT, tensors: Vec::new(), graph: None, metadata: BTreeMap::new() };
    let mut graph = Graph::default();
    for layer in layers {
        let name = layer.name.clone();
        let step = step(source, layer, &mut weights.tensors);
        graph.steps.extend(step.with_context(|| format!("layer {name}"))?);
    }
    weights.graph = Some(graph);
    Ok(weights)
}

/// A layer; `old`: under `layers`, where the kind is a number and the settings have others.
fn layer(message: Message<'_>, old: bool) -> Result<Layer<'_>> {
    let mut layer = Layer::default();
    message.fields(|number, field| {
        match (number, old, field) {
            (4, true, Field::Bytes(name)) | (1, false, Field::Bytes(name)) => {
                layer.name = name.text()?.into();
            }
            (5, true, Field::Varint(kind)) => layer.kind = parameters::old_kind(kind)?.into(),
            (2, false, Field::Bytes(kind)) => layer.kind = kind.text()?.into(),
            (6, true, Field::Bytes(blob)) | (7, false, Field::Bytes(blob)) => {
                ensure!(layer.blobs.len() < 16, "it has more than 16 blobs");
                layer.blobs.push(blob);
            }
            (_, _, Field::Bytes(message)) => {
                let Some(settings) = parameters::which(number, old) else { return Ok(()) };
                ensure!(message.bytes().len() <= MOST_SETTINGS, "its settings are too many");
                layer.settings.take(settings, message.bytes())?;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(layer)
}

/// What a layer does, its blobs among `tensors`; None: nothing to the values.
fn step(source: &Source, layer: Layer<'_>, tensors: &mut Vec<Tensor>) -> Result<Option<Step>> {
    let [weight, bias] = match layer.blobs[..] {
        [] => [None, None],
        [weight] => [Some(weight), None],
        [weight, bias] => [Some(weight), Some(bias)],
        _ => bail!("it has {} blobs, and only weights and biases are known", layer.blobs.len()),
    };
    let mut add = |message: Option<Message<'_>>, what: &str| -> Result<Option<usize>> {
        let Some(message) = message else { return Ok(None) };
        ensure!(tensors.len() < MOST_TENSORS, "there are more than {MOST_TENSORS} tensors");
        let numbers = blob::read(source, message).with_context(|| format!("its {what}"))?;
        tensors.push(Tensor { name: format!("{}.{what}", layer.name), numbers });
        Ok(Some(tensors.len() - 1))
    };
    let (weight, bias) = (add(weight, "weight")?, add(bias, "bias")?);
    let operator = match layer.settings.operator(&layer.kind, weight, bias)? {
        Made::Operator(operator) => operator,
        Made::Nothing => return Ok(None),
    };
    // Biases have four sizes in old files, and fully connected weights too.
    let sizes = if layer.kind == "InnerProduct" { 2 } else { 4 };
    for (at, sizes) in [(weight, sizes), (bias, 1)] {
        if let Some(at) = at {
            let numbers = blob::last_sizes(&tensors[at].numbers, sizes);
            tensors[at].numbers = numbers?;
        }
    }
    Ok(Some(Step { name: layer.name, operator }))
}

/// A mean image: its planes [channel, height, width], colours in Caffe's order.
///
/// # Errors
/// A sentence: the file is damaged or no image.
pub fn mean(source: &Source) -> Result<Numbers> {
    let numbers = blob::read(source, Message::of(source.bytes()));
    let numbers = numbers.context("this is no mean image of Caffe's (.binaryproto)")?;
    let numbers = blob::last_sizes(&numbers, 3)?;
    let [channels, height, width] = numbers.shape()[..] else { unreachable!("three sizes") };
    ensure!(
        matches!(channels, 1 | 3) && height > 0 && width > 0,
        "this is no image: its sizes are {:?}",
        numbers.shape()
    );
    Ok(numbers)
}

/// Decodes a small message.
fn decoded<M: prost::Message + Default>(bytes: &[u8]) -> Result<M> {
    M::decode(bytes).context("its settings are damaged")
}
