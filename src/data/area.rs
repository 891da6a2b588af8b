//! A part of an image.

use std::ops::Range;

/// The rows and columns of an image that somebody wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// Pixels from top to bottom.
    pub rows: Range<usize>,
    /// Pixels from left to right.
    pub columns: Range<usize>,
}

impl Area {
    /// All of an image.
    pub fn all(height: usize, width: usize) -> Area {
        Area { rows: 0..height, columns: 0..width }
    }
}
