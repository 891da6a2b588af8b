//! The functions of an MPI library, whichever kind it is of.

use super::abi::{self, Abi, Handle, Table};
use anyhow::{Context, Result, bail, ensure};
use libloading::Library;
use std::ffi::{c_char, c_int, c_void};
use std::path::Path;
use std::ptr::null_mut;

/// Room for an error's or a version's text, more than any library wants (MPICH: 8192).
const TEXT: usize = 16384;

/// A transfer that has begun. Its memory is the library's until [`Calls::test`] has said that it is
/// over.
pub(super) struct Request(usize);

/// What is called, with the handles of the world's communicator filled in. Peers are ranks. The
/// memory of what is begun must stay where it is, and be left alone, until it is over.
pub(super) trait Calls: Send + Sync {
    /// Starts MPI. Whether any thread may call, not only one after the other.
    fn init(&self) -> Result<bool>;
    /// Ends MPI.
    fn finalize(&self) -> Result<()>;
    /// Ends the processes of all ranks; returns, if at all, in this one.
    fn abort(&self, code: i32);
    /// This process's rank, and how many there are.
    fn place(&self) -> Result<(usize, usize)>;
    /// Begins to send `bytes` bytes.
    ///
    /// # Safety
    /// See [`Calls`].
    unsafe fn send(&self, from: *const u8, bytes: usize, to: usize, tag: i32) -> Result<Request>;
    /// Begins to receive at most `bytes` bytes.
    ///
    /// # Safety
    /// See [`Calls`].
    unsafe fn receive(&self, to: *mut u8, bytes: usize, from: usize, tag: i32) -> Result<Request>;
    /// Begins to hand rank 0's `values` floats to all.
    ///
    /// # Safety
    /// See [`Calls`].
    unsafe fn spread(&self, all: *mut f32, values: usize) -> Result<Request>;
    /// Begins to add up the ranks' `values` floats at `from`; all get the sums at `to`. (In place
    /// Open MPI would take an algorithm that sends several times as much.)
    ///
    /// # Safety
    /// See [`Calls`].
    unsafe fn sum(&self, from: *const f32, to: *mut f32, values: usize) -> Result<Request>;
    /// Whether it is over.
    fn test(&self, request: &mut Request) -> Result<bool>;
}

type Plain = unsafe extern "C" fn() -> c_int;
type InitThread =
    unsafe extern "C" fn(*mut c_int, *mut *mut *mut c_char, c_int, *mut c_int) -> c_int;
type Abort<H> = unsafe extern "C" fn(H, c_int) -> c_int;
type Ask<H> = unsafe extern "C" fn(H, *mut c_int) -> c_int;
type SetHandler<H> = unsafe extern "C" fn(H, H) -> c_int;
type SendTo<H> = unsafe extern "C" fn(*const c_void, c_int, H, c_int, c_int, H, *mut H) -> c_int;
type Receive<H> = unsafe extern "C" fn(*mut c_void, c_int, H, c_int, c_int, H, *mut H) -> c_int;
type Spread<H> = unsafe extern "C" fn(*mut c_void, c_int, H, c_int, H, *mut H) -> c_int;
type Sum<H> = unsafe extern "C" fn(*const c_void, *mut c_void, c_int, H, H, H, *mut H) -> c_int;
type Test<H> = unsafe extern "C" fn(*mut H, *mut c_int, *mut c_void) -> c_int;
type ErrorText = unsafe extern "C" fn(c_int, *mut c_char, *mut c_int) -> c_int;
type Version = unsafe extern "C" fn(*mut c_char, *mut c_int) -> c_int;

/// The functions with handles of type `H`.
struct Functions<H> {
    init_thread: InitThread,
    finalize: Plain,
    abort: Abort<H>,
    rank: Ask<H>,
    size: Ask<H>,
    set_handler: SetHandler<H>,
    send: SendTo<H>,
    receive: Receive<H>,
    spread: Spread<H>,
    sum: Sum<H>,
    test: Test<H>,
    error_text: ErrorText,
}

/// A library of one kind.
struct Loaded<H> {
    table: Table<H>,
    functions: Functions<H>,
    /// Its functions are in use as long as the process lives.
    _library: Library,
}

