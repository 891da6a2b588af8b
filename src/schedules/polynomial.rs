//! The rate falls step by step to nothing at the end of the run: rate·(1 − passed)^power, where
//! `passed` is the part of the steps after the warm-up that is over. With power 2 it is what You,
//! Gitman and Ginsburg ("Large Batch Training of Convolutional Networks", 2017, algorithm 1) train
//! large batches with; power 1 is a straight line.

use super::{Kind, Policy, out_of_range};
use crate::keys::{self, to_table, typed};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use toml::Table;

/// `polynomial`, to nothing at the end.
pub const KIND: Kind = Kind {
    name: "polynomial",
    validates: false,
    keys: keys::fields_of::<Polynomial>,
    read: |section| {
        let polynomial: Polynomial = typed(section, "[schedule]")?;
        if !(polynomial.power.is_finite() && polynomial.power > 0.0) {
            return Err(out_of_range("power", polynomial.power, "above 0"));
        }
        Ok(Arc::new(polynomial))
    },
};

/// The keys of this kind.
#[derive(Debug, Deserialize, Serialize)]
struct Polynomial {
    /// The exponent.
    #[serde(default = "two")]
    power: f64,
}

fn two() -> f64 {
    2.0
}

impl Policy for Polynomial {
    fn factor(&self, passed: f64) -> f64 {
        (1.0 - passed).powf(self.power)
    }

    fn follows_the_epoch(&self) -> bool {
        true
    }

    fn to_table(&self) -> Table {
        to_table(self)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::schedule;

    #[test]
    fn the_power_is_above_zero() {
        let refused = |text: &str| super::super::Schedule::read(&text.parse().unwrap());
        let error = refused("kind='polynomial'\npower=0.0").unwrap_err().to_string();
        assert_eq!(error, "schedule.power = 0: it must be above 0");
        let error = refused("kind='steps'\npower=2.0").unwrap_err().to_string();
        assert!(error.contains("a key of kind \"polynomial\""), "{error}");
        assert!(schedule("kind='polynomial'").to_table()["power"].as_float() == Some(2.0));
    }
}
