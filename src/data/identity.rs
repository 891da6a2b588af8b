//! Whether two data sets are the same one: what a checkpoint keeps of its data set beside mean image
//! and class table. A set that was moved, or prepared again in the same way, is the same.

use super::dataset::Split;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The splits in use, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Identity(pub BTreeMap<String, Part>);

/// What tells one split from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// How many images.
    pub images: u64,
    /// Checksum over all images and labels, in hexadecimal digits.
    pub sum: String,
}

impl Identity {
    /// Adds a split.
    pub fn add(&mut self, name: &str, split: &Split) {
        let sum = format!("{:08x}", split.checksum());
        self.0.insert(name.into(), Part { images: split.len() as u64, sum });
    }
}