/// Loads the library `path`, a file or a name that the loader looks for. None: there is none.
///
/// # Errors
/// If it is there, but is no MPI library of a kind that is known.
pub(super) fn load(path: &Path) -> Result<Option<Box<dyn Calls>>> {
    let library = match open(path) {
        Ok(library) => library,
        Err(error) if path.is_absolute() && path.exists() => {
            return Err(error).with_context(|| format!("{} cannot be loaded", path.display()));
        }
        Err(_) => return Ok(None),
    };
    let strange = || format!("{} is no MPI library that can be used here", path.display());
    calls(path, library).map(Some).with_context(strange)
}

/// Open MPI's loads parts of its own, which look for its symbols among the global ones.
#[cfg(unix)]
fn open(path: &Path) -> Result<Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: MPI libraries do nothing when they are loaded.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_GLOBAL) }.map(Into::into)
}

#[cfg(not(unix))]
fn open(path: &Path) -> Result<Library, libloading::Error> {
    // SAFETY: MPI libraries do nothing when they are loaded.
    unsafe { Library::new(path) }
}

fn calls(path: &Path, library: Library) -> Result<Box<dyn Calls>> {
    let version = version(&library)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    // The standard's first: behind it may be Open MPI's own, whose symbols are then found too.
    let abi = if name.starts_with("libmpi_abi") {
        abi::standard()
    } else if let Some(open_mpi) = abi::open_mpi(&library) {
        open_mpi
    } else {
        let relatives = ["MPICH", "Intel", "CRAY", "MVAPICH", "ParaStation"];
        ensure!(
            relatives.iter().any(|relative| version.contains(relative)),
            "it calls itself {:?}, which is neither Open MPI nor a relative of MPICH",
            version.lines().next().unwrap_or_default()
        );
        abi::mpich()
    };
    Ok(match abi {
        Abi::Pointers(table) => Box::new(Loaded::new(table, library)?),
        Abi::Numbers(table) => Box::new(Loaded::new(table, library)?),
    })
}

/// What the library calls itself.
fn version(library: &Library) -> Result<String> {
    // SAFETY: the function has this type in every version of MPI since 3.0.
    let ask: Version = unsafe { symbol(library, "MPI_Get_library_version") }?;
    // SAFETY: it may be called before MPI is started, and writes less than there is room for.
    text_of(|text, length| unsafe { ask(text, length) })
}

/// The text that `write` makes, and how long it is.
fn text_of(write: impl FnOnce(*mut c_char, *mut c_int) -> c_int) -> Result<String> {
    let (mut text, mut length) = (vec![0u8; TEXT], 0);
    let code = write(text.as_mut_ptr().cast(), &mut length);
    ensure!(code == 0, "it answers with the error {code}");
    text.truncate(length.clamp(0, TEXT as c_int) as usize);
    Ok(String::from_utf8_lossy(&text).trim_end_matches('\0').to_string())
}

/// The function `name`.
///
/// # Safety
/// It must be of type `F`.
unsafe fn symbol<F: Copy>(library: &Library, name: &str) -> Result<F> {
    // SAFETY: the caller says what it is.
    match unsafe { library.get::<F>(name.as_bytes()) } {
        Ok(function) => Ok(*function),
        Err(_) => bail!("it has no {name}"),
    }
}

impl<H: Handle> Loaded<H> {
    fn new(table: Table<H>, library: Library) -> Result<Loaded<H>> {
        // SAFETY: the types are those of the MPI standard's bindings for C, with the library's kind
        // of handles.
        let functions = unsafe {
            Functions {
                init_thread: symbol(&library, "MPI_Init_thread")?,
                finalize: symbol(&library, "MPI_Finalize")?,
                abort: symbol(&library, "MPI_Abort")?,
                rank: symbol(&library, "MPI_Comm_rank")?,
                size: symbol(&library, "MPI_Comm_size")?,
                set_handler: symbol(&library, "MPI_Comm_set_errhandler")?,
                send: symbol(&library, "MPI_Isend")?,
                receive: symbol(&library, "MPI_Irecv")?,
                spread: symbol(&library, "MPI_Ibcast")?,
                sum: symbol(&library, "MPI_Iallreduce")?,
                test: symbol(&library, "MPI_Test")?,
                error_text: symbol(&library, "MPI_Error_string")?,
            }
        };
        Ok(Loaded { table, functions, _library: library })
    }

