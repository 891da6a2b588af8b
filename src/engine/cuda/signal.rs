//! Order between the workers of several GPUs. On the GPUs events order the work; but an event can
//! be waited for only after it was recorded, and another thread does that.

use crate::gpu::device::Device;
use crate::gpu::stream::{Event, Stream};
use anyhow::Result;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard};

/// The error of a worker that waits for a signal when another worker has failed.
#[derive(Debug)]
pub struct GaveUp;

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another GPU's worker has failed")
    }
}

impl std::error::Error for GaveUp {}

/// What all signals of one network share.
#[derive(Default)]
pub struct Board {
    state: Mutex<Given>,
    changed: Condvar,
}

#[derive(Default)]
struct Given {
    /// For each signal the last step in which it was given.
    given: Vec<u64>,
    failed: bool,
}

impl Board {
    fn state(&self) -> MutexGuard<'_, Given> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Lets all that wait give up: a worker has failed.
    pub fn fail(&self) {
        self.state().failed = true;
        self.changed.notify_all();
    }

    /// Whether a worker has failed.
    pub fn has_failed(&self) -> bool {
        self.state().failed
    }

    /// A signal that work on `device` gives once a step.
    pub fn signal(&self, device: &Device) -> Result<Signal> {
        let mut state = self.state();
        state.given.push(0);
        Ok(Signal { index: state.given.len() - 1, event: device.event(false)? })
    }
}

/// A point in one GPU's step that another one waits for.
pub struct Signal {
    index: usize,
    event: Event,
}

impl Signal {
    /// In step `step` all that is queued on `stream` so far counts.
    pub fn give(&self, board: &Board, stream: &Stream, step: u64) -> Result<()> {
        stream.record(&self.event)?;
        board.state().given[self.index] = step;
        board.changed.notify_all();
        Ok(())
    }

    /// The event of step `step`, as soon as the other worker has recorded it; the host does not
    /// wait for the GPU.
    pub fn of(&self, board: &Board, step: u64) -> Result<&Event> {
        let mut state = board.state();
        while state.given[self.index] < step {
            if state.failed {
                return Err(GaveUp.into());
            }
            state = board.changed.wait(state).unwrap_or_else(|e| e.into_inner());
        }
        Ok(&self.event)
    }
}
