//! What is done with the tiles of one task, at the machine's level: transforms there and back, and
//! the products between them.

use super::geometry::{Correlation, Maps, WeightLayout};
use super::transform::{M, Transform, contract_tile, expand_tile};
use crate::vectors::kernel::{Finish, Left, Out, Product, Right};
use crate::vectors::scratch::LINE;
use crate::vectors::{Simd, Work};
use std::ops::Range;

/// One panel of weights to all points, `[T²][depth][panel]`.
pub(super) struct TransformWeights<'a, const T: usize, const R: usize> {
    pub of: &'a Correlation<T, R>,
    pub panel: usize,
    pub to: &'a mut [f32],
    pub weight: &'a [f32],
    pub layout: WeightLayout,
}

impl<const T: usize, const R: usize> Work for TransformWeights<'_, T, R> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, panel, to, weight, layout } = self;
        let first = panel * S::PANEL * S::LANES;
        let width = (of.output.used - first).min(S::PANEL * S::LANES);
        let apart = of.weights_apart(S::PANEL * S::LANES);
        let (row, column, input) = layout.strides;
        for c in 0..of.depth() {
            for o in (0..width).step_by(S::LANES) {
                let start = layout.start + c * input + first + o;
                check(weight, start, R, (row, column), S::LANES);
                assert!((T * T - 1) * apart + c * width + o + S::LANES <= to.len());
                // SAFETY: R × R vectors of weights by the check, T² of points, `apart` apart, by
                // the assertion.
                unsafe {
                    expand_tile::<S, R, T>(
                        s,
                        &Transform::<T, R>::G,
                        weight.as_ptr().add(start),
                        (row, column),
                        to.as_mut_ptr().add(c * width + o),
                        apart,
                    );
                }
            }
        }
    }
}

/// Panics unless a tile of `n` × `n` vectors that begins at `start` lies inside `values`.
#[inline(always)]
fn check(values: &[f32], start: usize, n: usize, (row, column): (usize, usize), lanes: usize) {
    assert!(start + (n - 1) * (row + column) + lanes <= values.len());
}

/// A few whole images from end to end.
pub(super) struct Correlate<'a, const T: usize, const R: usize> {
    pub of: &'a Correlation<T, R>,
    pub y: &'a mut [f32],
    pub x: &'a [f32],
    pub weights: (&'a [f32], usize),
    pub bias: Option<&'a [f32]>,
    pub strip: &'a mut [f32],
    pub inputs: &'a mut [f32],
    pub outputs: &'a mut [f32],
}

impl<const T: usize, const R: usize> Work for Correlate<'_, T, R> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, y, x, weights: (weights, weights_apart), bias, strip, inputs, outputs } =
            self;
        let (rows, columns) = of.grid();
        let (depth, used) = (of.depth(), of.output.used);
        let all = y.len() / of.output.len() * rows;
        for first in (0..all).step_by(of.rows_at_once()) {
            let range = first..(first + of.rows_at_once()).min(all);
            let tiles = range.len() * columns;
            transform_inputs(s, of, inputs, x, strip, range.clone());
            let (inputs_apart, outputs_apart) = (of.inputs_apart(tiles), of.outputs_apart(tiles));
            for point in 0..T * T {
                Product {
                    left: &inputs[point * inputs_apart..],
                    order: Left::AlongDepth { all: tiles },
                    right: &weights[point * weights_apart..],
                    panels: Right::Panels { apart: T * T * weights_apart },
                    next: &weights[(point + 1) % (T * T) * weights_apart..],
                    out: &mut outputs[point * outputs_apart..],
                    to: Out::Rows { stride: used },
                    rows: tiles,
                    depth,
                    columns: used,
                    finish: Finish::Store,
                }
                .compute();
            }
            transform_outputs(s, of, y, outputs, bias, range);
        }
    }
}

/// Rows of tiles `range`, counted over the images of `x`, to `inputs`
/// `[T²][depth / 16][tiles][16]`.
#[inline(always)]
fn transform_inputs<S: Simd, const T: usize, const R: usize>(
    s: S,
    of: &Correlation<T, R>,
    inputs: &mut [f32],
    x: &[f32],
    strip: &mut [f32],
    range: Range<usize>,
) {
    let (rows, columns) = of.grid();
    let (depth, (_, width)) = (of.depth(), of.input_strip());
    let tiles = range.len() * columns;
    let apart = of.inputs_apart(tiles);
    let image = of.source.height * of.source.width * of.source.channels;
    assert!(strip.len() >= T * width * depth && inputs.len() >= T * T * apart);
    for (index, row) in range.enumerate() {
        of.source.fill(strip, &x[row / rows * image..][..image], row % rows * M, (T, width));
        for column in 0..columns {
            for c in (0..depth).step_by(S::LANES) {
                // SAFETY: T rows of `width` pixels and T² times `apart` values by the assertion; a
                // tile ends R − 1 pixels after the next one begins, a row of them at `width`.
                unsafe {
                    expand_tile::<S, T, T>(
                        s,
                        &Transform::<T, R>::B,
                        strip.as_ptr().add(column * M * depth + c),
                        (width * depth, depth),
                        inputs
                            .as_mut_ptr()
                            .add((c / LINE * tiles + index * columns + column) * LINE + c % LINE),
                        apart,
                    );
                }
            }
        }
    }
}

