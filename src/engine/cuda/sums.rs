//! Gradients added up over several processes on the GPUs themselves, by NCCL: those of a layer's
//! part as soon as they are queued, on a stream of their own, while layers below are computed. The
//! part's update waits for its own sums alone, and the host for none.

use super::network::Network;
use crate::gpu::device::Device;
use crate::gpu::nccl::{Communicator, Id, Nccl};
use crate::gpu::stream::{Event, Stream};
use crate::layers::cuda::ParameterBuffers;
use crate::network::Task;
use anyhow::{Context, Result};
use std::sync::Arc;

/// How one network's gradients are added up.
pub struct Sums {
    /// Of each device.
    ways: Vec<Communicator>,
    /// `[layer][part]`, of those that learn.
    events: Vec<Vec<Option<Events>>>,
}

/// What orders the sums of one part.
struct Events {
    /// Its gradients are there.
    ready: Event,
    /// Their sums are.
    summed: Event,
}

impl Sums {
    /// Connects each GPU of this process with those of the others: `ids`, one a device, and this
    /// process's rank and how many there are.
    pub fn connect(
        network: &Network,
        nccl: &Arc<Nccl>,
        ids: &[Id],
        place: (usize, usize),
    ) -> Result<Sums> {
        let connect = |(device, id): (&Arc<Device>, &Id)| {
            let connected = Communicator::connect(nccl, device, *id, place);
            connected.with_context(|| format!("on GPU {}", device.index))
        };
        let ways = network.devices.iter().zip(ids).map(connect).collect::<Result<_>>()?;
        let event = |d: usize| network.devices[d].event(false);
        let events = network.plan.layers.iter().map(|layer| {
            let of_part = |d| Ok(Events { ready: event(d)?, summed: event(d)? });
            let parts = layer.parts.iter();
            parts.map(|part| layer.learns().then(|| of_part(part.device)).transpose()).collect()
        });
        Ok(Sums { ways, events: events.collect::<Result<_>>()? })
    }

    /// How device `d` reaches those of the other processes.
    pub fn way(&self, d: usize) -> Option<&Communicator> {
        self.ways.get(d)
    }

    fn events(&self, layer: usize, part: usize) -> Result<&Events> {
        self.events[layer][part].as_ref().context("a layer learns nothing; an error in the program")
    }

    /// The gradients of a part are queued on `stream`, on device `d`: on their way from now on.
    pub fn send(
        &self,
        (layer, part, d): (usize, usize, usize),
        stream: &Stream,
        parameters: &ParameterBuffers,
    ) -> Result<()> {
        let Events { ready, summed } = self.events(layer, part)?;
        let gradient = parameters.gradient.as_ref().context("in evaluation nothing is summed")?;
        stream.record(ready)?;
        self.ways[d].sum(&[&gradient[0], &gradient[1]], ready, summed)
    }

    /// What is queued on `stream` from now on finds the sums of a part.
    pub fn wait_for(&self, layer: usize, part: usize, stream: &Stream) -> Result<()> {
        stream.wait_for(&self.events(layer, part)?.summed)
    }
}

impl Network {
    /// Queues what device `d` adds to the sums of a batch of which this process has no image:
    /// zeros.
    pub fn add_nothing(&self, d: usize, sums: &Sums) -> Result<()> {
        for task in &self.backward {
            let Task::Backward { layer, part, .. } = *task else { continue };
            let planned = &self.plan.layers[layer];
            if planned.parts[part].device != d || !planned.learns() {
                continue;
            }
            let parameters = self.parameters[layer][part].as_ref().context("a layer without")?;
            let stream = &self.devices[d].compute;
            for gradient in parameters.gradient.iter().flatten() {
                stream.zero(gradient)?;
            }
            sums.send((layer, part, d), stream, parameters)?;
        }
        Ok(())
    }
}
