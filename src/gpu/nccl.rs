//! NCCL, NVIDIA's library for sums over the GPUs of several processes, found when the program runs.
//!
//! One communicator a GPU: GPU d of every process belongs to the d-th. Sums are queued on a stream
//! of their own, in the same order by all processes, and run beside kernels; the host waits for
//! nothing. What processes send one another ([`Communicator::swap`]) is queued there, too. The few
//! functions that are used have not changed since NCCL 2.4, those that send since they came with
//! 2.7; cudarc's own binding looks for `libnccl.so`, which only development packages have.

use super::device::Device;
use super::driver_error;
use super::library;
use super::memory::Buffer;
use super::stream::{Event, Stream};
use super::watch::watched;
use anyhow::{Context, Result, anyhow, bail};
use cudarc::driver::DeviceRepr;
use cudarc::driver::sys::CUstream;
use libloading::Library;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// Bytes of an [`Id`].
pub const ID_BYTES: usize = 128;
const NAME: &str = "libnccl.so.2";
/// ncclInt8, ncclFloat32 and ncclSum.
const BYTE: c_int = 0;
const FLOAT: c_int = 7;
const SUM: c_int = 0;
/// Before processes that do not connect are spoken of, and before the attempt is given up.
const PATIENCE: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(90)];

/// What the processes of one communicator find each other by.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Id(pub [u8; ID_BYTES]);

type Raw = *mut c_void;
type Code = c_int;
/// ncclSend; of ncclRecv the memory is written.
type SendCall = unsafe extern "C" fn(*const c_void, usize, c_int, c_int, Raw, CUstream) -> Code;
type ReceiveCall = unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, Raw, CUstream) -> Code;

/// The library's functions.
struct Functions {
    unique_id: unsafe extern "C" fn(*mut Id) -> Code,
    init_rank: unsafe extern "C" fn(*mut Raw, c_int, Id, c_int) -> Code,
    all_reduce: unsafe extern "C" fn(
        *const c_void,
        *mut c_void,
        usize,
        c_int,
        c_int,
        Raw,
        CUstream,
    ) -> Code,
    /// Of NCCL 2.7 and later.
    swap: Option<(SendCall, ReceiveCall)>,
    group_start: unsafe extern "C" fn() -> Code,
    group_end: unsafe extern "C" fn() -> Code,
    abort: unsafe extern "C" fn(Raw) -> Code,
    error_string: unsafe extern "C" fn(Code) -> *const c_char,
    /// Of NCCL 2.13 and later.
    last_error: Option<unsafe extern "C" fn(Raw) -> *const c_char>,
}

/// The library.
pub struct Nccl {
    functions: Functions,
    /// As in "2.32.3".
    pub version: String,
    /// The file that it was loaded from, as far as that is known.
    pub path: PathBuf,
    _library: Library,
}

impl Nccl {
    /// Looks for the library in the loader path, then where NVRTC is looked for: toolkits and
    /// Python's packages.
    ///
    /// # Errors
    /// [`library::Missing`] where there is none; what a file of that name lacks.
    pub fn open() -> Result<Arc<Nccl>> {
        let elsewhere = library::folders(&["nccl"]).into_iter().map(|folder| folder.join(NAME));
        let all = std::iter::once(PathBuf::from(NAME)).chain(elsewhere.filter(|f| f.exists()));
        // SAFETY: NCCL's initialisation has no conditions.
        let open = |file: PathBuf| unsafe { Library::new(&file) }.ok().map(|found| (found, file));
        let Some((found, file)) = { all }.find_map(open) else {
            return Err(library::missing(
                "NCCL, which adds up gradients between GPUs, was not found (libnccl.so.2; looked \
                 in the loader path, CUDA_HOME, /usr/local/cuda and Python's packages)",
                "install it, or run `pip install nvidia-nccl-cu12`",
            ));
        };
        let path = library::loaded_from(NAME).unwrap_or(file);
        Nccl::of(found, &path).with_context(|| path.display().to_string())
    }

