//! Runs a test on the stand-in for driver (`driver.hpp` and the files it names), NVRTC
//! (`nvrtc.cpp`) and, where it asks for it, NCCL (`nccl.cpp`), or, with `ALEXNET_TEST_GPU=1`, on
//! this machine's own driver and GPU.
//!
//! On a GPU a test that plants a fault, counts, or asks for a machine of another kind says that it
//! was skipped. Where there is one GPU it plays both parts of two: each tower has a worker, streams
//! and copies of its own on it.
//!
//! The dynamic loader reads LD_LIBRARY_PATH only when a process starts, and the stand-in's switches
//! are environment variables; so [`run`] starts the test once more as a process of its own. What a
//! kernel does wrong then ends that process, not the others.
#![allow(dead_code)] // each test binary uses its part

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const CHILD: &str = "STANDIN_CHILD";

/// The stand-in's libraries and the files and constants that each is compiled from.
const LIBRARIES: [(&str, &[&str]); 4] = [
    (
        "libcuda.so.1",
        &[
            "devices.cpp",
            "copies.cpp",
            "launches.cpp",
            "streams.cpp",
            "graphs.cpp",
            "races.cpp",
            "waits.cpp",
            "collectives.cpp",
        ],
    ),
    ("libnvrtc.so.12", &["nvrtc.cpp"]),
    ("libnvrtc.so.13", &["nvrtc.cpp", "-DMAJOR=13"]),
    // In a folder of its own: not every machine has it.
    ("nccl/libnccl.so.2", &["nccl.cpp"]),
];

/// Where the tests build the stand-in.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("standin")
}

/// The host's C++ compiler, or `None`; tests then say so and pass.
fn compiler() -> Option<String> {
    let candidates = std::env::var("CXX").into_iter().chain(["g++", "c++"].map(String::from));
    candidates.into_iter().find(|name| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    })
}

/// Builds the stand-in if its sources changed. `None` where there is no C++ compiler or no x86-64.
pub fn build() -> Option<PathBuf> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build_now).clone()
}

fn build_now() -> Option<PathBuf> {
    let Some(compiler) = compiler().filter(|_| cfg!(target_arch = "x86_64")) else {
        eprintln!("skipped: the CUDA stand-in needs a C++ compiler (g++) and an x86-64 processor");
        return None;
    };
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join("standin");
    let folder = folder();
    std::fs::create_dir_all(folder.join("cache")).unwrap();
    std::fs::create_dir_all(folder.join("nccl")).unwrap();
    // Test binaries may run side by side: one builds, the others wait.
    let lock = std::fs::File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let entries = std::fs::read_dir(&sources).unwrap();
    let newest = entries.map(|e| e.unwrap().metadata().unwrap().modified().unwrap()).max();
    for (library, parts) in LIBRARIES {
        let target = folder.join(library);
        if target.metadata().ok().and_then(|m| m.modified().ok()) >= newest {
            continue;
        }
        let temporary = folder.join(format!("{library}.new"));
        let output = Command::new(&compiler)
            .args(["-std=c++17", "-O2", "-Wall", "-Wextra", "-fPIC", "-shared", "-Wl,-z,nodelete"])
            .arg(format!("-Wl,-soname,{}", library.trim_start_matches("nccl/")))
            .arg(format!("-DSTANDIN_FOLDER=\"{}\"", sources.display()))
            .arg(format!("-DSTANDIN_COMPILER=\"{compiler}\""))
            .arg("-o")
            .arg(&temporary)
            .args(parts.iter().map(|part| match part.starts_with("-D") {
                true => PathBuf::from(part),
                false => sources.join(part),
            }))
            .arg("-ldl")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::rename(temporary, target).unwrap();
    }
    Some(folder)
}

/// To 10 bits behind the point, halves away from zero, as kernels for tensor cores round.
pub fn to_tf32(value: f32) -> f32 {
    f32::from_bits((value.to_bits() + 0x1000) & !0x1fff)
}

/// Whether the tests are to run on this machine's own driver and GPU.
pub fn on_gpu() -> bool {
    std::env::var("ALEXNET_TEST_GPU").is_ok_and(|value| value == "1")
}

/// The GPU that plays GPU `index` in a test of two.
pub fn gpu(index: usize) -> usize {
    let count = alexnet::gpu::library::device_count().expect("a GPU");
    if on_gpu() { index % count } else { index }
}

/// What a process needs to find the stand-in instead of a driver; on a GPU nothing but kernels
/// compiled anew. `None` where neither is to be had.
pub fn world() -> Option<Vec<(String, String)>> {
    if on_gpu() {
        return Some(vec![("ALEXNET_KERNEL_CACHE".into(), String::new())]);
    }
    build().map(|folder| environment(&folder))
}

