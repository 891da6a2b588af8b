//! The work of one pass that both halves and all processes take part in, as it is queued.

use super::layout::{Between, Gather};
use super::way::Way;
use crate::engine::cuda::network::Network;
use crate::engine::cuda::pass::{Pass, Step};
use crate::engine::cuda::profile::Spans;
use crate::engine::owned::times;
use crate::gpu::device::Device;
use crate::gpu::memory::Buffer;
use crate::gpu::nccl::Piece;
use crate::network::{BufferId, Share, Source, Task};
use anyhow::{Context, Result};
use std::ops::Range;

/// Memory for what travels.
pub struct Memory {
    /// The tops of the lower half's towers side by side, [own images, values].
    pub joined: Buffer<u8>,
    /// Blocks, one a process, of rows of neurons.
    pub wire: Buffer<u8>,
    /// Of sums of gradients the parts of all processes.
    pub parts: Buffer<u8>,
}

impl Memory {
    /// As much as the layout says.
    pub fn new(device: &Device, between: &Between) -> Result<Memory> {
        Ok(Memory {
            joined: device.buffer(between.joined)?,
            wire: device.buffer(between.wire)?,
            parts: device.buffer(between.parts)?,
        })
    }
}

/// What a pass is queued with.
pub struct Travel<'a> {
    pub below: &'a Network,
    pub above: &'a Network,
    pub between: &'a Between,
    pub memory: &'a Memory,
    pub way: &'a Way,
    pub sources: &'a [Source],
    pub share: Share,
    /// Each process's images, among those of all.
    pub images: &'a [Range<usize>],
}

/// Pieces of `buffer`, one a process.
fn pieces<'a>(buffer: &'a Buffer<u8>, ranges: &[Range<usize>]) -> Result<Vec<Piece<'a>>> {
    let piece = |(rank, range): (usize, &Range<usize>)| Piece::new(rank, buffer, range.clone());
    ranges.iter().enumerate().map(piece).collect()
}

/// The same bytes for each process.
fn to_all(buffer: &Buffer<u8>, bytes: usize, ranks: usize) -> Result<Vec<Piece<'_>>> {
    (0..ranks).map(|rank| Piece::new(rank, buffer, 0..bytes)).collect()
}

