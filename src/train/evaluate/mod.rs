//! Errors of one or several networks on a split: one crop or ten, softmax outputs averaged over
//! crops (paper section 4.1) and over networks (section 6).
//!
//! - `views`: what one network makes of images by all their crops.
//! - `ensemble`: several networks over the same images, and what comes of a batch.
//! - `shared`: the same among ranks; `exact`: a tally on its way from one to another.
//! - [`weights`]: how much each network counts, found on images that are not evaluated.
//! - [`by_class`]: errors class by class and the confusion matrix. [`predictions`]: a row an image.

pub mod by_class;
mod ensemble;
mod exact;
pub mod predictions;
mod shared;
mod views;
pub mod weights;

pub use ensemble::{Answers, Ensemble, Turns};
pub use exact::Exact;
pub use shared::Shared;
pub use views::probabilities;

use crate::data::loader::Crops;

/// Images whose `crops` fit into an engine's batch.
pub fn images_per_batch(batch: usize, crops: Crops) -> usize {
    (batch / crops.count()).max(1)
}

/// The `n` most probable classes of one image's `probabilities` and how probable they are, the most
/// probable first, equal ones in order.
pub fn best<P: Copy + Into<f64>>(probabilities: &[P], n: usize) -> Vec<(usize, P)> {
    let mut all: Vec<(usize, P)> = probabilities.iter().copied().enumerate().collect();
    let before =
        |a: &(usize, P), b: &(usize, P)| b.1.into().total_cmp(&a.1.into()).then(a.0.cmp(&b.0));
    let n = n.min(all.len());
    if n < all.len() {
        all.select_nth_unstable_by(n, before);
        all.truncate(n);
    }
    all.sort_unstable_by(before);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_probable_come_first_and_equal_ones_in_order() {
        let p = [0.125f32, 0.25, 0.125, 0.25, 0.25];
        assert_eq!(best(&p, 4), [(1, 0.25), (3, 0.25), (4, 0.25), (0, 0.125)]);
        assert_eq!(best(&p, 9).len(), 5);
        assert_eq!(best(&p, 9)[4], (2, 0.125));
    }
}
