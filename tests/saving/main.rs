//! That a run's files are there when they are needed: written before the first step, beside
//! training, on disks that are full or fail, and found again where the newest is damaged.

#[path = "../common/mod.rs"]
mod common;

mod damaged;
mod faults;
mod full_disk;
mod kills;

use common::World;
use common::running::{LONG, wait_until};
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A run of 3 epochs, 9 steps each.
const SHORT: &str = "train --config net.toml --set train.epochs=3";
/// Starts the program; what it says goes to the file `said`.
fn start(world: &World, args: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_alexnet"))
        .current_dir(world.folder.path())
        .args(args.split_whitespace())
        .stdout(Stdio::null())
        .stderr(File::create(world.path("said")).unwrap())
        .spawn()
        .unwrap()
}

/// The steps that a checkpoint stands after.
fn step(path: &Path) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    header.metadata().as_ref().unwrap()["step"].parse().unwrap()
}

/// Whether two runs have left the same checkpoints.
#[track_caller]
fn assert_same_checkpoints(world: &World, run: &str, whole: &str) {
    for file in ["last.safetensors", "best.safetensors"] {
        let file = |run: &str| world.bytes(&format!("{run}/{file}"));
        assert!(file(run) == file(whole), "{run} and {whole} differ");
    }
}

/// Whether two runs have left the same, but for times.
#[track_caller]
fn assert_same(world: &World, run: &str, whole: &str) {
    assert_same_checkpoints(world, run, whole);
    assert_same_end(world, run, whole);
}

/// As [`assert_same`] for a run that was to have fewer epochs at first: its best may be from then,
/// and so may the config in it.
#[track_caller]
fn assert_same_end(world: &World, run: &str, whole: &str) {
    let last = |run: &str| world.bytes(&format!("{run}/last.safetensors"));
    assert!(last(run) == last(whole), "{run} and {whole} differ");
    assert_eq!(
        world.bytes(&format!("{run}/config.toml")),
        world.bytes(&format!("{whole}/config.toml"))
    );
    assert_eq!(world.timeless(run), world.timeless(whole));
    assert!(world.names(run).iter().all(|name| !name.ends_with(".tmp")));
}
