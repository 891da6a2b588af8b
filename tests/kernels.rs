//! What stands in `kernels/` and what is built into the program are the same files: each is
//! embedded by who launches it, and what they include is given to the compiler.

use alexnet::config::{Config, Optimizer};
use alexnet::engine::cuda::layout::Layout;
use alexnet::gpu::kernels::HEADERS;
use alexnet::layers::Classes;
use alexnet::network::{Mode, Plan};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// All files below `folder` with this ending.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = open.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == ending) {
                found.push(path);
            }
        }
    }
    found
}

fn names(files: &[PathBuf]) -> BTreeSet<String> {
    files.iter().map(|f| f.file_name().unwrap().to_str().unwrap().to_string()).collect()
}

/// What stands in quotes behind each `start` in the files.
fn quoted(files: &[PathBuf], start: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for text in files.iter().map(|file| fs::read_to_string(file).unwrap()) {
        let after = text.split(start).skip(1);
        found.extend(after.map(|rest| rest.split('"').next().unwrap().to_string()));
    }
    found
}

#[test]
fn every_kernel_is_embedded_by_its_user() {
    let (kernels, sources) = (files("kernels", "cu"), files("src", "rs"));
    let embedded = quoted(&sources, "kernel_source!(\"");
    let unused: Vec<String> = names(&kernels).difference(&embedded).cloned().collect();
    assert!(kernels.len() > 5 && unused.is_empty(), "nothing launches kernels/{unused:?}");
}

#[test]
fn every_header_is_given_to_the_compiler_and_included() {
    let given: BTreeSet<String> = HEADERS.iter().map(|header| header.name.to_string()).collect();
    let headers = files("kernels", "cuh");
    assert_eq!(names(&headers), given, "kernels/*.cuh, and HEADERS in src/gpu/kernels.rs");
    let sources = [files("kernels", "cu"), headers].concat();
    let included = quoted(&sources, "#include \"");
    assert_eq!(included, given, "what kernels include, and kernels/*.cuh");
}

/// A constant is a macro in every header that a kernel includes, and CUDA's own are full of names
/// like `K`, `C` and `H`. The normalisation's and pooling's are to be renamed.
#[test]
fn no_constant_has_a_name_that_headers_use() {
    const SHORT: [&str; 2] = ["lrn.cu", "pool.cu"];
    let mut names = BTreeSet::new();
    for file in files("configs", "toml") {
        let config = Config::read(&file, &[]).unwrap();
        if config.train.optimizer == Optimizer::Lars {
            continue; // on CPUs only
        }
        for (devices, mode) in [([0, 1], Mode::Training), ([0, 0], Mode::Evaluation)] {
            let devices = &devices[..config.towers];
            let plan = Plan::new(&config, 8, mode, devices, Classes::Any).unwrap();
            let layout = Layout::new(&plan, 8, &vec![108; plan.data.len()]).unwrap();
            for (_, launch) in layout.launches(&plan) {
                let own = launch.constants.iter().map(|(name, _)| (launch.source.name, *name));
                names.extend(own);
            }
        }
    }
    assert!(names.len() > 50, "{names:?}");
    let short = names.iter().filter(|(file, name)| name.len() < 3 && !SHORT.contains(file));
    let short: Vec<_> = short.collect();
    assert!(short.is_empty(), "constants with names of one or two letters: {short:?}");
}
