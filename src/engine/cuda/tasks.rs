//! The plan's tasks as work on the GPUs' streams.
//!
//! Every worker runs through all tasks in the plan's order and queues the part that is its
//! device's. What one GPU needs of another is copied by the worker that needs it, after the other
//! has signalled that it is there.

use super::lanes::lane;
use super::network::Network;
use super::profile::{Direction, Spans};
use crate::engine::Rates;
use crate::gpu::graph::Graph;
use crate::gpu::launch::Launch;
use crate::gpu::memory::Buffer;
use crate::gpu::stream::Stream;
use crate::layers::cuda::{Call, ParameterBuffers};
use crate::layers::{Rule, Run};
use crate::network::Task;
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

/// One pass of a batch.
#[derive(Clone, Copy)]
pub struct Step {
    pub run: Run,
    /// Counts the passes.
    pub number: u64,
    pub backward: bool,
    /// The input is there as the network reads it, not as bytes to be centred.
    pub floats: bool,
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
        self.whole(d, forward, spans, |spans| self.tasks(d, &self.forward, step, spans))?;
        if step.backward && Arc::ptr_eq(device, self.last()) {
            let mut totals = self.totals.lock().unwrap_or_else(|e| e.into_inner());
            // SAFETY: the host reads them after it has waited for `scored`, and they live as long
            // as the network, whose end waits for the GPU.
            unsafe { device.compute.read_later(&self.loss.totals, &mut totals)? };
            device.compute.record(&self.scored)?;
        }
        if !step.backward && Arc::ptr_eq(device, self.last()) {
            self.kept[step.number as usize % self.kept.len()].take(device, &self.buffers)?;
        }
        if step.backward {
            self.whole(d, &mut graphs.backward, spans, |spans| {
                self.tasks(d, &self.backward, step, spans)
            })?;
        }
        Ok(())
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

    /// Queues device `d`'s share of all `tasks`. The lanes meet at both ends, and around copies
    /// from one tower to another: those read what the other lane has written, and the gradients
    /// that they read are written again soon.
    fn tasks(&self, d: usize, tasks: &[Task], step: &Step, spans: &mut Spans) -> Result<()> {
        let mut copies = None;
        for task in tasks {
            let copy = matches!(task, Task::Join { .. } | Task::Split { .. });
            if copies.replace(copy) != Some(copy) {
                self.meet(d, spans)?;
            }
            self.task(d, *task, step, spans).with_context(|| self.name(*task))?;
        }
        self.meet(d, spans)
    }

    fn meet(&self, d: usize, spans: &Spans) -> Result<()> {
        if spans.are_taken() { Ok(()) } else { self.lanes[d].meet(&self.devices[d]) }
    }

