//! CUDA source to code for one kind of GPU, by NVRTC, kept on disk.
//!
//! Layer shapes and tile sizes go in as `-D` constants. The result is a cubin (machine code) for
//! the GPU at hand; only for a GPU newer than NVRTC is it PTX, which the driver compiles. A cache
//! file holds its whole key (compiler version, architecture, options, sources) before the code, so
//! that a chance collision of file names cannot give wrong code.

use super::kernels::{HEADERS, KernelSource};
use super::library;
use anyhow::{Context, Result, anyhow, bail};
use libloading::Library;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A constant for the kernel: name and value, `-Dname=value`.
pub type Constant = (&'static str, String);

/// NVRTC, and the folder where its results are kept.
pub struct Compiler {
    nvrtc: Library,
    /// NVRTC's version, major and minor.
    pub version: (i32, i32),
    /// The architectures NVRTC knows, e.g. 80 for compute capability 8.0, rising.
    pub architectures: Vec<i32>,
    cache: Option<PathBuf>,
    compiled: AtomicUsize,
}

/// The oldest GPUs that the kernels are compiled for in tests.
pub const OLDEST: (i32, i32) = (7, 0);

impl Compiler {
    /// Whether there is a way to code for a GPU of this compute capability.
    pub fn check(&self, capability: (i32, i32)) -> Result<()> {
        self.architecture(capability).map(|_| ())
    }

    /// Opens NVRTC for a driver of this CUDA version (12090 for 12.9): of several the first that
    /// knows all GPUs, since newer ones do without older GPUs. `cache`: where compiled kernels are
    /// kept, see [`default_cache`]; `None` keeps nothing.
    pub fn new(driver_version: i32, cache: Option<PathBuf>) -> Result<Compiler> {
        let found = library::open_nvrtcs(driver_version)?.into_iter();
        let mut all = found.map(Compiler::of).collect::<Result<Vec<_>>>()?;
        let gpus = library::capabilities();
        let serves = |c: &Compiler| gpus.iter().all(|&gpu| c.check(gpu).is_ok());
        let chosen = all.iter().position(serves).unwrap_or(0);
        Ok(Compiler { cache, ..all.swap_remove(chosen) })
    }

    /// What this NVRTC says of itself; nothing is kept.
    fn of(nvrtc: Library) -> Result<Compiler> {
        let (mut major, mut minor, mut count) = (0, 0, 0);
        let call = Nvrtc(&nvrtc);
        // SAFETY: nvrtcVersion writes two numbers.
        call.run(b"nvrtcVersion", |f: Numbers2| unsafe { f(&mut major, &mut minor) })?;
        // SAFETY: nvrtcGetNumSupportedArchs writes one number.
        call.run(b"nvrtcGetNumSupportedArchs", |f: Numbers1| unsafe { f(&mut count) })?;
        let mut architectures = vec![0; count as usize];
        // SAFETY: nvrtcGetSupportedArchs writes as many numbers as it has just said.
        call.run(b"nvrtcGetSupportedArchs", |f: Numbers1| unsafe {
            f(architectures.as_mut_ptr())
        })?;
        architectures.sort();
        let compiled = AtomicUsize::new(0);
        Ok(Compiler { nvrtc, version: (major, minor), architectures, cache: None, compiled })
    }

    /// Where NVRTC was found.
    pub fn path(&self) -> Option<PathBuf> {
        library::loaded_from(&library::nvrtc(self.version.0))
    }

    /// The folder where compiled kernels are kept.
    pub fn cache(&self) -> Option<&Path> {
        self.cache.as_deref()
    }

    /// How many sources this compiler has compiled, not counting those found in the cache.
    pub fn compiled(&self) -> usize {
        self.compiled.load(Ordering::Relaxed)
    }

    /// Code for a GPU of compute capability `capability`, from the cache or compiled now.
    pub fn code(
        &self,
        source: KernelSource,
        constants: &[Constant],
        capability: (i32, i32),
    ) -> Result<Vec<u8>> {
        let (architecture, kind) = self.architecture(capability)?;
        let mut options = vec![format!("--gpu-architecture={architecture}"), "--std=c++17".into()];
        options.extend(constants.iter().map(|(name, value)| format!("-D{name}={value}")));
        let key = self.key(source, &options);
        let file = self.cache.as_ref().map(|folder| folder.join(file_name(source, &key)));
        if let Some(code) = file.as_ref().and_then(|file| read_cached(file, &key)) {
            return Ok(code);
        }
        let code = self.compile(source, &options, kind)?;
        self.compiled.fetch_add(1, Ordering::Relaxed);
        if let Some(file) = file {
            // A cache that cannot be written costs time at the next start and nothing else.
            let _ = write_cached(&file, &key, &code);
        }
        Ok(code)
    }

    /// NVRTC's name for the GPU's architecture, and what to take from it.
    fn architecture(&self, (major, minor): (i32, i32)) -> Result<(String, &'static str)> {
        let wanted = major * 10 + minor;
        if self.architectures.contains(&wanted) {
            return Ok((format!("sm_{wanted}"), "CUBIN"));
        }
        let older = self.architectures.iter().rev().find(|&&a| a < wanted);
        let Some(older) = older else {
            bail!(
                "the GPU (compute capability {major}.{minor}) is too old for NVRTC {}.{}, which \
                 begins at {}.{}: use an older CUDA toolkit's NVRTC, or --device cpu",
                self.version.0,
                self.version.1,
                self.architectures[0] / 10,
                self.architectures[0] % 10
            );
        };
        Ok((format!("compute_{older}"), "PTX"))
    }

    fn key(&self, source: KernelSource, options: &[String]) -> String {
        let mut key =
            format!("nvrtc {}.{}\n{}\n", self.version.0, self.version.1, options.join(" "));
        for file in std::iter::once(&source).chain(&HEADERS) {
            key += &format!("// {}\n{}", file.name, file.text);
        }
        key
    }

    fn compile(&self, source: KernelSource, options: &[String], kind: &str) -> Result<Vec<u8>> {
        let strings = |texts: &mut dyn Iterator<Item = &str>| -> Result<Vec<CString>> {
            texts.map(|text| Ok(CString::new(text)?)).collect()
        };
        let [text, name] = [CString::new(source.text)?, CString::new(source.name)?];
        let headers = strings(&mut HEADERS.iter().map(|h| h.text))?;
        let names = strings(&mut HEADERS.iter().map(|h| h.name))?;
        let options = strings(&mut options.iter().map(String::as_str))?;
        let pointers = |all: &[CString]| all.iter().map(|s| s.as_ptr()).collect::<Vec<_>>();

        let call = Nvrtc(&self.nvrtc);
        let mut program: *mut c_void = std::ptr::null_mut();
        // SAFETY: all texts end in a zero byte and live until the program is destroyed below; there
        // are as many headers as names, and NVRTC copies the arrays of pointers.
        call.run(b"nvrtcCreateProgram", |f: Create| unsafe {
            let (headers, names) = (pointers(&headers), pointers(&names));
            let count = headers.len() as c_int;
            f(&mut program, text.as_ptr(), name.as_ptr(), count, headers.as_ptr(), names.as_ptr())
        })?;
        // SAFETY: the program was made above; the options and the array of pointers to them live
        // through the call.
        let compiled = call.run(b"nvrtcCompileProgram", |f: Compile| unsafe {
            f(program, options.len() as c_int, pointers(&options).as_ptr())
        });
        let result = match compiled {
            Ok(()) => call.bytes(program, kind),
            Err(error) => {
                let log = call.bytes(program, "ProgramLog").unwrap_or_default();
                Err(error.context(format!(
                    "NVRTC {}.{} does not compile kernels/{}: {}",
                    self.version.0,
                    self.version.1,
                    source.name,
                    String::from_utf8_lossy(&log).trim_end_matches('\0').trim()
                )))
            }
        };
        // SAFETY: the program was made above, is destroyed once, and is not used after that.
        call.run(b"nvrtcDestroyProgram", |f: Destroy| unsafe { f(&mut program) })?;
        result
    }
}

type Numbers1 = unsafe extern "C" fn(*mut c_int) -> c_int;
type Numbers2 = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
type Create = unsafe extern "C" fn(
    *mut *mut c_void,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(*mut c_void, c_int, *const *const c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut *mut c_void) -> c_int;
type Size = unsafe extern "C" fn(*mut c_void, *mut usize) -> c_int;
type Bytes = unsafe extern "C" fn(*mut c_void, *mut c_char) -> c_int;

/// Calls into NVRTC. cudarc's own binding looks for version 12 only, and only in the loader path.
struct Nvrtc<'a>(&'a Library);

impl Nvrtc<'_> {
    /// Looks up a function of type `F`, calls it through `call` and makes its code a `Result`.
    fn run<F: Copy>(&self, name: &[u8], call: impl FnOnce(F) -> c_int) -> Result<()> {
        let readable = String::from_utf8_lossy(name);
        // SAFETY: every caller names a function of nvrtc.h with its type above, and these have not
        // changed from CUDA 11 to 13; it is only looked up here.
        let function = unsafe { self.0.get::<F>(name) }
            .with_context(|| format!("NVRTC has no function {readable}"))?;
        match call(*function) {
            0 => Ok(()),
            code => {
                // SAFETY: the type is that of nvrtc.h, and nvrtcGetErrorString gives a static
                // string for every code.
                let text = unsafe {
                    self.0
                        .get::<unsafe extern "C" fn(c_int) -> *const c_char>(b"nvrtcGetErrorString")
                        .map(|f| CStr::from_ptr(f(code)).to_string_lossy().into_owned())
                };
                Err(anyhow!("{readable}: {}", text.unwrap_or_else(|_| code.to_string())))
            }
        }
    }

    /// What NVRTC has of `kind`: "CUBIN", "PTX" or "ProgramLog".
    fn bytes(&self, program: *mut c_void, kind: &str) -> Result<Vec<u8>> {
        let mut size = 0;
        // SAFETY: the program is one that the caller has made; the function writes one number.
        self.run(format!("nvrtcGet{kind}Size").as_bytes(), |f: Size| unsafe {
            f(program, &mut size)
        })?;
        let mut bytes = vec![0u8; size];
        // SAFETY: as many bytes are written as the size that was just asked for, and there is room
        // for them.
        self.run(format!("nvrtcGet{kind}").as_bytes(), |f: Bytes| unsafe {
            f(program, bytes.as_mut_ptr().cast())
        })?;
        Ok(bytes)
    }
}