/// `outputs` `[T²][tiles][used]` to the rows of tiles `range` of the images `y`.
#[inline(always)]
fn transform_outputs<S: Simd, const T: usize, const R: usize>(
    s: S,
    of: &Correlation<T, R>,
    y: &mut [f32],
    outputs: &[f32],
    bias: Option<&[f32]>,
    range: Range<usize>,
) {
    let (rows, columns) = of.grid();
    let Maps { height, width, channels, first, used } = of.output;
    let tiles = range.len() * columns;
    let apart = of.outputs_apart(tiles);
    assert!(outputs.len() >= T * T * apart && first + used <= channels);
    assert!(range.end.div_ceil(rows) * of.output.len() <= y.len());
    assert!(bias.is_none_or(|b| b.len() >= used));
    for (index, row) in range.enumerate() {
        let (image, top) = (row / rows, row % rows * M);
        for column in 0..columns {
            let left = column * M;
            let inside = (M.min(height - top), M.min(width - left));
            let to = image * of.output.len() + (top * width + left) * channels + first;
            for o in (0..used).step_by(S::LANES) {
                // SAFETY: T² vectors of points lie in `outputs` and a vector in `bias` by the
                // assertions; of the tile only what is inside the map is written, and the image
                // lies in `y`.
                unsafe {
                    let bias = bias.map_or(s.splat(0.0), |b| s.load(b.as_ptr().add(o)));
                    contract_tile::<S, T, M>(
                        s,
                        &Transform::<T, R>::A,
                        (outputs.as_ptr().add((index * columns + column) * used + o), apart),
                        (y.as_mut_ptr().add(to + o), (width * channels, channels)),
                        inside,
                        bias,
                    );
                }
            }
        }
    }
}

/// Inputs and output gradients of the rows of tiles `range`, counted over the images of `x`, to all
/// points; the sums of the gradients are added to `bias`.
pub(super) struct TransformBoth<'a, const T: usize, const R: usize> {
    pub of: &'a Correlation<T, R>,
    pub inputs: &'a mut [f32],
    pub outputs: &'a mut [f32],
    pub bias: &'a mut [f32],
    pub x: &'a [f32],
    pub dy: &'a [f32],
    pub range: Range<usize>,
    pub strip: &'a mut [f32],
}

impl<const T: usize, const R: usize> Work for TransformBoth<'_, T, R> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, inputs, outputs, bias, x, dy, range, strip } = self;
        let (rows, columns) = of.grid();
        transform_inputs(s, of, inputs, x, strip, range.clone());

        let (used, (_, width)) = (of.output.used, of.output_strip());
        let tiles = range.len() * columns;
        let apart = of.outputs_apart(tiles);
        let panel = S::PANEL * S::LANES;
        let source = of.output.source();
        assert!(strip.len() >= M * width * used && outputs.len() >= T * T * apart);
        for (index, row) in range.enumerate() {
            let dy = &dy[row / rows * of.output.len()..][..of.output.len()];
            source.fill(strip, dy, row % rows * M, (M, width));
            for pixel in strip[..M * width * used].chunks_exact(used) {
                for (sum, d) in bias[..used].iter_mut().zip(pixel) {
                    *sum += d;
                }
            }
            for column in 0..columns {
                let tile = index * columns + column;
                for o in (0..used).step_by(S::LANES) {
                    let first = o / panel * panel;
                    let wide = panel.min(used - first);
                    // SAFETY: M rows of `width` pixels by the assertion, and tiles lie side by side
                    // in them; panels before this one hold `first` values of every tile, this one
                    // `wide`, so that all ends within `apart`, and T² times that are there.
                    unsafe {
                        expand_tile::<S, M, T>(
                            s,
                            &Transform::<T, R>::A,
                            strip.as_ptr().add(column * M * used + o),
                            (width * used, used),
                            outputs.as_mut_ptr().add(first * tiles + tile * wide + o - first),
                            apart,
                        );
                    }
                }
            }
        }
    }
}

/// The sums of all points to the weights' gradient.
pub(super) struct TransformBack<'a, const T: usize, const R: usize> {
    pub of: &'a Correlation<T, R>,
    pub dweight: &'a mut [f32],
    pub layout: WeightLayout,
    pub sums: &'a [f32],
}

impl<const T: usize, const R: usize> Work for TransformBack<'_, T, R> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, dweight, layout, sums } = self;
        let (apart, used) = (of.sums_apart(), of.output.used);
        let (row, column, input) = layout.strides;
        assert!(sums.len() >= T * T * apart);
        for c in 0..of.depth() {
            for o in (0..used).step_by(S::LANES) {
                let start = layout.start + c * input + o;
                check(dweight, start, R, (row, column), S::LANES);
                // SAFETY: T² vectors of sums, `apart` apart, by the assertion, R × R of weights by
                // the check.
                unsafe {
                    contract_tile::<S, T, R>(
                        s,
                        &Transform::<T, R>::G,
                        (sums.as_ptr().add(c * used + o), apart),
                        (dweight.as_mut_ptr().add(start), (row, column)),
                        (R, R),
                        s.splat(0.0),
                    );
                }
            }
        }
    }
}
