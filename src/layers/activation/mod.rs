//! ReLU, max(0, x) (paper section 3.1), and tanh, the unit that Figure 1 compares it with.

mod cuda;

use super::{Family, Kind, Layer, Place, Pointwise, Role, Run, Settings, Shape, Stage};
use crate::layers::cuda::{LaunchContext, Launches};
use anyhow::Result;
use rayon::prelude::*;
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

/// Values of one task.
const BLOCK: usize = 1 << 14;

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
        (self.function == Function::Relu).then_some(Stage::Relu)
    }
    fn cuda(&self, context: &LaunchContext) -> Result<Box<dyn Launches>> {
        Ok(Box::new(self.launches(context)))
    }
}

impl Pointwise for Activation {
    /// ReLU needs the sign of its output only, which dropout and ReLU keep wherever a gradient passes;
    /// tanh needs its output itself.
    fn chains(&self) -> bool {
        self.function == Function::Relu
    }

    fn forward(&self, run: &Run, y: &mut [f32]) {
        y[..run.batch * self.shape.len()].par_chunks_mut(BLOCK).for_each(|y| match self.function {
            // Written so that NaN stays NaN: a diverged run must show itself.
            Function::Relu => y.iter_mut().for_each(|y| *y = if *y < 0.0 { 0.0 } else { *y }),
            Function::Tanh => y.iter_mut().for_each(|y| *y = y.tanh()),
        });
    }

    fn backward(&self, run: &Run, dy: &mut [f32], y: &[f32]) {
        dy[..run.batch * self.shape.len()].par_chunks_mut(BLOCK).zip(y.par_chunks(BLOCK)).for_each(
            |(dy, y)| match self.function {
                Function::Relu => {
                    for (dy, y) in dy.iter_mut().zip(y) {
                        *dy = if *y > 0.0 { *dy } else { 0.0 };
                    }
                }
                Function::Tanh => {
                    for (dy, y) in dy.iter_mut().zip(y) {
                        *dy *= 1.0 - y * y;
                    }
                }
            },
        );
    }
}
