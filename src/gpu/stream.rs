//! What a GPU's work is queued on: streams, the events that order them, and kernels with their
//! arguments.
//!
//! Work on a stream runs in order and beside the host; streams are ordered among each other by
//! [`Event`]s alone, which the caller places. Nothing here waits for the GPU unless its name says
//! so.

use super::driver_error;
use super::memory::Buffer;
use super::watch::{watched, watched_pass};
use anyhow::{Context, Result, bail};
use cudarc::driver::sys::CUfunction_attribute;
use cudarc::driver::{
    CudaEvent, CudaFunction, CudaStream, DeviceRepr, LaunchConfig, PushKernelArg, result,
};
use std::sync::Arc;

/// A queue of work on one GPU.
pub struct Stream {
    stream: Arc<CudaStream>,
}

impl Stream {
    pub(super) fn new(stream: Arc<CudaStream>) -> Stream {
        Stream { stream }
    }

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
        let wait = || self.stream.synchronize();
        watched(self.stream.context().ordinal(), wait)
            .map_err(|e| driver_error(e, "waiting for the GPU"))
    }

    /// Copies `values` into `buffer`, which has the same length, and waits.
    pub fn write<T: DeviceRepr>(&self, values: &[T], buffer: &Buffer<T>) -> Result<()> {
        // SAFETY: the wait below ends the copy while `values` are still borrowed.
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
            // SAFETY: `check` found room for `values` in a buffer of this stream's GPU; the caller
            // keeps them until the copy is done.
            unsafe { result::memcpy_htod_async(buffer.pointer(), values, self.stream.cu_stream()) }
        };
        copy().map_err(|e| driver_error(e, "copying to the GPU"))
    }

    /// Copies the first `values.len()` values of `buffer` to the host, and waits.
    pub fn read<T: DeviceRepr>(&self, buffer: &Buffer<T>, values: &mut [T]) -> Result<()> {
        // SAFETY: the wait below ends the copy while `values` are still borrowed, by nobody else.
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
            // SAFETY: `check` found as many values in a buffer of this stream's GPU; the caller
            // leaves their memory alone until the copy is done.
            unsafe { result::memcpy_dtoh_async(values, buffer.pointer(), self.stream.cu_stream()) }
        };
        copy().map_err(|e| driver_error(e, "copying from the GPU"))
    }

    /// Queues a copy of all of `source` to the beginning of `target`, both on this stream's GPU.
    pub fn copy<T: DeviceRepr>(&self, source: &Buffer<T>, target: &Buffer<T>) -> Result<()> {
        self.check(source, source.len())?;
        self.check(target, source.len())?;
        let copy = || {
            self.stream.context().bind_to_thread()?;
            let (to, from) = (target.pointer(), source.pointer());
            // SAFETY: `check` found both on this GPU and the target no shorter; giving either back
            // waits for the copy.
            unsafe { result::memcpy_dtod_async(to, from, source.bytes(), self.stream.cu_stream()) }
        };
        copy().map_err(|e| driver_error(e, "copying on the GPU"))
    }

    /// Sets all bytes of `buffer` to 0.
    pub fn zero<T: DeviceRepr>(&self, buffer: &Buffer<T>) -> Result<()> {
        self.check(buffer, buffer.len())?;
        let fill = || {
            self.stream.context().bind_to_thread()?;
            // SAFETY: exactly the buffer's bytes are set, on its own GPU; all bits 0 are a value of
            // every type that a kernel takes.
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
    event: CudaEvent,
}

impl Event {
    pub(super) fn new(event: CudaEvent) -> Event {
        Event { event }
    }

    /// Waits on the host for the point that was recorded last, the end of a pass.
    pub fn wait(&self) -> Result<()> {
        watched_pass(self.event.context().ordinal(), || self.event.synchronize())
            .map_err(|e| driver_error(e, "waiting for the GPU"))
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
    pub fn arguments(&self) -> Arguments<'_> {
        Arguments { kernel: self, all: Vec::new(), shared: 0 }
    }

    /// Lets launches ask for so many bytes of shared memory; without it 48 KiB are the most.
    pub fn allow_shared(&self, bytes: usize) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let most = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        let allowed = self.function.set_attribute(most, bytes as i32);
        allowed.map_err(|e| driver_error(e, &format!("shared memory for kernel {}", self.name)))
    }

    pub(super) fn new(function: CudaFunction, name: &str) -> Kernel {
        Kernel { function, name: name.into() }
    }
}

