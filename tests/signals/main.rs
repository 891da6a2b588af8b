//! Real signals at the built program, at every phase: what is kept, what it says, its exit code.
#![cfg(target_os = "linux")]

#[path = "../common/mod.rs"]
mod common;
mod process;

use common::World;
use libc::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGXCPU};
use process::Process;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// Long enough for a signal to come in time: 20 epochs of 90 steps.
const LONG: &str = "train --config net.toml --set train.batch=1 --set train.epochs=20";

/// One step of these takes a second.
const SLOW: &str = "train --config net.toml --set train.batch=30 --set layer.conv1.kernels=768 \
                    --set layer.conv2.kernels=768";

const ANSWER: &str = "finishing the step and saving; again to leave without";

fn lines(world: &World, run: &str) -> usize {
    let log = std::fs::read(world.path(run).join("metrics.jsonl")).unwrap_or_default();
    log.iter().filter(|&&b| b == b'\n').count()
}

/// Starts a run and waits until it has written `more` lines of metrics.
fn started(world: &World, args: &str, run: &str, more: usize) -> Process {
    let wanted = lines(world, run) + more;
    let mut process = Process::start(world, args);
    process.wait_until("trains", |_| lines(world, run) >= wanted);
    process
}

#[track_caller]
fn same(world: &World, run: &str, other: &str) {
    for file in ["last.safetensors", "best.safetensors"] {
        let file = |run: &str| world.bytes(&format!("{run}/{file}"));
        assert!(file(run) == file(other), "{run} and {other} have other weights");
    }
    assert_eq!(world.timeless(run), world.timeless(other));
}

#[test]
fn every_signal_to_end_finishes_the_step_and_saves() {
    let world = World::new();
    world.ok(&format!("{LONG} --run whole"));
    let mut args = format!("{LONG} --run cut");
    let signals = [(SIGHUP, 129), (SIGINT, 130), (SIGQUIT, 131), (SIGTERM, 143), (SIGXCPU, 152)];
    for (signal, code) in signals {
        let process = started(&world, &args, "cut", 100);
        process.signal(signal);
        let (ended, said) = process.end();
        assert_eq!(ended, Some(code), "{said}");
        assert_eq!(said.matches(ANSWER).count(), 1, "{said}");
        assert!(said.contains("error: interrupted; all is kept in cut/last.safetensors"), "{said}");
        args = "train --resume --run cut".into();
    }
    world.ok(&args);
    same(&world, "cut", "whole");
}

#[test]
fn a_signal_that_asks_for_a_checkpoint_ends_nothing() {
    let world = World::new();
    world.ok(&format!("{LONG} --run whole"));
    let mut process = started(&world, &format!("{LONG} --run cut"), "cut", 20);
    for _ in 0..2 {
        process.signal(SIGUSR1);
        process.hear("saved as asked: cut/last.safetensors, step ");
        world.ok("inspect cut/last.safetensors");
    }
    let (ended, said) = process.end();
    assert_eq!(ended, Some(0), "{said}");
    same(&world, "cut", "whole");
}

#[test]
fn at_the_start_nothing_is_lost() {
    let world = World::new();
    Command::new("mkfifo").arg(world.path("pipe.toml")).status().unwrap();
    // The config never comes.
    let process = Process::start(&world, "train --config pipe.toml");
    process.signal(SIGTERM);
    let (ended, said) = process.end();
    assert_eq!(ended, Some(143), "{said}");
    assert_eq!(said, "error: stopped by SIGTERM; no step had been done");

    let few = "train --config net.toml --set train.epochs=2";
    world.ok(&format!("{few} --run whole"));
    let mut process = Process::start(&world, &format!("{few} --run cut"));
    process.hear("into cut,");
    process.signal(SIGUSR1);
    process.signal(SIGHUP);
    let (ended, said) = process.end();
    // The folder is new, and the run may be before its first step or after it.
    assert_eq!(ended, Some(129), "{said}");
    if world.path("cut/last.safetensors").exists() {
        world.ok("train --resume --run cut");
        same(&world, "cut", "whole");
    } else {
        assert!(said.contains("no step had been done"), "{said}");
        world.ok(&format!("{few} --run cut"));
    }
}

#[test]
fn in_validation_too_it_saves_or_ends() {
    let world = World { folder: tempfile::tempdir().unwrap() };
    world.grey(8, 60_000);
    world.ok("prepare idx idx --out all --val-fraction 0");
    let args = "train --config grey.toml --data all --set train.epochs=2";
    world.ok(&format!("{args} --run whole"));
    let mut process = started(&world, &format!("{args} --run cut"), "cut", 1);
    process.signal(SIGUSR1);
    process.hear("saved as asked: cut/last.safetensors, step 1");
    process.signal(SIGXCPU);
    let (ended, said) = process.end();
    assert_eq!(ended, Some(152), "{said}");
    assert_eq!(lines(&world, "cut"), 1, "the epoch's line comes after its validation");
    world.ok("train --resume --run cut");
    same(&world, "cut", "whole");
}

