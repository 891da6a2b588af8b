//! The plan's tasks as work on a GPU's streams.
//!
//! Every worker runs through all tasks in the plan's order and queues the part that is its
//! device's. What one GPU needs of another is copied by the worker that needs it, after the other
//! has signalled that it is there.

use super::lanes::{self, Behind};
use super::network::Network;
use super::profile::{Direction, Spans};
use super::sums::Sums;
use crate::engine::Rates;
use crate::gpu::device::STREAMS;
use crate::gpu::launch::{Kept, Launch, Queue};
use crate::gpu::memory::Buffer;
use crate::gpu::stream::{Event, Stream};
use crate::layers::cuda::{Call, Launches, ParameterBuffers};
use crate::layers::{Rule, Run};
use crate::network::{BufferId, Part, Task};
use anyhow::{Context, Result};
use std::ops::Range;
use std::sync::Arc;

/// One pass of a batch.
#[derive(Clone)]
pub struct Step {
    pub run: Run,
    /// Counts the passes.
    pub number: u64,
    pub backward: bool,
    /// The input is there as the network reads it, not as bytes to be centred.
    pub floats: bool,
    /// Each layer is updated as soon as its gradients are there, if the loss is a number: on the
    /// device that has the loss.
    pub update: Option<Arc<Update>>,
    /// Images of the batch that the loss is the mean of: those of all processes.
    pub whole: usize,
    /// Gradients are added up over processes.
    pub sums: Option<Arc<Sums>>,
}

/// The constants of one update.
pub struct Update {
    pub momentum: f32,
    /// One entry a layer.
    pub rates: Vec<Option<Rates>>,
    /// Counts the updates that are queued by themselves.
    pub number: u64,
    /// What the gradients are added up by, where they are those of several processes.
    pub sums: Option<Arc<Sums>>,
}

/// One device's share of a pass, as it is being queued.
pub struct Pass<'a> {
    network: &'a Network,
    d: usize,
    step: &'a Step,
    spans: &'a mut Spans,
    /// Gradients that work behind a lane still reads, and when it has.
    read: Vec<(BufferId, &'a Event)>,
    /// Streams behind a lane in which something is queued.
    behind: [bool; STREAMS],
}

impl Network {
    /// A tower's lane or what is `behind` it; while times are taken all are one.
    pub(super) fn stream(&self, tower: usize, behind: bool, spans: &Spans) -> &Stream {
        let index = if spans.are_taken() { 0 } else { self.lane(tower, behind) };
        self.devices[self.of(tower)].kernels(index)
    }

    /// The index of that stream.
    fn lane(&self, tower: usize, behind: bool) -> usize {
        lanes::stream(&self.plan, if self.layout.is_one_lane() { 0 } else { tower }, behind)
    }

