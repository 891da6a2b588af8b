//! The network of Krizhevsky, Sutskever and Hinton 2012, trained, evaluated and applied.
//!
//! The way through the program, one line a module:
//!
//! - [`commands`]: one file a command; each reads like a summary of what it does.
//! - [`config`]: the TOML files: what may be written in them, `extends`, `--set`, checks.
//! - [`data`]: image files to a data set on disk, and from there to batches ahead of the device.
//! - [`layers`]: one folder a layer kind, all there is to know about it in one place.
//! - [`network`]: the plan (shapes, parameters, towers, crossings) and the passes over it.
//! - [`device`]: who computes: the CPU, or one or two GPUs through CUDA.
//! - [`train`]: the trainer, update rule, schedules, checkpoints, metrics.
//! - [`pictures`]: sheets of images for people to look at.
//! - [`random`]: every random number, as a function of what it is for.
//! - [`errors`]: what decides the exit code.
//! - [`files`]: files that are whole or absent.
//! - [`mapped`]: numbers used where they lie in a file.

pub mod commands;
pub mod config;
pub mod data;
pub mod device;
pub mod errors;
pub mod files;
pub mod layers;
pub mod mapped;
pub mod network;
pub mod pictures;
pub mod random;
pub mod train;
