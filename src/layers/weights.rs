//! The keys that all layers with weights share.

use crate::config_error;
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// Where a layer that learns takes its input from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Input {
    /// The output of the layer below on its own tower.
    SameTower,
    /// The outputs of all towers, their channels side by side.
    AllTowers,
}

/// The keys that every layer with weights has.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Weights {
    /// Default: fc reads all towers ("connected to all neurons in the previous layer", paper
    /// section 3.5), convolutions their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Input>,
    /// Standard deviation of the initial weights (paper section 5: 0.01).
    #[serde(default = "sigma")]
    pub weight_sigma: f64,
    /// The initial bias.
    #[serde(default)]
    pub bias: f64,
    /// Factor on the learning rate for the weights.
    #[serde(default = "unit")]
    pub weight_rate: f64,
    /// Factor on the biases' learning rate.
    #[serde(default = "unit")]
    pub bias_rate: f64,
    /// In place of `train.weight_decay` for this layer's weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Weight decay of the biases.
    #[serde(default)]
    pub bias_decay: f64,
}

fn sigma() -> f64 {
    0.01
}
fn unit() -> f64 {
    1.0
}

impl Weights {
    /// Refuses negative or infinite numbers.
    pub(crate) fn check(&self) -> Result<()> {
        let from_zero = [
            ("weight_sigma", self.weight_sigma),
            ("weight_rate", self.weight_rate),
            ("bias_rate", self.bias_rate),
            ("weight_decay", self.weight_decay.unwrap_or(0.0)),
            ("bias_decay", self.bias_decay),
        ];
        for (key, value) in from_zero {
            if !(value.is_finite() && value >= 0.0) {
                return Err(config_error!("{key} = {value}: it must be a number from 0 up"));
            }
        }
        if !self.bias.is_finite() {
            return Err(config_error!("bias = {}: it must be a finite number", self.bias));
        }
        Ok(())
    }
}
