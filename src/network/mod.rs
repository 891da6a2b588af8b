//! The network as pure data ([`Plan`]), and the order of work in one pass over it ([`Task`]).

mod build;
mod fusion;
mod gradients;
mod plan;
mod tasks;

pub use fusion::{Fusion, OnGpu, Pass};
pub use plan::{
    BufferId, BufferPlan, Crossing, Join, JoinSource, Mode, Part, Pieces, Plan, PlannedLayer,
    TensorPlan,
};
pub use tasks::Task;
