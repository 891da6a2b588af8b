//! One pass of a batch and the update as work on a GPU's streams.

use super::lars::Lars;
use super::network::Network;
use super::pass::{Pass, Step, Update};
use super::profile::{Direction, Spans};
use super::update::{By, update};
use crate::engine::Rates;
use crate::gpu::graph::Graph;
use crate::gpu::stream::Stream;
use crate::network::Part;
use anyhow::{Context, Result};
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
        self.up(d, step, spans, &mut graphs.forward[usize::from(step.backward)])?;
        if Arc::ptr_eq(&self.devices[d], self.last()) {
            self.come_to(step)?;
        }
        match step.backward {
            false => Ok(()),
            // NCCL's work is queued as it is.
            true if step.sums.is_some() => Pass::new(self, d, step, spans).run(&self.backward),
            true => self.whole(d, &mut graphs.backward, spans, |spans| {
                Pass::new(self, d, step, spans).run(&self.backward)
            }),
        }
    }

    /// Queues device `d`'s share of a forward pass over what was uploaded.
    pub(super) fn up(
        &self,
        d: usize,
        step: &Step,
        spans: &mut Spans,
        graph: &mut Graph,
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
        self.whole(d, graph, spans, |spans| Pass::new(self, d, step, spans).run(&self.forward))
    }

    /// What a forward pass has come to, on the device with the loss: on its way to the host, or
    /// kept.
    fn come_to(&self, step: &Step) -> Result<()> {
        if !step.backward {
            let slot = step.number as usize % self.kept.len();
            return self.kept[slot].take(self.last(), &self.buffers);
        }
        self.score()
    }

    /// The loss and the errors of a pass, on their way to the host.
    pub(super) fn score(&self) -> Result<()> {
        let device = self.last();
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
                    let given = crossing.iter().filter(|_| self.of(from.tower) == d);
                    for portion in given.flat_map(|crossing| &crossing.portions) {
                        self.devices[d].compute.wait_for(&portion.arrived)?;
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
        if constants.sums.is_some() {
            return self.updates(d, constants, spans);
        }
        self.whole(d, &mut graphs.update, spans, |spans| self.updates(d, constants, spans))
    }

    /// As [`Network::update`], launch by launch.
    pub(super) fn updates(&self, d: usize, constants: &Update, spans: &mut Spans) -> Result<()> {
        let device = &self.devices[d];
        if let Some(lars) = &self.lars {
            lars.begin(d, &device.compute)?;
        }
        if !spans.are_taken() {
            self.lanes[d].meet(device)?;
        }
        if let Some(lars) = &self.lars {
            self.lengths(d, lars, constants, spans)?;
        }
        self.each_own(d, constants, |layer, index, part| {
            let stream = self.stream(part.tower, false, spans);
            if self.lars.is_none() {
                self.wait_for_sums(constants, (layer, index), stream)?;
            }
            let parts = self.layout.with(layer, index);
            let Some(rates) = constants.rates[layer].filter(|_| !parts.is_empty()) else {
                return Ok(());
            };
            let rules = rates.rules(constants.momentum);
            spans.time(device, layer, Direction::Update, || {
                self.each_of(parts, stream, |index, queue| {
                    let scaled = rates.trust.zip(rules[0]).map(|asked| {
                        let lars = self.lars.as_ref();
                        let lars = lars.context("layer-wise rates were not planned")?;
                        lars.scale(&self.plan, (layer, index), &self.layout, stream, asked)
                    });
                    let by = By { scaled: scaled.transpose()?, ..By::default() };
                    update(queue, self, (layer, index), rules, by)
                })
            })
        })?;
        if !spans.are_taken() {
            self.lanes[d].meet(device)?;
        }
        self.lars.as_ref().map_or(Ok(()), |lars| lars.end(d, &device.compute))
    }

    /// Queues the sums that layer-wise rates are made of, of all layers' parts on device `d`, and
    /// sees to it that what comes after them finds the other device's, too.
    fn lengths(&self, d: usize, lars: &Lars, constants: &Update, spans: &mut Spans) -> Result<()> {
        let device = &self.devices[d];
        let is_asked = |rates: &Option<Rates>| rates.is_some_and(|rates| rates.trust.is_some());
        self.each_own(d, constants, |layer, index, part| {
            let stream = self.stream(part.tower, false, spans);
            self.wait_for_sums(constants, (layer, index), stream)?;
            let own = self.parameters[layer][index].as_ref();
            let norms = self.layout.parts[layer][index].norms.as_ref();
            let own = own.zip(norms).filter(|_| is_asked(&constants.rates[layer]));
            own.map_or(Ok(()), |(own, norms)| {
                spans.time(device, layer, Direction::Update, || {
                    lars.add_up((layer, index, d), norms, stream, own)
                })
            })
        })?;
        if !constants.rates.iter().any(is_asked) {
            return Ok(());
        }
        let meet = || if spans.are_taken() { Ok(()) } else { self.lanes[d].meet(device) };
        meet()?;
        if lars.exchange(d, &device.compute, &self.board, constants.number)? {
            meet()?;
        }
        Ok(())
    }

    /// `stream` finds the gradients of a part that are those of all processes.
    fn wait_for_sums(
        &self,
        constants: &Update,
        (layer, index): (usize, usize),
        stream: &Stream,
    ) -> Result<()> {
        match constants.sums.as_ref().filter(|_| self.plan.layers[layer].learns()) {
            Some(sums) => sums.wait_for(layer, index, stream),
            None => Ok(()),
        }
    }

    /// Each part of a layer on device `d`; the last layer first where it is its sum that comes
    /// first.
    fn each_own(
        &self,
        d: usize,
        constants: &Update,
        mut each: impl FnMut(usize, usize, &Part) -> Result<()>,
    ) -> Result<()> {
        let count = self.plan.layers.len();
        for at in 0..count {
            let layer = if constants.sums.is_some() { count - 1 - at } else { at };
            let planned = &self.plan.layers[layer];
            for (index, part) in planned.parts.iter().enumerate().filter(|(_, p)| p.device == d) {
                each(layer, index, part)?;
            }
        }
        Ok(())
    }
}
