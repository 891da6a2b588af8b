//! Layer-wise rates on GPUs (`train.optimizer = "lars"`, kernels/lars.cu; the formula and its
//! source are in `engine/cpu/lars.rs`). A layer is one on all its towers: where these are on two
//! GPUs, each is given the other's sums of squares, and both come to the same rates.

use super::layout::Layout;
use super::norms::{Norms, SLOT};
use super::signal::{Board, Signal};
use crate::gpu::device::Device;
use crate::gpu::link::Link;
use crate::gpu::memory::Buffer;
use crate::gpu::stream::{Event, Stream};
use crate::layers::Rule;
use crate::layers::cuda::ParameterBuffers;
use crate::network::{Part, Plan, PlannedLayer};
use anyhow::{Context, Result};
use std::sync::Arc;

/// One network's sums and rates.
pub struct Lars {
    devices: Vec<OnDevice>,
    /// `[layer][part]`: the slot of its sums.
    slots: Vec<Vec<usize>>,
    /// `[layer][part]`: rate and decay, where it learns.
    scaled: Vec<Vec<Option<Buffer<f32>>>>,
}

/// What one device has.
struct OnDevice {
    /// `[slot][256][2]`: sums of its own parts.
    own: Buffer<f64>,
    other: Option<Other>,
}

/// The other device's sums on this one.
struct Other {
    sums: Buffer<f64>,
    link: Link,
    /// On the other one: they are there.
    written: Signal,
    arrived: Event,
    /// Here: they have been read.
    read: Event,
}

impl Lars {
    /// None: all layers have the rate of the schedule.
    pub fn new(plan: &Plan, devices: &[Arc<Device>], board: &Board) -> Result<Option<Lars>> {
        if !plan.lars {
            return Ok(None);
        }
        let mut count = 0..;
        let of_layer = |layer: &PlannedLayer| count.by_ref().take(layer.parts.len()).collect();
        let slots: Vec<Vec<usize>> = plan.layers.iter().map(of_layer).collect();
        let values = count.start * SLOT;
        let other = |d: usize| -> Result<Other> {
            let (there, here) = (&devices[1 - d], &devices[d]);
            let link = Link::open(there, here, values * size_of::<f64>())?;
            let arrived = link.event()?;
            let written = board.signal(there)?;
            Ok(Other {
                sums: here.buffer(values)?,
                link,
                written,
                arrived,
                read: here.event(false)?,
            })
        };
        let on_device = |(d, device): (usize, &Arc<Device>)| -> Result<OnDevice> {
            let own = device.buffer(values)?;
            // All of it crosses, what nobody reads, too.
            device.compute.zero(&own)?;
            Ok(OnDevice { own, other: (devices.len() == 2).then(|| other(d)).transpose()? })
        };
        let scaled = plan.layers.iter().map(|layer| {
            let of_part =
                |part: &Part| layer.learns().then(|| devices[part.device].buffer(2)).transpose();
            layer.parts.iter().map(of_part).collect()
        });
        Ok(Some(Lars {
            devices: devices.iter().enumerate().map(on_device).collect::<Result<_>>()?,
            slots,
            scaled: scaled.collect::<Result<_>>()?,
        }))
    }

    /// Queues the sums of a part of a layer, on its device.
    pub fn add_up(
        &self,
        (layer, part, d): (usize, usize, usize),
        norms: &Norms,
        stream: &Stream,
        parameters: &ParameterBuffers,
    ) -> Result<()> {
        let gradient = parameters.gradient.as_ref().context("no gradients in evaluation")?;
        let slot = self.slots[layer][part];
        // SAFETY: both have COUNT values, and there is a slot for every part.
        unsafe {
            norms.squares.run(stream, |a| {
                let a = a.buffer(&parameters.value[0]).buffer(&gradient[0]);
                a.buffer(&self.devices[d].own).word(slot as u32)
            })
        }
    }

    /// Before device `d` adds up again: the other one has its last sums.
    pub fn begin(&self, d: usize, stream: &Stream) -> Result<()> {
        let other = (self.devices.len() == 2).then(|| &self.devices[1 - d]);
        other
            .and_then(|other| other.other.as_ref())
            .map_or(Ok(()), |other| stream.wait_for(&other.arrived))
    }

    /// The sums of all parts on device `d` are queued, before what comes on `stream`; from now on
    /// it finds those of the other device, too. `number` counts updates. False: there is none.
    pub fn exchange(&self, d: usize, stream: &Stream, board: &Board, number: u64) -> Result<bool> {
        let Some(mine) = &self.devices[d].other else { return Ok(false) };
        let there = &self.devices[1 - d];
        if let Some(other) = &there.other {
            other.written.give(board, stream, number)?;
        }
        let written = mine.written.of(board, number)?;
        mine.link.copy(&there.own, &mine.sums, &[written, &mine.read], &mine.arrived)?;
        stream.wait_for(&mine.arrived).map(|()| true)
    }

    /// Device `d` has queued on `stream` all that reads the other's sums.
    pub fn end(&self, d: usize, stream: &Stream) -> Result<()> {
        self.devices[d].other.as_ref().map_or(Ok(()), |other| stream.record(&other.read))
    }

    /// Queues a part's rate and decay, the `rule`'s times the layer's ratio with this
    /// `coefficient`.
    pub fn scale(
        &self,
        plan: &Plan,
        (layer, part): (usize, usize),
        layout: &Layout,
        stream: &Stream,
        (coefficient, rule): (f32, Rule),
    ) -> Result<&Buffer<f32>> {
        let d = plan.layers[layer].parts[part].device;
        let norms = |part: usize| layout.parts[layer][part].norms.as_ref();
        // The parts in their order, wherever they are.
        let sums = |part: usize| {
            let own = &self.devices[d];
            let theirs = own.other.as_ref().map_or(&own.own, |other| &other.sums);
            let sums = if plan.layers[layer].parts[part].device == d { &own.own } else { theirs };
            norms(part).map(|norms| (sums, self.slots[layer][part] as u32, norms.blocks as u32))
        };
        let missing = "a layer without its sums; this is an error in the program";
        let (first, slot, blocks) = sums(0).context(missing)?;
        let second = (plan.layers[layer].parts.len() > 1).then(|| sums(1)).flatten();
        let scaled = self.scaled[layer][part].as_ref().context(missing)?;
        // SAFETY: both have a slot for every part, of which as many blocks were written; there are
        // two values to write.
        unsafe {
            norms(part).context(missing)?.trust.run(stream, |a| {
                let a = a.buffer(first).word(slot).word(blocks);
                let (_, slot, blocks) = second.unwrap_or((first, 0, 0));
                let a = a.optional(second.map(|s| s.0)).word(slot).word(blocks);
                a.float(coefficient).float(rule.decay).float(rule.rate).buffer(scaled)
            })?;
        }
        Ok(scaled)
    }
}