    /// Err: what the library says of `code`, the answer of the function `name`.
    fn check(&self, name: &str, code: c_int) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: a code that the library has answered with, and room for its text.
        let text =
            text_of(|text, length| unsafe { (self.functions.error_text)(code, text, length) });
        bail!("{name} has failed: {}", text.unwrap_or_else(|_| format!("error {code}")))
    }

    /// Calls `begin`, which writes a request.
    fn begin(&self, name: &str, begin: impl FnOnce(*mut H) -> c_int) -> Result<Request> {
        let mut request = H::of(0);
        self.check(name, begin(&mut request))?;
        Ok(Request(request.number()))
    }

    fn ask(&self, name: &str, function: Ask<H>) -> Result<usize> {
        let mut number = 0;
        // SAFETY: the world's communicator, and one int to be written.
        self.check(name, unsafe { function(self.table.world, &mut number) })?;
        usize::try_from(number).with_context(|| format!("{name} says {number}"))
    }
}

/// As many as a call takes.
fn count(number: usize) -> c_int {
    c_int::try_from(number).expect("transfers are made in pieces")
}

impl<H: Handle> Calls for Loaded<H> {
    fn init(&self) -> Result<bool> {
        let [serialized, multiple] = self.table.threads;
        let mut provided = 0;
        // SAFETY: the first call of this process; no arguments are handed over.
        let code = unsafe {
            (self.functions.init_thread)(null_mut(), null_mut(), multiple, &mut provided)
        };
        self.check("MPI_Init_thread", code)?;
        let Table { world, errors_return, .. } = self.table;
        // SAFETY: MPI is started, and both handles are the library's own.
        let code = unsafe { (self.functions.set_handler)(world, errors_return) };
        self.check("MPI_Comm_set_errhandler", code)?;
        ensure!(
            provided >= serialized,
            "the MPI library was built without threads (MPI_THREAD_SERIALIZED)"
        );
        Ok(provided >= multiple)
    }

    fn finalize(&self) -> Result<()> {
        // SAFETY: nothing is under way any more.
        self.check("MPI_Finalize", unsafe { (self.functions.finalize)() })
    }

    fn abort(&self, code: i32) {
        // SAFETY: MPI is started; what is under way is lost, and so meant.
        unsafe { (self.functions.abort)(self.table.world, code) };
    }

    fn place(&self) -> Result<(usize, usize)> {
        let rank = self.ask("MPI_Comm_rank", self.functions.rank)?;
        Ok((rank, self.ask("MPI_Comm_size", self.functions.size)?))
    }

    unsafe fn send(&self, from: *const u8, bytes: usize, to: usize, tag: i32) -> Result<Request> {
        let Table { world, byte, .. } = self.table;
        let (bytes, to) = (count(bytes), count(to));
        self.begin("MPI_Isend", |request| {
            // SAFETY: the caller leaves the memory alone until the request is over.
            unsafe { (self.functions.send)(from.cast(), bytes, byte, to, tag, world, request) }
        })
    }

    unsafe fn receive(&self, to: *mut u8, bytes: usize, from: usize, tag: i32) -> Result<Request> {
        let Table { world, byte, .. } = self.table;
        let (bytes, from) = (count(bytes), count(from));
        self.begin("MPI_Irecv", |request| {
            // SAFETY: the caller leaves the memory alone until the request is over.
            unsafe { (self.functions.receive)(to.cast(), bytes, byte, from, tag, world, request) }
        })
    }

    unsafe fn spread(&self, all: *mut f32, values: usize) -> Result<Request> {
        let Table { world, float, .. } = self.table;
        let values = count(values);
        self.begin("MPI_Ibcast", |request| {
            // SAFETY: the caller leaves the memory alone until the request is over.
            unsafe { (self.functions.spread)(all.cast(), values, float, 0, world, request) }
        })
    }

    unsafe fn sum(&self, from: *const f32, to: *mut f32, values: usize) -> Result<Request> {
        let Table { world, float, sum, .. } = self.table;
        let values = count(values);
        self.begin("MPI_Iallreduce", |request| {
            let (from, to) = (from.cast(), to.cast());
            // SAFETY: the caller leaves the memory alone until the request is over.
            unsafe { (self.functions.sum)(from, to, values, float, sum, world, request) }
        })
    }

    fn test(&self, request: &mut Request) -> Result<bool> {
        let (mut handle, mut done) = (H::of(request.0), 0);
        let ignored = self.table.no_status as *mut c_void;
        // SAFETY: the request is one that the library has made and that is not over.
        let code = unsafe { (self.functions.test)(&mut handle, &mut done, ignored) };
        request.0 = handle.number();
        self.check("MPI_Test", code)?;
        Ok(done != 0)
    }
}
