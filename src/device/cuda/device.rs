//! A GPU: three streams (compute, upload, peer copies), its kernels, launches and events.
//!
//! Work on a stream runs in order and beside the host; streams are ordered among each other by
//! [`Event`]s alone, which the caller places. Nothing here waits for the GPU unless its name says so.

use super::compile::{Compiler, Constant};
use super::kernels::Source;
use super::memory::{Buffer, Pinned};
use super::{driver_error, library};
use anyhow::{Context, Result, bail};
use cudarc::driver::sys::{CUdevice_attribute, CUevent_flags};
use cudarc::driver::{
    CudaContext, CudaEvent, CudaFunction, CudaModule, CudaStream, DeviceRepr, LaunchConfig,
    PushKernelArg, result,
};
use cudarc::nvrtc::Ptx;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

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
    /// Where the next batch comes in.
    pub upload: Stream,
    /// Where copies to and from other GPUs run.
    pub peer: Stream,
}

impl Device {
    /// Opens GPU `index`. Errors: no driver, no such GPU (exit code 2), or what the driver says.
    pub fn open(index: usize, compiler: Arc<Compiler>) -> Result<Device> {
        let count = library::device_count()?;
        if index >= count {
            return Err(crate::config_error!(
                "there is no GPU {index}: this machine has {count}, counted from 0 \
                 (`alexnet devices` lists them)"
            ));
        }
        let open = || {
            let context = CudaContext::new(index)?;
            // SAFETY: buffers are `Buffer`s, which cudarc does not track; streams are ordered here.
            unsafe { context.disable_event_tracking() };
            let streams = [context.new_stream()?, context.new_stream()?, context.new_stream()?];
            let capability = context.compute_capability()?;
            let multiprocessors =
                context.attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
            Ok((context.name()?, capability, multiprocessors as usize, streams, context))
        };
        let (name, capability, multiprocessors, streams, context) =
            open().map_err(|e| driver_error(e, &format!("opening GPU {index}")))?;
        let [compute, upload, peer] = streams.map(|stream| Stream { stream });
        Ok(Device {
            context,
            compiler,
            modules: Mutex::default(),
            index,
            name,
            capability,
            multiprocessors,
            compute,
            upload,
            peer,
        })
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
        Ok(Event { event: event.map_err(|e| driver_error(e, "making an event"))? })
    }

    /// Waits until all work on this GPU is done. Errors of kernels come out here.
    pub fn wait(&self) -> Result<()> {
        self.context.synchronize().map_err(|e| driver_error(e, &format!("on GPU {}", self.index)))
    }

    /// The kernel `name` of `source`, compiled with these constants; compiled and loaded once.
    pub fn kernel(&self, source: Source, constants: &[Constant], name: &str) -> Result<Kernel> {
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
        Ok(Kernel { function, name: name.into() })
    }

    /// What compiles the kernels.
    pub fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    pub(super) fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }
}

/// A queue of work on one GPU.
pub struct Stream {
    stream: Arc<CudaStream>,
}

impl Stream {
    /// Work queued from now on waits for what `event` recorded last.
    pub fn wait_for(&self, event: &Event) -> Result<()> {
        self.stream.wait(&event.event).map_err(|e| driver_error(e, "ordering two streams"))
    }

    /// Records into `event` (of the same GPU) that all work queued so far is done.
    pub fn record(&self, event: &Event) -> Result<()> {
        event.event.record(&self.stream).map_err(|e| driver_error(e, "recording an event"))
    }

    /// Waits on the host until all work queued so far is done.
    pub fn wait(&self) -> Result<()> {
        self.stream.synchronize().map_err(|e| driver_error(e, "waiting for the GPU"))
    }

    /// Copies `values` into `buffer`, which has the same length, and waits.
    pub fn write<T: DeviceRepr>(&self, values: &[T], buffer: &Buffer<T>) -> Result<()> {
        // SAFETY: `values` live until the wait below.
        unsafe { self.write_later(values, buffer)? };
        self.wait()
    }

    /// Queues a copy of `values` into `buffer`, which has at least their length.
    ///
    /// # Safety
    /// `values` must live, unchanged, until the copy is done. From memory that is not pinned the
    /// copy may make the host wait.
    pub unsafe fn write_later<T: DeviceRepr>(
        &self,
        values: &[T],
        buffer: &Buffer<T>,
    ) -> Result<()> {
        self.check(buffer, values.len())?;
        let copy = || {
            self.stream.context().bind_to_thread()?;
            // SAFETY: the lengths were checked.
            unsafe { result::memcpy_htod_async(buffer.pointer(), values, self.stream.cu_stream()) }
        };
        copy().map_err(|e| driver_error(e, "copying to the GPU"))
    }

    /// Copies the first `values.len()` values of `buffer` to the host, and waits.
    pub fn read<T: DeviceRepr>(&self, buffer: &Buffer<T>, values: &mut [T]) -> Result<()> {
        // SAFETY: `values` live until the wait below.
        unsafe { self.read_later(buffer, values)? };
        self.wait()
    }

