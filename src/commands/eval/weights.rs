//! `--weights`: how much each network counts in the average.

use super::Args;
use crate::config_error;
use crate::note;
use crate::progress::Progress;
use crate::train::evaluate::Shared;
use crate::train::evaluate::weights::lowest_loss;
use anyhow::{Error, Result};
use std::str::FromStr;

/// The split that `auto` finds weights on.
pub const FOUND_ON: &str = "val";
/// How far from 1 the sum of weights may be: what three digits of each leave.
const SLACK: f64 = 0.005;

/// What `--weights` says.
#[derive(Clone, Debug, PartialEq)]
pub enum Weights {
    /// Those of the lowest log-loss on [`FOUND_ON`].
    Auto,
    /// One a network.
    Given(Vec<f64>),
}

impl FromStr for Weights {
    type Err = Error;

    fn from_str(text: &str) -> Result<Weights> {
        if text == "auto" {
            return Ok(Weights::Auto);
        }
        let wrong = || config_error!("{text:?} is neither auto nor numbers such as 0.4,0.6");
        let weights: Vec<f64> = text
            .split(',')
            .map(|w| w.trim().parse().map_err(|_| wrong()))
            .collect::<Result<_>>()?;
        if weights.iter().any(|w| !w.is_finite() || *w < 0.0) {
            return Err(config_error!("{text:?}: weights are numbers from 0 to 1"));
        }
        let sum: f64 = weights.iter().sum();
        if (sum - 1.0).abs() > SLACK {
            return Err(config_error!("{text:?}: weights have the sum 1, and these have {sum}"));
        }
        Ok(Weights::Given(weights))
    }
}

/// Whether the weights asked for suit `networks` networks and the split that is evaluated.
///
/// # Errors
/// A sentence with the way out.
pub fn check(args: &Args, networks: usize) -> Result<()> {
    match &args.weights {
        None => Ok(()),
        Some(_) if networks == 1 => {
            Err(config_error!("--weights says how several networks count, and there is one"))
        }
        Some(Weights::Given(weights)) if weights.len() != networks => Err(config_error!(
            "--weights has {} numbers for {networks} networks; give one each",
            weights.len()
        )),
        Some(Weights::Auto) if args.split == FOUND_ON => Err(config_error!(
            "--weights auto finds the weights on the split {FOUND_ON}, so errors on it would be \
             too good; evaluate another one (--split test), or say the weights (--weights {})",
            vec![format!("{:.2}", 1.0 / networks as f64); networks].join(",")
        )),
        Some(_) => Ok(()),
    }
}

/// The weights with the lowest log-loss over all that is left in `ensemble`, which feeds the split
/// [`FOUND_ON`] of `images` images; none on a rank that does not lead, which is given no answers.
pub fn find(ensemble: &mut Shared<'_>, images: usize, leads: bool) -> Result<Vec<f64>> {
    let progress = Progress::new("finding weights", images as u64);
    let mut logs: Vec<Vec<f64>> = Vec::new();
    while let Some(answers) = ensemble.next_answers()? {
        logs.resize(answers.logs.len(), Vec::new());
        for (all, more) in logs.iter_mut().zip(&answers.logs) {
            all.extend_from_slice(more);
        }
        progress.advance(answers.tally.images);
    }
    progress.finish();
    if !leads {
        return Ok(Vec::new());
    }
    let found = lowest_loss(&logs)?;
    let list: Vec<String> = found.weights.iter().map(|w| format!("{w:.4}")).collect();
    note!("weights {}: the lowest log-loss on {FOUND_ON}, {:.4}", list.join(", "), found.loss);
    Ok(found.weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read() {
        assert_eq!("auto".parse::<Weights>().unwrap(), Weights::Auto);
        assert_eq!("0.4, 0.6".parse::<Weights>().unwrap(), Weights::Given(vec![0.4, 0.6]));
        assert!("0.333,0.333,0.333".parse::<Weights>().is_ok());
        for wrong in ["", "half", "0.4,", "0.5,0.6", "1.5,-0.5", "NaN,1", "inf"] {
            assert!(wrong.parse::<Weights>().is_err(), "{wrong}");
        }
    }
}
