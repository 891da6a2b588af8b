//! Features: what a hidden layer makes of images (paper section 6.1: the 4096-dimensional vector of
//! the last hidden layer).
//!
//! A layer's output is not there any more after a whole pass: the layers above may change it in
//! place (dropout scales it), and passes of several layers keep it to themselves. So the network is
//! cut off above the layer, and a softmax put there that reads all towers: what that reads is what
//! the layer has made, the towers joined, and nothing is computed that is not wanted.

use crate::config::{Config, LayerConfig, kind_named};
use crate::config_error;
use crate::data::form::CropView;
use crate::engine::Engine;
use crate::keys::nearest;
use crate::layers::{Family, Outputs, Run, Shape};
use anyhow::Result;
use toml::Table;

/// The layer whose output stands for an image unless another is named: the last with weights below
/// the outputs, after the ReLU or tanh that follows it.
///
/// # Errors
/// If there is none.
pub fn last_hidden(config: &Config) -> Result<String> {
    let learns = |i: &usize| config.layers[*i].weights.is_some();
    let Some(hidden) = (0..config.layers.len()).rev().filter(learns).nth(1) else {
        return Err(config_error!(
            "the network has no hidden layer to take features from; name one with --layer ({})",
            names(config).join(", ")
        ));
    };
    let above = config.layers[hidden + 1..].iter();
    let active = above.take_while(|layer| matches!(layer.kind.name, "relu" | "tanh")).count();
    Ok(config.layers[hidden + active].name.clone())
}

fn names(config: &Config) -> Vec<&str> {
    config.layers.iter().map(|layer| layer.name.as_str()).collect()
}

/// Cuts the network off above `layer`, so that [`extract`] finds its output. Of the last layer,
/// softmax, it finds the probabilities.
///
/// # Errors
/// If there is no such layer.
pub fn cut_above(config: &mut Config, layer: &str) -> Result<()> {
    let Some(place) = config.layers.iter().position(|l| l.name == layer) else {
        let names = names(config);
        return Err(config_error!(
            "--layer {layer}: the network has no such layer{}; it has {}",
            nearest(layer, &names),
            names.join(", ")
        ));
    };
    if config.layers[place].kind.family == Family::Loss {
        return Ok(());
    }
    config.layers.truncate(place + 1);
    let kind = kind_named("softmax")?;
    config.layers.push(LayerConfig {
        name: END.to_string(),
        kind,
        tower: None,
        weights: None,
        settings: (kind.read)(&Table::new())?,
    });
    if !counts_classes(config) {
        // The end has as many outputs as the layer now.
        config.data.classes = None;
    }
    Ok(())
}

/// Whether a layer has as many outputs as there are classes.
pub fn counts_classes(config: &Config) -> bool {
    config.layers.iter().any(|layer| layer.settings.outputs() == Some(Outputs::Classes))
}

/// The softmax that is put on a network that was cut; no config can call a layer so.
const END: &str = "features of the layer below";

/// The shape of what [`extract`] gives of an image.
pub fn shape(engine: &dyn Engine) -> Shape {
    engine.plan().layers.last().expect("a plan ends in softmax").parts[0].input
}

/// Appends to `values` what the layer makes of each of `images`, the towers joined: [images,
/// channel, row, column], which for a fully connected layer is [images, neuron]. More images than
/// the engine's batch go through it piece by piece.
pub fn extract(engine: &mut dyn Engine, images: CropView<'_>, values: &mut Vec<f32>) -> Result<()> {
    let (input, most) = (engine.plan().input.len(), engine.plan().batch);
    let shape = shape(engine);
    let is_cut = engine.plan().layers.last().is_some_and(|layer| layer.name == END);
    for first in (0..images.len(input)).step_by(most) {
        let batch = most.min(images.len(input) - first);
        let run = Run { batch, training: false, seed: 0, step: 0, first_image: 0 };
        engine.forward(&run, images.slice(first..first + batch, input))?;
        let left = match is_cut {
            true => engine.left_in(engine.plan().logits())?,
            false => engine.probabilities()?,
        };
        for image in left[..batch * shape.len()].chunks_exact(shape.len()) {
            for channel in 0..shape.channels {
                values.extend(image[channel..].iter().step_by(shape.channels));
            }
        }
    }
    Ok(())
}
