//! How much each of several networks counts in their average: the 2012 code's authors weighted
//! predictions by coefficients found on the validation set.

use anyhow::{Result, bail};

/// The search ends where no weights are better by more than this, in nats a mean image.
const GAP: f64 = 1e-7;
/// And after so many rounds.
const ROUNDS: usize = 20_000;

/// Weights found for a number of networks.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// One a network, 0 or more, of sum 1.
    pub weights: Vec<f64>,
    /// The mean log-loss with them, in nats, on the images that they were found on.
    pub loss: f64,
    /// No weights have a log-loss that is lower by more than this.
    pub gap: f64,
}

/// The weights w, 0 or more and of sum 1, whose average has the lowest log-loss: that minimise the
/// mean over the images of −ln Σ wₘ pₘ. `logs` holds ln pₘ(label), `[networks][images]`.
///
/// Expectation–maximisation for the weights of a mixture, from equal ones: wₘ ← wₘ gₘ, where gₘ is
/// the mean over the images of pₘ / Σ wₖ pₖ. Each round lowers the loss, which is convex in w, so
/// that it ends at the minimum; by that convexity the loss is no more than ln(max gₘ) above it,
/// which says when to stop. Nothing is drawn at random: the same images give the same bits.
///
/// # Errors
/// If a logarithm is no number, or every network gives an image's label the probability 0.
pub fn lowest_loss(logs: &[Vec<f64>]) -> Result<Found> {
    let (networks, images) = (logs.len(), logs.first().map_or(0, Vec::len));
    assert!(networks > 0 && images > 0, "weights of some networks, found on some images");
    // Ratios to the largest of an image: [images, networks], free of under- and overflow.
    let mut ratios = vec![0.0; images * networks];
    let mut offset = 0.0;
    for (image, ratios) in ratios.chunks_exact_mut(networks).enumerate() {
        let most = logs.iter().fold(f64::NEG_INFINITY, |most, of| most.max(of[image]));
        if !most.is_finite() || logs.iter().any(|of| of[image].is_nan()) {
            bail!("the log-loss is no number, so that no weights can be found by it");
        }
        offset -= most;
        for (ratio, of) in ratios.iter_mut().zip(logs) {
            *ratio = (of[image] - most).exp();
        }
    }
    let mut weights = vec![1.0 / networks as f64; networks];
    let mut rounds = 0;
    loop {
        let mut gradient = vec![0.0; networks];
        let mut loss = offset;
        for ratios in ratios.chunks_exact(networks) {
            let mix: f64 = weights.iter().zip(ratios).map(|(w, r)| w * r).sum();
            loss -= mix.ln();
            for (g, r) in gradient.iter_mut().zip(ratios) {
                *g += r / mix;
            }
        }
        gradient.iter_mut().for_each(|g| *g /= images as f64);
        let gap = gradient.iter().fold(0.0f64, |most, g| most.max(*g)).ln().max(0.0);
        rounds += 1;
        if gap <= GAP || rounds == ROUNDS {
            return Ok(Found { weights, loss: loss / images as f64, gap });
        }
        for (w, g) in weights.iter_mut().zip(&gradient) {
            *w *= g;
        }
        let sum: f64 = weights.iter().sum();
        weights.iter_mut().for_each(|w| *w /= sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(p: &[&[f64]]) -> Vec<Vec<f64>> {
        p.iter().map(|of| of.iter().map(|p| p.ln()).collect()).collect()
    }

    fn loss(logs: &[Vec<f64>], weights: &[f64]) -> f64 {
        let images = logs[0].len();
        let of = |i: usize| weights.iter().zip(logs).map(|(w, l)| w * l[i].exp()).sum::<f64>();
        (0..images).map(|i| -of(i).ln()).sum::<f64>() / images as f64
    }

    /// Two networks: the minimum of a function of one variable, found on a fine grid.
    #[test]
    fn the_minimum_of_two_is_that_of_a_grid() {
        let logs = logs(&[&[0.9, 0.2, 0.6, 0.1, 0.7], &[0.3, 0.8, 0.5, 0.4, 0.2]]);
        let found = lowest_loss(&logs).unwrap();
        let grid =
            (0..=100_000).map(|i| f64::from(i) / 1e5).map(|w| (loss(&logs, &[w, 1.0 - w]), w));
        let (lowest, at) = grid.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        assert!((found.weights[0] - at).abs() < 1e-3, "{found:?}, on the grid {at}");
        assert!(found.loss - lowest < 1e-7 && (found.loss - loss(&logs, &found.weights)) < 1e-12);
        assert!((found.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12 && found.gap <= GAP);
    }

    #[test]
    fn a_network_that_only_harms_gets_nothing() {
        let logs = logs(&[&[0.9, 0.8, 0.7], &[0.1, 0.2, 0.3], &[0.9, 0.8, 0.7]]);
        let found = lowest_loss(&logs).unwrap();
        assert!(found.weights[1] < 1e-6, "{found:?}");
        assert_eq!(found.weights[0], found.weights[2], "equal ones share");
    }

    #[test]
    fn probabilities_that_no_float_holds_count_and_nonsense_is_refused() {
        let found = lowest_loss(&[vec![-2000.0, -1.0], vec![-1000.0, -3.0]]).unwrap();
        assert!((found.weights[0] - 0.4217).abs() < 1e-3 && found.loss > 490.0, "{found:?}");
        let nothing = f64::NEG_INFINITY;
        assert!(lowest_loss(&[vec![nothing, -1.0], vec![nothing, -1.0]]).is_err());
        assert!(lowest_loss(&[vec![f64::NAN, -1.0], vec![-1.0, -1.0]]).is_err());
    }
}
