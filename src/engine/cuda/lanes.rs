//! Towers that share a GPU side by side: each tower's work is queued in a lane, a stream of its own,
//! so that one tower's kernels fill what the other's leave idle. The lanes meet where a layer reads
//! both towers, and at both ends of a pass.

use crate::gpu::device::Device;
use crate::gpu::stream::{Event, Stream};
use crate::network::Plan;
use anyhow::Result;

/// Streams for kernels that a GPU has.
pub const LANES: usize = 2;

/// The lane of a tower: those on one device take turns.
pub fn lane(plan: &Plan, tower: usize) -> usize {
    let device = plan.devices[tower];
    plan.devices[..tower].iter().filter(|&&d| d == device).count() % LANES
}

/// The lanes of one device.
pub struct Lanes {
    /// Where each lane is, when they meet; none where the device has one tower.
    here: Option<[Event; LANES]>,
}

impl Lanes {
    pub fn new(plan: &Plan, d: usize, device: &Device) -> Result<Lanes> {
        let several = (0..plan.devices.len()).any(|t| plan.devices[t] == d && lane(plan, t) > 0);
        let both = || Ok::<_, anyhow::Error>([device.event(false)?, device.event(false)?]);
        Ok(Lanes { here: several.then(both).transpose()? })
    }

    /// The stream of a lane.
    pub fn stream<'a>(&self, device: &'a Device, lane: usize) -> &'a Stream {
        if lane == 0 { &device.compute } else { &device.beside }
    }

    /// All that is queued in any lane from now on comes after all that has been queued.
    pub fn meet(&self, device: &Device) -> Result<()> {
        let Some([own, other]) = &self.here else { return Ok(()) };
        device.compute.record(own)?;
        device.beside.wait_for(own)?;
        device.beside.record(other)?;
        device.compute.wait_for(other)
    }
}
