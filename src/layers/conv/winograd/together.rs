//! Several convolutions of one shape that read the same input, such as a first layer's towers: its
//! tiles are transformed once for all of them. Bits are those of one after the other.
//!
//! The paper's conv1 spent two fifths of its time on laying out and transforming the images, for
//! each tower anew.

use super::geometry::{Correlation, WeightLayout};
use super::shared::{Among, Part};
use super::tiles::{transform_gradients, transform_inputs};
use super::{Sized, Winograd, correlate};
use crate::layers::Gradients;
use crate::vectors::product::{MOST_PARTS, parts, sum_parts};
use crate::vectors::scratch::{self, LINE};
use crate::vectors::{Simd, Work, dispatch};
use rayon::prelude::*;
use std::ops::Range;

impl Winograd {
    /// Whether there is a way for several at once: one group, and few sums.
    pub fn goes_together(&self) -> bool {
        let stays = |region: &Sized| either!(region, c => c.sums_stay());
        self.forward.len() == 1 && self.forward[0].iter().all(stays)
    }

    /// As [`Winograd::forward`] for each of `ys` with its weights and biases.
    pub fn forward_together(
        &self,
        ys: &mut [&mut [f32]],
        x: &[f32],
        parameters: &[[&[f32]; 2]],
        few: bool,
    ) {
        let regions = &self.ways(few)[0];
        let endings: Vec<_> = parameters.iter().map(|[_, bias]| self.ending(bias)).collect();
        scratch::with(ys.len() * self.folded_len(), |folded| {
            let towers = folded.chunks_exact_mut(self.folded_len());
            towers.zip(parameters).for_each(|(to, [weight, _])| self.fold_weights(to, weight));
            let weights: Vec<&[f32]> = folded.chunks_exact(self.folded_len()).collect();
            correlate(regions, ys, x, (&weights, self.folded_layout()), &endings);
        });
    }

    /// Values of scratch space that `backward_weights_together` needs.
    pub fn workspace_together(&self, batch: usize, towers: usize) -> usize {
        let of = |region: &Sized| either!(region, c => c.workspace_together(batch, towers));
        self.forward[0].iter().map(of).max().unwrap_or(0)
    }

    /// As [`Winograd::backward_weights`] for each of `dys` with its gradients.
    pub fn backward_weights_together(
        &self,
        gradients: &mut [Gradients<'_>],
        dys: &[&[f32]],
        x: &[f32],
        workspace: &mut [f32],
    ) {
        scratch::with(dys.len() * self.folded_len(), |folded| {
            for (n, region) in self.forward[0].iter().enumerate() {
                let folded = folded.chunks_exact_mut(self.folded_len());
                let mut to: Vec<Gradients<'_>> =
                    folded.zip(&mut *gradients).map(|(w, (_, bias))| (w, &mut **bias)).collect();
                let (layout, add) = (self.folded_layout(), n > 0);
                either!(region, c => {
                    c.gradients_together((&mut to, layout), (dys, x), workspace, add)
                });
            }
            for (from, (to, _)) in folded.chunks_exact(self.folded_len()).zip(gradients) {
                self.unfold_weights(to, from);
            }
        });
    }
}

impl<const H: usize, const W: usize, const R: usize> Correlation<H, W, R> {
    fn workspace_together(&self, batch: usize, towers: usize) -> usize {
        let parts = batch.min(MOST_PARTS);
        LINE + towers * ((parts + 1) * self.sums_len() + parts * self.output.used)
    }

