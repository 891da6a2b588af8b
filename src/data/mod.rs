//! Image files to a data set on disk, and from there to batches.

pub mod augment;
