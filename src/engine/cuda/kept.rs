//! What forward passes came to, kept while the next one is already at work: evaluation asks for one
//! batch's probabilities when the batch after it has been queued.

use crate::gpu::device::Device;
use crate::gpu::memory::Buffer;
use crate::gpu::stream::Event;
use crate::network::BufferId;
use anyhow::{Context, Result};

/// Passes that are kept: the last one and the one before.
pub const PASSES: usize = 2;

/// What one forward pass came to, on the device with the loss.
pub struct Kept {
    /// The plan's probabilities, and the logits that they were made of.
    both: [(BufferId, Buffer<u8>); 2],
    done: Event,
}

impl Kept {
    /// For buffers of so many bytes.
    pub fn new(sizes: [(BufferId, usize); 2], device: &Device) -> Result<Kept> {
        let [a, b] = sizes;
        let buffer = |(id, bytes)| Ok::<_, anyhow::Error>((id, device.buffer(bytes)?));
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
