//! Windows that slide over a map: the geometry that conv, local and pooling layers share.

pub mod cuda;

use super::{Layer, Outputs, Place, Settings, Shape, check_values, read_as};
use crate::keys::to_table;
use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use toml::Table;

/// The keys of conv and local layers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Kernels {
    /// Kernels over all towers.
    pub kernels: usize,
    /// Height and width of a kernel.
    pub size: usize,
    /// Pixels from one place of a kernel to the next.
    #[serde(default = "one")]
    pub stride: usize,
    /// Zeros around the map: top, bottom, left, right.
    #[serde(default)]
    pub padding: [usize; 4],
    /// Groups inside one tower; each sees its share of the input maps.
    #[serde(default = "one")]
    pub groups: usize,
}

fn one() -> usize {
    1
}

/// The settings of a kind whose kernels slide over windows; the kind adds the layer on one of them.
#[derive(Debug)]
pub struct KernelSettings {
    kernels: Kernels,
    layer: MakeLayer,
}

/// A kind's layer on the window that its kernels fit to their input.
pub type MakeLayer = fn(Window, &Place<'_>) -> Box<dyn Layer>;

impl KernelSettings {
    /// Reads the keys of [`Kernels`] and checks their ranges.
    pub fn read(table: &Table, layer: MakeLayer) -> Result<Box<dyn Settings>> {
        let kernels: Kernels = read_as(table)?;
        kernels.check()?;
        Ok(Box::new(KernelSettings { kernels, layer }))
    }
}

impl Settings for KernelSettings {
    fn outputs(&self) -> Option<Outputs> {
        Some(Outputs::Count(self.kernels.kernels))
    }
    fn plan(&self, place: &Place<'_>) -> Result<Box<dyn Layer>> {
        let window = self.kernels.fit(place.input, place.channels.len())?;
        Ok((self.layer)(window, place))
    }
    fn to_table(&self) -> Table {
        to_table(&self.kernels)
    }
}

/// A kernel layer fitted to its input: every number that its loops need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// What it slides over, on one tower.
    pub input: Shape,
    /// Its places, and a channel for each kernel.
    pub output: Shape,
    /// Height and width of a kernel.
    pub size: usize,
    /// Pixels from one place to the next, down and across.
    pub stride: usize,
    /// Rows of zeros above the map.
    pub top: usize,
    /// Columns of zeros to the left of the map.
    pub left: usize,
    /// Groups of channels; a kernel sees its own group's.
    pub groups: usize,
}

/// Multiply-adds of one image that a layer has at most; sums over layers are then far from the ends
/// of their type.
const MOST_WORK: u128 = 1 << 52;

impl Kernels {
    /// Refuses values that no input could suit.
    pub fn check(&self) -> Result<()> {
        for (key, value) in [
            ("kernels", self.kernels),
            ("size", self.size),
            ("stride", self.stride),
            ("groups", self.groups),
        ] {
            if !(1..=1 << 20).contains(&value) {
                bail!("{key} = {value}: it must be at least 1 and at most {}", 1 << 20);
            }
        }
        if let Some(bad) = self.padding.iter().find(|&&p| p >= self.size) {
            bail!(
                "padding = {:?}: {bad} is not below the size, {}, so a whole window would see \
                 only zeros",
                self.padding,
                self.size
            );
        }
        Ok(())
    }

    /// The window over `input` with `channels` output channels; the output size is rounded down.
    pub fn fit(&self, input: Shape, channels: usize) -> Result<Window> {
        let [top, bottom, left, right] = self.padding;
        let (height, width) = (input.height + top + bottom, input.width + left + right);
        if height < self.size || width < self.size {
            bail!(
                "its {0}×{0} kernels are larger than its input, {input} with padding {1:?} \
                 ({height}×{width})",
                self.size,
                self.padding
            );
        }
        if !input.channels.is_multiple_of(self.groups) {
            bail!(
                "groups = {} does not divide the {} input maps of {input}",
                self.groups,
                input.channels
            );
        }
        if channels == 0 || !channels.is_multiple_of(self.groups) {
            bail!("groups = {} does not divide its {channels} kernels on one tower", self.groups);
        }
        let output = Shape {
            height: (height - self.size) / self.stride + 1,
            width: (width - self.size) / self.stride + 1,
            channels,
        };
        let groups = self.groups;
        let under = [self.size, self.size, input.channels / groups];
        let places = [output.height, output.width, channels];
        check_values("its output", &places)?;
        check_values("its kernels", &[&[channels], &under[..]].concat())?;
        let work = [&places[..], &under[..]].concat();
        let work = work.iter().fold(1u128, |all, &size| all.saturating_mul(size as u128));
        if work > MOST_WORK {
            bail!("its {work} multiply-adds would take hours for one image");
        }
        Ok(Window { input, output, size: self.size, stride: self.stride, top, left, groups })
    }
}