    /// Where a tower's work on its device is queued.
    fn stream(&self, tower: usize, spans: &Spans) -> &Stream {
        let (d, lane) = (self.of(tower), lane(&self.plan, tower));
        let lane = if spans.are_taken() { 0 } else { lane };
        self.lanes[d].stream(&self.devices[d], lane)
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

    fn name(&self, task: Task) -> String {
        let (layer, way) = match task {
            Task::Join { layer, .. } => (layer, "joining the input"),
            Task::Forward { layer, .. } => (layer, "forward"),
            Task::Backward { layer, .. } => (layer, "backward"),
            Task::Split { layer, .. } => (layer, "splitting the gradient"),
        };
        format!("layer {}, {way}", self.plan.layers[layer].name)
    }

    fn task(&self, d: usize, task: Task, step: &Step, spans: &mut Spans) -> Result<()> {
        match task {
            Task::Join { layer, part, from } => self.join(d, (layer, part, from), step, spans),
            Task::Forward { layer, part, .. } => self.forward(d, layer, part, step, spans),
            Task::Backward { layer, part, .. } => self.backward(d, layer, part, step, spans),
            Task::Split { layer, below } => self.split(d, layer, below, step, spans),
        }
    }

    fn call<'a>(&'a self, layer: usize, index: usize, step: &'a Step, spans: &Spans) -> Call<'a> {
        let part = &self.plan.layers[layer].parts[index];
        let buffer = |id: usize| &self.buffers[id];
        Call {
            stream: self.stream(part.tower, spans),
            run: &step.run,
            x: buffer(part.x),
            y: buffer(part.y),
            dy: part.dy.map(buffer),
            dx: part.dx.map(buffer),
            parameters: self.parameters[layer][index].as_ref(),
            scratch: &self.scratch[part.device][lane(&self.plan, part.tower)],
            saved: &self.saved[layer][index],
            loss: step.backward.then_some(&self.loss),
            input: buffer(self.plan.data[part.device]),
        }
    }

    fn forward(
        &self,
        d: usize,
        layer: usize,
        index: usize,
        step: &Step,
        spans: &mut Spans,
    ) -> Result<()> {
        if self.plan.layers[layer].parts[index].device != d {
            return Ok(());
        }
        let (device, launches) = (&self.devices[d], &self.layout.parts[layer][index].launches);
        let call = self.call(layer, index, step, spans);
        spans.time(device, layer, Direction::Forward, || launches.forward(&call))
    }

    fn backward(
        &self,
        d: usize,
        layer: usize,
        index: usize,
        step: &Step,
        spans: &mut Spans,
    ) -> Result<()> {
        let part = &self.plan.layers[layer].parts[index];
        if part.device != d || self.layout.masked[layer] {
            return Ok(());
        }
        let (device, launches) = (&self.devices[d], &self.layout.parts[layer][index].launches);
        let call = self.call(layer, index, step, spans);
        if self.plan.layers[layer].learns() {
            spans.time(device, layer, Direction::Weights, || launches.backward_weights(&call))?;
        }
        if part.dx.is_some() {
            spans.time(device, layer, Direction::Input, || launches.backward_input(&call))?;
        }
        Ok(())
    }

    /// One source's channels into the joined input.
    fn join(
        &self,
        d: usize,
        (layer, index, from): (usize, usize, usize),
        step: &Step,
        spans: &mut Spans,
    ) -> Result<()> {
        let part = &self.plan.layers[layer].parts[index];
        let source = &part.join.as_ref().expect("only joined parts have joins").from[from];
        let (device, y) = (&self.devices[d], &self.buffers[source.y]);
        let work = &self.layout.parts[layer][index].sources[from].join;
        let (x, stream) = (&self.buffers[part.x], self.stream(part.tower, spans));
        match &self.crossings.of[layer][index][from] {
            None if part.device == d => {
                spans.time(device, layer, Direction::Copies, || copy(stream, work, y, x))
            }
            Some(crossing) if self.of(source.tower) == d => {
                crossing.written.give(&self.board, &device.compute, step.number)
            }
            Some(crossing) if part.device == d => {
                let written = crossing.written.of(&self.board, step.number)?;
                let link = &self.crossings.links[&(self.of(source.tower), d)];
                let after = [written, &crossing.there_free];
                link.copy(y, &crossing.there, &after, &crossing.arrived)?;
                spans.time(device, layer, Direction::Copies, || {
                    device.compute.wait_for(&crossing.arrived)?;
                    copy(&device.compute, work, &crossing.there, x)?;
                    device.compute.record(&crossing.there_free)
                })
            }
            _ => Ok(()),
        }
    }

    /// The gradient of one source: its channels in all readers' gradients, added in their order.
    fn split(
        &self,
        d: usize,
        layer: usize,
        below: usize,
        step: &Step,
        spans: &mut Spans,
    ) -> Result<()> {
        let parts = &self.plan.layers[layer].parts;
        let source = &parts[0].join.as_ref().expect("only joined layers are split").from[below];
        let under = &self.plan.layers[layer - 1].parts[source.part];
        let Some(dy) = under.dy.map(|id| &self.buffers[id]) else { return Ok(()) };
        let (device, stream) = (&self.devices[d], self.stream(under.tower, spans));
        for (index, part) in parts.iter().enumerate() {
            let dx = &self.buffers[part.dx.context("split only where gradients go on")?];
            let launches = &self.layout.parts[layer][index].sources[below];
            let Some(crossing) = &self.crossings.of[layer][index][below] else {
                if part.device == d {
                    spans.time(device, layer, Direction::Copies, || {
                        copy(stream, &launches.take, dx, dy)
                    })?;
                }
                continue;
            };
            let back = crossing.back.as_ref().context("a gradient crosses unplanned")?;
            if part.device == d {
                spans.time(device, layer, Direction::Copies, || {
                    copy(&device.compute, &launches.take, dx, &crossing.there)
                })?;
                back.taken.give(&self.board, &device.compute, step.number)?;
            } else if under.device == d {
                let taken = back.taken.of(&self.board, step.number)?;
                let link = &self.crossings.links[&(part.device, d)];
                let after = [taken, &back.here_free];
                link.copy(&crossing.there, &back.here, &after, &back.returned)?;
                let collect = launches.collect.as_ref().context("a gradient crosses unplanned")?;
                spans.time(device, layer, Direction::Copies, || {
                    device.compute.wait_for(&back.returned)?;
                    copy(&device.compute, collect, &back.here, dy)?;
                    device.compute.record(&back.here_free)
                })?;
            }
        }
        Ok(())
    }

    /// Queues device `d`'s share of the update.
    pub fn update(
        &self,
        d: usize,
        momentum: f32,
        rates: &[Option<Rates>],
        spans: &mut Spans,
        graphs: &mut Graphs,
    ) -> Result<()> {
        self.whole(d, &mut graphs.update, spans, |spans| self.updates(d, momentum, rates, spans))
    }

    fn updates(
        &self,
        d: usize,
        momentum: f32,
        rates: &[Option<Rates>],
        spans: &mut Spans,
    ) -> Result<()> {
        let device = &self.devices[d];
        self.meet(d, spans)?;
        for (layer, rates) in rates.iter().enumerate() {
            let Some(rates) = rates else { continue };
            for (index, part) in self.plan.layers[layer].parts.iter().enumerate() {
                let parameters = self.parameters[layer][index].as_ref();
                let Some(parameters) = parameters.filter(|_| part.device == d) else { continue };
                let updates = &self.layout.parts[layer][index].updates;
                let stream = self.stream(part.tower, spans);
                spans.time(device, layer, Direction::Update, || {
                    update(stream, parameters, updates, momentum, rates)
                })?;
            }
        }
        self.meet(d, spans)
    }
}

/// A kernel of `towers.cu` from one buffer to another.
fn copy(stream: &Stream, work: &Launch, from: &Buffer<u8>, to: &Buffer<u8>) -> Result<()> {
    // SAFETY: the work's constants are the sizes that the plan gave the buffers.
    unsafe { work.run(stream, |a| a.buffer(from).buffer(to)) }
}

fn update(
    stream: &Stream,
    parameters: &ParameterBuffers,
    launches: &[Launch],
    momentum: f32,
    rates: &Rates,
) -> Result<()> {
    let ParameterBuffers { value, gradient: Some(gradient), momentum: Some(v), factors } =
        parameters
    else {
        return Ok(());
    };
    for (index, rule) in rates.rules(momentum).into_iter().enumerate() {
        let Some(Rule { momentum, decay, rate }) = rule else { continue };
        let (w, v, g) = (&value[index], &v[index], &gradient[index]);
        // SAFETY: the work's constants are the number of values of all three, and how the factors
        // lie.
        unsafe {
            launches[index].run(stream, |a| {
                let a = a.buffer(w).buffer(v).buffer(g).float(momentum).float(decay).float(rate);
                a.optional(factors.as_ref().filter(|_| index == 0))
            })?;
        }
    }
    Ok(())
}
