//! Training: the loop, the update rule's constants, and what a run leaves behind.

pub mod checkpoint;
pub mod clock;
pub mod evaluate;
pub mod feed;
mod finite;
pub mod initial;
pub mod metrics;
pub mod rates;
pub mod runs;
mod telling;
pub mod trainer;
