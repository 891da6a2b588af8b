//! The plan's tasks as work on a GPU's streams.
//!
//! Every worker runs through all tasks in the plan's order and queues the part that is its
//! device's. What one GPU needs of another is copied by the worker that needs it, after the other
//! has signalled that it is there.

use super::lanes::{self, Behind};
use super::network::Network;
use super::portions::{is_behind, stretches};
use super::profile::{Direction, Spans};
use super::sums::Sums;
use super::update::{By, update};
use crate::engine::Rates;
use crate::gpu::device::STREAMS;
use crate::gpu::launch::{Kept, Queue};
use crate::gpu::stream::{Event, Stream};
use crate::layers::Run;
use crate::layers::cuda::{Call, Launches};
use crate::network::{BufferId, Task};
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
    pub(super) network: &'a Network,
    pub(super) d: usize,
    pub(super) step: &'a Step,
    pub(super) spans: &'a mut Spans,
    /// Gradients that work behind a lane still reads, and when it has.
    read: Vec<(BufferId, &'a Event)>,
    /// Streams behind a lane in which something is queued.
    behind: [bool; STREAMS],
}

/// Which of a layer's launches.
#[derive(Clone)]
struct What {
    layer: usize,
    parts: Range<usize>,
    /// Behind the lane, or in it.
    behind: bool,
    /// Of one portion of the batch, where the layer works in portions.
    portion: Option<usize>,
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
        What { layer, parts, behind, portion }: What,
        stream: &Stream,
        work: impl Fn(&dyn Launches, &Call<'_>) -> Result<()>,
    ) -> Result<()> {
        self.each_of(parts, stream, |index, queue| {
            let part = &self.plan.layers[layer].parts[index];
            let places = &self.layout.places[layer][index];
            let buffer = |id: usize| match portion {
                Some(portion) => &self.portions[portion].buffers[id],
                None => &self.buffers[id],
            };
            let saved = portion.map_or(&self.saved, |portion| &self.portions[portion].saved);
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
                saved: &saved[layer][index],
                loss: step.backward.then_some(&self.loss),
                input: buffer(self.plan.data[part.device]),
            };
            let own = &self.layout.parts[layer][index];
            let of_portion = own.portion.as_ref().filter(|_| portion.is_some());
            work(of_portion.map_or(&*own.launches, |own| &*own.launches), &call)
        })
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
        let portions = &self.network.layout.portions;
        let (tasks, whole) = tasks.split_at(tasks.partition_point(|task| portions.take(*task)));
        self.in_portions(tasks)?;
        for tasks in whole.chunk_by(|a, b| copies(a) == copies(b)) {
            if several {
                lanes.meet(device)?;
            }
            self.give_all(tasks, None)?;
            self.queue(tasks, None)?;
        }
        self.end()
    }

    /// Queues `tasks`, from each exchange to the next portion by portion: what other GPUs need of
    /// one portion is on its way while the next ones are computed. Every other portion is behind
    /// the lane and fills what the one before it leaves idle; none of what follows an exchange goes
    /// before what all portions give to it.
    fn in_portions(&mut self, tasks: &[Task]) -> Result<()> {
        let (lanes, device) = (&self.network.lanes[self.d], &self.network.devices[self.d]);
        let several = !self.spans.are_taken();
        if several && !tasks.is_empty() {
            lanes.fork(device)?;
        }
        let mut stretches = stretches(tasks).peekable();
        while let Some(tasks) = stretches.next() {
            let next = stretches.peek().copied().unwrap_or_default();
            for portion in 0..self.network.layout.portions.count {
                self.queue(tasks, Some(portion))?;
                self.give_all(next, Some(portion))?;
            }
            if several {
                lanes.unite(device)?;
            }
        }
        Ok(())
    }

    fn queue(&mut self, tasks: &[Task], portion: Option<usize>) -> Result<()> {
        tasks.iter().try_for_each(|task| {
            let queued = match *task {
                Task::Join { layer, part, from } => self.join((layer, part, from), portion),
                Task::Forward { layer, part, .. } => self.forward((layer, part), portion),
                Task::Backward { layer, part, .. } => self.backward(layer, part),
                Task::Split { layer, below } => self.split(layer, below),
            };
            queued.with_context(|| self.name(*task))
        })
    }

    /// Lets other GPUs have what they need of this one for copies.
    fn give_all(&mut self, tasks: &[Task], portion: Option<usize>) -> Result<()> {
        tasks
            .iter()
            .try_for_each(|task| self.give(*task, portion).with_context(|| self.name(*task)))
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
        self.queue(&[task], None)
    }

    fn forward(&mut self, (layer, index): (usize, usize), portion: Option<usize>) -> Result<()> {
        let (network, step) = (self.network, self.step);
        let (part, parts) =
            (&network.plan.layers[layer].parts[index], network.layout.with(layer, index));
        if part.device != self.d || parts.is_empty() {
            return Ok(());
        }
        let behind = is_behind(portion);
        let stream = network.stream(part.tower, behind, self.spans);
        self.spans.time(&network.devices[self.d], layer, Direction::Forward, || {
            let what = What { layer, parts, behind, portion };
            network.launch(step, what, stream, |work, call| work.forward(call))
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
            let what = What { layer, parts: parts.clone(), behind: false, portion: None };
            self.spans.time(device, layer, Direction::Input, || {
                network.launch(step, what, lane, |work, call| work.backward_input(call))
            })?;
        }
        match behind {
            Some(behind) if !self.spans.are_taken() => self.behind(layer, parts, behind),
            Some(_) => {
                // In the lane, with the scratch space of what is else behind it.
                let what = What { layer, parts: parts.clone(), behind: true, portion: None };
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
        let what = What { layer, parts: parts.clone(), behind: true, portion: None };
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
}

/// Whether a task hands something on from tower to tower.
fn copies(task: &Task) -> bool {
    matches!(task, Task::Join { .. } | Task::Split { .. })
}
