//! What stands in `kernels/` and what is built into the program are the same files: each is
//! embedded by who launches it, and what they include is given to the compiler.

use alexnet::gpu::kernels::HEADERS;
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
