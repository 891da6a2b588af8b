//! The streams that one network's kernels run in on a GPU. Each tower's way from the input to the
//! loss and back is a lane of its own, so that towers that share a GPU fill what the other leaves
//! idle (of two GPUs portions of a batch do, `portions.rs`); gradients of weights and their update, for which nothing else of a pass waits, go behind
//! it in a second stream and after it where there is not room for both. On an H200 in bfloat16, 128
//! images: 28.3 thousand a second launch by launch in one stream, 30.1 as a graph, 34.6 with two
//! lanes, 35.5 with what is behind them. The lanes meet where a layer reads both towers, and at
//! both ends of a pass. Alike towers of small networks share launches (`Layout::together`), and
//! one lane.

use crate::gpu::device::{Device, STREAMS};
use crate::gpu::stream::Event;
use crate::network::{Plan, PlannedLayer};
use anyhow::Result;
use std::sync::Arc;

/// Lanes of a GPU: half of its streams for kernels, the other half is behind them.
pub const LANES: usize = STREAMS / 2;

/// The index of the stream that is a tower's lane, or of the one behind it. Towers on one device
/// take turns.
pub fn stream(plan: &Plan, tower: usize, behind: bool) -> usize {
    let device = plan.devices[tower];
    let lane = plan.devices[..tower].iter().filter(|&&d| d == device).count() % LANES;
    if behind { LANES + lane } else { lane }
}

/// The lanes of one device.
pub struct Lanes {
    /// How many are in use.
    used: usize,
    /// Where each stream is when others wait for it.
    here: Vec<Event>,
}

impl Lanes {
    /// Of device `d`; `one_lane`: of all its towers.
    pub fn new(plan: &Plan, d: usize, device: &Device, one_lane: bool) -> Result<Lanes> {
        let towers = plan.devices.iter().filter(|&&of| of == d).count();
        let towers = if one_lane { 1 } else { towers };
        let here = (0..STREAMS).map(|_| device.event(false)).collect::<Result<_>>()?;
        Ok(Lanes { used: towers.clamp(1, LANES), here })
    }

    /// All that is queued in any lane from now on comes after all that has been queued in them.
    pub fn meet(&self, device: &Device) -> Result<()> {
        // Of two lanes, each waits for where the other is. The first goes first: where it is being
        // captured, waiting for it is what takes the other in.
        device.compute.record(&self.here[0])?;
        (1..self.used).try_for_each(|lane| device.kernels(lane).wait_for(&self.here[0]))?;
        self.gather(device, 1..self.used)
    }

    /// As [`Lanes::meet`], and after what is behind the lanes for which `behind` says that
    /// something is.
    pub fn end(&self, device: &Device, behind: &[bool; STREAMS]) -> Result<()> {
        self.gather(device, (LANES..STREAMS).filter(|&index| behind[index]))?;
        self.meet(device)
    }

    /// What is queued behind the first lane from now on comes after all that has been queued in it.
    pub fn fork(&self, device: &Device) -> Result<()> {
        device.compute.record(&self.here[0])?;
        device.kernels(LANES).wait_for(&self.here[0])
    }

    /// What is queued in the first lane from now on comes after all that has been queued behind it.
    pub fn unite(&self, device: &Device) -> Result<()> {
        self.gather(device, LANES..=LANES)
    }

    /// The first lane waits for other streams.
    fn gather(&self, device: &Device, mut streams: impl Iterator<Item = usize>) -> Result<()> {
        streams.try_for_each(|index| {
            device.kernels(index).record(&self.here[index])?;
            device.compute.wait_for(&self.here[index])
        })
    }
}

/// What orders the work behind a lane at one part of a layer that learns.
pub struct Behind {
    /// In the lane: the gradient at the output is there.
    pub ready: Event,
    /// In the lane: the weights have been read for the last time.
    pub passed: Event,
    /// Behind it: the gradient at the output has been read for the last time.
    pub done: Event,
}

impl Behind {
    /// For each part of a layer; none where nothing learns.
    pub fn new(layer: &PlannedLayer, devices: &[Arc<Device>]) -> Result<Vec<Option<Behind>>> {
        let of_part = |device: &Device| {
            let event = || device.event(false);
            Ok(Behind { ready: event()?, passed: event()?, done: event()? })
        };
        let parts = layer.parts.iter();
        parts.map(|p| layer.learns().then(|| of_part(&devices[p.device])).transpose()).collect()
    }
}