    /// As [`Correlation::weight_gradient`] for each of `dys`.
    fn gradients_together(
        &self,
        (to, layout): (&mut [Gradients<'_>], WeightLayout),
        (dys, x): (&[&[f32]], &[f32]),
        workspace: &mut [f32],
        add: bool,
    ) {
        let (towers, used) = (dys.len(), self.output.used);
        let (sums_len, batch) = (self.sums_len(), x.len() / self.image());
        let (images, count) = parts(batch);
        let memory = scratch::aligned(workspace);
        let (all, memory) = memory.split_at_mut(towers * sums_len);
        let (sums, biases) = memory.split_at_mut(count * towers * sums_len);
        let biases = &mut biases[..count * towers * used];
        sums.par_chunks_exact_mut(towers * sums_len)
            .zip(biases.par_chunks_exact_mut(towers * used))
            .enumerate()
            .for_each(|(part, (sums, biases))| {
                let images = part * images..((part + 1) * images).min(batch);
                self.gradients_of_part((sums, biases), (dys, x), images);
            });
        for (tower, (dweight, dbias)) in to.iter_mut().enumerate() {
            if !add {
                dbias.fill(0.0);
            }
            for bias in biases.chunks_exact(used).skip(tower).step_by(towers) {
                dbias.iter_mut().zip(bias).for_each(|(sum, b)| *sum += b);
            }
            if tower == 0 {
                sum_parts(all, sums);
            }
            self.transform_back((dweight, layout), &all[tower * sums_len..][..sums_len], add);
        }
    }

    /// The sums over some images, `sums` and `biases` of one tower after the other.
    fn gradients_of_part(
        &self,
        (sums, biases): (&mut [f32], &mut [f32]),
        (dys, x): (&[&[f32]], &[f32]),
        images: Range<usize>,
    ) {
        let (rows, columns) = self.grid();
        let (at_once, used) = (self.rows_staged(), self.output.used);
        let tiles = at_once * columns;
        let strip = scratch::lines(self.gradient_strip());
        let inputs = scratch::lines(Self::POINTS * self.inputs_apart(tiles));
        let outputs = Self::POINTS * self.outputs_apart(tiles);
        biases.fill(0.0);
        scratch::with(strip + inputs + outputs, |memory| {
            let (strip, rest) = memory.split_at_mut(strip);
            let (inputs, outputs) = rest.split_at_mut(inputs);
            let all = images.start * rows..images.end * rows;
            for first in all.clone().step_by(at_once) {
                let range = first..(first + at_once).min(all.end);
                let tiles = range.len() * columns;
                let among = Among { first: 0, all: tiles };
                let to = (Part::whole(inputs), among);
                dispatch(One { of: self, to, from: x, bias: None, range: range.clone(), strip });
                let towers = sums.chunks_exact_mut(self.sums_len()).zip(dys);
                for ((sums, from), bias) in towers.zip(biases.chunks_exact_mut(used)) {
                    let (to, range) = ((Part::whole(outputs), among), range.clone());
                    dispatch(One { of: self, to, from, bias: Some(bias), range, strip });
                    self.multiply_points(sums, (inputs, outputs), tiles, None, first == all.start);
                }
            }
        });
    }
}

/// Rows of tiles `range`, counted over the images of `from`, to all points: of output gradients,
/// whose sums are added to `bias`, or without one of inputs.
struct One<'a, const H: usize, const W: usize, const R: usize> {
    of: &'a Correlation<H, W, R>,
    to: (Part<'a>, Among),
    from: &'a [f32],
    bias: Option<&'a mut [f32]>,
    range: Range<usize>,
    strip: &'a mut [f32],
}

impl<const H: usize, const W: usize, const R: usize> Work for One<'_, H, W, R> {
    type Out = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { of, to, from, bias, range, strip } = self;
        match bias {
            Some(bias) => transform_gradients(s, of, to, Some(bias), from, strip, range),
            None => transform_inputs(s, of, to, from, strip, range),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Shape;
    use crate::layers::window::Kernels;
    use crate::random::numbers;

    /// A small conv1 and a layer without a stride; of both, maps of several regions.
    #[test]
    fn two_at_once_are_one_after_the_other() {
        for (side, channels, outputs, size, stride) in [(47, 3, 32, 11, 4), (15, 16, 16, 3, 1)] {
            let kernels = Kernels { kernels: outputs, size, stride, padding: [1; 4], groups: 1 };
            let image = Shape { height: side, width: side, channels };
            let window = kernels.fit(image, outputs).unwrap();
            let way = Winograd::for_window(&window).unwrap();
            assert!(way.goes_together());
            let batch = 19;
            let (weights, values) = (window.patch() * outputs, batch * window.output.len());
            let x = numbers(batch * image.len(), 1);
            let own: Vec<[Vec<f32>; 2]> =
                (2..4).map(|t| [numbers(weights, t), numbers(outputs, t + 2)]).collect();
            let dys: Vec<Vec<f32>> = (6..8).map(|t| numbers(values, t)).collect();

            for few in [false, true] {
                let mut ys = [vec![0.0; values], vec![0.0; values]];
                let parameters: Vec<[&[f32]; 2]> =
                    own.iter().map(|own| own.each_ref().map(|values| &values[..])).collect();
                let mut to: Vec<&mut [f32]> = ys.iter_mut().map(|y| &mut y[..]).collect();
                way.forward_together(&mut to, &x, &parameters, few);
                for (y, [weight, bias]) in ys.iter().zip(parameters) {
                    let mut alone = vec![0.0; values];
                    way.forward(&mut alone, &x, weight, bias, few);
                    assert_eq!(y, &alone, "stride {stride}");
                    let mut kept = vec![0.0; way.kept_len(few)];
                    way.keep(&mut kept, weight, few);
                    alone.fill(0.0);
                    way.forward_kept(&mut alone, &x, &kept, bias, few);
                    assert_eq!(y, &alone, "weights kept, stride {stride}");
                }
            }

            let mut gradients = [0, 1].map(|_| [vec![1.0; weights], vec![1.0; outputs]]);
            let mut workspace = vec![0.0; way.workspace_together(batch, 2)];
            let mut to: Vec<Gradients<'_>> =
                gradients.iter_mut().map(|[w, b]| (&mut w[..], &mut b[..])).collect();
            let from = [&dys[0][..], &dys[1][..]];
            way.backward_weights_together(&mut to, &from, &x, &mut workspace);
            for ([weight, bias], dy) in gradients.iter().zip(&dys) {
                let mut alone = (vec![0.0; weights], vec![0.0; outputs]);
                let mut workspace = vec![0.0; way.workspace(batch)];
                let to = (&mut alone.0[..], &mut alone.1[..]);
                way.backward_weights(to, dy, &x, &mut workspace);
                assert_eq!((weight, bias), (&alone.0, &alone.1), "stride {stride}");
            }
        }
    }
}
