//! Fully connected layer (paper section 3.5).
//!
//! Weights lie in the layer's own order, on the CPU [out / 16][in][16] where both are multiples of 16 and
//! else [in, out], as always on a GPU; the inputs as they lie in memory: row, column, channel. The outside
//! world's order is [out, in] with inputs ordered channel, row, column.

mod cpu;
mod cuda;
mod few;
mod lines;

use super::{Family, Input, Kind, Layer, ParameterShapes, Place, Role, Settings, Shape, read_as};
use crate::keys::{self, to_table};
use crate::layers::cuda::{LaunchContext, Launches};
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use toml::Table;

pub const KIND: Kind = Kind {
    name: "fc",
    family: Family::Learns(Input::AllTowers),
    keys: keys::fields_of::<FcSettings>,
    read: |table| {
        let settings: FcSettings = read_as(table)?;
        match &settings.outputs {
            Outputs::Count(n) if !(1..=1 << 24).contains(n) => {
                bail!("outputs = {n}: it must be at least 1")
            }
            Outputs::Name(name) if name != "classes" => {
                bail!("outputs = {name:?}: it must be a number or \"classes\"")
            }
            _ => Ok(Box::new(settings)),
        }
    },
};

/// The keys of an fc layer.
#[derive(Debug, Deserialize, Serialize)]
struct FcSettings {
    /// Neurons over all towers, or `"classes"`: as many as the data set has classes.
    outputs: Outputs,
}

#[derive(Debug, Deserialize, Serialize)]
#[serde(untagged)]
enum Outputs {
    Count(usize),
    Name(String),
}

impl Settings for FcSettings {
    fn outputs(&self) -> Option<super::Outputs> {
        Some(match &self.outputs {
            Outputs::Count(n) => super::Outputs::Count(*n),
            Outputs::Name(_) => super::Outputs::Classes,
        })
    }
    fn plan(&self, place: &Place<'_>) -> Result<Box<dyn Layer>> {
        if place.channels.is_empty() {
            bail!("its {} neurons leave a tower without any", place.all_channels);
        }
        Ok(Box::new(Fc { input: place.input, outputs: place.channels.len() }))
    }
    fn to_table(&self) -> Table {
        to_table(self)
    }
}

/// A fully connected layer on one tower.
#[derive(Debug)]
pub struct Fc {
    pub input: Shape,
    pub outputs: usize,
}

impl Layer for Fc {
    fn output(&self) -> Shape {
        Shape { height: 1, width: 1, channels: self.outputs }
    }
    fn parameters(&self) -> Option<ParameterShapes> {
        Some(ParameterShapes {
            weight: vec![self.outputs, self.input.len()],
            bias: vec![self.outputs],
        })
    }
    fn multiply_adds(&self) -> u64 {
        (self.input.len() * self.outputs) as u64
    }
    fn role(&self) -> Role<'_> {
        Role::Learn(self)
    }
    fn cuda(&self, context: &LaunchContext) -> Result<Box<dyn Launches>> {
        Ok(Box::new(self.launches(context)))
    }
}
