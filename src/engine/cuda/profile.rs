//! Time of each layer on one GPU, from events before and after its launches.

use crate::engine::LayerTime;
use crate::gpu::device::Device;
use crate::gpu::stream::Event;
use anyhow::Result;

/// Which of a layer's times.
#[derive(Clone, Copy, Debug)]
pub enum Direction {
    Forward,
    Input,
    Weights,
    Copies,
    Update,
}

/// The times that one worker takes. While it does, its device's lanes are one.
#[derive(Default)]
pub struct Spans {
    /// One a layer, while times are taken.
    times: Vec<LayerTime>,
    open: Vec<(usize, Direction, Event, Event)>,
}

/// Spans that may wait to be read: reading waits for the GPU.
const MOST_OPEN: usize = 10_000;

impl Spans {
    /// Begins anew, for so many layers.
    pub fn begin(&mut self, layers: usize) {
        *self = Spans { times: vec![LayerTime::default(); layers], open: Vec::new() };
    }

    /// Whether times are taken.
    pub fn are_taken(&self) -> bool {
        !self.times.is_empty()
    }

    /// Queues `work` and, while times are taken, an event on each side of it.
    pub fn time(
        &mut self,
        device: &Device,
        layer: usize,
        kind: Direction,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        if !self.are_taken() {
            return work();
        }
        let (begin, end) = (device.event(true)?, device.event(true)?);
        device.compute.record(&begin)?;
        work()?;
        device.compute.record(&end)?;
        self.open.push((layer, kind, begin, end));
        if self.open.len() >= MOST_OPEN { self.read().map(|_| ()) } else { Ok(()) }
    }

    /// The sums so far. Waits for the GPU.
    pub fn read(&mut self) -> Result<Vec<LayerTime>> {
        for (layer, kind, begin, end) in self.open.drain(..) {
            let seconds = f64::from(begin.milliseconds_until(&end)?) / 1e3;
            let times = &mut self.times[layer];
            *match kind {
                Direction::Forward => &mut times.forward,
                Direction::Input => &mut times.backward_input,
                Direction::Weights => &mut times.backward_weights,
                Direction::Copies => &mut times.copies,
                Direction::Update => &mut times.update,
            } += seconds;
        }
        Ok(self.times.clone())
    }
}
