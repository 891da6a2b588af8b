//! Memory that several tasks write to at the same time, by tiles.

pub use crate::vectors::shared::{Part, Shared};

/// The numbers of some tiles among those of a product's operand.
#[derive(Clone, Copy)]
pub struct Among {
    pub first: usize,
    pub all: usize,
}