    /// Queues what `work` does for each of these parts of a layer in `stream`: alone, or for both
    /// towers together.
    pub(super) fn each_of(
        &self,
        parts: Range<usize>,
        stream: &Stream,
        mut work: impl FnMut(usize, Queue<'_>) -> Result<()>,
    ) -> Result<()> {
        if parts.len() == 1 {
            return work(parts.start, Queue::of(stream));
        }
        let kept = Kept::default();
        for index in parts.clone() {
            work(index, Queue::together(stream, &kept, index == parts.start))?;
        }
        kept.end()
    }

    /// The same of what a layer's launches do; `behind` the parts' lane or in it, which says whose
    /// scratch space they use.
    fn launch(
        &self,
        step: &Step,
        (layer, parts, behind): (usize, Range<usize>, bool),
        stream: &Stream,
        work: impl Fn(&dyn Launches, &Call<'_>) -> Result<()>,
    ) -> Result<()> {
        self.each_of(parts, stream, |index, queue| {
            let part = &self.plan.layers[layer].parts[index];
            let places = &self.layout.places[layer][index];
            let buffer = |id: usize| &self.buffers[id];
            let call = Call {
                queue,
                run: &step.run,
                whole: step.whole,
                x: buffer(places.x),
                y: buffer(places.y),
                dy: places.dy.map(buffer),
                dx: places.dx.map(buffer),
                parameters: self.parameters[layer][index].as_ref(),
                scratch: &self.scratch[part.device][lanes::stream(&self.plan, part.tower, behind)],
                saved: &self.saved[layer][index],
                loss: step.backward.then_some(&self.loss),
                input: buffer(self.plan.data[part.device]),
            };
            work(&*self.layout.parts[layer][index].launches, &call)
        })
    }

    /// One of the parts that a joined layer reads, and the gradient at its output.
    fn source(&self, layer: usize, below: usize) -> (&Part, Option<BufferId>) {
        let join = self.plan.layers[layer].parts[0].join.as_ref();
        let source = &join.expect("only joined layers are split").from[below];
        let under = &self.plan.layers[layer - 1].parts[source.part];
        (under, self.layout.places[layer - 1][source.part].dy)
    }

    /// The gradient at the joined input of a part.
    fn joined(&self, layer: usize, index: usize) -> Result<&Buffer<u8>> {
        let dx = self.layout.places[layer][index].dx;
        Ok(&self.buffers[dx.context("split only where gradients go on")?])
    }
}

impl<'a> Pass<'a> {
    pub fn new(network: &'a Network, d: usize, step: &'a Step, spans: &'a mut Spans) -> Pass<'a> {
        Pass { network, d, step, spans, read: Vec::new(), behind: [false; STREAMS] }
    }

    /// Queues all `tasks`. The lanes meet at both ends, and around copies from one tower to
    /// another: those read what the other lane has written, and the gradients that they read are
    /// written again soon. Of such copies one after the other, what other GPUs wait for comes
    /// first, so that both ways are under way at once.
    pub fn run(&mut self, tasks: &[Task]) -> Result<()> {
        let (lanes, device) = (&self.network.lanes[self.d], &self.network.devices[self.d]);
        let several = !self.spans.are_taken();
        let copies = |task: &Task| matches!(task, Task::Join { .. } | Task::Split { .. });
        for tasks in tasks.chunk_by(|a, b| copies(a) == copies(b)) {
            if several {
                lanes.meet(device)?;
            }
            for task in tasks {
                self.give(*task).with_context(|| self.name(*task))?;
            }
            for task in tasks {
                self.task(*task).with_context(|| self.name(*task))?;
            }
        }
        self.end()
    }

    /// The lanes meet, and what is behind them is done before what comes.
    pub(super) fn end(&self) -> Result<()> {
        let (lanes, device) = (&self.network.lanes[self.d], &self.network.devices[self.d]);
        if self.spans.are_taken() { Ok(()) } else { lanes.end(device, &self.behind) }
    }

    /// Queues what hands on activations at a layer, in the first lane.
    pub(super) fn copies(&mut self, layer: usize, work: impl FnOnce() -> Result<()>) -> Result<()> {
        self.spans.time(&self.network.devices[self.d], layer, Direction::Copies, work)
    }

    /// What a task is, for sentences.
    pub(super) fn name(&self, task: Task) -> String {
        let (layer, way) = match task {
            Task::Join { layer, .. } => (layer, "joining the input"),
            Task::Forward { layer, .. } => (layer, "forward"),
            Task::Backward { layer, .. } => (layer, "backward"),
            Task::Split { layer, .. } => (layer, "splitting the gradient"),
        };
        format!("layer {}, {way}", self.network.plan.layers[layer].name)
    }

    /// Queues one task.
    pub(super) fn task(&mut self, task: Task) -> Result<()> {
        match task {
            Task::Join { layer, part, from } => self.join((layer, part, from)),
            Task::Forward { layer, part, .. } => self.forward(layer, part),
            Task::Backward { layer, part, .. } => self.backward(layer, part),
            Task::Split { layer, below } => self.split(layer, below),
        }
    }

    fn forward(&mut self, layer: usize, index: usize) -> Result<()> {
        let (network, step) = (self.network, self.step);
        let (part, parts) =
            (&network.plan.layers[layer].parts[index], network.layout.with(layer, index));
        if part.device != self.d || parts.is_empty() {
            return Ok(());
        }
        let lane = network.stream(part.tower, false, self.spans);
        self.spans.time(&network.devices[self.d], layer, Direction::Forward, || {
            network.launch(step, (layer, parts, false), lane, |work, call| work.forward(call))
        })
    }

    fn backward(&mut self, layer: usize, index: usize) -> Result<()> {
        let (network, step, d) = (self.network, self.step, self.d);
        let (part, parts) =
            (&network.plan.layers[layer].parts[index], network.layout.with(layer, index));
        if part.device != d || network.layout.masked[layer] || parts.is_empty() {
            return Ok(());
        }
        let (device, lane) = (&network.devices[d], network.stream(part.tower, false, self.spans));
        let behind = network.behind[layer][index].as_ref();
        if let Some(behind) = behind.filter(|_| !self.spans.are_taken()) {
            lane.record(&behind.ready)?;
        }
        // First what the layers below wait for.
        let to_input = network.layout.places[layer][parts.clone()].iter().filter_map(|p| p.dx);
        let to_input: Vec<_> = to_input.collect();
        if !to_input.is_empty() {
            to_input.into_iter().try_for_each(|dx| self.free(dx, part.tower))?;
            let what = (layer, parts.clone(), false);
            self.spans.time(device, layer, Direction::Input, || {
                network.launch(step, what, lane, |work, call| work.backward_input(call))
            })?;
        }
        match behind {
            Some(behind) if !self.spans.are_taken() => self.behind(layer, parts, behind),
            Some(_) => {
                // In the lane, with the scratch space of what is else behind it.
                let what = (layer, parts.clone(), true);
                self.spans.time(device, layer, Direction::Weights, || {
                    network.launch(step, what, lane, |work, call| work.backward_weights(call))
                })?;
                self.send(layer, parts, lane)
            }
            None => Ok(()),
        }
    }

    /// The gradients of parts' parameters, and their update, behind their lane.
    fn behind(&mut self, layer: usize, parts: Range<usize>, events: &'a Behind) -> Result<()> {
        let (network, step) = (self.network, self.step);
        let tower = network.plan.layers[layer].parts[parts.start].tower;
        let [lane, stream] = [false, true].map(|it| network.stream(tower, it, self.spans));
        stream.wait_for(&events.ready)?;
        self.behind[network.lane(tower, true)] = true;
        let what = (layer, parts.clone(), true);
        let constants = step.update.as_ref();
        let rates = constants.and_then(|c| c.rates[layer]);
        let (Some(constants), Some(rates)) = (constants, rates) else {
            network.launch(step, what, stream, |work, call| work.backward_weights(call))?;
            self.send(layer, parts.clone(), stream)?;
            return self.dy_is_read(layer, parts, events, stream);
        };
        let (rules, loss) = (rates.rules(constants.momentum), &network.loss.totals);
        let updates = network.layout.parts[layer][parts.start].launches.updates();
        lane.record(&events.passed)?;
        if let Some(rule) = rules[0].filter(|_| updates) {
            stream.wait_for(&events.passed)?;
            network.launch(step, what, stream, |work, call| {
                work.backward_update(call, (rule, rules[1]), loss)
            })?;
            return self.dy_is_read(layer, parts, events, stream);
        }
        let by_parts = network.layout.parts[layer][parts.start].update_by_parts.is_some();
        network.launch(step, what, stream, |work, call| match by_parts {
            true => work.backward_parts(call),
            false => work.backward_weights(call),
        })?;
        self.dy_is_read(layer, parts.clone(), events, stream)?;
        stream.wait_for(&events.passed)?;
        network.each_of(parts, stream, |index, queue| {
            let tower = network.plan.layers[layer].parts[index].tower;
            let scratch = &network.scratch[self.d][lanes::stream(&network.plan, tower, true)];
            let parts = by_parts.then_some(scratch);
            let by = By { loss: Some(loss), parts, ..By::default() };
            update(queue, network, (layer, index), rules, by)
        })
    }

    /// Gradients that `stream` has queued, on their way to the sums of all processes.
    fn send(&self, layer: usize, mut parts: Range<usize>, stream: &Stream) -> Result<()> {
        let Some(sums) = &self.step.sums else { return Ok(()) };
        parts.try_for_each(|index| match &self.network.parameters[layer][index] {
            Some(own) => sums.send((layer, index, self.d), stream, own),
            None => Ok(()),
        })
    }

    /// The gradients at parts' outputs may be written again after what `stream` has queued so far.
    fn dy_is_read(
        &mut self,
        layer: usize,
        parts: Range<usize>,
        events: &'a Behind,
        stream: &Stream,
    ) -> Result<()> {
        stream.record(&events.done)?;
        let places = &self.network.layout.places[layer][parts];
        self.read.extend(places.iter().filter_map(|p| p.dy).map(|dy| (dy, &events.done)));
        Ok(())
    }

    /// A tower's lane is about to write a gradient, which work behind it may still read.
    pub(super) fn free(&mut self, id: BufferId, tower: usize) -> Result<()> {
        let lane = self.network.stream(tower, false, self.spans);
        for (_, done) in self.read.extract_if(.., |(read, _)| *read == id) {
            lane.wait_for(done)?;
        }
        Ok(())
    }

    /// Lets other GPUs have what they need of this one for a copy.
    fn give(&mut self, task: Task) -> Result<()> {
        let (network, d) = (self.network, self.d);
        let (device, number) = (&network.devices[d], self.step.number);
        match task {
            Task::Join { layer, part, from } => {
                let crossing = network.crossings.of[layer][part][from].as_ref();
                let join = network.plan.layers[layer].parts[part].join.as_ref();
                let source = &join.expect("only joined parts have joins").from[from];
                match crossing.filter(|_| network.of(source.tower) == d) {
                    Some(crossing) => {
                        crossing.written.give(&network.board, &device.compute, number)
                    }
                    None => Ok(()),
                }
            }
            Task::Split { layer, below } => {
                let parts = network.plan.layers[layer].parts.iter().enumerate();
                // As in `split`: nothing below wants it.
                if network.source(layer, below).1.is_none() {
                    return Ok(());
                }
                for (index, _) in parts.filter(|(_, part)| part.device == d) {
                    let crossing = network.crossings.of[layer][index][below].as_ref();
                    let Some(crossing) = crossing else { continue };
                    let back = crossing.back.as_ref().context("a gradient crosses unplanned")?;
                    let dx = network.joined(layer, index)?;
                    let take = network.layout.parts[layer][index].sources[below].take.as_ref();
                    let take = take.context("a gradient crosses unplanned")?;
                    self.spans.time(device, layer, Direction::Copies, || {
                        copy(&device.compute, take, &[dx, &crossing.there])
                    })?;
                    back.taken.give(&network.board, &device.compute, number)?;
                }
                Ok(())
            }
            Task::Forward { .. } | Task::Backward { .. } => Ok(()),
        }
    }

    /// One source's channels into the joined input.
    fn join(&mut self, (layer, index, from): (usize, usize, usize)) -> Result<()> {
        let (network, d) = (self.network, self.d);
        let part = &network.plan.layers[layer].parts[index];
        let source = &part.join.as_ref().expect("only joined parts have joins").from[from];
        let (device, y) = (&network.devices[d], &network.buffers[source.y]);
        let own = &network.layout.parts[layer][index].sources[from];
        // None: another makes all of the input.
        let Some(work) = &own.join else { return Ok(()) };
        let (x, stream) = (&network.buffers[part.x], network.stream(part.tower, false, self.spans));
        match &network.crossings.of[layer][index][from] {
            None if part.device == d => {
                let sources = part.join.iter().flat_map(|join| &join.from);
                let all = sources.map(|source| &network.buffers[source.y]);
                let all: Vec<_> =
                    if own.joins_both { all.chain([x]).collect() } else { vec![y, x] };
                self.spans.time(device, layer, Direction::Copies, || copy(stream, work, &all))
            }
            Some(crossing) if part.device == d => {
                let written = crossing.written.of(&network.board, self.step.number)?;
                let link = &network.crossings.links[&(network.of(source.tower), d)];
                let after = [written, &crossing.there_free];
                link.copy(y, &crossing.there, &after, &crossing.arrived)?;
                self.spans.time(device, layer, Direction::Copies, || {
                    device.compute.wait_for(&crossing.arrived)?;
                    copy(&device.compute, work, &[&crossing.there, x])?;
                    device.compute.record(&crossing.there_free)
                })
            }
            _ => Ok(()),
        }
    }

    /// Both readers' gradients at the joined input, or twice that of the only one, and those at
    /// both sources, free to be written in a tower's lane.
    fn all_gradients(&mut self, layer: usize, tower: usize) -> Result<Vec<&'a Buffer<u8>>> {
        let network = self.network;
        let last = network.plan.layers[layer].parts.len() - 1;
        let mut all = vec![network.joined(layer, 0)?, network.joined(layer, last)?];
        for below in 0..2 {
            let to = network.source(layer, below).1.context("a gradient that nothing wants")?;
            self.free(to, tower)?;
            all.push(&network.buffers[to]);
        }
        Ok(all)
    }

    /// The gradient of one source: its channels in all readers' gradients, added in their order.
    fn split(&mut self, layer: usize, below: usize) -> Result<()> {
        let (network, d) = (self.network, self.d);
        let parts = &network.plan.layers[layer].parts;
        let (under, dy) = network.source(layer, below);
        let Some(id) = dy else { return Ok(()) };
        if under.device == d {
            self.free(id, under.tower)?;
        }
        let dy = &network.buffers[id];
        let (device, stream) =
            (&network.devices[d], network.stream(under.tower, false, self.spans));
        for (index, part) in parts.iter().enumerate() {
            let dx = network.joined(layer, index)?;
            let launches = &network.layout.parts[layer][index].sources[below];
            let Some(crossing) = &network.crossings.of[layer][index][below] else {
                if let Some(take) = launches.take.as_ref().filter(|_| part.device == d) {
                    let all = match launches.takes_both {
                        true => self.all_gradients(layer, under.tower)?,
                        false => vec![dx, dy],
                    };
                    self.spans
                        .time(device, layer, Direction::Copies, || copy(stream, take, &all))?;
                }
                continue;
            };
            let back = crossing.back.as_ref().context("a gradient crosses unplanned")?;
            if under.device == d {
                let taken = back.taken.of(&network.board, self.step.number)?;
                let link = &network.crossings.links[&(part.device, d)];
                let after = [taken, &back.here_free];
                link.copy(&crossing.there, &back.here, &after, &back.returned)?;
                let collect = launches.collect.as_ref().context("a gradient crosses unplanned")?;
                self.spans.time(device, layer, Direction::Copies, || {
                    device.compute.wait_for(&back.returned)?;
                    copy(&device.compute, collect, &[&back.here, dy])?;
                    device.compute.record(&back.here_free)
                })?;
            }
        }
        Ok(())
    }
}

/// A kernel of `towers.cu` from some buffers to the last.
fn copy(stream: &Stream, work: &Launch, buffers: &[&Buffer<u8>]) -> Result<()> {
    // SAFETY: the work's constants are the sizes that the plan gave the buffers, which are as many
    // as its kernel takes.
    unsafe { work.run(stream, |a| buffers.iter().fold(a, |a, buffer| a.buffer(buffer))) }
}

/// What an update depends on besides its rules.
#[derive(Default)]
pub(super) struct By<'a> {
    /// Nothing changes where the first of these is no number.
    pub loss: Option<&'a Buffer<f32>>,
    /// The rate and the decay of the weights, in place of their rule's.
    pub scaled: Option<&'a Buffer<f32>>,
    /// Parts of the gradients, in place of these.
    pub parts: Option<&'a Buffer<f32>>,
}

/// The update of a part's weights and biases by a rule each.
pub(super) fn update(
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
