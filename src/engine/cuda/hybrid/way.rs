//! How activations and parts of sums go from one process's GPU to another's: by NCCL, on its own
//! stream, between two events of the stream for kernels.

use crate::engine::cuda::network::Network;
use crate::engine::cuda::sums::Sums;
use crate::gpu::device::Device;
use crate::gpu::nccl::{Communicator, Id, Nccl, Piece};
use crate::gpu::stream::Event;
use anyhow::{Context, Result};
use std::sync::Arc;

/// The other processes' GPUs.
pub struct Way {
    /// What adds up the lower half's gradients; it has the communicator.
    pub sums: Arc<Sums>,
    /// What is sent is there, and there is room for what is received.
    ready: Event,
    done: Event,
}

impl Way {
    /// See [`Engine::connect`](crate::engine::Engine::connect).
    pub fn connect(
        below: &Network,
        nccl: &Arc<Nccl>,
        ids: &[Id],
        place: (usize, usize),
    ) -> Result<Way> {
        let device = &below.devices[0];
        let sums = Arc::new(Sums::connect(below, nccl, ids, place)?);
        sums.way(0).context("no GPU is connected")?.check_swaps()?;
        Ok(Way { sums, ready: device.event(false)?, done: device.event(false)? })
    }

    fn communicator(&self) -> Result<&Communicator> {
        self.sums.way(0).context("no GPU is connected; this is an error in the program")
    }

    /// Queues that pieces go to other processes and come from them, behind what kernels have been
    /// queued. [`Way::arrive`] waits for them.
    pub fn swap(&self, device: &Device, sent: &[Piece<'_>], received: &[Piece<'_>]) -> Result<()> {
        device.compute.record(&self.ready)?;
        self.communicator()?.swap((sent, received), &self.ready, &self.done)
    }

    /// Kernels that are queued from now on find what was received.
    pub fn arrive(&self, device: &Device) -> Result<()> {
        device.compute.wait_for(&self.done)
    }
}
