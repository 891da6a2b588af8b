//! ReLU, max(0, x) (paper section 3.1), and tanh, the unit that Figure 1 compares it with.

pub(in crate::layers) mod cpu;
mod cuda;

use super::{Kind, Layer, Place, Role, Settings, Shape, Stage};
use crate::layers::cuda::{LaunchContext, Launches};
use anyhow::Result;
use toml::Table;

pub const RELU: Kind =
    Kind { name: "relu", learns: false, keys: || &[], read: |_| Ok(Box::new(Function::Relu)) };

pub const TANH: Kind =
    Kind { name: "tanh", learns: false, keys: || &[], read: |_| Ok(Box::new(Function::Tanh)) };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    Relu,
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
    pub function: Function,
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
        (self.function == Function::Relu).then_some(Stage::Relu)
    }
    fn cuda(&self, context: &LaunchContext) -> Result<Box<dyn Launches>> {
        Ok(Box::new(self.launches(context)))
    }
}
