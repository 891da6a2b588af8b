//! The update of one part of a layer (`kernels/update.cu`).

use super::network::Network;
use crate::gpu::launch::Queue;
use crate::gpu::memory::Buffer;
use crate::layers::Rule;
use crate::layers::cuda::ParameterBuffers;
use anyhow::Result;

/// What an update depends on besides its rules.
#[derive(Default)]
pub struct By<'a> {
    /// Nothing changes where the first of these is no number.
    pub loss: Option<&'a Buffer<f32>>,
    /// The rate and the decay of the weights, in place of their rule's.
    pub scaled: Option<&'a Buffer<f32>>,
    /// Parts of the gradients, in place of these.
    pub parts: Option<&'a Buffer<f32>>,
}

/// The update of a part's weights and biases by a rule each.
pub fn update(
    queue: Queue<'_>,
    network: &Network,
    (layer, part): (usize, usize),
    rules: [Option<Rule>; 2],
    by: By<'_>,
) -> Result<()> {
    let parameters = network.parameters[layer][part].as_ref();
    let Some(ParameterBuffers { value, gradient: Some(gradient), momentum: Some(v), factors }) =
        parameters
    else {
        return Ok(());
    };
    let layout = &network.layout.parts[layer][part];
    let work = if by.parts.is_some() { &layout.update_by_parts } else { &layout.update };
    let Some(work) = work.as_ref().filter(|_| rules.iter().any(Option::is_some)) else {
        return Ok(());
    };
    // SAFETY: the work's constants are the numbers of weights, of biases and of parts, which are in
    // one buffer, and how the factors lie; of what has no rule there is no pointer; there is at
    // least one total, and two values are scaled.
    unsafe {
        work.run(queue, |mut a| {
            for (index, rule) in rules.into_iter().enumerate() {
                let [w, v] = [value, v].map(|both| rule.map(|_| &both[index]));
                let g = by.parts.unwrap_or(&gradient[index]);
                let Rule { momentum, decay, rate } =
                    rule.unwrap_or(Rule { momentum: 0.0, decay: 0.0, rate: 0.0 });
                a = a.optional(w).optional(v).buffer(g);
                a = a.float(momentum).float(decay).float(rate);
            }
            a.optional(factors.as_ref()).optional(by.loss).optional(by.scaled)
        })
    }
}
