//! Who computes: memory, streams, copies and launches, free of any knowledge of layers.

pub mod cuda;