    fn of(library: Library, path: &Path) -> Result<Arc<Nccl>> {
        /// A function of type `F`.
        fn get<F: Copy>(library: &Library, name: &str) -> Result<F> {
            // SAFETY: each caller names a function of nccl.h with its type there; it is only looked
            // up here.
            let found = unsafe { library.get::<F>(name.as_bytes()) };
            found.map(|f| *f).with_context(|| format!("NCCL has no function {name}"))
        }
        let functions = Functions {
            unique_id: get(&library, "ncclGetUniqueId")?,
            init_rank: get(&library, "ncclCommInitRank")?,
            all_reduce: get(&library, "ncclAllReduce")?,
            swap: get(&library, "ncclSend").ok().zip(get(&library, "ncclRecv").ok()),
            group_start: get(&library, "ncclGroupStart")?,
            group_end: get(&library, "ncclGroupEnd")?,
            abort: get(&library, "ncclCommAbort")?,
            error_string: get(&library, "ncclGetErrorString")?,
            last_error: get(&library, "ncclGetLastError").ok(),
        };
        let version: unsafe extern "C" fn(*mut c_int) -> Code = get(&library, "ncclGetVersion")?;
        let mut number = 0;
        // SAFETY: the function writes one number.
        functions.check(unsafe { version(&mut number) }, "asking for NCCL's version")?;
        let version = readable(number);
        Ok(Arc::new(Nccl { functions, version, path: path.into(), _library: library }))
    }

    /// A new communicator's, for all of its processes.
    pub fn id(&self) -> Result<Id> {
        let mut id = Id([0; ID_BYTES]);
        // SAFETY: the function writes as many bytes as an id has.
        let code = unsafe { (self.functions.unique_id)(&mut id) };
        self.functions.check(code, "asking NCCL for an id").map(|()| id)
    }
}

/// Since 2.9 a version is 10000·major + 100·minor + patch, before that 1000·major.
fn readable(number: c_int) -> String {
    let major = if number < 10_000 { number / 1000 } else { number / 10_000 };
    let rest = number - major * if number < 10_000 { 1000 } else { 10_000 };
    format!("{major}.{}.{}", rest / 100, rest % 100)
}

impl Functions {
    fn check(&self, code: Code, doing: &str) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        let text = |pointer: *const c_char| {
            // SAFETY: both functions give strings that end in a zero byte and stay for now.
            let text = (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) });
            text.map_or(String::new(), |text| text.to_string_lossy().trim().to_string())
        };
        // SAFETY: there is a string for every code.
        let what = text(unsafe { (self.error_string)(code) });
        // SAFETY: of no communicator in particular, as nccl.h allows.
        let more = self.last_error.map(|f| text(unsafe { f(std::ptr::null_mut()) }));
        let more = more.filter(|m| !m.is_empty()).map_or(String::new(), |m| format!(": {m}"));
        let has_hint = what.contains("NCCL_DEBUG");
        let hint = if has_hint { "" } else { " (run with NCCL_DEBUG=INFO for details)" };
        Err(anyhow!("{doing}: {what}{hint}{more}"))
    }
}

/// One GPU's place among those of other processes.
pub struct Communicator {
    nccl: Arc<Nccl>,
    raw: Handle,
    stream: Stream,
    device: usize,
}

/// A communicator as the library names it.
struct Handle(Raw);

/// Some bytes of a buffer, which go to the GPU of another process or come from it.
pub struct Piece<'a> {
    rank: usize,
    at: u64,
    bytes: usize,
    device: usize,
    of: PhantomData<&'a ()>,
}