    /// Queues a copy of the first `values.len()` values of `buffer` to the host.
    ///
    /// # Safety
    /// `values` must live, untouched, until the copy is done.
    pub unsafe fn read_later<T: DeviceRepr>(
        &self,
        buffer: &Buffer<T>,
        values: &mut [T],
    ) -> Result<()> {
        self.check(buffer, values.len())?;
        let mut copy = || {
            self.stream.context().bind_to_thread()?;
            // SAFETY: the lengths were checked.
            unsafe { result::memcpy_dtoh_async(values, buffer.pointer(), self.stream.cu_stream()) }
        };
        copy().map_err(|e| driver_error(e, "copying from the GPU"))
    }

    /// Sets all bytes of `buffer` to 0.
    pub fn zero<T: DeviceRepr>(&self, buffer: &Buffer<T>) -> Result<()> {
        self.check(buffer, buffer.len())?;
        let fill = || {
            self.stream.context().bind_to_thread()?;
            // SAFETY: exactly the buffer's bytes.
            unsafe {
                result::memset_d8_async(
                    buffer.pointer(),
                    0,
                    buffer.bytes(),
                    self.stream.cu_stream(),
                )
            }
        };
        fill().map_err(|e| driver_error(e, "clearing memory on the GPU"))
    }

    /// Whether `buffer` is on this stream's GPU and holds `len` values.
    fn check<T: DeviceRepr>(&self, buffer: &Buffer<T>, len: usize) -> Result<()> {
        let device = self.stream.context().ordinal();
        if buffer.device() != device || buffer.len() < len {
            bail!(
                "a stream of GPU {device} is given {len} values for a buffer of {} on GPU {}; this \
                 is an error in the program",
                buffer.len(),
                buffer.device()
            );
        }
        Ok(())
    }

    pub(super) fn raw(&self) -> &Arc<CudaStream> {
        &self.stream
    }
}

/// A point in a stream's work.
pub struct Event {
    pub(super) event: CudaEvent,
}

impl Event {
    /// Waits on the host for the point that was recorded last.
    pub fn wait(&self) -> Result<()> {
        self.event.synchronize().map_err(|e| driver_error(e, "waiting for the GPU"))
    }

    /// Milliseconds of the GPU's time from this event to `end`, both timed. Waits for both.
    pub fn milliseconds_until(&self, end: &Event) -> Result<f32> {
        self.event.elapsed_ms(&end.event).map_err(|e| driver_error(e, "reading a GPU's time"))
    }
}

/// A compiled kernel, loaded on one GPU.
pub struct Kernel {
    function: CudaFunction,
    name: String,
}

impl Kernel {
    /// A launch with no arguments yet; they are added in the kernel's order.
    pub fn arguments(&self) -> Launch<'_> {
        Launch { kernel: self, words: Vec::new() }
    }
}

/// Arguments for one launch of a kernel.
pub struct Launch<'a> {
    kernel: &'a Kernel,
    // Each argument in the low bytes of a word: CUDA reads as many bytes as the parameter has.
    words: Vec<u64>,
}

impl Launch<'_> {
    /// A pointer to the buffer's first value.
    pub fn buffer<T: DeviceRepr>(mut self, buffer: &Buffer<T>) -> Self {
        self.words.push(buffer.pointer());
        self
    }

    /// A pointer to nothing, for a parameter that the kernel does not use as it is compiled.
    pub fn nothing(mut self) -> Self {
        self.words.push(0);
        self
    }

    /// A 32-bit whole number.
    pub fn word(mut self, value: u32) -> Self {
        self.words.push(value.into());
        self
    }

    /// A float.
    pub fn float(mut self, value: f32) -> Self {
        self.words.push(value.to_bits().into());
        self
    }

    /// Queues the launch: `grid` blocks of `block` threads.
    ///
    /// # Safety
    /// The arguments must be those of the kernel in number, order and type; buffers must have the
    /// sizes that the kernel's constants say, be on the stream's GPU, and live until the work is done.
    pub unsafe fn on(
        self,
        stream: &Stream,
        grid: (usize, usize, usize),
        block: (usize, usize, usize),
    ) -> Result<()> {
        let size = |(x, y, z): (usize, usize, usize)| -> Result<(u32, u32, u32)> {
            Ok((x.try_into()?, y.try_into()?, z.try_into()?))
        };
        let doing = || format!("kernel {}", self.kernel.name);
        let config = LaunchConfig {
            grid_dim: size(grid).with_context(doing)?,
            block_dim: size(block).with_context(doing)?,
            shared_mem_bytes: 0,
        };
        let mut launch = stream.raw().launch_builder(&self.kernel.function);
        for word in &self.words {
            launch.arg(word);
        }
        // SAFETY: promised by the caller.
        unsafe { launch.launch(config) }.map_err(|e| driver_error(e, &doing()))?;
        Ok(())
    }

    /// Queues the launch with one thread for each of `count` elements, in blocks of 256.
    ///
    /// # Safety
    /// As for [`Launch::on`].
    pub unsafe fn on_each(self, stream: &Stream, count: usize) -> Result<()> {
        // SAFETY: promised by the caller.
        unsafe { self.on(stream, (count.div_ceil(256), 1, 1), (256, 1, 1)) }
    }
}