impl Window {
    /// Zeros around the map as far as kernels reach: top, bottom, left, right.
    pub fn padding(&self) -> [usize; 4] {
        let end = |places: usize, extent: usize, before: usize| {
            ((places - 1) * self.stride + self.size).saturating_sub(extent + before)
        };
        let bottom = end(self.output.height, self.input.height, self.top);
        let right = end(self.output.width, self.input.width, self.left);
        [self.top, bottom, self.left, right]
    }
    /// Input channels that one kernel sees.
    pub fn group_inputs(&self) -> usize {
        self.input.channels / self.groups
    }
    /// Kernels of one group.
    pub fn group_outputs(&self) -> usize {
        self.output.channels / self.groups
    }
    /// Values under one kernel: size × size × input channels of its group.
    pub fn patch(&self) -> usize {
        self.size * self.size * self.group_inputs()
    }
    /// Multiply-adds of one image, windows over the edge counted in full; the largest number where
    /// they are beyond counting.
    pub fn multiply_adds(&self) -> u64 {
        (self.output.len() as u64).saturating_mul(self.patch() as u64)
    }

    /// For output row or column `o`: which kernel rows or columns lie inside a map of `extent`, and
    /// the input position of the first of them.
    fn inside(&self, o: usize, before: usize, extent: usize) -> (Range<usize>, usize) {
        let start = o * self.stride;
        let first = before.saturating_sub(start);
        let last = (extent + before).saturating_sub(start).min(self.size);
        (first..last.max(first), (start + first).saturating_sub(before))
    }

    /// Calls `visit(kernel offset in values, input offset in values, values)` for each kernel row
    /// of group `g` that lies inside the map at output position (`row`, `column`); the kernel is
    /// [size, size, group inputs], the input NHWC. With one group the runs of a kernel row are one.
    #[inline]
    pub fn runs(
        &self,
        row: usize,
        column: usize,
        g: usize,
        mut visit: impl FnMut(usize, usize, usize),
    ) {
        let (c, all) = (self.group_inputs(), self.input.channels);
        let (rows, first_y) = self.inside(row, self.top, self.input.height);
        let (columns, first_x) = self.inside(column, self.left, self.input.width);
        for (dy, ky) in rows.enumerate() {
            let line = ((first_y + dy) * self.input.width + first_x) * all + g * c;
            let kernel = (ky * self.size + columns.start) * c;
            if self.groups == 1 {
                visit(kernel, line, columns.len() * c);
            } else {
                for dx in 0..columns.len() {
                    visit(kernel + dx * c, line + dx * all, c);
                }
            }
        }
    }

    /// Lays the patch under output position (`row`, `column`) into `patch` [size, size, group
    /// inputs], zeros where the window hangs over the edge.
    #[inline]
    pub fn gather(&self, patch: &mut [f32], x: &[f32], row: usize, column: usize, g: usize) {
        let mut filled = 0;
        self.runs(row, column, g, |kernel, input, n| {
            patch[filled..kernel].fill(0.0);
            patch[kernel..kernel + n].copy_from_slice(&x[input..input + n]);
            filled = kernel + n;
        });
        patch[filled..].fill(0.0);
    }

    /// Adds `patch` to the input positions that [`Window::gather`] read.
    #[inline]
    pub fn scatter(&self, x: &mut [f32], patch: &[f32], row: usize, column: usize, g: usize) {
        self.runs(row, column, g, |kernel, input, n| {
            for (x, p) in x[input..input + n].iter_mut().zip(&patch[kernel..kernel + n]) {
                *x += p;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernels(size: usize, stride: usize, padding: [usize; 4]) -> Kernels {
        Kernels { kernels: 96, size, stride, padding, groups: 1 }
    }

    fn shape(side: usize, channels: usize) -> Shape {
        Shape { height: side, width: side, channels }
    }

    #[test]
    fn the_three_ways_to_55() {
        for (side, padding) in [(224, [0, 3, 0, 3]), (227, [0; 4]), (224, [2, 2, 2, 2])] {
            let window = kernels(11, 4, padding).fit(shape(side, 3), 96).unwrap();
            assert_eq!(window.output, shape(55, 96), "{side} {padding:?}");
        }
    }

    #[test]
    fn a_patch_over_the_edge_is_filled_with_zeros() {
        let window = kernels(3, 2, [1, 0, 0, 1]).fit(shape(3, 1), 1).unwrap();
        let x: Vec<f32> = (1..=9).map(|v| v as f32).collect();
        let mut patch = [9.0; 9];
        window.gather(&mut patch, &x, 0, 0, 0);
        assert_eq!(patch, [0., 0., 0., 1., 2., 3., 4., 5., 6.]);
        window.gather(&mut patch, &x, 0, 0, 0);
        assert_eq!(window.output, shape(1, 1));
        let window = kernels(3, 1, [1, 1, 1, 1]).fit(shape(3, 1), 1).unwrap();
        window.gather(&mut patch, &x, 2, 2, 0);
        assert_eq!(patch, [5., 6., 0., 8., 9., 0., 0., 0., 0.]);
    }

    #[test]
    fn groups_see_their_own_maps() {
        let kernels = Kernels { groups: 2, ..kernels(1, 1, [0; 4]) };
        let window = kernels.fit(shape(1, 4), 2).unwrap();
        let mut patch = [0.0; 2];
        window.gather(&mut patch, &[1., 2., 3., 4.], 0, 0, 1);
        assert_eq!(patch, [3., 4.]);
    }
}
