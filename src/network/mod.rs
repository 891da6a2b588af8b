//! The network as pure data ([`Plan`]), and the order of work in one pass over it ([`Task`]).

mod build;
mod fusion;
mod gradients;
mod hybrid;
mod plan;
mod share;
mod tasks;

pub use fusion::{Fusion, OnCpu, OnGpu, Pass};
pub use hybrid::{Gathered, Halves, Source};
pub use plan::{
    BufferId, BufferPlan, Crossing, Join, JoinSource, Mode, Part, Pieces, Plan, PlannedLayer,
    TensorPlan,
};
pub use share::Share;
pub use tasks::Task;
