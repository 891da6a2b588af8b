//! Where the NVIDIA driver and the libraries of CUDA are.
//!
//! The driver comes through the loader path, as it does for every CUDA program. NVRTC is part of
//! the CUDA toolkit and may be in many places: the loader path, `CUDA_HOME`, the usual install
//! folders, or Python's `nvidia` packages (`pip install nvidia-cuda-nvrtc-cu12`). So may NCCL.

use super::driver_error;
use anyhow::Result;
use cudarc::driver::sys::CUdevice_attribute;
use cudarc::driver::{result, sys};
use libloading::Library;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The driver's own library.
pub(super) const DRIVER: &str = if cfg!(windows) { "nvcuda.dll" } else { "libcuda.so.1" };

/// NVRTC's library of a major version.
pub(super) fn nvrtc(major: i32) -> String {
    match cfg!(windows) {
        true => format!("nvrtc64_{major}0_0.dll"),
        false => format!("libnvrtc.so.{major}"),
    }
}

/// Something that computing on a GPU takes is not on this machine.
#[derive(Debug)]
pub struct Missing {
    /// What is missing, as a sentence.
    pub what: String,
    /// What to do about it, as a sentence.
    pub way_out: String,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.way_out)
    }
}

impl std::error::Error for Missing {}

/// A [`Missing`] as an error.
pub(super) fn missing(what: impl Into<String>, way_out: impl Into<String>) -> anyhow::Error {
    Missing { what: what.into(), way_out: way_out.into() }.into()
}

/// The driver's CUDA version, e.g. 12090 for 12.9; an error says in one sentence what is missing:
/// no driver, a driver that does not work, or no GPU.
pub fn driver_version() -> Result<i32> {
    static PRESENT: OnceLock<bool> = OnceLock::new();
    // Asked once: every question loads the library anew, and cudarc panics later if there is none.
    // SAFETY: it loads the driver's library, whose initialisation has no conditions.
    if !*PRESENT.get_or_init(|| unsafe { sys::is_culib_present() }) {
        return Err(missing(
            format!("no NVIDIA driver is installed ({DRIVER} was not found)"),
            "install the driver, so that `nvidia-smi` works, or use --device cpu",
        ));
    }
    result::init().map_err(|error| match error.0 {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => no_gpu(),
        _ => driver_error(error, "starting the NVIDIA driver"),
    })?;
    let mut version = 0;
    // SAFETY: the driver is there, and writes one integer to where it is told.
    unsafe { sys::cuDriverGetVersion(&mut version) }
        .result()
        .map_err(|e| driver_error(e, "asking the driver for its version"))?;
    Ok(version)
}

/// The number of GPUs, at least 1; else an error as of [`driver_version`].
pub fn device_count() -> Result<usize> {
    driver_version()?;
    let count = result::device::get_count().map_err(|e| driver_error(e, "counting the GPUs"))?;
    if count == 0 {
        return Err(no_gpu());
    }
    Ok(count as usize)
}

fn no_gpu() -> anyhow::Error {
    missing(
        "the NVIDIA driver finds no GPU",
        "check `nvidia-smi` and CUDA_VISIBLE_DEVICES, or use --device cpu",
    )
}

/// The file that a loaded library came from, by its name or the beginning of it ("libcuda.so").
#[cfg(not(windows))]
pub fn loaded_from(name: &str) -> Option<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines()
        .filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])))
        .find(|path| path.file_name().is_some_and(|f| f.to_string_lossy().starts_with(name)))
        .map(Path::to_path_buf)
}

/// The file that a loaded library came from, by its name.
#[cfg(windows)]
pub fn loaded_from(name: &str) -> Option<PathBuf> {
    use std::ffi::{OsString, c_void};
    use std::os::windows::ffi::OsStringExt;

    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn GetModuleHandleW(name: *const u16) -> *mut c_void;
        fn GetModuleFileNameW(module: *mut c_void, path: *mut u16, size: u32) -> u32;
    }
    let name: Vec<u16> = name.encode_utf16().chain([0]).collect();
    // The longest path that the system knows.
    let mut path = vec![0; 1 << 15];
    // SAFETY: a name that ends with a zero; null is asked for before it is used, and `path` has the
    // size that is said.
    let written = unsafe {
        let module = GetModuleHandleW(name.as_ptr());
        match module.is_null() {
            true => 0,
            false => GetModuleFileNameW(module, path.as_mut_ptr(), path.len() as u32),
        }
    };
    (written > 0).then(|| OsString::from_wide(&path[..written as usize]).into())
}

/// Major and minor compute capability of each GPU; empty where there is no driver.
pub(super) fn capabilities() -> Vec<(i32, i32)> {
    let part = |device, attribute| {
        // SAFETY: the device is one that the driver has just named.
        unsafe { result::device::get_attribute(device, attribute) }.ok()
    };
    let of_gpu = |index: usize| {
        let device = result::device::get(index as i32).ok()?;
        let major = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
        let minor = CUdevice_attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR;
        Some((part(device, major)?, part(device, minor)?))
    };
    (0..device_count().unwrap_or(0)).filter_map(of_gpu).collect()
}

