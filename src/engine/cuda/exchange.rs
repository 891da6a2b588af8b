//! What towers hand on to each other, as work on a GPU's streams: activations into joined inputs and
//! gradients out of them. What one GPU needs of another is copied by the worker that needs it, after
//! the other has signalled that it is there.

use super::crossing::There;
use super::lanes::LANES;
use super::network::Network;
use super::pass::Pass;
use super::portions::is_behind;
use super::profile::Direction;
use crate::gpu::launch::Launch;
use crate::gpu::memory::Buffer;
use crate::gpu::stream::Stream;
use crate::network::{BufferId, Part, Task};
use anyhow::{Context, Result};

impl Network {
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
    /// Lets other GPUs have what they need of this one for a copy.
    pub(super) fn give(&mut self, task: Task, portion: Option<usize>) -> Result<()> {
        let (network, d) = (self.network, self.d);
        let (device, number) = (&network.devices[d], self.step.number);
        match task {
            Task::Join { layer, part, from } => {
                let crossing = network.crossings.of[layer][part][from].as_ref();
                let join = network.plan.layers[layer].parts[part].join.as_ref();
                let source = &join.expect("only joined parts have joins").from[from];
                match crossing.filter(|_| network.of(source.tower) == d) {
                    Some(crossing) => {
                        let written = &crossing.portions[portion.unwrap_or(0)].written;
                        written.give(&network.board, self.handing_on(portion), number)
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

    /// Where activations of a portion of the batch are handed on: the first lane, or behind it.
    fn handing_on(&self, portion: Option<usize>) -> &'a Stream {
        let device = &self.network.devices[self.d];
        let behind = is_behind(portion) && !self.spans.are_taken();
        if behind { device.kernels(LANES) } else { &device.compute }
    }

    /// One source's channels into the joined input.
    pub(super) fn join(
        &mut self,
        (layer, index, from): (usize, usize, usize),
        portion: Option<usize>,
    ) -> Result<()> {
        let (network, d) = (self.network, self.d);
        let part = &network.plan.layers[layer].parts[index];
        let source = &part.join.as_ref().expect("only joined parts have joins").from[from];
        let buffers = portion.map_or(&network.buffers, |p| &network.portions[p].buffers);
        let (device, y) = (&network.devices[d], &buffers[source.y]);
        let layout = &network.layout.parts[layer][index];
        let own = &layout.sources[from];
        let of_portion = layout.portion.as_ref().filter(|_| portion.is_some());
        // None: another makes all of the input.
        let Some(work) = of_portion.map_or(&own.join, |own| &own.joins[from]) else {
            return Ok(());
        };
        let x = &buffers[part.x];
        match &network.crossings.of[layer][index][from] {
            None if part.device == d => {
                let sources = part.join.iter().flat_map(|join| &join.from);
                let all = sources.map(|source| &buffers[source.y]);
                let all: Vec<_> =
                    if own.joins_both { all.chain([x]).collect() } else { vec![y, x] };
                let stream = network.stream(part.tower, is_behind(portion), self.spans);
                self.spans.time(device, layer, Direction::Copies, || copy(stream, work, &all))
            }
            Some(crossing) if part.device == d => {
                let There { there, there_free, written, arrived } =
                    &crossing.portions[portion.unwrap_or(0)];
                let written = written.of(&network.board, self.step.number)?;
                let link = &network.crossings.links[&(network.of(source.tower), d)];
                link.copy(y, there, &[written, there_free], arrived)?;
                let stream = self.handing_on(portion);
                self.spans.time(device, layer, Direction::Copies, || {
                    stream.wait_for(arrived)?;
                    copy(stream, work, &[there, x])?;
                    stream.record(there_free)
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
    pub(super) fn split(&mut self, layer: usize, below: usize) -> Result<()> {
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
