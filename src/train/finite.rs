//! Where a network's numbers have first left the finite ones, for the sentence that ends a diverged
//! run.

use crate::engine::{Engine, Slot};
use anyhow::Result;
use rayon::prelude::*;

/// `, where layer fc6 is the first whose weights are not finite`: the lowest layer with such
/// weights, or with such outputs of the last pass; empty where there is none. The gradients have
/// gone into the weights, or a gradient is not finite because of what is named here.
pub fn first_not_finite(engine: &dyn Engine) -> Result<String> {
    let plan = engine.plan();
    let tensors = plan.tensors();
    let bad = |values: &[f32]| values.par_iter().any(|v| !v.is_finite());
    for (index, layer) in plan.layers.iter().enumerate() {
        let mut what = None;
        for (tensor, _) in tensors.iter().enumerate().filter(|(_, t)| t.layer == index) {
            if bad(&engine.read(Slot::Value, tensor)?.values) {
                what = Some(if tensors[tensor].is_bias { "biases" } else { "weights" });
                break;
            }
        }
        for part in &layer.parts {
            if what.is_none() && bad(&engine.left_in(part.y)?) {
                what = Some("outputs");
            }
        }
        if let Some(what) = what {
            let name = &layer.name;
            return Ok(format!(", where layer {name} is the first whose {what} are not finite"));
        }
    }
    Ok(String::new())
}