impl<'a> Piece<'a> {
    /// The bytes `range` of `buffer`, to or from `rank`.
    ///
    /// # Errors
    /// If the buffer has no such bytes.
    pub fn new<T: DeviceRepr>(
        rank: usize,
        buffer: &'a Buffer<T>,
        range: Range<usize>,
    ) -> Result<Piece<'a>> {
        if range.start > range.end || range.end > buffer.bytes() {
            let bytes = buffer.bytes();
            bail!("bytes {range:?} of a buffer of {bytes} travel; this is an error in the program");
        }
        let (at, bytes) = (buffer.pointer() + range.start as u64, range.len());
        Ok(Piece { rank, at, bytes, device: buffer.device(), of: PhantomData })
    }
}

// SAFETY: the library's functions may be called from any thread, one after the other for each
// communicator, which those who have it see to.
unsafe impl Send for Handle {}
// SAFETY: shared, it is a name only; sums are queued by the one thread that its GPU has.
unsafe impl Sync for Handle {}

impl Communicator {
    /// Connects `device` with those of the other processes, `size` with this one, which all call
    /// this at the same time with the same `id`, each with its own `rank`.
    ///
    /// # Errors
    /// What the library says; processes that do not come.
    pub fn connect(
        nccl: &Arc<Nccl>,
        device: &Device,
        id: Id,
        (rank, size): (usize, usize),
    ) -> Result<Communicator> {
        let context = device.context().clone();
        let (done, connected) = channel();
        let (own, place) = (nccl.clone(), [size, rank].map(|n| n as c_int));
        // The library may wait for others for ever.
        let connect = move || {
            let mut raw = std::ptr::null_mut();
            let bound = context.bind_to_thread().map_err(|e| driver_error(e, "using a GPU"));
            let code = bound.and_then(|()| {
                // SAFETY: the GPU is this thread's; the library writes one pointer.
                let code = unsafe { (own.functions.init_rank)(&mut raw, place[0], id, place[1]) };
                own.functions.check(code, "connecting GPUs by NCCL")
            });
            let _ = done.send(code.map(|()| Handle(raw)));
        };
        let thread = std::thread::Builder::new().name("NCCL".into());
        thread.spawn(connect).context("no thread can be started to connect GPUs")?;
        let mut answer = connected.recv_timeout(PATIENCE[0]);
        if matches!(answer, Err(RecvTimeoutError::Timeout)) {
            crate::note!("NCCL still waits for the GPUs of other processes to connect");
            answer = connected.recv_timeout(PATIENCE[1]);
        }
        let Ok(raw) = answer else {
            let seconds = PATIENCE.iter().sum::<Duration>().as_secs();
            bail!("NCCL has not connected the GPUs of all processes within {seconds} seconds");
        };
        // Of blocks that wait for a place, those of sums go first: others wait for them elsewhere.
        let stream = device.context().new_stream_with_priority(-2);
        let stream = stream.map_err(|e| driver_error(e, "making a stream"))?;
        let stream = Stream::new(stream);
        Ok(Communicator { nccl: nccl.clone(), raw: raw?, stream, device: device.index })
    }

    /// Queues, after `ready`, the sums of all processes in each of `buffers`, in place, and records
    /// `done`. All processes queue buffers of the same lengths in the same order.
    ///
    /// # Errors
    /// What the library says.
    pub fn sum(&self, buffers: &[&Buffer<f32>], ready: &Event, done: &Event) -> Result<()> {
        self.own(buffers.iter().map(|buffer| buffer.device()))?;
        let (functions, doing) = (&self.nccl.functions, "adding up gradients by NCCL");
        self.queue(doing, (ready, done), |stream| {
            let mut queued = Ok(());
            for buffer in buffers.iter().filter(|buffer| !buffer.is_empty()) {
                let (at, len) = (buffer.pointer() as *mut c_void, buffer.len());
                // SAFETY: the buffer has as many floats on the communicator's GPU, and giving it
                // back waits for the work that uses it; in place is allowed.
                let code =
                    unsafe { (functions.all_reduce)(at, at, len, FLOAT, SUM, self.raw.0, stream) };
                queued = queued.and_then(|()| functions.check(code, doing));
            }
            queued
        })
    }

