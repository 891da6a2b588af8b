//! Kinds of layers, and a layer as the config describes it.

use super::{Input, Layer, Shape, conv};
use crate::keys;
use anyhow::Result;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::ops::Range;
use toml::Table;

/// What a layer kind is called and how its settings are read.
#[derive(Debug)]
pub struct Kind {
    /// As it is written in a config.
    pub name: &'static str,
    /// What it reads of the layer below, and whether it has weights.
    pub family: Family,
    /// Its own keys.
    pub keys: fn() -> &'static [&'static str],
    /// Reads its own keys out of the layer's table; checks their ranges.
    pub read: fn(&Table) -> Result<Box<dyn Settings>>,
}

/// How the layers of a kind stand in a network of several towers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Neurons: they have weights and biases, and so the keys of [`Weights`](super::Weights), live
    /// on all towers, and read this where the key `input` does not say.
    Learns(Input),
    /// The end of the network: it lives on the first tower and reads all.
    Loss,
    /// Everything else works on each tower that the layer below lives on, by itself.
    Plain,
}

/// Output channels over all towers, for kinds that do not keep their input's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// So many.
    Count(usize),
    /// As many as there are classes.
    Classes,
}

/// How many classes there are to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classes {
    /// So many: the config says so, or the data set has them.
    Known(usize),
    /// Nobody has said yet, and any number will do: [`Classes::ASSUMED`].
    Any,
}

impl Classes {
    /// What stands in for a number that is not known.
    pub const ASSUMED: usize = 10;

    /// The number, assumed where it is not known.
    pub fn count(self) -> usize {
        match self {
            Classes::Known(count) => count,
            Classes::Any => Classes::ASSUMED,
        }
    }
}

/// A layer as the config describes it, not yet fitted to an input.
pub trait Settings: Debug + Send + Sync {
    /// Output channels over all towers, for kinds that do not keep the input's.
    fn outputs(&self) -> Option<Outputs> {
        None
    }
    /// The layer on one tower. Err: a sentence without the layer's name.
    fn plan(&self, place: &Place<'_>) -> Result<Box<dyn Layer>>;
    /// The settings as they are written in a config.
    fn to_table(&self) -> Table;
}

/// Where a layer stands in the network.
pub struct Place<'a> {
    /// Of the layer.
    pub name: &'a str,
    /// What it reads, on its tower (the towers joined, if it reads all).
    pub input: Shape,
    /// Which of the layer's output channels, counted over all towers, are this tower's.
    pub channels: Range<usize>,
    /// Output channels over all towers.
    pub all_channels: usize,
    /// `[cpu]`: what a convolution may do there.
    pub cpu: &'a conv::CpuOptions,
}

/// The kind's own keys as its struct.
pub(super) fn read_as<T: DeserializeOwned>(table: &Table) -> Result<T> {
    keys::settings(table)
}
