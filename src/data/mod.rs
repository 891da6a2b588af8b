//! Image files to a data set on disk, and from there to batches.

pub mod augment;
pub mod loader;
pub mod order;
