//! Weights of another network, layer by layer and by name: fine-tuning after pre-training (paper
//! section 6). The 2012 code did the same: what a saved network has under a layer's name is taken,
//! and layers that it lacks begin with random weights.

use super::checkpoint::{Checkpoint, DataFacts, same_classes};
use crate::config::Init;
use crate::config_error;
use crate::engine::{Engine, Slot};
use crate::network::{Plan, TensorPlan};
use anyhow::{Result, bail};
use std::fmt;

/// What becomes of each layer with weights.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    /// Layers that take the checkpoint's.
    pub taken: Vec<String>,
    /// Layers that begin with random weights, and why.
    pub fresh: Vec<(String, &'static str)>,
    /// Layers of the checkpoint that the network does not have.
    pub left: Vec<String>,
}

impl Transfer {
    /// What `init` makes of a network of `plan` that is to tell the classes of `facts` apart.
    ///
    /// # Errors
    /// A layer of another shape that is neither the output layer nor named in `fresh`; a checkpoint
    /// that has none of the layers.
    pub fn plan(
        checkpoint: &Checkpoint,
        init: &Init,
        plan: &Plan,
        facts: &DataFacts,
    ) -> Result<Transfer> {
        let mut transfer = Transfer::default();
        let learnt = plan.layers.iter().filter(|layer| layer.weights.is_some());
        let names: Vec<&str> = learnt.map(|layer| layer.name.as_str()).collect();
        let output = *names.last().expect("a network learns something");
        for &name in &names {
            match why_fresh(checkpoint, init, plan, facts, name, name == output)? {
                None => transfer.taken.push(name.into()),
                Some(why) => transfer.fresh.push((name.into(), why)),
            }
        }
        for tensor in checkpoint.parameters() {
            let name = tensor.rsplit_once('.').map_or(tensor.as_str(), |(layer, _)| layer);
            if !names.contains(&name) && !transfer.left.iter().any(|left| left == name) {
                transfer.left.push(name.into());
            }
        }
        if transfer.taken.is_empty() {
            return Err(config_error!(
                "{}: none of its layers ({}) can be taken: {transfer}",
                checkpoint.path.display(),
                transfer.left.join(", ")
            ));
        }
        Ok(transfer)
    }

    /// Writes what is taken over the initial weights of `engine`.
    pub fn carry_out(&self, checkpoint: &Checkpoint, engine: &mut dyn Engine) -> Result<()> {
        for (index, tensor) in engine.plan().tensors().iter().enumerate() {
            if self.taken.contains(&engine.plan().layers[tensor.layer].name) {
                let values = checkpoint.tensor(&tensor.name)?.values;
                engine.write(Slot::Value, index, &values)?;
            }
        }
        Ok(())
    }
}

/// Why a layer begins with random weights; None: it takes the checkpoint's.
fn why_fresh(
    checkpoint: &Checkpoint,
    init: &Init,
    plan: &Plan,
    facts: &DataFacts,
    name: &str,
    is_output: bool,
) -> Result<Option<&'static str>> {
    let tensors: Vec<TensorPlan> =
        plan.tensors().into_iter().filter(|t| plan.layers[t.layer].name == name).collect();
    if init.fresh.iter().any(|fresh| fresh == name) {
        return Ok(Some("as init.fresh says"));
    }
    let shapes: Vec<_> = tensors.iter().map(|t| checkpoint.shape(&t.name)).collect();
    if shapes.iter().all(Option::is_none) {
        return Ok(Some("the checkpoint has no such layer"));
    }
    let other = tensors.iter().zip(shapes).find(|(t, shape)| *shape != Some(t.shape.clone()));
    match other {
        None if is_output && other_classes(checkpoint, facts) => Ok(Some("other classes")),
        None => Ok(None),
        Some(_) if is_output => Ok(Some("another shape")),
        Some((tensor, shape)) => {
            let there = shape.map_or("is not there".into(), |s| format!("has the shape {s:?}"));
            Err(config_error!(
                "layer {name}: {} {there} in {}, and the network needs {:?}; to begin that layer \
                 with random weights say init.fresh = [{name:?}]",
                tensor.name,
                checkpoint.path.display(),
                tensor.shape
            ))
        }
    }
}

fn other_classes(checkpoint: &Checkpoint, facts: &DataFacts) -> bool {
    same_classes(("", &checkpoint.facts.classes), ("", &facts.classes)).is_err()
}

impl fmt::Display for Transfer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fresh = self.fresh.iter().map(|(name, why)| format!("{name} ({why})"));
        let parts = [
            ("taken", self.taken.clone()),
            ("with random weights", fresh.collect()),
            ("left out", self.left.clone()),
        ];
        let parts = parts.into_iter().filter(|(_, names)| !names.is_empty());
        let parts = parts.map(|(what, names)| format!("{what}: {}", names.join(", ")));
        f.write_str(&parts.collect::<Vec<_>>().join("; "))
    }
}

/// Gives `facts` the mean image and colours of `checkpoint`, which its layers have learnt with. Err:
/// they are not of images as large as the data set's.
pub fn take_mean(facts: &mut DataFacts, checkpoint: &Checkpoint) -> Result<()> {
    let theirs = &checkpoint.facts;
    if (theirs.preparation.size, theirs.channels) != (facts.preparation.size, facts.channels) {
        let words = |f: &DataFacts| {
            let [height, width] = f.preparation.size;
            format!("{height}×{width}×{}", f.channels)
        };
        bail!(
            "init.mean = \"checkpoint\": the mean image of {} is {}, the data set's images are {}; \
             prepare them in that size, or say init.mean = \"data\"",
            checkpoint.path.display(),
            words(theirs),
            words(facts)
        );
    }
    facts.statistics = theirs.statistics.clone();
    Ok(())
}
