//! Convolution by Winograd's minimal filtering, F(m×n, 3×3) with tiles of four and five and
//! F(4×4, 5×5): about 2.1 and 4 multiply-adds an output and input channel in place of 9 and 25.
//!
//! Each direction of a map is cut into tiles of four and then of five outputs (`split`), so a map
//! has up to four regions, in each of which all tiles have one shape; they are computed one after
//! the other, or side by side where there are more threads than that has work for. Tiles of the
//! input are transformed (`transform`), each of their points is a matrix product over the channels
//! (`vectors::kernel`), and the products are transformed back. The gradient to the input is the
//! same with flipped weights; the gradient to the weights sums the products of transformed inputs
//! and transformed output gradients over all tiles and is transformed back once a region.
//!
//! Strided kernels are folded into kernels with stride 1 over more channels (`strip`).
//!
//! The paper's layers one by one, batch 128, both towers, milliseconds forward, to the input, to
//! the weights, as `alexnet bench` shows them (the best of three runs; others used the machine
//! too), by an earlier version with tiles of four alone. On two cores of a Zen 3 (peak 177 GFLOP/s,
//! 512 KiB of second-level cache a core): conv1 101, –, 103; conv2 100, 107, 122; conv3 120, 120,
//! 142; conv4 87, 89, 106; conv5 58, 59, 70. Of a Zen 5 (peak 540 GFLOP/s, 1 MiB), earlier still:
//! conv1 37, –, 41; conv2 36, 36, 36; conv3 36, 36, 40; conv4 27, 27, 32; conv5 19, 19, 21. In the
//! operations of direct convolution that is 1.2 to 3.2 times the peak. Errors against f64 are in
//! `matrices`.
//!
//! At the Zen 3's peak conv3's products would take 81 ms of its forward pass's 120. The rest goes
//! to transforms and to the third-level cache: one core alone takes 206 ms, so that two together
//! lose a seventh to what they share. Tried without a gain: 16 or 64 tiles at a time.
//!
//! Tiles of four and five against tiles of four alone: the same code in turn on one core of a Zen 5
//! that had other work to do, batch 128, processor time, medians of five, as ratios forward, to the
//! input, to the weights (the last with one product a round besides). AVX-512: conv3 0.76, 0.75,
//! 0.62; conv4 0.77, 0.80, 0.67; conv5 0.80, 0.78, 0.69; AVX2: 0.74, 0.72, 0.66; 0.73, 0.78, 0.65;
//! 0.73, 0.72, 0.60. By points it would be 0.63; the rest are weights' transforms, 169 points in
//! place of 36. conv1 by fives: 1.04, –, 0.93 and 0.86, –, 0.91. What lost: fives across in every
//! row (two shapes, 399 points in place of 361), 0.78, 0.77, 0.90 for conv3; fives alone (441
//! points), 0.84, 0.86, 0.91.
//!
//! Where one tower's time goes, in milliseconds of both threads of a quiet Zen 5, AVX-512: batch
//! 128; laying out the input, its transform, products (and what they would take at the peak), the
//! transform of the outputs or of their gradient, the weights' transform. conv1 forward 7.7, 10, 16
//! (12.2), 9, 0; to the weights 7, 9.3, 17.4 (12.2), 7.5, 0: so its towers share the first two
//! (`together`). conv2 1.0, 2.3, 21 (17.2), 7.2, 0; to the input 2.8, 6.6, 20, 2.3, 0; to the
//! weights 1.2, 2.4, 25, 5, 0. conv3 2.1, 3.0, 18.5 (15.9), 1.7, 0.8; 1.6, 2.4, 19, 2.0, 0.8; 2.1,
//! 3.0, 19.5, 1.8, 0.6. With neighbours in the third-level cache conv3's weights take 3.8, and its
//! products for the weights' gradient 24.5. Tried without a gain there: huge pages, outputs on
//! cache lines, asking ahead for where transforms write, 48 or 64 tiles at a time; asking ahead for
//! sums that are added to gains 2 % with AVX-512 and nothing with AVX2.

macro_rules! either {
    ($sized:expr, $c:ident => $body:expr) => {
        match $sized {
            Sized::Three44($c) => $body,
            Sized::Three45($c) => $body,
            Sized::Three54($c) => $body,
            Sized::Three55($c) => $body,
            Sized::Five44($c) => $body,
        }
    };
}

