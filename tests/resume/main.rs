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

use common::running::{LONG, signal, start, wait_for};
use common::{World, stderr};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Runs a line of shell in the world's folder, `alexnet` being the program.
fn shell(world: &World, line: &str) -> Output {
    let line = format!("alexnet() {{ '{}' \"$@\"; }}; {line}", env!("CARGO_BIN_EXE_alexnet"));
    Command::new("bash").current_dir(world.folder.path()).args(["-c", &line]).output().unwrap()
}

/// A run `run` that stands inside an epoch.
fn interrupted(world: &World, run: &str) {
    // A signal that comes while an epoch ends does not serve.
    for _ in 0..20 {
        let child = start(world, &format!("{LONG} --run {run}"));
        wait_for(world, run, 20);
        signal(&child, "-INT");
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

/// The lines that say what a resume has changed.
fn changes(output: &Output) -> Vec<String> {
    let said = stderr(output);
    let lines = said.lines().filter_map(|line| line.strip_prefix("  "));
    lines.filter(|line| line.contains(" → ")).map(String::from).collect()
}
