//! What is done with the tiles of one task, at the machine's level: transforms there and back, and
//! the products between them.

use super::geometry::{Correlation, Maps, WeightLayout};
use super::shared::{Among, Part};
use super::transform::{Inputs, Outputs, Then, Weights, contract_tile, expand_tile};
use crate::vectors::kernel::{Finish, Left, Out, Product, Right};
use crate::vectors::scratch::LINE;
use crate::vectors::{Simd, Work};
use std::ops::Range;

/// One panel of weights of some of the inputs to all points, `[points][depth][panel]`.
pub(super) struct TransformWeights<'a, const H: usize, const W: usize, const R: usize> {
    pub of: &'a Correlation<H, W, R>,
    pub panel: usize,
    pub inputs: Range<usize>,
    pub to: Part<'a>,
    pub weight: &'a [f32],
    pub layout: WeightLayout,
}

impl<const H: usize, const W: usize, const R: usize> Work for TransformWeights<'_, H, W, R> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, panel, inputs, to, weight, layout } = self;
        let first = panel * S::PANEL * S::LANES;
        let width = (of.output.used - first).min(S::PANEL * S::LANES);
        let apart = of.weights_apart(S::PANEL * S::LANES);
        let (row, column, input) = layout.strides;
        for c in inputs {
            for o in (0..width).step_by(S::LANES) {
                let start = layout.start + c * input + first + o;
                check(weight.len(), start, R, (row, column), S::LANES);
                assert!(
                    (Correlation::<H, W, R>::POINTS - 1) * apart + c * width + o + S::LANES
                        <= to.len()
                );
                // SAFETY: R × R vectors of weights by the check, points, `apart` apart, by
                // the assertion, in the places of one of `inputs`.
                unsafe {
                    expand_tile::<S, Weights<H, R>, Weights<W, R>>(
                        s,
                        weight.as_ptr().add(start),
                        (row, column),
                        to.at().add(c * width + o),
                        apart,
                    );
                }
            }
        }
    }
}

/// Panics unless a tile of `n` × `n` vectors that begins at `start` lies inside `values` values.
#[inline(always)]
fn check(values: usize, start: usize, n: usize, (row, column): (usize, usize), lanes: usize) {
    assert!(start + (n - 1) * (row + column) + lanes <= values);
}

/// What becomes of a correlation's outputs as they are stored.
#[derive(Clone, Copy)]
pub enum Ending<'a> {
    /// Each has a bias added.
    Bias(&'a [f32]),
    /// A bias, and ReLU. Its gradient is not taken in: with conv4's and conv5's gradients 0 where
    /// their inputs are not above 0, as they were stored, those took 2.2 and 2.3 ms more (both
    /// towers, batch 128, Zen 5), where ReLU by itself takes 1.0 each.
    Rectified(&'a [f32]),
    /// Nothing.
    Plain,
}

/// The rows of tiles `range`, counted over the images of `x`, from end to end: for each of `ys` the
/// correlation with its weights.
pub(super) struct Correlate<'a, const H: usize, const W: usize, const R: usize> {
    pub of: &'a Correlation<H, W, R>,
    pub ys: Vec<Part<'a>>,
    pub x: &'a [f32],
    pub range: Range<usize>,
    /// Weights at their points, of each of `ys` one after the other.
    pub weights: &'a [f32],
    pub endings: &'a [Ending<'a>],
    pub strip: &'a mut [f32],
    pub inputs: &'a mut [f32],
    pub outputs: &'a mut [f32],
}

impl<const H: usize, const W: usize, const R: usize> Work for Correlate<'_, H, W, R> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, ys, x, range: all, weights, endings, strip, inputs, outputs } = self;
        let columns = of.grid().1;
        for first in all.clone().step_by(of.rows_at_once()) {
            let range = first..(first + of.rows_at_once()).min(all.end);
            let tiles = range.len() * columns;
            let among = Among { first: 0, all: tiles };
            transform_inputs(s, of, (Part::whole(inputs), among), x, strip, range.clone());
            let weights = weights.chunks_exact(of.weights_len());
            for ((&y, weights), ending) in ys.iter().zip(weights).zip(endings) {
                let weights = (weights, of.weights_apart(S::PANEL * S::LANES));
                multiply_tiles(of, outputs, inputs, weights, tiles);
                transform_outputs(s, of, y, outputs, *ending, range.clone());
            }
        }
    }
}

/// `outputs` `[points][tiles][used]` ← every point's product of `inputs` with its weights, which
/// are `weights.1` values apart.
pub(super) fn multiply_tiles<const H: usize, const W: usize, const R: usize>(
    of: &Correlation<H, W, R>,
    outputs: &mut [f32],
    inputs: &[f32],
    (weights, weights_apart): (&[f32], usize),
    tiles: usize,
) {
    let (inputs_apart, outputs_apart) = (of.inputs_apart(tiles), of.outputs_apart(tiles));
    let (points, used) = (Correlation::<H, W, R>::POINTS, of.output.used);
    for point in 0..points {
        Product {
            left: &inputs[point * inputs_apart..],
            order: Left::AlongDepth { all: tiles },
            right: &weights[point * weights_apart..],
            panels: Right::Panels { apart: points * weights_apart },
            next: &weights[(point + 1) % points * weights_apart..],
            out: &mut outputs[point * outputs_apart..],
            to: Out::Rows { stride: used },
            rows: tiles,
            depth: of.depth(),
            columns: used,
            finish: Finish::Store,
        }
        .compute();
    }
}

