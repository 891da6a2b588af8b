//! Convolution (paper section 3.5): every kernel slides over the maps of its group.
//!
//! Weights lie in the layer's own order [height, width, in per group, out]: one row for each value
//! under the kernel, so that patch × weights is a matrix product over contiguous outputs.

mod cpu;
mod cuda;
mod direct;
#[cfg(test)]
mod relu_tests;
#[cfg(test)]
mod tests;
mod winograd;

use super::window::{KernelSettings, Kernels, Window};
use super::{Family, Input, Kind, Layer, ParameterShapes, Place, Role, Shape, Stage};
use crate::gpu::precision::Precision;
use crate::keys;
use crate::layers::cuda::{LaunchContext, Launches};
use anyhow::Result;
use serde::{Deserialize, Serialize};
use winograd::Winograd;

/// `conv`, with the keys of [`Kernels`].
pub const KIND: Kind = Kind {
    name: "conv",
    family: Family::Learns(Input::SameTower),
    keys: keys::fields_of::<Kernels>,
    read: |table| KernelSettings::read(table, plan),
};

/// `[cpu]`: how the CPU computes.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CpuOptions {
    /// Convolutions by Winograd's minimal filtering where that is shorter; `false` computes all of
    /// them directly, at half the speed with a fourth of the rounding errors.
    #[serde(default = "yes")]
    pub winograd: bool,
}

fn yes() -> bool {
    true
}

impl Default for CpuOptions {
    fn default() -> CpuOptions {
        CpuOptions { winograd: yes() }
    }
}

fn plan(window: Window, place: &Place<'_>) -> Box<dyn Layer> {
    let winograd = if place.cpu.winograd { Winograd::for_window(&window) } else { None };
    Box::new(Conv { window, relu: false, winograd })
}

/// A convolution on one tower.
#[derive(Debug)]
pub struct Conv {
    /// What its kernels slide over.
    pub window: Window,
    /// Whether forward on the CPU ends in ReLU.
    relu: bool,
    /// How the CPU goes the shorter way, where there is one.
    winograd: Option<Winograd>,
}

impl Layer for Conv {
    fn output(&self) -> Shape {
        self.window.output
    }
    fn parameters(&self) -> Option<ParameterShapes> {
        let w = &self.window;
        Some(ParameterShapes {
            weight: vec![w.output.channels, w.group_inputs(), w.size, w.size],
            bias: vec![w.output.channels],
        })
    }
    fn multiply_adds(&self) -> u64 {
        self.window.multiply_adds()
    }
    fn role(&self) -> Role<'_> {
        Role::Learn(self)
    }
    fn with_relu(&self) -> Option<Box<dyn Layer>> {
        let winograd = self.winograd.as_ref().map(Winograd::with_relu);
        Some(Box::new(Conv { window: self.window.clone(), relu: true, winograd }))
    }
    fn stage(&self) -> Option<Stage<'_>> {
        Some(Stage::Convolve(&self.window))
    }
    fn stored_channels(&self, precision: Precision) -> Option<usize> {
        self.packed_channels(precision)
    }
    fn cuda(&self, context: &LaunchContext) -> Result<Box<dyn Launches>> {
        Ok(Box::new(self.launches(context)))
    }
}
