//! Training: the loop, the update rule's constants, and what a run leaves behind.

pub mod checkpoint;
pub mod clock;
pub mod evaluate;
pub mod events;
pub mod feed;
mod finite;
pub mod initial;
mod keeping;
pub mod lines;
pub mod mend;
pub mod metrics;
pub mod rates;
pub mod runs;
pub mod saving;
mod session;
pub mod survey;
pub mod tail;
mod telling;
pub mod trainer;
