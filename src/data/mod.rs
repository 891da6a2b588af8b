//! Image files to a data set on disk, and from there to batches.
//!
//! [`decode`] (with [`markers`]) and [`resize`] make an image file's pixels; [`shard`] holds many of them in a file;
//! [`statistics`] sums them up; [`dataset`] is all of it together, opened for reading;
//! [`prepare`] makes it from what people have on disk.

pub mod dataset;
pub mod decode;
pub mod markers;
pub mod prepare;
pub mod resize;
pub mod shard;
pub mod statistics;
