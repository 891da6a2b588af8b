//! Training: the loop, the update rule's constants, and what a run leaves behind.

pub mod checkpoint;
pub mod clock;
pub mod codes;
mod drawing;
pub mod evaluate;
pub mod events;
pub mod feature_file;
pub mod features;
pub mod feed;
mod finite;
pub mod history;
pub mod initial;
pub mod joint;
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
pub mod transfer;
