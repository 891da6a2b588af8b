//! Going on with runs, through the built program: what a resume changes and says, what it refuses,
//! what it does with a damaged log, who may train in a folder, and that the commands that it prints
//! work as they stand.

#[path = "../common/mod.rs"]
mod common;

mod advice;
mod formats;
mod lock;
mod log;
mod other_data;
mod settings;

use common::{World, stderr};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// 20 epochs of 90 steps.
const LONG: &str = "train --config net.toml --set train.batch=1 --set train.epochs=20";

/// Runs a line of shell in the world's folder, `alexnet` being the program.
fn shell(world: &World, line: &str) -> Output {
    let line = format!("alexnet() {{ '{}' \"$@\"; }}; {line}", env!("CARGO_BIN_EXE_alexnet"));
    Command::new("bash").current_dir(world.folder.path()).args(["-c", &line]).output().unwrap()
}

fn start(world: &World, args: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_alexnet"))
        .current_dir(world.folder.path())
        .args(args.split_whitespace())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until a run has written `lines` lines of metrics.
fn wait_for(world: &World, run: &str, lines: usize) {
    let path = world.path(run).join("metrics.jsonl");
    let begun = Instant::now();
    let count = || fs::read(&path).unwrap_or_default().iter().filter(|&&b| b == b'\n').count();
    while count() < lines {
        assert!(begun.elapsed() < Duration::from_secs(60), "no {lines} lines in {run}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A run `run` that stands inside an epoch.
fn interrupted(world: &World, run: &str) {
    // A signal that comes while an epoch ends does not serve.
    for _ in 0..20 {
        let child = start(world, &format!("{LONG} --run {run}"));
        wait_for(world, run, 20);
        let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
        assert!(status.unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert!(!output.status.success(), "{}", stderr(&output));
        if world.metrics(run).last().unwrap()["kind"] == "step" {
            return;
        }
        fs::remove_dir_all(world.path(run)).unwrap();
    }
    panic!("never inside an epoch");
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// All files of a folder, by name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let mut all: Vec<_> = entries
        .map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap()))
        .collect();
    all.sort();
    all
}

/// The lines that say what a resume has changed.
fn changes(output: &Output) -> Vec<String> {
    let said = stderr(output);
    let lines = said.lines().filter_map(|line| line.strip_prefix("  "));
    lines.filter(|line| line.contains(" → ")).map(String::from).collect()
}