/// The folder for compiled kernels: `ALEXNET_KERNEL_CACHE`, else `alexnet/kernels` in
/// `XDG_CACHE_HOME` or `~/.cache`, on Windows in `LOCALAPPDATA`; `None` if none of these is set, or
/// `ALEXNET_KERNEL_CACHE` is empty.
pub fn default_cache() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("ALEXNET_KERNEL_CACHE") {
        return (!folder.is_empty()).then(|| PathBuf::from(folder));
    }
    let usual = if cfg!(windows) { "LOCALAPPDATA" } else { "XDG_CACHE_HOME" };
    let caches = std::env::var_os(usual).map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    caches.or_else(home).map(|folder| folder.join("alexnet").join("kernels"))
}

fn file_name(source: KernelSource, key: &str) -> String {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    format!("{}-{:016x}", source.name.trim_end_matches(".cu"), hasher.finish())
}

fn read_cached(file: &Path, key: &str) -> Option<Vec<u8>> {
    let bytes = std::fs::read(file).ok()?;
    bytes.strip_prefix(key.as_bytes())?.strip_prefix(b"\0").map(<[u8]>::to_vec)
}

/// Writes under a name of this process's own and renames, so that processes that start together do
/// not mix their files and none reads half a one.
fn write_cached(file: &Path, key: &str, code: &[u8]) -> Result<()> {
    std::fs::create_dir_all(file.parent().context("a cache file without a folder")?)?;
    let own = file.with_extension(std::process::id().to_string());
    crate::files::write_whole(&own, |out| {
        use std::io::Write;
        out.write_all(key.as_bytes())?;
        out.write_all(b"\0")?;
        Ok(out.write_all(code)?)
    })?;
    Ok(std::fs::rename(&own, file)?)
}
