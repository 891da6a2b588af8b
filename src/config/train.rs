//! `[train]`: the update rule, how much of it, and what is kept.

use crate::config_error;
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// `[train]`: the update rule (paper section 5) and what is kept.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Train {
    /// Images of one step.
    #[serde(default = "batch")]
    pub batch: usize,
    /// Parts that a batch is computed in, one after the other or by several processes; their
    /// gradients are joined in an order of their own, whoever computes them.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub parts: usize,
    /// How several processes share the work.
    #[serde(default, skip_serializing_if = "Distribute::is_data")]
    pub distribute: Distribute,
    /// Passes over the training images.
    #[serde(default = "ninety")]
    pub epochs: u32,
    /// The m of the update rule.
    #[serde(default = "momentum")]
    pub momentum: f64,
    /// Of the weights, times the learning rate.
    #[serde(default = "decay")]
    pub weight_decay: f64,
    /// How far the weights go along their gradient.
    #[serde(default, skip_serializing_if = "Optimizer::is_sgd")]
    pub optimizer: Optimizer,
    /// LARS's η, the length of a layer's step before rate and momentum as a part of its weights'.
    #[serde(default = "thousandth", skip_serializing_if = "is_thousandth")]
    pub trust_coefficient: f64,
    /// Also keeps `epoch-NNNN.safetensors` every so many epochs; 0 keeps `last` and `best` only.
    #[serde(default)]
    pub keep: u32,
    /// Writes `last.safetensors` inside an epoch too, when so many minutes have passed; 0: never.
    #[serde(default = "quarter")]
    pub checkpoint_minutes: u32,
    /// As well when so many steps have passed; 0: never.
    #[serde(default)]
    pub checkpoint_steps: u32,
    /// Writes event files for TensorBoard into the run's folder.
    #[serde(default = "yes")]
    pub tensorboard: bool,
    /// Layers that stay as they are: their rates are 0, and nothing is computed backward below the
    /// lowest layer that learns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freeze: Vec<String>,
}

/// How several processes share the work. One process alone does all of it either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribute {
    /// Each has the whole network and its share of every batch's images.
    #[default]
    Data,
    /// So below the first fully connected layer; from there on each has its share of every layer's
    /// neurons for the images of all (Krizhevsky 2014).
    Hybrid,
}

impl Distribute {
    fn is_data(&self) -> bool {
        *self == Distribute::Data
    }
}

/// How far the weights go along their gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// As far as the learning rate says: the paper's rule.
    #[default]
    Sgd,
    /// Each layer's weights in proportion to their length (You, Gitman and Ginsburg 2017): for
    /// batches of thousands of images.
    Lars,
}

impl Optimizer {
    fn is_sgd(&self) -> bool {
        *self == Optimizer::Sgd
    }
}

impl Train {
    /// Refuses values out of their ranges.
    pub(super) fn check(&self) -> Result<()> {
        let fail = |key: &str, value: String, right: &str| {
            Err(config_error!("train.{key} = {value}: it must be {right}"))
        };
        if !(self.weight_decay.is_finite() && self.weight_decay >= 0.0) {
            return fail("weight_decay", self.weight_decay.to_string(), "a number from 0 up");
        }
        if !(0.0..1.0).contains(&self.momentum) {
            return fail("momentum", self.momentum.to_string(), "from 0 to below 1");
        }
        if !(self.trust_coefficient.is_normal() && self.trust_coefficient > 0.0) {
            let value = self.trust_coefficient.to_string();
            return fail("trust_coefficient", value, "a number above 0");
        }
        let whole = [
            ("batch", self.batch, 1 << 16),
            ("parts", self.parts, 1 << 12),
            ("epochs", self.epochs as usize, 1 << 24),
        ];
        for (key, value, most) in whole {
            if !(1..=most).contains(&value) {
                return fail(key, value.to_string(), &format!("from 1 to {most}"));
            }
        }
        if !self.batch.is_multiple_of(self.parts) {
            return Err(config_error!(
                "train.parts = {}: the parts of a batch are equal, and train.batch = {} is no \
                 multiple of it",
                self.parts,
                self.batch
            ));
        }
        self.check_hybrid()
    }

    /// Refuses what goes with whole gradients in one place only.
    fn check_hybrid(&self) -> Result<()> {
        if self.distribute == Distribute::Data {
            return Ok(());
        }
        if self.parts > 1 {
            return Err(config_error!(
                "train.parts = {}: with train.distribute = \"hybrid\" the gradients of fully \
                 connected layers never travel, so that no tree over parts joins them; leave parts \
                 at 1, or say distribute = \"data\"",
                self.parts
            ));
        }
        if self.optimizer == Optimizer::Lars {
            return Err(config_error!(
                "train.optimizer = \"lars\": it asks for the length of a layer's whole gradient, \
                 and with train.distribute = \"hybrid\" no process has that of a fully connected \
                 layer; say optimizer = \"sgd\", or distribute = \"data\""
            ));
        }
        Ok(())
    }
}

fn yes() -> bool {
    true
}
fn one() -> usize {
    1
}
fn is_one(value: &usize) -> bool {
    *value == 1
}
fn batch() -> usize {
    128
}
fn ninety() -> u32 {
    90
}
fn momentum() -> f64 {
    0.9
}
fn decay() -> f64 {
    0.0005
}
fn quarter() -> u32 {
    15
}
fn thousandth() -> f64 {
    0.001
}
fn is_thousandth(value: &f64) -> bool {
    *value == thousandth()
}
