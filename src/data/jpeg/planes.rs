//! The samples of one colour component, and its rows at the image's full resolution.
//!
//! Components at half the resolution are brought up as libjpeg does ("fancy upsampling"): three
//! quarters of the nearer sample and a quarter of the farther one in each halved direction, the
//! last sample repeated beyond the edges; narrow ones, and other ratios, by repeating samples.

use super::header::{Component, Frame};
use anyhow::{Result, anyhow};
use std::ops::Range;

/// Brings `values` to the length `count`; new ones are `value`.
///
/// # Errors
/// If there is no memory for them.
pub(super) fn room<T: Clone>(values: &mut Vec<T>, count: usize, value: T) -> Result<()> {
    values.try_reserve(count.saturating_sub(values.len())).map_err(|_| {
        let bytes = count.saturating_mul(size_of::<T>());
        anyhow!("there is no room in memory for the {} MiB that decoding takes", bytes >> 20)
    })?;
    values.resize(count, value);
    Ok(())
}

/// The samples of a component.
#[derive(Default)]
pub(super) struct Plane {
    samples: Vec<u8>,
    stride: usize,
    /// The blocks that are wanted.
    pub(super) rows: Range<usize>,
    pub(super) columns: Range<usize>,
    width: usize,
    height: usize,
    /// Pixels a sample, across and down.
    across: usize,
    down: usize,
}

impl Plane {
    /// Makes room for `component`, of which pixels `rows` and `columns` will be wanted. The samples
    /// are whatever they were before.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub(super) fn fit(
        &mut self,
        frame: &Frame,
        component: &Component,
        rows: &Range<usize>,
        columns: &Range<usize>,
    ) -> Result<()> {
        self.across = frame.h / component.h;
        self.down = frame.v / component.v;
        (self.width, self.height) = (component.width, component.height);
        self.stride = 8 * component.blocks_wide;
        room(&mut self.samples, self.stride * 8 * component.blocks_high, 0)?;
        // Upsampling looks at one sample more on either side.
        let blocks = |pixels: &Range<usize>, ratio: usize, length: usize| {
            let first = (pixels.start / ratio).saturating_sub(1);
            let end = (pixels.end.div_ceil(ratio) + 1).min(length);
            first / 8..end.div_ceil(8)
        };
        self.rows = blocks(rows, self.down, self.height);
        self.columns = blocks(columns, self.across, self.width);
        Ok(())
    }

    /// Whether the block in `row` and `column` is wanted.
    #[inline(always)]
    pub(super) fn wants(&self, row: usize, column: usize) -> bool {
        self.columns.contains(&column) && self.rows.contains(&row)
    }

    /// From the first sample of a block on, and the samples from one row to the next.
    #[inline(always)]
    pub(super) fn block_mut(&mut self, row: usize, column: usize) -> (&mut [u8], usize) {
        let from = 8 * (row * self.stride + column);
        (&mut self.samples[from..][..7 * self.stride + 8], self.stride)
    }

    /// Pixels `columns` of row `y`. Where they have to be made, they are made in `line`.
    #[inline(always)]
    pub(super) fn row<'a>(
        &'a self,
        y: usize,
        columns: &Range<usize>,
        line: &'a mut Line,
    ) -> &'a [u8] {
        let sample_row = |row: usize| &self.samples[row * self.stride..][..self.width];
        let near = sample_row(y / self.down);
        if (self.across, self.down) == (1, 1) {
            return &near[columns.clone()];
        }
        // The other row of samples beside this one of pixels.
        let far = match (self.down, y % 2) {
            (2, 0) => sample_row((y / 2).saturating_sub(1)),
            (2, _) => sample_row((y / 2 + 1).min(self.height - 1)),
            _ => near,
        };
        let samples = columns.start / self.across..columns.end.div_ceil(self.across);
        // Where the wanted pixels begin in what is made.
        let first = columns.start - samples.start * self.across;
        match (self.across, self.down) {
            (2, 1) if self.width > 2 => line.across(near, &samples),
            (2, 2) if self.width > 2 => line.both(near, far, &samples),
            (1, 2) => line.down(near, far, &samples, 1 + (y % 2) as u16),
            _ => {
                line.pixels.clear();
                for &sample in &near[samples] {
                    line.pixels.extend(std::iter::repeat_n(sample, self.across));
                }
            }
        }
        &line.pixels[first..][..columns.len()]
    }
}

/// Memory for a row that is being brought up.
#[derive(Default)]
pub(super) struct Line {
    pixels: Vec<u8>,
    /// Weighted sums of two rows, with one more on either side.
    sums: Vec<u16>,
}

impl Line {
    /// Both directions halved.
    #[inline(always)]
    fn both(&mut self, near: &[u8], far: &[u8], samples: &Range<usize>) {
        self.sum(near, samples, |at| 3 * u16::from(near[at]) + u16::from(far[at]));
        // The sums over the range itself, as slices, for the compiler's sake.
        let (near, far) = (&near[samples.clone()], &far[samples.clone()]);
        for (sum, (&near, &far)) in self.sums[1..].iter_mut().zip(near.iter().zip(far)) {
            *sum = 3 * u16::from(near) + u16::from(far);
        }
        self.interleave(samples.len(), |before, at, after| {
            ((3 * at + before + 8) >> 4, (3 * at + after + 7) >> 4)
        });
    }

    /// Columns halved.
    #[inline(always)]
    fn across(&mut self, near: &[u8], samples: &Range<usize>) {
        self.sum(near, samples, |at| u16::from(near[at]));
        for (sum, &near) in self.sums[1..].iter_mut().zip(&near[samples.clone()]) {
            *sum = u16::from(near);
        }
        self.interleave(samples.len(), |before, at, after| {
            ((3 * at + before + 1) >> 2, (3 * at + after + 2) >> 2)
        });
    }

    /// Rows halved; `half` is what rounds.
    #[inline(always)]
    fn down(&mut self, near: &[u8], far: &[u8], samples: &Range<usize>, half: u16) {
        self.pixels.resize(samples.len(), 0);
        let rows = near[samples.clone()].iter().zip(&far[samples.clone()]);
        for (out, (&near, &far)) in self.pixels.iter_mut().zip(rows) {
            *out = ((3 * u16::from(near) + u16::from(far) + half) >> 2) as u8;
        }
    }

    /// Makes room for the sums of `samples` and puts those beside them in place.
    #[inline(always)]
    fn sum(&mut self, row: &[u8], samples: &Range<usize>, at: impl Fn(usize) -> u16) {
        self.sums.resize(samples.len() + 2, 0);
        self.sums[0] = at(samples.start.saturating_sub(1));
        self.sums[samples.len() + 1] = at(samples.end.min(row.len() - 1));
    }

    /// Two pixels from each sum and those beside it.
    #[inline(always)]
    fn interleave(&mut self, samples: usize, two: impl Fn(u16, u16, u16) -> (u16, u16)) {
        self.pixels.resize(2 * samples, 0);
        let before = &self.sums[..samples];
        let at = &self.sums[1..][..samples];
        let after = &self.sums[2..][..samples];
        let out = &mut self.pixels.as_chunks_mut::<2>().0[..samples];
        for i in 0..samples {
            let (left, right) = two(before[i], at[i], after[i]);
            out[i] = (left | right << 8).to_le_bytes();
        }
    }
}