/// What a process needs to find the stand-in instead of a driver.
fn environment(folder: &Path) -> Vec<(String, String)> {
    let text = |path: PathBuf| path.display().to_string();
    vec![
        ("LD_LIBRARY_PATH".into(), text(folder.to_path_buf())),
        ("STANDIN_CACHE".into(), text(folder.join("cache"))),
        ("ALEXNET_KERNEL_CACHE".into(), String::new()),
        // However long a kernel takes here, it is no GPU that has stopped answering.
        ("ALEXNET_GPU_WAIT".into(), "0".into()),
    ]
}

/// The library path with which the stand-in for NCCL is found, too; on a GPU this process's own.
pub fn path_with_nccl() -> Option<String> {
    if on_gpu() {
        return Some(std::env::var("LD_LIBRARY_PATH").unwrap_or_default());
    }
    build().map(|folder| format!("{0}:{0}/nccl", folder.display()))
}

/// Runs `body` on the stand-in with these switches, in a process of its own; panics if that fails.
/// On a GPU the same without switches: an order of the threads is nothing to ask of one, and a test
/// with any other switch is skipped. `test` is the test's full name, as `cargo test` prints it.
pub fn run(test: &str, switches: &[(&str, &str)], body: impl FnOnce()) {
    let asks_for_more = switches.iter().any(|(name, _)| *name != "STANDIN_ORDER");
    if on_gpu() && !asks_for_more {
        succeed(child(test, &world().expect("a GPU's environment"), &[], body));
    } else {
        only(test, switches, body);
    }
}

/// As [`run`], for what only the stand-in does.
pub fn only(test: &str, switches: &[(&str, &str)], body: impl FnOnce()) {
    succeed(outcome(test, switches, body));
}

fn succeed(output: Option<Output>) {
    if let Some(output) = output {
        let text = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
    }
}

/// As [`only`], but hands back how the process ended and what it printed; `None` in that process
/// itself, and where there is no stand-in.
pub fn outcome(test: &str, switches: &[(&str, &str)], body: impl FnOnce()) -> Option<Output> {
    if skipped_on_gpu(test) {
        return None;
    }
    child(test, &environment(&build()?), switches, body)
}

/// Says on a GPU that `test` needs the stand-in.
pub fn skipped_on_gpu(test: &str) -> bool {
    if on_gpu() {
        eprintln!("skipped: {test} needs the stand-in");
    }
    on_gpu()
}

/// Runs `body` in a process of its own; `None` in that process itself.
fn child(
    test: &str,
    environment: &[(String, String)],
    switches: &[(&str, &str)],
    body: impl FnOnce(),
) -> Option<Output> {
    if std::env::var(CHILD).is_ok_and(|name| name == test) {
        body();
        return None;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .envs(environment.iter().cloned())
        .envs(switches.iter().copied())
        .env(CHILD, test)
        .output()
        .unwrap();
    let started = String::from_utf8_lossy(&output.stdout).contains("running 1 test");
    assert!(started, "there is no test named {test}");
    Some(output)
}

/// What the stand-in has counted in this process so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    pub launches: u64,
    pub uploads: u64,
    pub upload_bytes: u64,
    pub downloads: u64,
    pub download_bytes: u64,
    pub peer_copies: u64,
    pub peer_bytes: u64,
    pub local_copies: u64,
    pub local_bytes: u64,
    pub host_waits: u64,
    pub graphs: u64,
    pub graph_launches: u64,
    pub peer_touched: u64,
}

/// Reads the counters; only inside [`run`].
pub fn counters() -> Counters {
    let mut counters = Counters::default();
    // SAFETY: the stand-in is loaded, and its function writes thirteen 64-bit numbers.
    unsafe {
        let library = libloading::Library::new("libcuda.so.1").unwrap();
        let read: libloading::Symbol<unsafe extern "C" fn(*mut Counters)> =
            library.get(b"standin_counters").unwrap();
        read(&mut counters);
    }
    counters
}

/// How kernels accessed memory, see `accesses.hpp`.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Accesses {
    pub global_requests: u64,
    pub sectors: u64,
    pub least_sectors: u64,
    pub shared_requests: u64,
    pub passes: u64,
    pub least_passes: u64,
}

/// The switches that make kernels count their accesses, in one block of each launch.
pub const COUNTING: [(&str, &str); 2] = [
    ("STANDIN_CXXFLAGS", " -fsanitize=thread -fno-exceptions -nodefaultlibs -lc -lm"),
    ("STANDIN_SAMPLE", "1"),
];

/// The switches that make work which nothing puts in order an error, accesses of kernels included.
pub const RACES: [(&str, &str); 2] = [COUNTING[0], ("STANDIN_RACES", "1")];

/// What was counted since the last call; only inside [`run`] with [`COUNTING`].
pub fn accesses() -> Accesses {
    let mut accesses = Accesses::default();
    // SAFETY: the stand-in is loaded, and its function writes six 64-bit numbers.
    unsafe {
        let library = libloading::Library::new("libcuda.so.1").unwrap();
        let read: libloading::Symbol<unsafe extern "C" fn(*mut Accesses)> =
            library.get(b"standin_accesses").unwrap();
        read(&mut accesses);
    }
    accesses
}