mod correlation;
mod division;
mod geometry;
mod gradients;
mod kept;
mod matrices;
mod shared;
mod split;
mod stages;
mod strip;
mod tiles;
mod together;
mod transform;

use crate::layers::window::Window;
use crate::machine::tasks;
use crate::vectors::scratch;
use geometry::{Correlation, Maps, WeightLayout};
use rayon::prelude::*;
use shared::Shared;
use split::{Region, Run};
use strip::Padded;
use tiles::Ending;

/// Channels must be a multiple of this: the lanes of the widest vectors, so that the choice does
/// not depend on the machine.
const CHANNELS: usize = 16;

/// One region's correlation: kernels of three with four shapes of tiles, kernels of five with one.
#[derive(Clone, Copy, Debug)]
enum Sized {
    Three44(Correlation<6, 6, 3>),
    Three45(Correlation<6, 7, 3>),
    Three54(Correlation<7, 6, 3>),
    Three55(Correlation<7, 7, 3>),
    Five44(Correlation<8, 8, 5>),
}

/// The correlations of one group: every region of its output, `down` × `across`.
fn regions(size: usize, source: Padded, output: Maps, [down, across]: [Vec<Run>; 2]) -> Vec<Sized> {
    let of = |d: &Run, a: &Run| {
        let region = Region { top: d.first, left: a.first, rows: d.count, columns: a.count };
        match (size, d.tile, a.tile) {
            (3, 4, 4) => Sized::Three44(Correlation { source, output, region }),
            (3, 4, _) => Sized::Three45(Correlation { source, output, region }),
            (3, _, 4) => Sized::Three54(Correlation { source, output, region }),
            (3, _, _) => Sized::Three55(Correlation { source, output, region }),
            _ => Sized::Five44(Correlation { source, output, region }),
        }
    };
    down.iter().flat_map(|d| across.iter().map(move |a| of(d, a))).collect()
}

/// Calls `run(number, region, how many at once)` for all of `regions`: one after the other, so that
/// one shape's weights are in the caches, or where that leaves threads without work at the same
/// time.
fn each_region(regions: &[Sized], x: &[f32], run: impl Fn(usize, &Sized, usize) + Sync) {
    let alone = |region: &Sized| either!(region, c => c.is_enough(x.len() / c.image()));
    match regions.iter().all(alone) {
        true => regions.iter().enumerate().for_each(|(n, region)| run(n, region, 1)),
        false => {
            regions.par_iter().enumerate().for_each(|(n, region)| run(n, region, regions.len()))
        }
    }
}

