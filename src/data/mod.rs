//! Image files to a data set on disk, and from there to batches.
//!
//! [`decode`] and [`resize`] make an image file's pixels, turned by its [`exif`] data, as
//! [`preparation`] says; [`shard`] holds many of them in a file; [`statistics`] sums them up;
//! [`dataset`] is all of it together, opened for reading, with a [`seal`] on what it says of itself;
//! [`prepare`] writes it. From it [`order`] draws the images of an epoch, [`augment`] the crops, and
//! [`loader`] makes batches, in the [`form`] that the device takes.

pub mod area;
pub mod augment;
pub mod dataset;
pub mod decode;
pub mod exif;
pub mod form;
pub mod identity;
pub mod imagenet;
pub mod jpeg;
pub mod loader;
pub mod order;
pub mod preparation;
pub mod prepare;
pub mod resize;
pub mod seal;
pub mod shard;
pub mod statistics;
pub mod unpack;
