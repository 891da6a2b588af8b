//! Paper evidence on the kernels where there is no GPU: what the real compiler makes of them.
//!
//! Compiles with the NVRTC that the program itself would find and refuses spills: the kernels of
//! the paper's network (one of two towers, batch 128), with a table from the disassembly, and those
//! of the shipped configs for eight kinds of GPU, with NVRTC 12 and 13. It needs both, nvdisasm and
//! cuobjdump, for instance from Python's packages:
//!
//!     python3 -m venv cuda && . cuda/bin/activate
//!     pip install nvidia-cuda-nvrtc-cu12 nvidia-cuda-nvrtc
//!     pip install nvidia-cuda-nvdisasm nvidia-cuda-cuobjdump
//!     cargo test --release --test cuda_report -- --include-ignored --nocapture

mod paper;
mod standin;

use alexnet::config::Config;
use alexnet::engine::cuda::Layouts;
use alexnet::engine::cuda::layout::Layout;
use alexnet::gpu::compile::{Compiler, Constant};
use alexnet::gpu::device::Device;
use alexnet::gpu::kernels::KernelSource;
use alexnet::gpu::launch::Launch;
use alexnet::gpu::precision::{Precision, Wanted};
use alexnet::layers::Classes;
use alexnet::network::{Halves, Mode, Plan, Share};
use paper::{Variant, variants};
use rayon::prelude::*;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// The GPUs that kernels are compiled for, with the multiprocessors of one of each kind, on which
/// tiles depend.
const GPUS: [((i32, i32), usize); 8] = [
    ((7, 0), 80),
    ((7, 5), 68),
    ((8, 0), 108),
    ((8, 6), 82),
    ((8, 9), 128),
    ((9, 0), 132),
    ((10, 0), 148),
    ((12, 0), 170),
];

/// For what each compiler makes all shipped configs; for the others it is the paper's network.
const ALL: [(i32, (i32, i32)); 2] = [(12, (8, 0)), (13, (9, 0))];

/// NVRTC of this major version.
fn compiler(major: i32) -> Compiler {
    let found = Compiler::new(major * 1000, None).unwrap();
    assert_eq!(found.version.0, major, "NVRTC {major} is not installed");
    found
}

/// A tool of the CUDA toolkit from the path, CUDA_HOME, or the active Python environment.
fn tool(name: &str) -> PathBuf {
    let entries = |folder: &Path| -> Vec<PathBuf> {
        std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect()
    };
    let mut folders: Vec<PathBuf> =
        std::env::var_os("PATH").iter().flat_map(std::env::split_paths).collect();
    folders.extend(std::env::var_os("CUDA_HOME").map(|home| Path::new(&home).join("bin")));
    if let Some(environment) = std::env::var_os("VIRTUAL_ENV") {
        for python in entries(&Path::new(&environment).join("lib")) {
            for package in entries(&python.join("site-packages").join("nvidia")) {
                folders.push(package.join("bin"));
            }
        }
    }
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|file| file.exists());
    found.unwrap_or_else(|| panic!("{name} is not on PATH, in CUDA_HOME or in Python's packages"))
}

/// What the disassembly says about one kernel.
#[derive(Default)]
struct Facts {
    registers: usize,
    shared_bytes: usize,
    /// Bytes of stack and local memory, and instructions that use them: spills.
    local: usize,
    /// Instructions of the loop with the most products (FFMA or, on tensor cores, HMMA), and how
    /// many of them are products.
    main_loop: (usize, usize),
}

/// What `make` gives, made anew where it `spills`, up to twice: a compiler does not always make the
/// same code of the same text. In one run over 5.8 thousand sources, on a busy machine, NVRTC 12.9
/// gave conv_backward_update.cu of the paper's fc6 8 bytes of stack for 8.0, and none in the runs
/// before and after, nor in 700 times that it was compiled for that alone.
fn tried<T>(make: impl Fn() -> T, spills: impl Fn(&T) -> bool) -> T {
    let mut made = make();
    for _ in 0..2 {
        if !spills(&made) {
            break;
        }
        println!("a source that spills is made again");
        made = make();
    }
    made
}

