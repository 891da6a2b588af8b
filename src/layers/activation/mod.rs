//! ReLU, max(0, x) (paper section 3.1), and tanh, the unit that Figure 1 compares it with.

pub(in crate::layers) mod cpu;
mod cuda;

use super::{Family, Kind, Layer, Place, Role, Settings, Shape, Stage};
use crate::layers::cuda::{LaunchContext, Launches};
use anyhow::Result;
use toml::Table;

/// `relu`, which has no keys.
pub const RELU: Kind = Kind {
    name: "relu",
    family: Family::Plain,
    keys: || &[],
    read: |_| Ok(Box::new(Function::Relu)),
};

/// `tanh`, which has no keys.
pub const TANH: Kind = Kind {
    name: "tanh",
    family: Family::Plain,
    keys: || &[],
    read: |_| Ok(Box::new(Function::Tanh)),
};

/// What is done to each value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// max(0, x)
    Relu,
    /// tanh x
    Tanh,
}

impl Settings for Function {
    fn plan(&self, place: &Place<'_>) -> Result<Box<dyn Layer>> {
        Ok(Box::new(Activation { function: *self, shape: place.input }))
    }
    fn to_table(&self) -> Table {
        Table::new()
    }
}

/// An activation function on one tower.
#[derive(Debug)]
pub struct Activation {
    /// What it does.
    pub function: Function,
    /// Of its input and its output.
    pub shape: Shape,
}

impl Layer for Activation {
    fn output(&self) -> Shape {
        self.shape
    }
    fn role(&self) -> Role<'_> {
        Role::Pointwise(self)
    }
    fn stage(&self) -> Option<Stage<'_>> {
        Some(match self.function {
            Function::Relu => Stage::Relu,
            Function::Tanh => Stage::Tanh,
        })
    }
    fn cuda(&self, context: &LaunchContext) -> Result<Box<dyn Launches>> {
        Ok(Box::new(self.launches(context)))
    }
}