/// One step an epoch: most of the time goes into checkpoints.
#[test]
fn while_it_saves_too() {
    let world = World::new();
    let steps = "train --config net.toml --set train.batch=90 --set train.epochs=60";
    world.ok(&format!("{steps} --run whole"));
    let mut args = format!("{steps} --run cut");
    for round in 0..6 {
        let process = started(&world, &args, "cut", 4);
        sleep(Duration::from_millis(7 * round));
        process.signal([SIGTERM, SIGHUP, SIGQUIT][round as usize % 3]);
        let (ended, said) = process.end();
        assert!([143, 129, 131, 0].map(Some).contains(&ended), "{said}");
        if ended == Some(0) {
            break;
        }
        args = "train --resume --run cut".into();
    }
    if lines(&world, "cut") < lines(&world, "whole") {
        world.ok(&args);
    }
    same(&world, "cut", "whole");
}

#[test]
fn a_second_signal_leaves_at_once_and_says_what_is_kept() {
    let world = World::new();
    let mut process = started(&world, &format!("{SLOW} --run cut"), "cut", 1);
    process.signal(SIGUSR1);
    process.hear("saved as asked");
    process.signal(SIGINT);
    process.hear(ANSWER);
    sleep(Duration::from_millis(100));
    process.signal(SIGINT);
    let (ended, said) = process.end();
    assert_eq!(ended, Some(130), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.starts_with("error: left without finishing the step; cut/last.saf"), "{said}");
    assert!(last.contains("holds step ") && last.contains("train --resume --run cut"), "{said}");
    world.ok("inspect cut/last.safetensors");
}

/// The kernel repeats SIGXCPU each second, a closed terminal's SIGHUP comes twice, and `timeout`
/// sends its signal to the child and to the child's group.
#[test]
fn only_an_impatient_person_leaves_without_the_step() {
    let world = World::new();
    let mut process = started(&world, &format!("{SLOW} --run cut"), "cut", 1);
    process.signal(SIGTERM);
    process.signal(SIGTERM);
    process.hear(ANSWER);
    for signal in [SIGXCPU, SIGHUP, SIGXCPU] {
        sleep(Duration::from_millis(60));
        process.signal(signal);
    }
    let (ended, said) = process.end();
    assert_eq!(ended, Some(143), "{said}");
    assert!(said.contains("all is kept in cut/last.safetensors"), "{said}");
    assert!(world.path("cut/last.safetensors").exists());
}

#[test]
fn a_signal_that_was_ignored_stays_ignored() {
    let world = World::new();
    let script = format!("trap '' HUP INT; exec alexnet {LONG} --run cut");
    let mut process = Process::shell(&world, &script);
    process.wait_until("trains", |_| lines(&world, "cut") >= 20);
    process.signal(SIGHUP);
    process.signal(SIGINT);
    let (ended, said) = process.end();
    assert_eq!(ended, Some(0), "{said}");
    assert!(!said.contains(ANSWER), "{said}");
}

#[test]
fn other_commands_end_where_they_stand() {
    let world = World::new();
    Command::new("mkfifo").arg(world.path("pipe")).status().unwrap();
    let commands = [
        ("bench --config net.toml --steps 1000000", SIGQUIT, 131, "stopped by SIGQUIT"),
        ("eval pipe", SIGINT, 130, "stopped by SIGINT"),
        ("inspect pipe", SIGHUP, 129, "stopped by SIGHUP"),
        ("data verify set", SIGXCPU, 152, "stopped by SIGXCPU"),
        (
            "prepare image-folder photos --out new --size 1024 --workers 1",
            SIGTERM,
            143,
            "stopped by SIGTERM; the same command goes on where it stopped",
        ),
    ];
    for (args, signal, code, words) in commands {
        let mut process = Process::start(&world, args);
        if args.starts_with("prepare") {
            process.signal(SIGUSR1);
            process.hear("SIGUSR1: there is nothing to save yet");
        }
        process.signal(signal);
        let (ended, said) = process.end();
        // The data set is small: it may be verified before the signal comes.
        if !(args.starts_with("data") && ended == Some(0)) {
            assert_eq!(ended, Some(code), "{args}: {said}");
            assert_eq!(said.lines().last(), Some(format!("error: {words}").as_str()), "{said}");
        }
    }
}