/// The arguments of one launch of a kernel.
pub struct Arguments<'a> {
    kernel: &'a Kernel,
    all: Vec<Argument>,
    shared: usize,
}

/// One argument, of each tower that the launch is for, each in the low bytes of a word: CUDA reads
/// as many bytes as the parameter has.
#[derive(Clone, Copy)]
pub(super) struct Argument {
    words: Words,
    /// Each tower has its own (`EACH` in `kernels/real.cuh`).
    own: bool,
}

/// As they lie in memory where a kernel takes both.
#[derive(Clone, Copy, PartialEq)]
#[repr(transparent)]
struct Words([u64; 2]);

// SAFETY: two whole numbers side by side, as a kernel's parameter has them.
unsafe impl DeviceRepr for Words {}

impl Argument {
    fn new(word: u64, own: bool) -> Argument {
        Argument { words: Words([word, 0]), own }
    }
}

impl Arguments<'_> {
    /// A pointer to the buffer's first value.
    pub fn buffer<T: DeviceRepr>(mut self, buffer: &Buffer<T>) -> Self {
        self.all.push(Argument::new(buffer.pointer(), true));
        self
    }

    /// A pointer to the buffer's first value, or to nothing.
    pub fn optional<T: DeviceRepr>(self, buffer: Option<&Buffer<T>>) -> Self {
        match buffer {
            Some(buffer) => self.buffer(buffer),
            None => self.nothing(),
        }
    }

    /// A pointer to nothing, for a parameter that the kernel does not use as it is compiled.
    pub fn nothing(mut self) -> Self {
        self.all.push(Argument::new(0, true));
        self
    }

    /// A 32-bit whole number.
    pub fn word(mut self, value: u32) -> Self {
        self.all.push(Argument::new(value.into(), false));
        self
    }

    /// A 64-bit whole number of which each tower has its own.
    pub fn own_word(mut self, value: u64) -> Self {
        self.all.push(Argument::new(value, true));
        self
    }

    /// A float.
    pub fn float(mut self, value: f32) -> Self {
        self.all.push(Argument::new(value.to_bits().into(), false));
        self
    }

    /// Those of a launch for two towers, of which these are the second's.
    pub(super) fn with_first(mut self, first: &[Argument]) -> Result<Self> {
        let differ =
            |(a, b): (&Argument, &Argument)| a.own != b.own || (!a.own && a.words != b.words);
        if first.len() != self.all.len() || first.iter().zip(&self.all).any(differ) {
            let name = &self.kernel.name;
            bail!("kernel {name} has other arguments for each tower; an error in the program");
        }
        for (first, second) in first.iter().zip(&mut self.all).filter(|(first, _)| first.own) {
            second.words.0 = [first.words.0[0], second.words.0[0]];
        }
        Ok(self)
    }

    /// As they were added.
    pub(super) fn into_all(self) -> Vec<Argument> {
        self.all
    }

    /// The launch asks for so many bytes of shared memory besides what the kernel declares.
    pub fn with_shared(mut self, bytes: usize) -> Self {
        self.shared = bytes;
        self
    }

    /// Queues the launch: `grid` blocks of `block` threads.
    ///
    /// # Safety
    /// The arguments must be those of the kernel in number, order and type; buffers must have the
    /// sizes that the kernel's constants say, be on the stream's GPU, and live until the work is
    /// done.
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
            shared_mem_bytes: self.shared.try_into()?,
        };
        let mut launch = stream.raw().launch_builder(&self.kernel.function);
        for argument in &self.all {
            launch.arg(&argument.words);
        }
        // SAFETY: the caller promises that the arguments are the kernel's in number, order and
        // type, and that its buffers are large enough; each argument's words hold at least a
        // parameter's bytes.
        unsafe { launch.launch(config) }.map_err(|e| driver_error(e, &doing()))?;
        Ok(())
    }

    /// Queues the launch with one thread for each of `count` elements, in blocks of 256.
    ///
    /// # Safety
    /// As for [`Arguments::on`].
    pub unsafe fn on_each(self, stream: &Stream, count: usize) -> Result<()> {
        // SAFETY: the caller promises what `on` asks for; the grid is only another way to write it.
        unsafe { self.on(stream, (count.div_ceil(256), 1, 1), (256, 1, 1)) }
    }
}
