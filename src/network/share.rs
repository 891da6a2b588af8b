//! What one of several processes has of neurons and images.

use std::ops::Range;

/// The share of one of several processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Which of them, from 0.
    pub rank: usize,
    /// How many there are.
    pub ranks: usize,
}

impl Share {
    /// Its part of `all` neurons, or of the images of a batch of `all`.
    pub fn of(self, all: usize) -> Range<usize> {
        all * self.rank / self.ranks..all * (self.rank + 1) / self.ranks
    }

    /// The parts of all processes.
    pub fn each(self, all: usize) -> Vec<Range<usize>> {
        (0..self.ranks).map(|rank| Share { rank, ..self }.of(all)).collect()
    }
}
