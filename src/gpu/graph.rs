//! Work that is queued as a whole (CUDA graphs): the driver is given a pass's launches in one call,
//! and one launch follows another on the GPU sooner than launches that are queued one by one.
//!
//! What is queued is captured anew each time, since its arguments change (seeds, rates, the number
//! of images), and takes the place of what was captured before; the host has time for that while
//! the GPU is at the pass before.

use super::driver_error;
use super::stream::Stream;
use super::watch::watched;
use anyhow::Result;
use cudarc::driver::sys::{
    CUgraph, CUgraphExec, CUgraphExecUpdateResultInfo, CUgraphInstantiate_flags_enum,
    CUstreamCaptureMode,
};
use cudarc::driver::{CudaContext, DriverError, result, sys};
use std::sync::Arc;

/// A pass that is queued again and again.
#[derive(Default)]
pub struct Graph {
    ready: Option<Executable>,
    /// The driver does not capture it, or has no room for it: it is queued launch by launch.
    refused: bool,
}

impl Graph {
    /// Queues on `stream` what `work` queues there and on streams that wait for it and that it
    /// waits for. `work` must not wait on the host, nor for what was recorded outside of it; it is
    /// called a second time where the driver does not take it as a whole.
    pub fn queue(&mut self, stream: &Stream, work: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        if self.refused {
            return work();
        }
        let captured = Captured::new(stream, work)?;
        let Ok(ready) = captured.and_then(|captured| self.ready(stream, &captured)) else {
            *self = Graph { ready: None, refused: true };
            return work();
        };
        // SAFETY: the graph was made for this stream's context, and giving it back waits for the
        // context's work.
        let launched = unsafe { result::graph::launch(ready, stream.raw().cu_stream()) };
        launched.map_err(|e| driver_error(e, "queueing a pass"))
    }

    /// What is ready to be launched, as `captured` has it.
    fn ready(&mut self, stream: &Stream, captured: &Captured) -> Result<CUgraphExec, DriverError> {
        match &self.ready {
            Some(ready) if ready.update(captured) => Ok(ready.exec),
            _ => Ok(self.ready.insert(Executable::new(stream, captured)?).exec),
        }
    }
}

/// What one call has queued.
struct Captured(CUgraph);

impl Captured {
    /// `Ok(Err(_))`: the driver does not capture `work`, nothing of which is queued then.
    fn new(
        stream: &Stream,
        work: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Result<Captured, DriverError>> {
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        if let Err(error) = stream.raw().begin_capture(mode) {
            return Ok(Err(error));
        }
        let queued = work();
        // SAFETY: the stream is capturing, and its context is this thread's since then.
        let graph = unsafe { result::stream::end_capture(stream.raw().cu_stream()) };
        match (queued, graph) {
            // The capture has failed, and with it whatever was queued after that.
            (_, Err(error)) => Ok(Err(error)),
            (queued, Ok(graph)) => {
                let captured = Captured(graph);
                queued.map(|()| Ok(captured))
            }
        }
    }
}

impl Drop for Captured {
    fn drop(&mut self) {
        // SAFETY: `new` was given it, and nobody else gives it back.
        let _ = unsafe { result::graph::destroy(self.0) };
    }
}

/// A captured pass as the driver keeps it ready.
struct Executable {
    exec: CUgraphExec,
    context: Arc<CudaContext>,
}

impl Executable {
    fn new(stream: &Stream, captured: &Captured) -> Result<Executable, DriverError> {
        // What goes first among the streams goes first in the graph, too.
        let flags = CUgraphInstantiate_flags_enum::CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;
        // SAFETY: the graph was captured a moment ago and is whole.
        let exec = unsafe { result::graph::instantiate(captured.0, flags) }?;
        Ok(Executable { exec, context: stream.raw().context().clone() })
    }

    /// Takes the arguments of `captured`, if it is the same work else.
    fn update(&self, captured: &Captured) -> bool {
        let mut info = CUgraphExecUpdateResultInfo {
            result: sys::CUgraphExecUpdateResult::CU_GRAPH_EXEC_UPDATE_SUCCESS,
            errorNode: std::ptr::null_mut(),
            errorFromNode: std::ptr::null_mut(),
        };
        // SAFETY: both are whole; the driver writes what came of it to where it is told.
        unsafe { sys::cuGraphExecUpdate_v2(self.exec, captured.0, &mut info) }.result().is_ok()
    }
}

// SAFETY: whoever holds it may use it from any thread, one after the other.
unsafe impl Send for Executable {}

impl Drop for Executable {
    fn drop(&mut self) {
        let wait = || self.context.synchronize();
        if self.context.bind_to_thread().is_ok() && watched(self.context.ordinal(), wait).is_ok() {
            // SAFETY: `new` made it, nobody else gives it back, and no launch of it is under way.
            let _ = unsafe { result::graph::exec_destroy(self.exec) };
        }
    }
}