/// Each of `ys` ← the correlation of `x` with its weights, stored as its ending says, in all of
/// `regions`, which cover it.
fn correlate(
    regions: &[Sized],
    ys: &mut [&mut [f32]],
    x: &[f32],
    weights: (&[&[f32]], WeightLayout),
    endings: &[Ending<'_>],
) {
    let ys: Vec<Shared<'_>> = ys.iter_mut().map(|y| Shared::new(y)).collect();
    // SAFETY: each region is computed once, and no two of them overlap.
    each_region(regions, x, |_, region, at_once| unsafe {
        either!(region, c => c.run_from(&ys, x, weights, endings, at_once))
    });
}

/// The directions of a convolution that go this way; for each group its regions.
#[derive(Clone, Debug)]
pub struct Winograd {
    window: Window,
    /// Whether forward ends in ReLU.
    relu: bool,
    /// Side of a kernel after folding, and the fold.
    size: usize,
    fold: usize,
    forward: Vec<Vec<Sized>>,
    /// Forward for few images.
    few: Vec<Vec<Sized>>,
    /// Empty where the direct way is shorter or strides leave gaps.
    backward_input: Vec<Vec<Sized>>,
}

impl Winograd {
    /// `None` where the direct way is taken: kernels that do not fold to 3×3 or 5×5, channels that
    /// do not fill vectors, or maps so small that less than a third of the multiply-adds would be
    /// saved.
    pub fn for_window(window: &Window) -> Option<Winograd> {
        let (fold, inputs, outputs) =
            (window.stride, window.group_inputs(), window.group_outputs());
        let size = window.size.div_ceil(fold);
        let depth = fold * fold * inputs;
        let (input, output) = (window.input, window.output);
        let divides = depth.is_multiple_of(CHANNELS) && outputs.is_multiple_of(CHANNELS);
        let saves = |height: usize, width: usize| {
            let [down, across] =
                [height, width].map(|extent| split::points(&split::split(extent, size), size));
            3 * down * across * depth <= 2 * height * width * window.patch()
        };
        let folds = fold == 1 || window.groups == 1;
        if !(divides && folds && [3, 5].contains(&size) && saves(output.height, output.width)) {
            return None;
        }
        let of_x = |g: usize| Maps {
            height: input.height,
            width: input.width,
            channels: input.channels,
            first: g * inputs,
            used: inputs,
        };
        let of_y = |g: usize| Maps {
            height: output.height,
            width: output.width,
            channels: output.channels,
            first: g * outputs,
            used: outputs,
        };
        let best = |height, width| [height, width].map(|extent| split::split(extent, size));
        let forward = |g, runs| {
            let (top, left) = (window.top, window.left);
            regions(size, Padded { fold, top, left, ..of_x(g).source() }, of_y(g), runs)
        };
        let backward = |g| {
            let (top, left) = (size - 1 - window.top, size - 1 - window.left);
            let runs = best(input.height, input.width);
            regions(size, Padded { top, left, ..of_y(g).source() }, of_x(g), runs)
        };
        let back = fold == 1 && saves(input.height, input.width);
        Some(Winograd {
            window: window.clone(),
            relu: false,
            size,
            fold,
            forward: (0..window.groups)
                .map(|g| forward(g, best(output.height, output.width)))
                .collect(),
            few: (0..window.groups)
                .map(|g| forward(g, [output.height, output.width].map(split::of_four)))
                .collect(),
            backward_input: if back {
                (0..window.groups).map(backward).collect()
            } else {
                Vec::new()
            },
        })
    }

    /// The same with ReLU at the end of forward.
    pub fn with_relu(&self) -> Winograd {
        Winograd { relu: true, ..self.clone() }
    }

    /// How forward ends with this bias.
    fn ending<'a>(&self, bias: &'a [f32]) -> Ending<'a> {
        if self.relu { Ending::Rectified(bias) } else { Ending::Bias(bias) }
    }

    /// Whether the gradient to the input goes this way too.
    pub fn has_backward_input(&self) -> bool {
        !self.backward_input.is_empty()
    }

    /// Channels of a folded pixel.
    fn depth(&self) -> usize {
        self.fold * self.fold * self.window.group_inputs()
    }

    /// Weights where they lie, of group `g`.
    fn own_layout(&self, g: usize) -> WeightLayout {
        let (c, out) = (self.window.group_inputs(), self.window.output.channels);
        let start = g * self.window.group_outputs();
        WeightLayout { strides: (self.size * c * out, c * out, out), start }
    }

    /// `[size, size, depth, outputs]`, as `folded_rows` orders them.
    fn folded_layout(&self) -> WeightLayout {
        let (depth, out) = (self.depth(), self.window.output.channels);
        WeightLayout { strides: (self.size * depth * out, depth * out, out), start: 0 }
    }

    fn folded_len(&self) -> usize {
        self.size * self.size * self.depth() * self.window.output.channels
    }

    /// Calls `pair(folded row, own row)` for each row of outputs; rows of zeros have no own row.
    fn folded_rows(&self, mut pair: impl FnMut(usize, Option<usize>)) {
        let (fold, c, size) = (self.fold, self.window.group_inputs(), self.window.size);
        let mut folded = 0;
        for spot in 0..self.size * self.size {
            let (row, column) = (spot / self.size * fold, spot % self.size * fold);
            for within in 0..fold * fold {
                let (y, x) = (row + within / fold, column + within % fold);
                for channel in 0..c {
                    let own = (y < size && x < size).then(|| (y * size + x) * c + channel);
                    pair(folded, own);
                    folded += 1;
                }
            }
        }
    }

    /// `folded` ← the kernels with a stride of 1.
    fn fold_weights(&self, folded: &mut [f32], weight: &[f32]) {
        let outputs = self.window.group_outputs();
        self.folded_rows(|to, from| match from {
            Some(from) => folded[to * outputs..][..outputs]
                .copy_from_slice(&weight[from * outputs..][..outputs]),
            None => folded[to * outputs..][..outputs].fill(0.0),
        });
    }

    /// The reverse of `fold_weights`.
    fn unfold_weights(&self, weight: &mut [f32], folded: &[f32]) {
        let outputs = self.window.group_outputs();
        self.folded_rows(|from, to| {
            if let Some(to) = to {
                weight[to * outputs..][..outputs]
                    .copy_from_slice(&folded[from * outputs..][..outputs]);
            }
        });
    }

    /// `y` ← the convolution of `x`. `few`: there are so few images that transforming the weights
    /// takes longer than the products; the result is equal but for rounding.
    pub fn forward(&self, y: &mut [f32], x: &[f32], weight: &[f32], bias: &[f32], few: bool) {
        if self.fold > 1 {
            return self.forward_together(&mut [y], x, &[[weight, bias]], few);
        }
        let outputs = self.window.group_outputs();
        for (g, group) in self.ways(few).iter().enumerate() {
            let ending = self.ending(&bias[g * outputs..][..outputs]);
            correlate(group, &mut [&mut *y], x, (&[weight], self.own_layout(g)), &[ending]);
        }
    }

    /// The forward pass's regions of each group.
    fn ways(&self, few: bool) -> &[Vec<Sized>] {
        if few { &self.few } else { &self.forward }
    }

    pub fn backward_input(&self, dx: &mut [f32], dy: &[f32], weight: &[f32]) {
        let (inputs, outputs) = (self.window.group_inputs(), self.window.group_outputs());
        let (all, spots) = (self.window.output.channels, self.size * self.size);
        scratch::with(spots * inputs * outputs, |flipped| {
            let strides = (self.size * outputs * inputs, outputs * inputs, inputs);
            for (g, group) in self.backward_input.iter().enumerate() {
                // [size, size, outputs, inputs], rows and columns of a kernel from the last to the
                // first.
                let blocks = flipped.par_chunks_exact_mut(CHANNELS * inputs).enumerate();
                blocks.for_each(|(block, to)| {
                    tasks::begin("weights from the last");
                    let (spot, o) = (block * CHANNELS / outputs, block * CHANNELS % outputs);
                    let from = &weight[(spots - 1 - spot) * inputs * all + g * outputs + o..];
                    for i in 0..inputs {
                        for o in 0..CHANNELS {
                            to[o * inputs + i] = from[i * all + o];
                        }
                    }
                });
                let weights: (&[&[f32]], _) = (&[flipped], WeightLayout { strides, start: 0 });
                correlate(group, &mut [&mut *dx], dy, weights, &[Ending::Plain]);
            }
        });
    }

    /// Values of scratch space that `backward_weights` needs.
    pub fn workspace(&self, batch: usize) -> usize {
        self.workspace_together(batch, 1)
    }

    pub fn backward_weights(
        &self,
        (dweight, dbias): (&mut [f32], &mut [f32]),
        dy: &[f32],
        x: &[f32],
        workspace: &mut [f32],
    ) {
        if self.fold > 1 {
            return self.backward_weights_together(&mut [(dweight, dbias)], &[dy], x, workspace);
        }
        let outputs = self.window.group_outputs();
        for (g, group) in self.forward.iter().enumerate() {
            let dbias = &mut dbias[g * outputs..][..outputs];
            for (n, region) in group.iter().enumerate() {
                let (to, layout) = (&mut [(&mut *dweight, &mut *dbias)], self.own_layout(g));
                either!(region, c => {
                    c.weight_gradients((to, layout), (&[dy], x), workspace, n > 0)
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Shape;
    use crate::layers::window::Kernels;

    fn way(side: usize, channels: usize, kernels: (usize, usize), padding: usize) -> Option<bool> {
        let (outputs, size) = kernels;
        let stride = if size == 11 { 4 } else { 1 };
        let kernels = Kernels { kernels: outputs, size, stride, padding: [padding; 4], groups: 1 };
        let window = kernels.fit(Shape { height: side, width: side, channels }, outputs).unwrap();
        Winograd::for_window(&window).map(|w| w.has_backward_input())
    }

    #[test]
    fn the_papers_convolutions_go_this_way() {
        assert_eq!(way(227, 3, (48, 11), 0), Some(false));
        assert_eq!(way(27, 48, (128, 5), 2), Some(true));
        assert_eq!(way(13, 256, (192, 3), 1), Some(true));
        assert_eq!(way(13, 192, (128, 3), 1), Some(true));
    }

    #[test]
    fn others_do_not() {
        assert_eq!(way(13, 192, (128, 1), 0), None, "1×1 kernels");
        assert_eq!(way(13, 192, (128, 4), 1), None, "4×4 kernels");
        assert_eq!(way(32, 3, (64, 5), 2), None, "3 channels");
        assert_eq!(way(13, 192, (100, 3), 1), None, "100 kernels");
        assert_eq!(way(3, 64, (64, 3), 0), None, "one output");
    }
}