/// Opens each major version of NVRTC that is found, the driver's own first, then older ones (a
/// driver takes code of its own major version and of older ones), then newer ones. The error says
/// how to install it.
pub(super) fn open_nvrtcs(driver_version: i32) -> Result<Vec<Library>> {
    let mut majors = [13, 12];
    majors.sort_by_key(|&major| (major > driver_version / 1000, -major));
    let folders = folders(&["cuda_nvrtc", "cu13", "cu12"]);
    let open = |major: &i32| {
        let name = nvrtc(*major);
        let files = folders.iter().map(|folder| folder.join(&name)).filter(|f| f.exists());
        std::iter::once(PathBuf::from(&name)).chain(files).find_map(|file| {
            open_builtins(&file);
            // SAFETY: NVRTC's initialisation has no conditions.
            unsafe { Library::new(file) }.ok()
        })
    };
    let found: Vec<Library> = majors.iter().filter_map(open).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let major = (driver_version / 1000).clamp(12, 13);
    let package = if major == 12 { "nvidia-cuda-nvrtc-cu12" } else { "nvidia-cuda-nvrtc" };
    Err(missing(
        format!(
            "NVRTC, the compiler for the kernels, was not found ({}; looked in the loader path, {} \
             and Python's packages)",
            nvrtc(major),
            if cfg!(windows) { "CUDA_PATH" } else { "CUDA_HOME, /usr/local/cuda" }
        ),
        format!("install the CUDA toolkit, or run `pip install {package}`"),
    ))
}

/// NVRTC finds its second half by the name alone, where the loader of Windows looks for it in other
/// folders than NVRTC's: what is loaded already it finds by its name everywhere.
fn open_builtins(nvrtc: &Path) {
    if let (true, Some(folder)) = (cfg!(windows), nvrtc.parent()) {
        for file in children(folder, "nvrtc-builtins64_") {
            // SAFETY: its initialisation has no conditions. It stays for as long as the process.
            let _ = unsafe { Library::new(file) }.map(std::mem::forget);
        }
    }
}

/// The folders outside of the loader path that may hold a library of CUDA's, which Python has in
/// one of these `packages`.
pub(super) fn folders(packages: &[&str]) -> Vec<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let mut toolkits: Vec<PathBuf> = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CONDA_PREFIX"]
        .into_iter()
        .filter_map(variable)
        .collect();
    toolkits.extend(["/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda"].map(PathBuf::from));
    toolkits.extend(children(Path::new("/usr/local"), "cuda-"));
    let mut found: Vec<PathBuf> = toolkits
        .iter()
        .flat_map(|t| {
            ["lib64", "lib", "targets/x86_64-linux/lib", "bin", "bin/x64"].map(|lib| t.join(lib))
        })
        .collect();

    let mut roots: Vec<PathBuf> = variable("VIRTUAL_ENV").into_iter().collect();
    roots.extend(variable("CONDA_PREFIX"));
    roots.extend(variable("HOME").map(|home| home.join(".local")));
    // Where a distribution's own Python has what root installs.
    roots.push(PathBuf::from("/usr/local"));
    // The root of whatever Python is on the path: its `bin`'s parent.
    roots.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths).filter_map(
        |bin| match () {
            // On Windows it is the folder itself.
            () if bin.join("python.exe").exists() => Some(bin),
            () if bin.join("python3").exists() => bin.parent().map(Path::to_path_buf),
            () => None,
        },
    ));
    let sites = sites(&roots);
    found.extend(sites.iter().flat_map(|site| {
        let of = |package: &&str| {
            ["lib", "bin", "bin/x86_64"].map(|lib| site.join("nvidia").join(package).join(lib))
        };
        packages.iter().flat_map(of)
    }));
    found
}

/// Where Pythons under `roots` have their packages: a folder for each version in `lib`; on Windows
/// `Lib`, and below a user's settings a folder for each version.
fn sites(roots: &[PathBuf]) -> Vec<PathBuf> {
    let mut sites = Vec::new();
    for root in roots {
        for python in children(&root.join("lib"), "python3") {
            sites.extend(["site-packages", "dist-packages"].map(|site| python.join(site)));
        }
        sites.push(root.join("Lib/site-packages"));
    }
    let settings = std::env::var_os("APPDATA").map(PathBuf::from);
    let own = settings.map(|folder| children(&folder.join("Python"), "Python3"));
    sites.extend(own.into_iter().flatten().map(|python| python.join("site-packages")));
    sites
}

/// The entries of `folder` whose names begin with `prefix`, sorted, newest version last by name.
fn children(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix)))
        .collect();
    all.sort();
    all
}