    /// Whether this communicator's GPU can send to others, and be sent to.
    ///
    /// # Errors
    /// A library that is too old.
    pub fn check_swaps(&self) -> Result<()> {
        if self.nccl.functions.swap.is_none() {
            bail!("NCCL {} cannot send; 2.7 and later can", self.nccl.version);
        }
        Ok(())
    }

    /// Queues, after `ready`, that `sent` goes to the GPUs of other processes, and of this one, and
    /// that `received` comes from them, all at once; records `done`. What goes from one rank to
    /// another is as long on both sides and has the same order. What is received lies where nothing
    /// is sent from.
    ///
    /// # Errors
    /// What the library says.
    pub fn swap(
        &self,
        (sent, received): (&[Piece<'_>], &[Piece<'_>]),
        ready: &Event,
        done: &Event,
    ) -> Result<()> {
        self.own(sent.iter().chain(received).map(|piece| piece.device))?;
        let (functions, doing) = (&self.nccl.functions, "exchanging activations by NCCL");
        let (send, receive) = functions.swap.context("this NCCL cannot send")?;
        self.queue(doing, (ready, done), |stream| {
            let mut queued = Ok(());
            for Piece { rank, at, bytes, .. } in sent.iter().filter(|piece| piece.bytes > 0) {
                let (at, rank) = (*at as *const c_void, *rank as c_int);
                // SAFETY: a piece lies in a buffer of the communicator's GPU, and giving that back
                // waits for the work that uses it.
                let code = unsafe { send(at, *bytes, BYTE, rank, self.raw.0, stream) };
                queued = queued.and_then(|()| functions.check(code, doing));
            }
            for Piece { rank, at, bytes, .. } in received.iter().filter(|piece| piece.bytes > 0) {
                let (at, rank) = (*at as *mut c_void, *rank as c_int);
                // SAFETY: as above; it lies where nothing is sent from.
                let code = unsafe { receive(at, *bytes, BYTE, rank, self.raw.0, stream) };
                queued = queued.and_then(|()| functions.check(code, doing));
            }
            queued
        })
    }

    /// Refuses memory of other GPUs.
    fn own(&self, mut devices: impl Iterator<Item = usize>) -> Result<()> {
        if devices.any(|device| device != self.device) {
            bail!(
                "NCCL is given another GPU's memory than its own; this is an error in the program"
            );
        }
        Ok(())
    }

    /// Queues what `calls` asks of the library as one, after the first event and before the second.
    fn queue(
        &self,
        doing: &str,
        (ready, done): (&Event, &Event),
        calls: impl FnOnce(CUstream) -> Result<()>,
    ) -> Result<()> {
        self.stream.wait_for(ready)?;
        let (functions, stream) = (&self.nccl.functions, self.stream.raw());
        stream.context().bind_to_thread().map_err(|e| driver_error(e, "using a GPU"))?;
        // SAFETY: what is between the two calls is queued as one.
        functions.check(unsafe { (functions.group_start)() }, doing)?;
        let queued = calls(stream.cu_stream());
        // SAFETY: it ends what was begun above, whatever came of it. The library may wait for other
        // processes, the first time that they send.
        let end = || unsafe { (functions.group_end)() };
        let ended = functions.check(watched(self.device, end), doing);
        queued.and(ended)?;
        self.stream.record(done)
    }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        // Ends sums that are still under way: others that they wait for may be gone.
        // SAFETY: `connect` was given it, and nobody uses it any more.
        let _ = watched(self.device, || unsafe { (self.nccl.functions.abort)(self.raw.0) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(readable(23203), "2.32.3");
        assert_eq!(readable(20905), "2.9.5");
        assert_eq!(readable(2804), "2.8.4");
    }
}
