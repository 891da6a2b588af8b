//! Layer-wise rates: You, Gitman and Ginsburg, "Large Batch Training of Convolutional Networks"
//! (2017), algorithm 1. The rate of a layer's weights is multiplied with λ = η·‖w‖ / (‖g‖ + β·‖w‖),
//! so that before rate and momentum a step is η of the weights' length whatever the gradient's: the
//! decay β·w is part of that step, as in the paper. A layer is one on all its towers. Weights or
//! gradients that are all zero have λ = 1, or training could not begin. Biases go on by the rate as
//! it is, without λ.

use super::parameters::{BLOCK, Parameters};
use crate::layers::Rule;
use rayon::prelude::*;

/// Multiplies rate and decay of the weights' `rule` with the trust ratio of the layer whose `parts`
/// these are, for the coefficient η.
pub(super) fn scale(rule: &mut Rule, coefficient: f32, parts: &[Parameters]) {
    let length = |of: fn(&Parameters) -> &[f32]| {
        parts.iter().map(|own| squares(of(own))).sum::<f64>().sqrt()
    };
    let (w, g) = (length(|own| &own.value[0]), length(|own| &own.gradient[0]));
    let decay = f64::from(rule.decay) / f64::from(rule.rate);
    let ratio = match w > 0.0 && g > 0.0 {
        true => f64::from(coefficient) * w / (g + decay * w),
        false => 1.0,
    };
    rule.rate = (f64::from(rule.rate) * ratio) as f32;
    rule.decay = (f64::from(rule.decay) * ratio) as f32;
}

/// The sum of squares, in an order that does not depend on the threads.
fn squares(values: &[f32]) -> f64 {
    let of_block = |block: &[f32]| block.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>();
    let blocks: Vec<f64> = values.par_chunks(BLOCK).map(of_block).collect();
    blocks.iter().sum()
}