fn facts(code: &[u8], kernel: &str) -> Facts {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), code).unwrap();
    let run = |name: &str, arguments: &[&str]| {
        let output = Command::new(tool(name)).args(arguments).arg(file.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let mut facts = Facts::default();

    // " Function conv_forward:" and, on the next line, "  REG:126 STACK:0 SHARED:33792 LOCAL:0 ..."
    let usage = run("cuobjdump", &["-res-usage"]);
    let (_, usage) = usage.split_once(&format!("Function {kernel}:")).expect("the kernel's usage");
    let number = |name: &str| -> usize {
        let (_, rest) = usage.split_once(name).unwrap();
        rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    facts.registers = number("REG:");
    facts.shared_bytes = number("SHARED:");
    facts.local = number("STACK:") + number("LOCAL:");

    facts.read_code(&run("nvdisasm", &[]), kernel);
    facts
}

impl Facts {
    /// Looks through a disassembly for `kernel`'s loops and its use of local memory.
    fn read_code(&mut self, text: &str, kernel: &str) {
        let mut labels: HashMap<&str, usize> = HashMap::new();
        let mut operations: Vec<&str> = Vec::new();
        let mut section = "";
        for line in text.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix(".section\t") {
                section = name.trim().split(',').next().unwrap_or("");
            }
            if section != format!(".text.{kernel}") {
                continue;
            }
            if let Some(label) = line.strip_suffix(':') {
                labels.insert(label, operations.len());
            }
            let Some(operation) = operation(line) else { continue };
            operations.push(operation);
            let name = operation.split(' ').next().unwrap();
            self.local += usize::from(name.starts_with("LDL") || name.starts_with("STL"));
            if !name.starts_with("BRA") {
                continue;
            }
            // A jump back to a label is the end of a loop.
            let target = operation.split(['(', ')']).nth(1).unwrap_or("").trim_start_matches('`');
            if let Some(&begin) = labels.get(target) {
                let body = &operations[begin..];
                let is_product = |o: &&&str| o.starts_with("FFMA") || o.starts_with("HMMA");
                let products = body.iter().filter(is_product).count();
                if products > self.main_loop.1 {
                    self.main_loop = (body.len(), products);
                }
            }
        }
    }
}

/// The instruction of a line like "/*0a10*/ @!P0 FFMA R1, R2, R3, R1 ;", without its guard.
fn operation(line: &str) -> Option<&str> {
    let (_, rest) = line.strip_prefix("/*")?.split_once("*/")?;
    let operation = rest.trim().trim_end_matches(|c: char| c != ';').trim_end_matches(';');
    let operation = match operation.strip_prefix('@') {
        Some(guarded) => guarded.split_once(' ').map_or("", |(_, operation)| operation.trim()),
        None => operation,
    };
    (!operation.is_empty()).then_some(operation)
}

/// Warps that find room on a multiprocessor of compute capability 8.0, of 64.
fn warps(facts: &Facts, asked: usize, threads: usize) -> usize {
    let block_warps = threads.div_ceil(32);
    let registers = facts.registers.max(1).next_multiple_of(8) * 32 * block_warps;
    let shared = facts.shared_bytes + asked + 1024; // the driver's own
    let blocks = (65536 / registers).min(164 * 1024 / shared).min(64 / block_warps).min(32);
    blocks * block_warps
}

#[test]
#[ignore = "needs NVRTC and nvdisasm; prints the table of the kernels"]
fn every_kernel_compiles_without_spills() {
    let compiler = compiler(12);
    let (major, minor) = compiler.version;
    println!(
        "NVRTC {major}.{minor}; table for compute capability 8.0, batch 128, one of two towers"
    );
    println!(
        "\n| kernel | registers | shared bytes | warps of 64 | main loop: FFMA or HMMA / instructions |"
    );
    println!("| --- | --- | --- | --- | --- |");
    let all = variants(128);
    let report = |variant: &Variant, capability: (i32, i32)| {
        let make = || {
            let code = compiler.code(variant.source, &variant.constants, capability).unwrap();
            facts(&code, variant.kernel)
        };
        let facts = tried(make, |facts| facts.local > 0);
        assert_eq!(facts.local, 0, "{} spills for {capability:?}", variant.label);
        facts
    };
    for variant in &all {
        let facts = report(variant, (8, 0));
        let (instructions, products) = facts.main_loop;
        let share = match products {
            0..64 if !variant.on_tensor_cores() => String::new(),
            _ => format!(
                "{products} / {instructions} = {:.1} %",
                100.0 * products as f64 / instructions as f64
            ),
        };
        println!(
            "| {} | {} | {} | {} | {share} |",
            variant.label,
            facts.registers,
            facts.shared_bytes + variant.shared,
            warps(&facts, variant.shared, variant.threads())
        );
    }
}

/// Every kernel that training with a shipped config would launch, on two GPUs and on one, and what
/// hybrid training would launch besides between two processes or three, with its key: in f32 and in
/// what `auto` is. `all`: not only the paper's network, but that in every
/// precision.
fn shipped(
    (capability, multiprocessors): ((i32, i32), usize),
    all: bool,
) -> HashMap<String, (KernelSource, Vec<Constant>)> {
    let mut found = HashMap::new();
    let mut add = |launch: &Launch| {
        let key = format!("{} {:?}", launch.source.name, launch.constants);
        found.insert(key, (launch.source, launch.constants.clone()));
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let paper = file.ends_with("ilsvrc2010.toml");
        if file.extension().is_none_or(|e| e != "toml") || !(all || paper) {
            continue;
        }
        let config = Config::read(&file, &[]).unwrap();
        for devices in [[0, 1], [0, 0]].map(|d| d[..config.towers].to_vec()) {
            // A large batch is that of many processes together.
            let (batch, mode) = (config.train.batch / config.train.parts, Mode::Training);
            let mut plan = Plan::new(&config, batch, mode, &devices, Classes::Any).unwrap();
            let precisions = match paper {
                true => vec![Precision::F32, Precision::Tf32, Precision::Bf16],
                false => vec![plan.precision, Wanted::Auto.on(capability)],
            };
            for precision in precisions.into_iter().filter(|p| capability >= p.needs()) {
                plan.precision = precision;
                let each = vec![multiprocessors; plan.data.len()];
                let layout = Layout::new(&plan, plan.batch, &each).unwrap();
                layout.launches(&plan).into_iter().for_each(|(_, launch)| add(launch));
                for ranks in [2, 3] {
                    let share = Share { rank: 0, ranks };
                    let halves = Halves::new(&config, batch * ranks, share, Classes::Any);
                    // Not every network can be divided.
                    let Ok(mut halves) = halves else { continue };
                    (halves.below.precision, halves.above.precision) = (precision, precision);
                    let layouts = Layouts::new(&halves, batch, multiprocessors).unwrap();
                    layouts.between.launches().for_each(&mut add);
                }
            }
        }
    }
    for source in ["shares.cu", "parts.cu"] {
        assert!(found.values().any(|(own, _)| own.name == source), "{source}");
    }
    found
}

/// Compiles a source; for each of its kernels the registers, and a line about what it spills.
fn compiled(
    compiler: &Compiler,
    (source, constants): &(KernelSource, Vec<Constant>),
    capability: (i32, i32),
) -> (usize, Vec<String>) {
    let code = compiler.code(*source, constants, capability).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), code).unwrap();
    let output =
        Command::new(tool("cuobjdump")).arg("-res-usage").arg(file.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let usage: Vec<&str> = text.lines().filter(|l| l.contains("STACK:")).collect();
    assert!(output.status.success() && !usage.is_empty(), "{}: {text}", source.name);
    let registers = |line: &str| -> usize {
        let (_, rest) = line.split_once("REG:").unwrap();
        rest.split(' ').next().unwrap().parse().unwrap()
    };
    let spills = |line: &&&str| !(line.contains("STACK:0 ") && line.contains("LOCAL:0 "));
    let spilling = usage.iter().filter(spills);
    let spilling = spilling.map(|line| format!("{} {constants:?}: {line}", source.name));
    (usage.iter().map(|line| registers(line)).max().unwrap(), spilling.collect())
}