/// Rows of tiles `range`, counted over the images of `x`, to their places in `inputs`
/// `[points][depth / 16][tiles][16]`.
#[inline(always)]
pub(super) fn transform_inputs<S: Simd, const H: usize, const W: usize, const R: usize>(
    s: S,
    of: &Correlation<H, W, R>,
    (inputs, among): (Part<'_>, Among),
    x: &[f32],
    strip: &mut [f32],
    range: Range<usize>,
) {
    let (rows, columns) = of.grid();
    let (depth, (_, width)) = (of.depth(), of.input_strip());
    let across = Correlation::<H, W, R>::TILE.1;
    let tiles = among.all;
    let apart = of.inputs_apart(tiles);
    assert!(among.first + range.len() * columns <= tiles);
    let image = of.image();
    let points = Correlation::<H, W, R>::POINTS;
    assert!(strip.len() >= H * width * depth && inputs.len() >= points * apart);
    for (index, row) in range.enumerate() {
        of.source.fill(strip, &x[row / rows * image..][..image], of.corner(row), (H, width));
        for column in 0..columns {
            for c in (0..depth).step_by(S::LANES) {
                let tile = among.first + index * columns + column;
                // SAFETY: H rows of `width` pixels and `points` times `apart` values by the
                // assertion; a tile ends R − 1 pixels after the next one begins, a row of them at
                // `width`, and only places of these tiles are written.
                unsafe {
                    expand_tile::<S, Inputs<H, R>, Inputs<W, R>>(
                        s,
                        strip.as_ptr().add(column * across * depth + c),
                        (width * depth, depth),
                        inputs.at().add((c / LINE * tiles + tile) * LINE + c % LINE),
                        apart,
                    );
                }
            }
        }
    }
}

/// `outputs` `[points][tiles][used]` to the rows of tiles `range` of the images `y`, as `ending`
/// says.
#[inline(always)]
pub(super) fn transform_outputs<S: Simd, const H: usize, const W: usize, const R: usize>(
    s: S,
    of: &Correlation<H, W, R>,
    y: Part<'_>,
    outputs: &[f32],
    ending: Ending<'_>,
    range: Range<usize>,
) {
    let (rows, columns) = of.grid();
    let Maps { height, width, channels, first, used } = of.output;
    let tiles = range.len() * columns;
    let apart = of.outputs_apart(tiles);
    let (down, across) = Correlation::<H, W, R>::TILE;
    assert!(outputs.len() >= Correlation::<H, W, R>::POINTS * apart && first + used <= channels);
    assert!(range.end.div_ceil(rows) * of.output.len() <= y.len());
    let (bias, floor) = match ending {
        Ending::Bias(bias) => (Some(bias), f32::NEG_INFINITY),
        Ending::Rectified(bias) => (Some(bias), 0.0),
        Ending::Plain => (None, f32::NEG_INFINITY),
    };
    assert!(bias.is_none_or(|b| b.len() >= used));
    let floor = s.splat(floor);
    for (index, row) in range.enumerate() {
        let (image, (top, first_left)) = (row / rows, of.corner(row));
        for column in 0..columns {
            let left = first_left + column * across;
            let inside = (down.min(height - top), across.min(width - left));
            let to = image * of.output.len() + (top * width + left) * channels + first;
            for o in (0..used).step_by(S::LANES) {
                // SAFETY: vectors of points lie in `outputs` and a vector in `bias` by the
                // assertions; of the tile only what is inside the map is written, which belongs to
                // these rows, and the image lies in `y`.
                unsafe {
                    let bias = bias.map_or(s.splat(0.0), |b| s.load(b.as_ptr().add(o)));
                    let then = Then::Add { bias, floor };
                    contract_tile::<S, Outputs<H, R>, Outputs<W, R>>(
                        s,
                        (outputs.as_ptr().add((index * columns + column) * used + o), apart),
                        (y.at().add(to + o), (width * channels, channels)),
                        inside,
                        then,
                    );
                }
            }
        }
    }
}

/// Rows of tiles `range`, counted over the images, to all points, in the places of the tiles
/// `among`: of `x`, or of output gradients if there are any, whose sums are added to what is with
/// them.
pub(super) struct Transform<'a, const H: usize, const W: usize, const R: usize> {
    pub of: &'a Correlation<H, W, R>,
    pub to: Part<'a>,
    pub among: Among,
    pub x: &'a [f32],
    pub gradients: Option<(&'a [f32], Option<&'a mut [f32]>)>,
    pub range: Range<usize>,
    pub strip: &'a mut [f32],
}

