//! A step whose gradients are those of several processes: each part of a layer sends its own as
//! soon as it has them, the last layer first, and goes on with the layers below.

use super::Cpu;
use crate::data::form::CropView;
use crate::engine::{Exchange, Rates};
use crate::layers::Run;
use crate::layers::softmax::Tally;
use crate::network::Task;
use anyhow::Result;
use std::mem::take;

/// Weights, biases.
const SLOTS: usize = 2;

impl Cpu {
    /// See [`Engine::exchanged_step`](crate::engine::Engine::exchanged_step). Weights are updated
    /// layer by layer as their sums come, biases after all: they are small and travel together.
    pub(super) fn exchanged(
        &mut self,
        run: &Run,
        (images, labels, whole): (CropView<'_>, &[u32], usize),
        (momentum, rates): (f32, &[Option<Rates>]),
        exchange: &mut dyn Exchange,
    ) -> Result<Tally> {
        let mine = match run.batch > 0 {
            true => self.loss(run, images, labels)?,
            false => Tally::default(),
        };
        let tally = exchange.agree(mine)?;
        if !tally.loss.is_finite() {
            return Ok(tally);
        }
        self.whole = whole;
        self.travelling(run, labels, (momentum, rates), exchange)?;
        Ok(tally)
    }

    /// The backward pass whose gradients travel, and the updates.
    pub(super) fn travelling(
        &mut self,
        run: &Run,
        labels: &[u32],
        (momentum, rates): (f32, &[Option<Rates>]),
        exchange: &mut dyn Exchange,
    ) -> Result<()> {
        let has_images = run.batch > 0;
        let mut sent = Vec::new();
        for index in 0..self.backward.len() {
            let task = self.backward[index];
            if has_images {
                self.run(task, run, labels);
            }
            if let Task::Backward { layer, part, .. } = task
                && self.plan.layers[layer].learns()
            {
                for (slot, gradient) in self.parameters[layer][part].gradient.iter_mut().enumerate()
                {
                    if !has_images {
                        gradient.fill(0.0);
                    }
                    exchange.send(SLOTS * sent.len() + slot, take(gradient));
                }
                sent.push((layer, part));
            }
        }
        exchange.flush();
        for slot in 0..SLOTS {
            for (index, &(layer, part)) in sent.iter().enumerate() {
                let gradient = exchange.receive(SLOTS * index + slot)?;
                self.parameters[layer][part].gradient[slot] = gradient;
                // A layer's parts follow each other.
                if sent.get(index + 1).is_none_or(|next| next.0 != layer)
                    && let Some(rates) = rates[layer]
                {
                    let mut rules = rates.rules(momentum);
                    rules[1 - slot] = None;
                    self.update_layer(layer, rules, rates.trust);
                }
            }
        }
        Ok(())
    }
}
