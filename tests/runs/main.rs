//! What a run leaves for people, through the built program: the list of runs, the event files that
//! TensorBoard reads, the report, and the keys of the log.

#[path = "../common/mod.rs"]
mod common;

mod listing;
mod log;
mod report;
mod tensorboard;
