//! Overlapping pooling (paper section 3.4): the maximum or the average of each window.
//!
//! The output size is rounded up, as in the 2012 code; the last windows may hang over the right and
//! bottom edge and see only what lies inside the map, which is also what an average divides by.
//! `rounding = "down"` leaves those windows out: 2×2 windows side by side then make 27, 13 and 6 of
//! the paper's 55, 27 and 13, the "equivalent dimensions" of section 3.4. The gradient of a maximum
//! goes to the first largest value in row-major order.

pub(in crate::layers) mod cpu;
mod cuda;

use super::{Family, Kind, Layer, PastRelu, Place, Role, Settings, Shape, Stage, read_as};
use crate::keys::{self, to_table};
use crate::layers::cuda::{LaunchContext, Launches};
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use toml::Table;

/// `max-pool`, with the keys `size`, `stride` and `rounding`.
pub const MAX: Kind = Kind {
    name: "max-pool",
    family: Family::Plain,
    keys: keys::fields_of::<PoolKeys>,
    read: |table| read(table, Kernel::Max),
};

/// `average-pool`, with the keys `size`, `stride` and `rounding`.
pub const AVERAGE: Kind = Kind {
    name: "average-pool",
    family: Family::Plain,
    keys: keys::fields_of::<PoolKeys>,
    read: |table| read(table, Kernel::Average),
};

/// What is made of the values in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// The largest.
    Max,
    /// The mean of those inside the map.
    Average,
}

/// The keys of a pooling layer; the paper's are size 3, stride 2.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct PoolKeys {
    size: usize,
    stride: usize,
    #[serde(default, skip_serializing_if = "Rounding::is_up")]
    rounding: Rounding,
}

/// What becomes of windows that hang over the edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Rounding {
    /// They count, as in the 2012 code.
    #[default]
    Up,
    /// They are left out.
    Down,
}

impl Rounding {
    fn is_up(&self) -> bool {
        *self == Rounding::Up
    }
}

#[derive(Debug)]
struct PoolSettings(PoolKeys, Kernel);

fn read(table: &Table, kernel: Kernel) -> Result<Box<dyn Settings>> {
    let keys: PoolKeys = read_as(table)?;
    for (key, value) in [("size", keys.size), ("stride", keys.stride)] {
        if !(1..=1 << 14).contains(&value) {
            bail!("{key} = {value}: it must be at least 1 and at most {}", 1 << 14);
        }
    }
    Ok(Box::new(PoolSettings(keys, kernel)))
}

impl Settings for PoolSettings {
    fn plan(&self, place: &Place<'_>) -> Result<Box<dyn Layer>> {
        let PoolKeys { size, stride, rounding } = self.0;
        // No window is larger than the map, and one that begins outside of it is left out.
        let extent = |n: usize| match rounding {
            Rounding::Up => ((n - size).div_ceil(stride)).min((n - 1) / stride) + 1,
            Rounding::Down => (n - size) / stride + 1,
        };
        let input = place.input;
        if size > input.height || size > input.width {
            bail!("size = {size}: its windows are larger than its input");
        }
        let output = Shape { height: extent(input.height), width: extent(input.width), ..input };
        Ok(Box::new(Pool { kernel: self.1, input, output, size, stride }))
    }
    fn to_table(&self) -> Table {
        to_table(&self.0)
    }
}

/// A pooling layer on one tower.
#[derive(Clone, Debug)]
pub struct Pool {
    /// What is made of a window.
    pub kernel: Kernel,
    /// What its windows slide over.
    pub input: Shape,
    /// One value a window and channel.
    pub output: Shape,
    /// Height and width of a window.
    pub size: usize,
    /// Pixels from one window to the next, down and across.
    pub stride: usize,
}

impl Pool {
    /// The rows or columns of a map of `extent` that window `o` sees.
    pub(in crate::layers) fn range(&self, o: usize, extent: usize) -> Range<usize> {
        o * self.stride..(o * self.stride + self.size).min(extent)
    }
}

impl Layer for Pool {
    fn output(&self) -> Shape {
        self.output
    }
    fn role(&self) -> Role<'_> {
        Role::Map(self)
    }
    fn past_relu(&self) -> Option<&dyn PastRelu> {
        (self.kernel == Kernel::Max).then_some(self)
    }
    fn stage(&self) -> Option<Stage<'_>> {
        Some(Stage::Pool(self))
    }
    fn cuda(&self, context: &LaunchContext) -> Result<Box<dyn Launches>> {
        Ok(Box::new(self.launches(context)?))
    }
}
