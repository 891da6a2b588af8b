//! Weights taken to their points once for many batches: evaluation's do not change.
//!
//! The paper's conv3 to conv5 have 169 points for each of their weights, 150 MB on two towers.

use super::geometry::WeightLayout;
use super::shared::Shared;
use super::{Sized, Winograd, each_region};
use crate::vectors::scratch::{self, LINE};

impl Winograd {
    /// Values that [`Winograd::keep`] writes.
    pub fn kept_len(&self, few: bool) -> usize {
        let regions = self.ways(few).iter().flatten();
        LINE + regions.map(|region| either!(region, c => c.weights_len())).sum::<usize>()
    }

    /// `kept` ← the weights at their points, group by group and region by region.
    pub fn keep(&self, kept: &mut [f32], weight: &[f32], few: bool) {
        let mut rest = scratch::aligned(kept);
        let mut write = |regions: &[Sized], weights: (&[f32], WeightLayout)| {
            for region in regions {
                let (to, after) =
                    std::mem::take(&mut rest).split_at_mut(either!(region, c => c.weights_len()));
                either!(region, c => c.transform_weights(to, weights));
                rest = after;
            }
        };
        if self.fold == 1 {
            for (g, regions) in self.ways(few).iter().enumerate() {
                write(regions, (weight, self.own_layout(g)));
            }
            return;
        }
        scratch::with(self.folded_len(), |folded| {
            self.fold_weights(folded, weight);
            write(&self.ways(few)[0], (folded, self.folded_layout()));
        });
    }

    /// As [`Winograd::forward`] with what [`Winograd::keep`] has written.
    pub fn forward_kept(&self, y: &mut [f32], x: &[f32], kept: &[f32], bias: &[f32], few: bool) {
        let outputs = self.window.group_outputs();
        let mut rest = &kept[kept.as_ptr().align_offset(4 * LINE).min(LINE)..];
        let y = [Shared::new(y)];
        for (g, regions) in self.ways(few).iter().enumerate() {
            let ending = [self.ending(&bias[g * outputs..][..outputs])];
            let mut weights = Vec::with_capacity(regions.len());
            for region in regions {
                let (own, after) = rest.split_at(either!(region, c => c.weights_len()));
                weights.push(own);
                rest = after;
            }
            // SAFETY: each region is computed once, and no two of them overlap.
            each_region(regions, x, |n, region, at_once| unsafe {
                either!(region, c => c.run(&y, x, weights[n], &ending, at_once))
            });
        }
    }
}
