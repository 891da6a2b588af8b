//! Reads and writes that fail as on a bad or full device, and damaged records: `faults.c` is loaded
//! before the C library. Where there is no C compiler the tests say so and pass.

use super::{LONG, SHORT, assert_same, assert_same_checkpoints, assert_same_end, step};
use crate::common::running::preloaded;
use crate::common::{World, sentence, stderr};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const FOR_EVER: u32 = 1_000_000_000;

/// The library of `faults.c`.
fn library() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| preloaded("saving/faults.c")).as_deref()
}

/// Runs `args`; of the calls `call` on files whose path has `part` in it, `count` after the first
/// `skip` fail with `error`. None where that cannot be done.
fn with_fault(
    world: &World,
    args: &str,
    (call, part, skip, count, error): (&str, &str, u32, u32, i32),
) -> Option<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alexnet"));
    command.current_dir(world.folder.path()).args(args.split_whitespace());
    command.env("LD_PRELOAD", library()?);
    command.env("FAULT", format!("{call} {part} {skip} {count} {error}"));
    Some(command.output().unwrap())
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_written_later() {
    let world = World::new();
    world.ok(&format!("{SHORT} --run whole"));
    // The first two tries fail: before the first step and after the first epoch.
    let faults = [("write", ENOSPC), ("write", EIO), ("fsync", EIO), ("fsync", ENOSPC)];
    for (number, (call, error)) in faults.into_iter().enumerate() {
        let run = format!("run{number}");
        let fault = (call, ".safetensors.tmp", 0, 2, error);
        let Some(output) = with_fault(&world, &format!("{SHORT} --run {run}"), fault) else {
            return;
        };
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{call} {error}: {said}");
        assert!(said.contains("training goes on"), "{call} {error}: {said}");
        assert!(said.contains("saved again"), "{call} {error}: {said}");
        assert_same(&world, &run, "whole");
    }
}

#[test]
fn a_checkpoint_that_can_never_be_written_is_told_at_the_end() {
    let world = World::new();
    for (run, error) in [("full", ENOSPC), ("bad", EIO)] {
        let fault = ("write", ".safetensors.tmp", 0, FOR_EVER, error);
        let Some(output) = with_fault(&world, &format!("{SHORT} --run {run}"), fault) else {
            return;
        };
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        let said = sentence(&output);
        let words = ["last.safetensors", "best.safetensors", "steps 1 to 27", "no checkpoint"];
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
        assert_eq!(world.names(run), ["config.toml", "metrics.jsonl"]);
        assert_eq!(world.metrics(run).len(), 30);
    }
    // With a checkpoint from before, that is what is left, and the way on.
    world.ok("train --config net.toml --set train.epochs=1 --run old");
    let before = world.bytes("old/last.safetensors");
    let more = "train --resume --run old --set train.epochs=3";
    let output = with_fault(&world, more, ("fsync", ".tmp", 0, FOR_EVER, EIO)).unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let said = sentence(&output);
    let words = ["steps 10 to 27", "old/last.safetensors of step 9", "--resume --run old"];
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
    assert!(world.bytes("old/last.safetensors") == before);
    world.ok(&format!("{SHORT} --run whole"));
    world.ok(more);
    assert_same_end(&world, "old", "whole");
}

#[test]
fn a_log_line_that_finds_no_room_ends_no_run_and_comes_later() {
    let world = World::new();
    world.ok(&format!("{SHORT} --run whole"));
    for (run, error) in [("full", ENOSPC), ("bad", EIO)] {
        let fault = ("write", "metrics.jsonl", 4, 9, error);
        let Some(output) = with_fault(&world, &format!("{SHORT} --run {run}"), fault) else {
            return;
        };
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(said.matches("its lines wait for room").count(), 1, "{said}");
        assert_eq!(said.matches("metrics.jsonl is complete again").count(), 1, "{said}");
        assert_same(&world, run, "whole");
    }
    let fault = ("write", "metrics.jsonl", 4, FOR_EVER, ENOSPC);
    let output = with_fault(&world, &format!("{SHORT} --run never"), fault).unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(sentence(&output).contains("never/metrics.jsonl: its last 26 lines"));
    assert_same_checkpoints(&world, "never", "whole");
    assert_eq!(world.timeless("never"), world.timeless("whole")[..4], "no half line stays");
}

#[test]
fn the_config_that_finds_no_room_comes_later() {
    let world = World::new();
    world.ok(&format!("{SHORT} --run whole"));
    let fault = ("write", "config.toml.tmp", 0, 1, ENOSPC);
    let Some(output) = with_fault(&world, &format!("{SHORT} --run run"), fault) else { return };
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("run/config.toml"), "{}", stderr(&output));
    assert_same(&world, "run", "whole");
}

#[test]
fn a_read_is_tried_again_before_it_counts_as_failed() {
    let world = World::new();
    let train = format!("{SHORT} --set train.batch=3");
    world.ok(&format!("{train} --run whole"));
    let fault = ("read", ".shard", 60, 3, EIO);
    let Some(output) = with_fault(&world, &format!("{train} --run run"), fault) else { return };
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_same(&world, "run", "whole");
    // One that never goes well ends the run, which has saved what it has learnt.
    let fault = ("read", ".shard", 60, FOR_EVER, EIO);
    let output = with_fault(&world, &format!("{train} --run cut"), fault).unwrap();
    saved_before_it_ended(&world, &output);
    world.ok("train --resume --run cut");
    assert_same(&world, "cut", "whole");
}

#[test]
fn a_damaged_record_ends_a_run_that_has_saved_what_it_has_learnt() {
    let world = World::new();
    world.ok(&format!("{LONG} --run whole"));
    let shard = world.names("set").into_iter().find(|name| name.starts_with("train-")).unwrap();
    let good = world.bytes(&format!("set/{shard}"));
    let mut bad = good.clone();
    bad[64 + 1000] ^= 4;
    fs::write(world.path("set").join(&shard), bad).unwrap();
    let output = world.run(&format!("{LONG} --run cut"));
    saved_before_it_ended(&world, &output);
    fs::write(world.path("set").join(&shard), good).unwrap();
    world.ok("train --resume --run cut");
    assert_same(&world, "cut", "whole");
}

/// The run `cut` has ended inside an epoch with the error of a shard, and kept every step.
#[track_caller]
fn saved_before_it_ended(world: &World, output: &Output) {
    assert_eq!(output.status.code(), Some(1), "{}", stderr(output));
    assert!(sentence(output).contains(".shard"), "{}", stderr(output));
    let steps = world.metrics("cut").len() as u64;
    let kept = step(&world.path("cut/last.safetensors"));
    assert!(kept > 0 && kept == steps, "{kept} of {steps} steps are kept");
    let words = format!("all up to step {kept} is kept in cut/last.safetensors");
    assert!(stderr(output).contains(&words), "{}", stderr(output));
    assert!(stderr(output).contains("alexnet train --resume --run cut"));
}
