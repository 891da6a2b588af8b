//! One pass of a batch and the update as work on a GPU's streams.

use super::network::Network;
use super::pass::{Pass, Step, Update, update};
use super::profile::{Direction, Spans};
use crate::gpu::graph::Graph;
use anyhow::Result;
use std::sync::Arc;

/// The passes of one device as wholes.
#[derive(Default)]
pub struct Graphs {
    /// Alone, and with a backward pass behind it.
    forward: [Graph; 2],
    backward: Graph,
    update: Graph,
}

impl Network {
    /// Queues device `d`'s share of one pass.
    pub fn step(
        &self,
        d: usize,
        step: &Step,
        spans: &mut Spans,
        graphs: &mut Graphs,
    ) -> Result<()> {
        let (device, input) = (&self.devices[d], &self.inputs[d]);
        self.wait_for_copies(d)?;
        device.compute.wait_for(&input.uploaded)?;
        let data = &self.buffers[self.plan.data[d]];
        if !step.floats {
            // SAFETY: the layout made the work for buffers of the plan's sizes, and the batch fits.
            unsafe {
                self.layout.inputs[d].run(&device.compute, |a| {
                    let a = a.buffer(&input.crops).buffer(&input.mean).buffer(&input.colours);
                    a.word(step.run.batch as u32).buffer(data)
                })?;
            }
        }
        device.compute.record(&input.taken)?;
        let forward = &mut graphs.forward[usize::from(step.backward)];
        self.whole(d, forward, spans, |spans| Pass::new(self, d, step, spans).run(&self.forward))?;
        if Arc::ptr_eq(device, self.last()) {
            self.come_to(step)?;
        }
        if step.backward {
            self.whole(d, &mut graphs.backward, spans, |spans| {
                Pass::new(self, d, step, spans).run(&self.backward)
            })?;
        }
        Ok(())
    }

    /// What a forward pass has come to, on the device with the loss: on its way to the host, or
    /// kept.
    fn come_to(&self, step: &Step) -> Result<()> {
        let device = self.last();
        if !step.backward {
            let slot = step.number as usize % self.kept.len();
            return self.kept[slot].take(device, &self.buffers);
        }
        let mut totals = self.totals.lock().unwrap_or_else(|e| e.into_inner());
        // SAFETY: the host reads them after it has waited for `scored`, and they live as long as
        // the network, whose end waits for the GPU.
        unsafe { device.compute.read_later(&self.loss.totals, &mut totals)? };
        device.compute.record(&self.scored)
    }

    /// Queues `work` on device `d` as a whole, where neither another GPU takes part in it nor times
    /// are taken: both need events that the host and others know of.
    fn whole(
        &self,
        d: usize,
        graph: &mut Graph,
        spans: &mut Spans,
        mut work: impl FnMut(&mut Spans) -> Result<()>,
    ) -> Result<()> {
        if self.devices.len() > 1 || spans.are_taken() {
            return work(spans);
        }
        graph.queue(&self.devices[d].compute, &mut || work(spans))
    }

    /// The outputs that others copied in the last pass are about to be written again.
    fn wait_for_copies(&self, d: usize) -> Result<()> {
        for (layer, of_layer) in self.plan.layers.iter().zip(&self.crossings.of) {
            for (part, of_part) in layer.parts.iter().zip(of_layer) {
                for (from, crossing) in part.join.iter().flat_map(|j| &j.from).zip(of_part) {
                    if let Some(crossing) = crossing.as_ref().filter(|_| self.of(from.tower) == d) {
                        self.devices[d].compute.wait_for(&crossing.arrived)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Queues device `d`'s share of the update, whatever the loss.
    pub fn update(
        &self,
        d: usize,
        constants: &Update,
        spans: &mut Spans,
        graphs: &mut Graphs,
    ) -> Result<()> {
        self.whole(d, &mut graphs.update, spans, |spans| self.updates(d, constants, spans))
    }

    fn updates(&self, d: usize, constants: &Update, spans: &mut Spans) -> Result<()> {
        let device = &self.devices[d];
        if !spans.are_taken() {
            self.lanes[d].meet(device)?;
        }
        for (layer, rates) in constants.rates.iter().enumerate() {
            let Some(rates) = rates else { continue };
            for (index, part) in self.plan.layers[layer].parts.iter().enumerate() {
                let parameters = self.parameters[layer][index].as_ref();
                let Some(parameters) = parameters.filter(|_| part.device == d) else { continue };
                let work = &self.layout.parts[layer][index].update;
                let stream = self.stream(part.tower, false, spans);
                let rules = rates.rules(constants.momentum);
                spans.time(device, layer, Direction::Update, || {
                    update(stream, parameters, work, rules, None)
                })?;
            }
        }
        if spans.are_taken() { Ok(()) } else { self.lanes[d].meet(device) }
    }
}