impl<const H: usize, const W: usize, const R: usize> Work for Transform<'_, H, W, R> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, to, among, x, gradients, range, strip } = self;
        match gradients {
            Some((dy, bias)) => transform_gradients(s, of, (to, among), bias, dy, strip, range),
            None => transform_inputs(s, of, (to, among), x, strip, range),
        }
    }
}

/// Output gradients of the rows of tiles `range`, counted over the images of `dy`, to their places
/// in `outputs`, `[points][used / panel][tiles][panel]`; their sums are added to `bias`, if it is
/// there.
#[inline(always)]
pub(super) fn transform_gradients<S: Simd, const H: usize, const W: usize, const R: usize>(
    s: S,
    of: &Correlation<H, W, R>,
    (outputs, among): (Part<'_>, Among),
    mut bias: Option<&mut [f32]>,
    dy: &[f32],
    strip: &mut [f32],
    range: Range<usize>,
) {
    let (rows, columns) = of.grid();
    let (used, (_, width)) = (of.output.used, of.output_strip());
    let tiles = among.all;
    let apart = of.outputs_apart(tiles);
    let panel = S::PANEL * S::LANES;
    let source = of.output.source();
    let (down, across) = Correlation::<H, W, R>::TILE;
    let points = Correlation::<H, W, R>::POINTS;
    assert!(strip.len() >= down * width * used && outputs.len() >= points * apart);
    for (index, row) in range.enumerate() {
        let dy = &dy[row / rows * of.output.len()..][..of.output.len()];
        source.fill(strip, dy, of.corner(row), (down, width));
        if let Some(bias) = &mut bias {
            add_pixels(&mut bias[..used], &strip[..down * width * used]);
        }
        for column in 0..columns {
            let tile = among.first + index * columns + column;
            for o in (0..used).step_by(S::LANES) {
                let first = o / panel * panel;
                let wide = panel.min(used - first);
                // SAFETY: `down` rows of `width` pixels by the assertion, and tiles lie side by
                // side in them; panels before this one hold `first` values of every tile, this
                // one `wide`, so that all ends within `apart`, and as often as there are
                // points. Only places of these tiles are written.
                unsafe {
                    expand_tile::<S, Outputs<H, R>, Outputs<W, R>>(
                        s,
                        strip.as_ptr().add(column * across * used + o),
                        (width * used, used),
                        outputs.at().add(first * tiles + tile * wide + o - first),
                        apart,
                    );
                }
            }
        }
    }
}

#[inline(always)]
fn add_pixels(bias: &mut [f32], pixels: &[f32]) {
    for pixel in pixels.chunks_exact(bias.len()) {
        for (sum, d) in bias.iter_mut().zip(pixel) {
            *sum += d;
        }
    }
}

/// What [`Transform`] of output gradients adds to `bias`, in the same order, and nothing else.
pub(super) struct SumGradients<'a, const H: usize, const W: usize, const R: usize> {
    pub of: &'a Correlation<H, W, R>,
    pub bias: &'a mut [f32],
    pub dy: &'a [f32],
    pub range: Range<usize>,
    pub strip: &'a mut [f32],
}

impl<const H: usize, const W: usize, const R: usize> Work for SumGradients<'_, H, W, R> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Self { of, bias, dy, range, strip } = self;
        let (used, (_, width), rows) = (of.output.used, of.output_strip(), of.grid().0);
        let down = Correlation::<H, W, R>::TILE.0;
        for row in range {
            let dy = &dy[row / rows * of.output.len()..][..of.output.len()];
            of.output.source().fill(strip, dy, of.corner(row), (down, width));
            add_pixels(&mut bias[..used], &strip[..down * width * used]);
        }
    }
}

/// The sums of all points to the weights' gradient of some of the inputs.
pub(super) struct TransformBack<'a, const H: usize, const W: usize, const R: usize> {
    pub of: &'a Correlation<H, W, R>,
    pub dweight: Part<'a>,
    pub layout: WeightLayout,
    pub inputs: Range<usize>,
    pub sums: &'a [f32],
    /// Whether they are added to what is there.
    pub add: bool,
}

impl<const H: usize, const W: usize, const R: usize> Work for TransformBack<'_, H, W, R> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, dweight, layout, inputs, sums, add } = self;
        let (apart, used) = (of.sums_apart(), of.output.used);
        let (row, column, input) = layout.strides;
        let [bias, floor] = [0.0, f32::NEG_INFINITY].map(|value| s.splat(value));
        let then = if add { Then::AddToItself } else { Then::Add { bias, floor } };
        assert!(sums.len() >= Correlation::<H, W, R>::POINTS * apart);
        assert!(inputs.end <= of.depth());
        for c in inputs {
            for o in (0..used).step_by(S::LANES) {
                let start = layout.start + c * input + o;
                check(dweight.len(), start, R, (row, column), S::LANES);
                // SAFETY: Vectors of sums, `apart` apart, by the assertion, R × R of weights by
                // the check, which belong to one of `inputs`.
                unsafe {
                    contract_tile::<S, Weights<H, R>, Weights<W, R>>(
                        s,
                        (sums.as_ptr().add(c * used + o), apart),
                        (dweight.at().add(start), (row, column)),
                        (R, R),
                        then,
                    );
                }
            }
        }
    }
}