impl Travel<'_> {
    fn device(&self) -> &Device {
        &self.above.devices[0]
    }

    /// This process's images among those of all.
    fn own(&self) -> Range<usize> {
        self.images[self.share.rank].clone()
    }

    /// Queues the upper half's forward pass, from what the lower one leaves; in training the labels
    /// of all come with their images.
    pub fn upward(&self, step: &Step, spans: &mut Spans) -> Result<()> {
        let mut pass = Pass::new(self.above, 0, step, spans);
        pass.copies(0, || self.gather_images(step.backward)).context("gathering images")?;
        for task in &self.above.forward {
            let Task::Forward { layer, .. } = *task else { continue };
            if let Some(gather) = &self.between.gathers[layer] {
                let gathered = pass.copies(layer, || self.gather(layer, gather, step.run.batch));
                gathered.with_context(|| pass.name(*task))?;
            }
            pass.task(*task).with_context(|| pass.name(*task))?;
        }
        pass.end()
    }

    /// The upper half's input, of all images, and their labels.
    fn gather_images(&self, labels: bool) -> Result<()> {
        let (device, input) = (self.device(), self.above.plan.input);
        let x = self.above.plan.data[0];
        let each = input.len() * self.above.layout.buffers[x].format.bytes();
        let tops = self.sources.iter().map(|source| &self.below.buffers[source.y]);
        for (join, top) in self.between.joins.iter().zip(tops) {
            // SAFETY: the layout made the work for buffers of these sizes.
            unsafe { join.run(&device.compute, |a| a.buffer(top).buffer(&self.memory.joined))? };
        }
        let mine = match self.between.joins.is_empty() {
            true => &self.below.buffers[self.sources[0].y],
            false => &self.memory.joined,
        };
        let mut sent = to_all(mine, self.own().len() * each, self.share.ranks)?;
        let mut received = pieces(&self.above.buffers[x], &times(self.images, each))?;
        if labels {
            let label = size_of::<i32>();
            for (rank, range) in times(self.images, label).into_iter().enumerate() {
                let (mine, all) = (&self.below.loss.labels, &self.above.loss.labels);
                sent.push(Piece::new(rank, mine, 0..self.own().len() * label)?);
                received.push(Piece::new(rank, all, range)?);
            }
        }
        self.way.swap(device, &sent, &received)?;
        self.way.arrive(device)
    }

    /// What a layer reads of all processes' neurons, of so many images.
    fn gather(&self, layer: usize, gather: &Gather, images: usize) -> Result<()> {
        let (device, wire) = (self.device(), &self.memory.wire);
        let row = images * gather.forward.bytes();
        let (from, own) = (&self.above.buffers[gather.of.from], gather.of.own.len());
        let sent = to_all(from, own * row, self.share.ranks)?;
        let received = pieces(wire, &times(&self.share.each(gather.of.all), row))?;
        self.way.swap(device, &sent, &received)?;
        self.way.arrive(device)?;
        let x = &self.above.buffers[self.above.layout.places[layer][0].x];
        // SAFETY: the layout made the work for buffers of these sizes; there are no more images
        // than they have room for.
        unsafe {
            gather.rows.run(&device.compute, |a| a.buffer(wire).word(images as u32).buffer(x))
        }
    }

    /// Queues both halves' backward passes. Gradients of the upper half's weights are computed, and
    /// used, behind what goes on to the layers below.
    pub fn downward(
        &self,
        (below, of_below): (&Step, &mut Spans),
        (above, of_above): (&Step, &mut Spans),
    ) -> Result<()> {
        let images = above.run.batch;
        let mut pass = Pass::new(self.above, 0, above, of_above);
        for task in &self.above.backward {
            let Task::Backward { layer, .. } = *task else { continue };
            pass.task(*task).with_context(|| pass.name(*task))?;
            let dx = self.above.layout.places[layer][0].dx;
            match (dx, &self.between.gathers[layer]) {
                (Some(dx), Some(gather)) => self.scatter(&mut pass, (layer, dx), gather, images),
                (Some(dx), None) if layer == 0 => self.scatter_images(&mut pass, dx),
                _ => Ok(()),
            }
            .with_context(|| pass.name(*task))?;
        }
        if below.run.batch > 0 {
            Pass::new(self.below, 0, below, of_below).run(&self.below.backward)?;
        } else if let Some(sums) = &below.sums {
            self.below.add_nothing(0, sums)?;
        }
        pass.end()
    }

    /// The gradient at this process's neurons in the layer below, of that at all of them, or of all
    /// processes' parts of it.
    fn scatter<'a>(
        &'a self,
        pass: &mut Pass<'a>,
        (layer, dx): (usize, BufferId),
        gather: &Gather,
        images: usize,
    ) -> Result<()> {
        let (device, dx) = (self.device(), &self.above.buffers[dx]);
        let dy = self.above.layout.places[layer - 1][0].dy;
        let (Some(dy), Some(own)) = (dy, &gather.own) else { return Ok(()) };
        let to = &self.above.buffers[dy];
        let Some(blocks) = &gather.blocks else {
            pass.free(dy, 0)?;
            return pass.copies(layer, || {
                // SAFETY: the layout made the work for buffers of these sizes.
                unsafe { own.run(&device.compute, |a| a.buffer(dx).buffer(to)) }
            });
        };
        let Memory { wire, parts, .. } = self.memory;
        let row = images * gather.back.bytes();
        let mine = gather.of.own.len() * row;
        let ranks: Vec<_> = (0..self.share.ranks).map(|rank| rank..rank + 1).collect();
        pass.copies(layer, || {
            // SAFETY: as above; there are no more images than there is room for.
            unsafe {
                blocks.run(&device.compute, |a| a.buffer(dx).word(images as u32).buffer(wire))?;
            }
            let sent = pieces(wire, &times(&self.share.each(gather.of.all), row))?;
            self.way.swap(device, &sent, &pieces(parts, &times(&ranks, mine))?)
        })?;
        pass.free(dy, 0)?;
        pass.copies(layer, || {
            self.way.arrive(device)?;
            // SAFETY: as above; each process's part has as many images.
            unsafe { own.run(&device.compute, |a| a.buffer(parts).word(images as u32).buffer(to)) }
        })
    }

    /// The gradient at the tops of the lower half, of this process's images: out of all processes'
    /// parts of it.
    fn scatter_images<'a>(&'a self, pass: &mut Pass<'a>, dx: BufferId) -> Result<()> {
        let (device, parts) = (self.device(), &self.memory.parts);
        let input = self.above.plan.input;
        let each = input.len() * self.above.layout.buffers[dx].format.bytes();
        let mine = self.own().len();
        let ranks: Vec<_> = (0..self.share.ranks).map(|rank| rank..rank + 1).collect();
        pass.copies(0, || {
            let sent = pieces(&self.above.buffers[dx], &times(self.images, each))?;
            self.way.swap(device, &sent, &pieces(parts, &times(&ranks, mine * each))?)?;
            self.way.arrive(device)?;
            let pixels = (mine * input.pixels()) as u32;
            for (top, source) in self.between.tops.iter().zip(self.sources) {
                let Some(dy) = source.dy else { continue };
                let dy = &self.below.buffers[dy];
                // SAFETY: the layout made the work for a gradient of this size; each process's part
                // has as many pixels.
                unsafe { top.run(&device.compute, |a| a.buffer(parts).word(pixels).buffer(dy))? };
            }
            Ok(())
        })
    }
}
