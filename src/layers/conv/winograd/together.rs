//! Several convolutions of one shape that read the same input, such as a first layer's towers: its
//! tiles are transformed once for all of them. Bits are those of one after the other.
//!
//! The paper's conv1 spent two fifths of its time on laying out and transforming the images, for
//! each tower anew.

use super::{Sized, Winograd, correlate};
use crate::layers::Gradients;
use crate::vectors::scratch;

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
        let of = |region: &Sized| either!(region, c => c.workspace(batch, towers));
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
                    c.weight_gradients((&mut to, layout), (dys, x), workspace, add)
                });
            }
            for (from, (to, _)) in folded.chunks_exact(self.folded_len()).zip(gradients) {
                self.unfold_weights(to, from);
            }
        });
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
