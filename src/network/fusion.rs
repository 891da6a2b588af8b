//! Layers that the CPU computes in one pass: ReLU, response normalisation and max-pooling over the same
//! maps (`layers::lrn::pooled`).

use super::plan::{Part, Plan};
use crate::layers::Stage;
use crate::layers::lrn::pooled::Pooled;

/// One part of consecutive layers, by their indices in the plan, and the pass in their place.
#[derive(Debug)]
pub struct Fusion {
    pub relu: Option<usize>,
    pub lrn: usize,
    pub pool: usize,
    pub part: usize,
    pub pass: Pooled,
}

impl Fusion {
    /// Whether the pass computes that part of a layer.
    pub fn covers(&self, layer: usize, part: usize) -> bool {
        part == self.part && (self.relu == Some(layer) || (self.lrn..=self.pool).contains(&layer))
    }
}

impl Plan {
    /// Every such pass. A ReLU belongs to it if it works in place.
    pub fn fusions(&self) -> Vec<Fusion> {
        let mut fusions = Vec::new();
        for (lrn, pair) in self.layers.windows(2).enumerate() {
            for (part, (normalised, pooled)) in pair[0].parts.iter().zip(&pair[1].parts).enumerate()
            {
                let stages = (normalised.layer.stage(), pooled.layer.stage());
                let (Some(Stage::Normalise(of)), Some(Stage::Pool(pool))) = stages else {
                    continue;
                };
                let is_relu = |below: &Part| {
                    let in_place = below.x == below.y && below.y == normalised.x;
                    in_place && matches!(below.layer.stage(), Some(Stage::Relu))
                };
                let below =
                    lrn.checked_sub(1).and_then(|l| Some((l, self.layers[l].parts.get(part)?)));
                let relu = below.filter(|(_, below)| is_relu(below)).map(|(layer, _)| layer);
                let pass = Pooled::new(relu.is_some(), of, pool);
                fusions.extend(pass.map(|pass| Fusion { relu, lrn, pool: lrn + 1, part, pass }));
            }
        }
        fusions
    }
}
