//! `alexnet export`: what other programs compute with its files is what `predict` computes.

#[path = "../common/mod.rs"]
mod common;
mod folder;
mod graph;
mod nets;
mod onnx;
mod refusals;
mod same;
