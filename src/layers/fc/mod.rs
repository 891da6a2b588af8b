//! Fully connected layer (paper section 3.5).
//!
//! Weights lie in the layer's own order, on the CPU `[out / 16][in][16]` where both are multiples
//! of 16 and else [in, out], as always on a GPU; the inputs as they lie in memory: row, column,
//! channel. The outside world's order is [out, in] with inputs ordered channel, row, column.

mod cpu;
mod cuda;
mod few;
mod lines;

use super::{
    Family, Input, Kind, Layer, Outputs, ParameterShapes, Place, Role, Settings, Shape, Stage,
    read_as,
};
use crate::keys::{self, to_table};
use crate::layers::cuda::{LaunchContext, Launches};
use anyhow::{Result, bail};
use serde::de::{self, Deserializer, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use toml::Table;

/// `fc`, with the key `outputs`.
pub const KIND: Kind = Kind {
    name: "fc",
    family: Family::Learns(Input::AllTowers),
    keys: keys::fields_of::<FcSettings>,
    read: |table| {
        let settings: FcSettings = read_as(table)?;
        match &settings.outputs {
            Outputs::Count(n) if !(1..=1 << 24).contains(n) => {
                bail!("outputs = {n}: it must be at least 1 and at most {}", 1 << 24)
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

impl<'de> Deserialize<'de> for Outputs {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Outputs, D::Error> {
        struct CountOrClasses;
        impl Visitor<'_> for CountOrClasses {
            type Value = Outputs;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or \"classes\"")
            }
            fn visit_i64<E: de::Error>(self, count: i64) -> Result<Outputs, E> {
                match usize::try_from(count) {
                    Ok(count) => Ok(Outputs::Count(count)),
                    Err(_) => Err(E::invalid_value(Unexpected::Signed(count), &self)),
                }
            }
            fn visit_str<E: de::Error>(self, name: &str) -> Result<Outputs, E> {
                if name == "classes" {
                    return Ok(Outputs::Classes);
                }
                Err(E::invalid_value(Unexpected::Str(name), &self))
            }
        }
        value.deserialize_any(CountOrClasses)
    }
}

impl Serialize for Outputs {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Outputs::Count(count) => count.serialize(to),
            Outputs::Classes => to.serialize_str("classes"),
        }
    }
}

impl Settings for FcSettings {
    fn outputs(&self) -> Option<Outputs> {
        Some(self.outputs)
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
    /// What it reads, flattened.
    pub input: Shape,
    /// Its neurons on this tower.
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
    fn stage(&self) -> Option<Stage<'_>> {
        Some(Stage::Connect(self))
    }
    fn cuda(&self, context: &LaunchContext) -> Result<Box<dyn Launches>> {
        Ok(Box::new(self.launches(context)))
    }
}
