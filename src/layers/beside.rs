//! Channels of several towers side by side in one buffer, written and read where they lie.

use crate::vectors::{Simd, load_some};
use std::ops::Range;

/// Some of the channels of each pixel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channels {
    /// Which.
    pub own: Range<usize>,
    /// How many a pixel has.
    pub all: usize,
}

impl Channels {
    /// All of `channels`.
    pub fn all(channels: usize) -> Channels {
        Channels { own: 0..channels, all: channels }
    }

    /// Pixels' own channels in `values` `[pixels, all]`.
    pub fn of<'a>(&self, values: &'a [f32]) -> impl Iterator<Item = &'a [f32]> + use<'a> {
        let own = self.own.clone();
        values.chunks_exact(self.all).map(move |pixel| &pixel[own.clone()])
    }

    /// As [`Channels::of`], to be written.
    pub fn of_mut<'a>(
        &self,
        values: &'a mut [f32],
    ) -> impl Iterator<Item = &'a mut [f32]> + use<'a> {
        let own = self.own.clone();
        values.chunks_exact_mut(self.all).map(move |pixel| &mut pixel[own.clone()])
    }
}

/// A gradient that is the sum of those that several readers have at these channels, added in their
/// order: what copying the first and adding the others would give.
#[derive(Clone, Copy, Debug)]
pub struct Gradient<'a> {
    /// One of each reader, `[pixels, all]`.
    pub of: &'a [&'a [f32]],
    /// Whose gradient it is.
    pub at: &'a Channels,
    /// The first pixel.
    first: usize,
}

impl<'a> Gradient<'a> {
    /// From pixel 0 on.
    pub fn new(of: &'a [&'a [f32]], at: &'a Channels) -> Gradient<'a> {
        Gradient { of, at, first: 0 }
    }

    /// From that pixel of it on.
    pub fn from(self, pixel: usize) -> Gradient<'a> {
        Gradient { first: self.first + pixel, ..self }
    }

    /// Of the vector of channels that begins at `channel`, at a pixel; zeros where they end.
    #[inline(always)]
    pub fn load<S: Simd>(self, s: S, pixel: usize, channel: usize) -> S::V {
        let start = (self.first + pixel) * self.at.all;
        let (from, to) = (start + self.at.own.start + channel, start + self.at.own.end);
        let [first, others @ ..] = self.of else { return s.splat(0.0) };
        let mut sum = load_some(s, &first[from..to]);
        for other in others {
            sum = s.add(sum, load_some(s, &other[from..to]));
        }
        sum
    }

    /// `to` ← the channels of one pixel.
    #[inline(always)]
    pub fn copy(self, pixel: usize, to: &mut [f32]) {
        let start = (self.first + pixel) * self.at.all;
        let own = start + self.at.own.start..start + self.at.own.end;
        let [first, others @ ..] = self.of else { return to.fill(0.0) };
        to.copy_from_slice(&first[own.clone()]);
        for other in others {
            to.iter_mut().zip(&other[own.clone()]).for_each(|(to, from)| *to += from);
        }
    }
}
