//! The network of Krizhevsky, Sutskever and Hinton 2012, trained, evaluated and applied.
//!
//! The floors, from the roof to the ground. A module imports its own and those below it, never one
//! above; `tests/floors.rs` reads this list and holds it, and that no folders go round in a circle.
//!
//! - [`commands`]: one file a command; each reads like a summary of what it does.
//! - [`train`]: the trainer, what feeds it, checkpoints, metrics, the folder that a run leaves
//!   behind.
//! - [`pictures`]: sheets of images for people to look at.
//! - [`engine`]: who carries out a plan: the CPU, or one or two GPUs through CUDA.
//! - [`network`]: the plan (shapes, parameters, towers, crossings, layers in one pass), the tasks
//!   in order.
//! - [`config`]: the TOML files: what may be written in them, `extends`, `--set`, checks.
//! - [`schedules`]: one file a kind of schedule: its keys, what it keeps, how the learning rate
//!   falls.
//! - [`layers`]: one folder a layer kind, all there is to know about it in one place.
//! - [`data`]: image files to a data set on disk, and from there to batches ahead of the device.
//! - [`gpu`]: the hardware: driver, compiler, memory, streams, links, launches; knows no layer.
//! - [`vectors`]: the processor's vector instructions, the matrix kernel, scratch memory; knows no
//!   layer.
//! - [`weights`]: weights as other programs write them, read where they lie; knows no network.
//! - [`mpi`]: several processes as one: the launcher, its MPI library found at run time, rounds and
//!   sums of ranks.
//! - [`keys`]: sections of a config as structs, and what is wrong with a value in a person's words.
//! - [`files`]: files that are whole or absent, and numbers used where they lie in a file.
//! - [`interrupt`]: signals that ask the program to end, or to save.
//! - [`progress`]: how far a long piece of work is, on standard error.
//! - [`machine`]: what the machine has to give: memory and threads.
//! - [`random`]: every random number, as a function of what it is for.
//! - [`quoting`]: commands that are printed to be typed, quoted as a shell wants it.
//! - [`errors`]: what decides the exit code, and lines for people on standard error.
//! - [`log`]: how much is said there, and a file that keeps the same lines.

pub mod commands;
pub mod config;
pub mod data;
pub mod engine;
pub mod errors;
pub mod files;
pub mod gpu;
pub mod interrupt;
pub mod keys;
pub mod layers;
pub mod log;
pub mod machine;
pub mod mpi;
pub mod network;
pub mod pictures;
pub mod progress;
pub mod quoting;
pub mod random;
pub mod schedules;
pub mod train;
pub mod vectors;
pub mod weights;
