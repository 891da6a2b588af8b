//! Locally connected layer: like a convolution whose kernels are not shared between positions
//! (the CIFAR-10 nets of the paper's footnote 3).
//!
//! Weights lie in the layer's own order [out height, out width, height, width, in per group, out],
//! biases [out height, out width, out].

mod cpu;
mod cuda;

use super::window::{KernelSettings, Kernels, Window};
use super::{Family, Input, Kind, Layer, ParameterShapes, Role, Shape};
use crate::keys;
use crate::layers::cuda::{LaunchContext, Launches};
use anyhow::Result;

/// `local`, with the keys of [`Kernels`].
pub const KIND: Kind = Kind {
    name: "local",
    family: Family::Learns(Input::SameTower),
    keys: keys::fields_of::<Kernels>,
    read: |table| KernelSettings::read(table, |window, _| Box::new(Local { window })),
};

/// A locally connected layer on one tower.
#[derive(Debug)]
pub struct Local {
    /// What its kernels slide over.
    pub window: Window,
}

impl Layer for Local {
    fn output(&self) -> Shape {
        self.window.output
    }
    fn parameters(&self) -> Option<ParameterShapes> {
        let w = &self.window;
        let (out, height, width) = (w.output.channels, w.output.height, w.output.width);
        Some(ParameterShapes {
            weight: vec![out, height, width, w.group_inputs(), w.size, w.size],
            bias: vec![out, height, width],
        })
    }
    fn multiply_adds(&self) -> u64 {
        self.window.multiply_adds()
    }
    fn role(&self) -> Role<'_> {
        Role::Learn(self)
    }
    fn cuda(&self, context: &LaunchContext) -> Result<Box<dyn Launches>> {
        Ok(Box::new(self.launches(context)))
    }
}
