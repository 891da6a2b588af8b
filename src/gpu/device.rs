//! A GPU: its streams (for kernels, upload and peer copies), memory, kernels and events.

use super::compile::{Compiler, Constant};
use super::kernels::KernelSource;
use super::memory::{Buffer, Pinned};
use super::stream::{Event, Kernel, Stream};
use super::watch::watched;
use super::{driver_error, library};
use anyhow::Result;
use cudarc::driver::sys::{self, CUctx_flags_enum, CUdevice_attribute, CUevent_flags};
use cudarc::driver::{CudaContext, CudaModule, DeviceRepr, DriverError, result};
use cudarc::nvrtc::Ptx;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Streams for kernels that a GPU has.
pub const STREAMS: usize = 4;

/// One GPU.
pub struct Device {
    context: Arc<CudaContext>,
    compiler: Arc<Compiler>,
    modules: Mutex<HashMap<String, Arc<CudaModule>>>,
    /// Index, as in `cuda:0`.
    pub index: usize,
    /// Name, as in "NVIDIA A100-SXM4-40GB".
    pub name: String,
    /// Compute capability, e.g. (8, 0).
    pub capability: (i32, i32),
    /// Number of multiprocessors.
    pub multiprocessors: usize,
    /// Where kernels run.
    pub compute: Stream,
    /// Where kernels run beside those: the first like those, the others where they leave room.
    beside: [Stream; STREAMS - 1],
    /// Where the next batch comes in.
    pub upload: Stream,
    /// Where copies to and from other GPUs run.
    pub peer: Stream,
}

/// Lets a thread that waits for GPU `index` sleep meanwhile, where a driver would have it ask again
/// and again: the processors have the next batch to prepare.
fn wait_without_spinning(index: usize) -> Result<(), DriverError> {
    let device = result::device::get(index as i32)?;
    let flags = CUctx_flags_enum::CU_CTX_SCHED_BLOCKING_SYNC as u32;
    // SAFETY: the device is one that the driver has just named.
    unsafe { sys::cuDevicePrimaryCtxSetFlags_v2(device, flags) }.result()
}

impl Device {
    /// Opens GPU `index`. Errors: no driver, no such GPU (exit code 2), or what the driver says.
    pub fn open(index: usize, compiler: Arc<Compiler>) -> Result<Device> {
        let count = library::device_count()?;
        if index >= count {
            return Err(crate::config_error!(
                "there is no GPU {index}: this machine has {count}, counted from 0 \
                 ({} devices lists them)",
                crate::quoting::program()
            ));
        }
        let open = || {
            wait_without_spinning(index)?;
            let context = CudaContext::new(index)?;
            // SAFETY: what cudarc's events would order are its own slices, and there are none:
            // memory is in `Buffer`s, and streams are ordered by the events of this program.
            unsafe { context.disable_event_tracking() };
            let new = || context.new_stream();
            // Of blocks that wait for a place, those of the first two go first.
            let first = || context.new_stream_with_priority(-1);
            let streams = [first()?, new()?, new()?];
            let beside = [first()?, new()?, new()?];
            let capability = context.compute_capability()?;
            let multiprocessors =
                context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
            Ok((context.name()?, capability, multiprocessors as usize, streams, beside, context))
        };
        let (name, capability, multiprocessors, streams, beside, context) =
            open().map_err(|e| driver_error(e, &format!("opening GPU {index}")))?;
        let [compute, upload, peer] = streams.map(Stream::new);
        Ok(Device {
            context,
            compiler,
            modules: Mutex::default(),
            index,
            name,
            capability,
            multiprocessors,
            compute,
            beside: beside.map(Stream::new),
            upload,
            peer,
        })
    }

    /// One of the streams for kernels; the first is `compute`, and the first two go before the
    /// others.
    pub fn kernels(&self, index: usize) -> &Stream {
        if index == 0 { &self.compute } else { &self.beside[index - 1] }
    }

    /// Free and total memory in bytes.
    pub fn memory(&self) -> Result<(usize, usize)> {
        self.context.mem_get_info().map_err(|e| driver_error(e, "asking for the GPU's memory"))
    }

    /// Memory for `len` values; undefined until written.
    pub fn buffer<T: DeviceRepr>(&self, len: usize) -> Result<Buffer<T>> {
        Buffer::new(&self.context, len)
    }

    /// A new buffer that holds `values`. Waits for the copy.
    pub fn buffer_of<T: DeviceRepr>(&self, values: &[T]) -> Result<Buffer<T>> {
        let buffer = self.buffer(values.len())?;
        self.compute.write(values, &buffer)?;
        Ok(buffer)
    }

    /// Pinned host memory for `len` values, all default.
    pub fn pinned<T: DeviceRepr + Copy + Default>(&self, len: usize) -> Result<Pinned<T>> {
        Pinned::new(&self.context, len)
    }

    /// An event on this GPU. `timed`: [`Event::milliseconds_until`] can be asked.
    pub fn event(&self, timed: bool) -> Result<Event> {
        let flags = if timed {
            CUevent_flags::CU_EVENT_DEFAULT
        } else {
            CUevent_flags::CU_EVENT_DISABLE_TIMING
        };
        let event = self.context.new_event(Some(flags));
        Ok(Event::new(event.map_err(|e| driver_error(e, "making an event"))?))
    }

    /// Waits until all work on this GPU is done. Errors of kernels come out here.
    pub fn wait(&self) -> Result<()> {
        watched(self.index, || self.context.synchronize())
            .map_err(|e| driver_error(e, &format!("on GPU {}", self.index)))
    }

    /// The kernel `name` of `source`, compiled with these constants; compiled and loaded once.
    pub fn kernel(
        &self,
        source: KernelSource,
        constants: &[Constant],
        name: &str,
    ) -> Result<Kernel> {
        let key = format!("{} {constants:?}", source.name);
        // Not held while NVRTC works, so that several kernels are compiled side by side.
        let modules = || self.modules.lock().unwrap_or_else(|e| e.into_inner());
        let known = modules().get(&key).cloned();
        let module = match known {
            Some(module) => module,
            None => {
                let code = self.compiler.code(source, constants, self.capability)?;
                let module = self.context.load_module(Ptx::from_binary(code)).map_err(|e| {
                    driver_error(
                        e,
                        &format!("loading kernels/{} on GPU {}", source.name, self.index),
                    )
                })?;
                modules().insert(key, module.clone());
                module
            }
        };
        let function = module
            .load_function(name)
            .map_err(|e| driver_error(e, &format!("kernel {name} of kernels/{}", source.name)))?;
        Ok(Kernel::new(function, name))
    }

    /// What compiles the kernels.
    pub fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    pub(super) fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }
}
