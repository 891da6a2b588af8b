//! Local response normalisation (paper section 3.3): b = a / (k + α Σ a²)^β, the sum over n
//! adjacent maps at the same position, or over n × n positions of the same map. It runs within a
//! tower, as in the 2012 code.
//!
//! With s = k + α Σ a² the gradient is da_i = db_i · s_i^−β − 2αβ · a_i · Σ db_j · b_j / s_j over
//! the j in whose window i lies, which are the windows around i.

mod cpu;
mod cuda;
pub(in crate::layers) mod vectors;

use super::{Family, Kind, Layer, Place, Role, Settings, Shape, Stage, read_as};
use crate::keys::{self, to_table};
use crate::layers::cuda::{LaunchContext, Launches};
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use toml::Table;

/// `lrn`, with the keys of [`LrnSettings`].
pub const KIND: Kind = Kind {
    name: "lrn",
    family: Family::Plain,
    keys: keys::fields_of::<LrnSettings>,
    read: |table| {
        let settings: LrnSettings = read_as(table)?;
        settings.check()?;
        Ok(Box::new(settings))
    },
};

/// The keys of an lrn layer; the defaults are the paper's.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LrnSettings {
    /// Maps, or positions a side, in one sum.
    #[serde(default = "five")]
    n: usize,
    #[serde(default = "two")]
    k: f64,
    #[serde(default = "alpha")]
    alpha: f64,
    #[serde(default = "beta")]
    beta: f64,
    #[serde(default)]
    region: Region,
    /// Divides α by n (by n² within a map), as the 2012 code, Caffe and PyTorch do; the paper's
    /// formula does not.
    #[serde(default)]
    divide_alpha: bool,
}

fn five() -> usize {
    5
}
fn two() -> f64 {
    2.0
}
fn alpha() -> f64 {
    1e-4
}
fn beta() -> f64 {
    0.75
}

/// What the sum runs over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Region {
    /// Adjacent maps at the same position.
    #[default]
    AcrossMaps,
    /// Positions around it in the same map.
    WithinMap,
}

impl LrnSettings {
    fn check(&self) -> Result<()> {
        if self.n.is_multiple_of(2) || self.n > 1 << 14 {
            bail!("n = {}: it must be odd, since the sum is centred", self.n);
        }
        for (key, value) in [("alpha", self.alpha), ("beta", self.beta)] {
            if !(value.is_finite() && value >= 0.0) {
                bail!("{key} = {value}: it must be a number from 0 up");
            }
        }
        if !(self.k.is_finite() && self.k > 0.0) {
            bail!("k = {}: it must be above 0, or a silent neighbourhood divides by zero", self.k);
        }
        Ok(())
    }
}

impl Settings for LrnSettings {
    fn plan(&self, place: &Place<'_>) -> Result<Box<dyn Layer>> {
        let window = match self.region {
            Region::AcrossMaps => self.n,
            Region::WithinMap => self.n * self.n,
        };
        let alpha = if self.divide_alpha { self.alpha / window as f64 } else { self.alpha };
        Ok(Box::new(Lrn {
            shape: place.input,
            region: self.region,
            n: self.n,
            k: self.k as f32,
            alpha: alpha as f32,
            beta: self.beta as f32,
        }))
    }
    fn to_table(&self) -> Table {
        to_table(self)
    }
}

/// Response normalisation on one tower.
#[derive(Clone, Debug)]
pub struct Lrn {
    /// Of its input and its output.
    pub shape: Shape,
    /// What its sums run over.
    pub region: Region,
    /// Maps, or positions a side, in one sum.
    pub n: usize,
    /// What the sum is added to.
    pub k: f32,
    /// As it multiplies the sum: divided already, if asked.
    pub alpha: f32,
    /// The exponent.
    pub beta: f32,
}

impl Layer for Lrn {
    fn output(&self) -> Shape {
        self.shape
    }
    fn role(&self) -> Role<'_> {
        Role::Map(self)
    }
    fn stage(&self) -> Option<Stage<'_>> {
        Some(Stage::Normalise(self))
    }
    fn cuda(&self, context: &LaunchContext) -> Result<Box<dyn Launches>> {
        Ok(Box::new(self.launches(context)))
    }
}