#[test]
#[ignore = "needs NVRTC 12 and 13 and cuobjdump; compiles the kernels of the shipped configs"]
fn every_shipped_config_compiles_without_spills() {
    println!("| NVRTC | compute capability | configs | sources | registers at most | spills |");
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut wrong = Vec::new();
    for major in [12, 13] {
        let compiler = compiler(major);
        for gpu in GPUS {
            let (capability, _) = gpu;
            // The newer one begins at 7.5.
            if compiler.check(capability).is_err() {
                assert!(major == 13 && capability == (7, 0), "{capability:?}");
                continue;
            }
            let all = ALL.contains(&(major, capability));
            let sources: Vec<_> = shipped(gpu, all).into_values().collect();
            let outcomes = sources.par_iter().map(|one| {
                let make = || compiled(&compiler, one, capability);
                tried(make, |(_, spills)| !spills.is_empty())
            });
            let (registers, spills): (Vec<_>, Vec<_>) = outcomes.unzip();
            let spills = spills.concat();
            println!(
                "| {}.{} | {}.{} | {} | {} | {} | {} |",
                compiler.version.0,
                compiler.version.1,
                capability.0,
                capability.1,
                if all { "all" } else { "the paper's" },
                sources.len(),
                registers.iter().max().unwrap(),
                if spills.is_empty() { "none".into() } else { spills.len().to_string() }
            );
            let spills = spills.into_iter();
            wrong.extend(spills.map(|s| format!("NVRTC {major}, {capability:?}: {s}")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The second table, from the stand-in: how one block in the middle of each product accesses
/// memory. The paper's five convolutions meet no bank conflict in f32 and read whole sectors.
#[test]
fn products_access_memory_well() {
    let output = standin::outcome("products_access_memory_well", &standin::COUNTING, || {
        let compiler = Compiler::new(12090, None).unwrap();
        let device = Device::open(0, Arc::new(compiler)).unwrap();
        println!("| kernel | sectors / request | of them needed | bank passes / needed |");
        println!("| --- | --- | --- | --- |");
        let of = |precision| paper::products(2, precision).into_iter().map(move |v| (precision, v));
        for (precision, variant) in
            of(Precision::F32).chain(of(Precision::Tf32)).chain(of(Precision::Bf16))
        {
            let kernel = device.kernel(variant.source, &variant.constants, variant.kernel).unwrap();
            let buffers: Vec<_> =
                variant.buffers.iter().map(|&len| device.buffer::<f32>(len).unwrap()).collect();
            let mut launch = kernel.arguments();
            for buffer in &buffers {
                device.compute.zero(buffer).unwrap();
                launch = launch.buffer(buffer);
            }
            // SAFETY: a variant lists its kernel's buffers in order, with their lengths, and takes
            // nothing else.
            unsafe {
                kernel.allow_shared(variant.shared).unwrap();
                launch
                    .with_shared(variant.shared)
                    .on(&device.compute, variant.grid, variant.block)
                    .unwrap();
            }
            device.wait().unwrap();
            let a = standin::accesses();
            let share = |a: u64, b: u64| a as f64 / b as f64;
            let needed = share(a.least_sectors, a.sectors);
            println!(
                "| {} {} | {:.2} | {:.1} % | {:.3} |",
                variant.label,
                precision.name(),
                share(a.sectors, a.global_requests),
                100.0 * needed,
                share(a.passes, a.least_passes)
            );
            assert!(a.shared_requests > 0 && a.global_requests > 0);
            if variant.label.starts_with("conv") {
                // For tensor cores copies of 64 bytes to rows of 80 meet a bank twice here and
                // there.
                let most = match precision {
                    Precision::F32 => 1.0,
                    Precision::Tf32 | Precision::Bf16 => 1.3,
                };
                let passes = share(a.passes, a.least_passes);
                assert!(passes <= most, "{}: bank conflicts, {passes}", variant.label);
                // conv1's windows begin at every 48th byte, so their ends share sectors; in
                // bfloat16 half sectors are read where tiles of 64 bytes end within a window's row.
                let whole = match precision {
                    _ if variant.label.starts_with("conv1") => 0.7,
                    Precision::Bf16 => 0.9,
                    _ => 1.0,
                };
                assert!(needed >= whole, "{}: partly used sectors", variant.label);
            }
        }
    });
    let Some(output) = output else { return };
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
