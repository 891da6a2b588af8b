//! A tally on its way from one rank to another.

use crate::layers::softmax::Tally;
use serde::{Deserialize, Serialize};

/// A tally, of whose loss every bit counts; it may be no number.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Exact {
    images: u64,
    loss: u64,
    top1_wrong: u64,
    top5_wrong: u64,
}

impl From<Tally> for Exact {
    fn from(Tally { images, loss, top1_wrong, top5_wrong }: Tally) -> Exact {
        Exact { images, loss: loss.to_bits(), top1_wrong, top5_wrong }
    }
}

impl From<Exact> for Tally {
    fn from(Exact { images, loss, top1_wrong, top5_wrong }: Exact) -> Tally {
        Tally { images, loss: f64::from_bits(loss), top1_wrong, top5_wrong }
    }
}
