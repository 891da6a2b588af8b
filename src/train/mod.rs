//! Training: the loop, the update rule's constants, the schedule, and what a run leaves behind.

pub mod checkpoint;
pub mod clock;
pub mod evaluate;
pub mod feed;
pub mod initial;
pub mod interrupt;
pub mod metrics;
pub mod runs;
pub mod schedule;
pub mod trainer;
