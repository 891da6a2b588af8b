//! Runs of the program that are watched and stopped while they go on, and what folders and headers
//! hold afterwards.

#![allow(dead_code)] // each test binary uses its part

use super::World;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Long enough for a signal to come in time: 20 epochs of 90 steps.
pub const LONG: &str = "train --config net.toml --set train.batch=1 --set train.epochs=20";

/// Starts the program with `args` (words) in the world's folder; what it prints is kept.
pub fn start(world: &World, args: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_alexnet"))
        .current_dir(world.folder.path())
        .args(args.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Sends the signal `name`, such as `-INT`.
pub fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// Whole lines of a file; 0 where there is none.
pub fn lines_of(path: &Path) -> usize {
    fs::read(path).unwrap_or_default().iter().filter(|&&b| b == b'\n').count()
}

/// Waits until a run has written `lines` lines of metrics.
pub fn wait_for(world: &World, run: &str, lines: usize) {
    let path = world.path(run).join("metrics.jsonl");
    let what = format!("{lines} lines in {run}");
    wait_until(&what, || lines_of(&path) >= lines);
}

/// Waits until `there` holds.
#[track_caller]
pub fn wait_until(what: &str, there: impl Fn() -> bool) {
    let begun = Instant::now();
    while !there() {
        assert!(begun.elapsed() < Duration::from_secs(60), "never: {what}");
        sleep(Duration::from_millis(1));
    }
}

/// All files of a folder, by name, without the lock that Windows leaves.
pub fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| cfg!(unix) || !path.ends_with(".lock")).map(|path| {
        (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap())
    });
    files.collect()
}

/// A C file under `tests` as a library that is loaded before all others (LD_PRELOAD). None, and said
/// so, where there is no Linux or no C compiler.
pub fn preloaded(source: &str) -> Option<PathBuf> {
    let name = source.replace('/', "-").replace(".c", ".so");
    let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
    // Tests may run side by side: each compiles its own and renames.
    let own = library.with_extension(format!("{:?}.so", std::thread::current().id()));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(source);
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-Wall", "-Wextra", "-fPIC", "-shared", "-o"]);
    match compiler.arg(&own).arg(source).arg("-ldl").output() {
        Ok(output) if cfg!(target_os = "linux") => {
            assert!(output.status.success(), "{}", super::stderr(&output));
            fs::rename(own, &library).unwrap();
            Some(library)
        }
        _ => {
            eprintln!("skipped: faults are made on Linux, and by a C compiler (cc)");
            None
        }
    }
}

/// Changes the header of a tensor file, and its checksum with it: what is written is what a program
/// with that header would have.
pub fn reseal(path: &Path, change: impl FnOnce(&mut String)) {
    let bytes = fs::read(path).unwrap();
    let end = 8 + u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    let mut header = String::from_utf8(bytes[8..end].to_vec()).unwrap();
    change(&mut header);
    header = format!("{:1$}", header.trim_end(), header.trim_end().len().next_multiple_of(8));
    let sums = r#""checksums":""#;
    let from = header.find(sums).unwrap() + sums.len();
    let to = from + header[from..].find(r#"}""#).unwrap() + 1;
    let sum = crc32fast::hash([&header[..from], &header[to..]].concat().as_bytes());
    let mark = r#"\"header\":\""#;
    let at = from + header[from..to].find(mark).unwrap() + mark.len();
    header.replace_range(at..at + 8, &format!("{sum:08x}"));
    let length = (header.len() as u64).to_le_bytes();
    fs::write(path, [&length[..], header.as_bytes(), &bytes[end..]].concat()).unwrap();
}
