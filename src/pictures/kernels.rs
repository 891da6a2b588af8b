//! The kernels of a layer as tiles, towers apart: figure 3 of the paper. A kernel that reads RGB
//! images is drawn in their colours; of one that reads maps each channel is a grey tile, in a row.
//! Grey (128) is a weight of zero.

use super::canvas::{Canvas, Pixels};
use super::tiles::{self, Block, Layout, Place};
use crate::engine::Tensor;
use crate::network::{Plan, PlannedLayer};
use std::ops::Range;

/// Kernels of a layer.
#[derive(Clone, Debug)]
pub struct Kernels {
    /// The layer's name.
    pub layer: String,
    /// Kernels, channels, height, width.
    pub shape: [usize; 4],
    /// Of that shape.
    values: Vec<f32>,
    /// The kernels of each tower, and its number.
    towers: Vec<(usize, Range<usize>)>,
    /// Whether the channels are red, green and blue.
    color: bool,
}

/// What is as white or black as can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// The largest weight of each kernel.
    Kernel,
    /// The largest weight of the layer.
    Layer,
}

/// Whether a layer's kernels can be drawn: those of conv layers, and of local ones at one place.
pub fn are_drawable(layer: &PlannedLayer) -> bool {
    let shape = layer.parts[0].layer.parameters().map(|shapes| shapes.weight.len());
    matches!(shape, Some(4 | 6))
}

impl Kernels {
    /// Of the layer `layer` of `plan`, whose weights are `weight`, all towers joined. Of a local
    /// layer, which has kernels of its own at every place, those in the middle.
    pub fn new(plan: &Plan, layer: &PlannedLayer, weight: &Tensor) -> Kernels {
        let (shape, values) = match weight.shape[..] {
            [out, high, wide, channels, height, width] => {
                let size = channels * height * width;
                let middle = (high / 2 * wide + wide / 2) * size;
                let all = weight.values.chunks_exact(high * wide * size);
                let values = all.flat_map(|kernel| &kernel[middle..middle + size]).copied();
                ([out, channels, height, width], values.collect())
            }
            [out, channels, height, width] => {
                ([out, channels, height, width], weight.values.clone())
            }
            _ => unreachable!("only layers with kernels are drawn"),
        };
        Kernels {
            layer: layer.name.clone(),
            shape,
            values,
            towers: layer.parts.iter().map(|part| (part.tower, part.channels.clone())).collect(),
            color: shape[1] == 3 && plan.data.contains(&layer.parts[0].x),
        }
    }

    /// Whether a kernel is one tile; else it is a row of them, one a channel.
    pub fn are_single(&self) -> bool {
        self.color || self.shape[1] == 1
    }

    /// How they lie unless somebody says otherwise.
    pub fn layout(&self) -> Layout {
        let [_, channels, height, width] = self.shape;
        if self.are_single() {
            let most = self.towers.iter().map(|(_, range)| range.len()).max().unwrap_or(1);
            return Layout::of(most, self.towers.len(), height.max(width));
        }
        // About 1,400 pixels across.
        let zoom = (1400 / channels).saturating_sub(1) / width;
        let zoom = zoom.clamp(1, 12);
        Layout { columns: channels, zoom, gap: 1 + zoom / 4 }
    }

    /// The picture, and where each tower's tiles lie in it.
    pub fn draw(&self, heading: &str, range: Span, layout: Layout) -> (Canvas, Vec<Place>) {
        let size: usize = self.shape[1..].iter().product();
        let largest = |values: &[f32]| values.iter().fold(0.0f32, |most, w| most.max(w.abs()));
        let of_layer = largest(&self.values);
        let tiles = |kernel: usize| {
            let values = &self.values[kernel * size..][..size];
            let most = match range {
                Span::Kernel => largest(values),
                Span::Layer => of_layer,
            };
            self.tiles(values, most)
        };
        let block = |(tower, kernels): &(usize, Range<usize>)| {
            let (first, last) = (kernels.start, kernels.end - 1);
            let name = format!("tower {tower}: kernels {first} to {last}");
            let name = if self.towers.len() > 1 { name } else { String::new() };
            Block { name, tiles: kernels.clone().flat_map(tiles).collect() }
        };
        let blocks: Vec<Block> = self.towers.iter().map(block).collect();
        tiles::draw(heading, &blocks, layout)
    }

    /// One kernel's tiles, `most` being as far from grey as there is.
    fn tiles(&self, values: &[f32], most: f32) -> Vec<Pixels> {
        let [_, channels, height, width] = self.shape;
        let byte = |weight: f32| shade(weight, most);
        let pixels = height * width;
        if !self.color {
            let of_channel = |map: &[f32]| {
                let grey: Vec<u8> = map.iter().copied().map(byte).collect();
                Pixels::new(width, height, 1, &grey)
            };
            return values.chunks_exact(pixels).map(of_channel).collect();
        }
        let mixed =
            (0..pixels * channels).map(|i| byte(values[i % channels * pixels + i / channels]));
        vec![Pixels::new(width, height, 3, &mixed.collect::<Vec<u8>>())]
    }
}

/// `value` between -`most` (0, black) and `most` (255, white); 128 where it is zero.
pub fn shade(value: f32, most: f32) -> u8 {
    let part = if most > 0.0 { value / most } else { 0.0 };
    // What is no number is as zero.
    (127.5 + 127.5 * f64::from(part)).round().clamp(0.0, 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::shade;

    #[test]
    fn zero_is_grey_and_the_largest_white() {
        let shades = [-2.0, -1.0, 0.0, 0.5, 2.0].map(|value| shade(value, 2.0));
        assert_eq!(shades, [0, 64, 128, 159, 255]);
        assert_eq!(shade(0.0, 0.0), 128);
    }
}
