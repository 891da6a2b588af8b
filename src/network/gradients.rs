//! Where the gradients of activations lie.

use super::plan::{BufferId, Plan};
use crate::layers::Role;

impl Plan {
    /// Gradients of activations live only from one layer's backward pass to the next one's, so two
    /// buffers a tower take turns. `to_input`: the gradient at the plan's own input is wanted, too.
    pub(super) fn plan_gradients(&mut self, to_input: bool) {
        let towers = self.devices.len();
        // Which of a tower's two buffers holds the gradient at the current layer's output.
        let mut current = vec![0; towers];
        let mut need = vec![[0usize; 2]; towers];
        let mut slots: Vec<Vec<(Option<usize>, Option<usize>)>> = Vec::new();
        let lowest = self.layers.iter().position(|l| l.learns()).unwrap_or(0);
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let mut of_layer = Vec::new();
            let mut used = vec![None; towers];
            for part in &layer.parts {
                let role = part.layer.role();
                let ends = matches!(role, Role::Loss(_) | Role::Reconstruction(_));
                let has_dy = (to_input || index >= lowest) && !ends;
                let dy = has_dy.then_some(current[part.tower]);
                let dx = match role {
                    _ if index <= lowest && !to_input => None,
                    Role::Pointwise(_) => dy,
                    _ => Some(1 - current[part.tower]),
                };
                if let Some(slot) = dy {
                    let most = &mut need[part.tower][slot];
                    *most = (*most).max(part.layer.output().len());
                }
                if let Some(slot) = dx {
                    let most = &mut need[part.tower][slot];
                    *most = (*most).max(part.input.len());
                }
                used[part.tower] = dx;
                of_layer.push((dy, dx));
            }
            let joins =
                layer.parts.iter().any(|p| p.join.is_some()) || self.gathered(index).is_some();
            for tower in 0..towers {
                if let Some(slot) = used[tower] {
                    // After a join, the sum over the towers goes to the buffer that is not being
                    // read.
                    current[tower] = if joins { 1 - slot } else { slot };
                }
            }
            slots.push(of_layer);
        }
        slots.reverse();
        let ids: Vec<Vec<BufferId>> = (0..towers)
            .map(|tower| {
                let pair = need[tower];
                let name = |slot: usize| format!("gradient {slot} of tower {tower}");
                let device = self.devices[tower];
                (0..2).map(|slot| self.buffer(name(slot), device, pair[slot])).collect()
            })
            .collect();
        for (layer, of_layer) in self.layers.iter_mut().zip(slots) {
            for (part, (dy, dx)) in layer.parts.iter_mut().zip(of_layer) {
                part.dy = dy.map(|slot| ids[part.tower][slot]);
                part.dx = dx.map(|slot| ids[part.tower][slot]);
            }
        }
    }
}
