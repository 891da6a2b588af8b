//! What forward passes came to, kept while the next one is already at work: evaluation asks for one
//! batch's probabilities when the batch after it has been queued.

use super::layout::Layout;
use crate::gpu::device::Device;
use crate::gpu::memory::Buffer;
use crate::gpu::stream::Event;
use crate::network::{BufferId, Plan};
use anyhow::{Context, Result};

/// Passes that are kept: the last one and the one before.
pub const PASSES: usize = 2;

/// What one forward pass came to, on the device with the loss.
pub struct Kept {
    /// The plan's probabilities, and the logits that they were made of.
    both: [(BufferId, Buffer<u8>); 2],
    done: Event,
}

/// The buffers that are kept.
fn kept(plan: &Plan) -> [BufferId; 2] {
    [plan.probabilities(), plan.logits()]
}

/// The bytes of one of the plan's buffers.
fn bytes(layout: &Layout, id: BufferId) -> usize {
    let stored = layout.buffers[id];
    stored.values * layout.images * stored.format.bytes()
}

impl Kept {
    /// Bytes of each buffer of all kept passes.
    pub fn bytes(plan: &Plan, layout: &Layout) -> Vec<usize> {
        (0..PASSES).flat_map(|_| kept(plan)).map(|id| bytes(layout, id)).collect()
    }

    pub fn new(plan: &Plan, layout: &Layout, device: &Device) -> Result<Kept> {
        let [a, b] = kept(plan);
        let buffer = |id| Ok::<_, anyhow::Error>((id, device.buffer(bytes(layout, id))?));
        Ok(Kept { both: [buffer(a)?, buffer(b)?], done: device.event(false)? })
    }

    /// Queues, behind the pass on the compute stream, the copies of what it came to.
    pub fn take(&self, device: &Device, buffers: &[Buffer<u8>]) -> Result<()> {
        for (id, own) in &self.both {
            device.compute.copy(&buffers[*id], own)?;
        }
        device.compute.record(&self.done)
    }

    /// The first bytes of one of the buffers; waits for the pass alone.
    pub fn read(&self, device: &Device, id: BufferId, bytes: &mut [u8]) -> Result<()> {
        let own = self.both.iter().find(|(own, _)| *own == id);
        let (_, own) = own.context("a pass keeps no such buffer; an error in the program")?;
        // The upload stream is empty between two calls of the engine.
        device.upload.wait_for(&self.done)?;
        device.upload.read(own, bytes)
    }
}
