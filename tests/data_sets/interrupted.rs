//! Ended before any call that changes the disk, with no room for any of them, on a disk that cannot
//! be read: nothing is lost, and the same command goes on to the same end. faults.c does this to
//! the program; where there is no C compiler the tests say so and pass.

use super::*;
use assert_cmd::Command;
use common::running::preloaded;
use common::stderr;
use std::path::Path;

/// `prepare` of `s` into `out` with several shards and an image that is skipped.
fn prepare(world: &World, out: &str) -> Command {
    world.command(&format!(
        "prepare image-folder s --out {out} --size 8 --shard-size 0.0004 --max-bad 1 --workers 1"
    ))
}

/// A source, and what becomes of it when nothing happens, in `straight`.
fn source() -> World {
    let world = world();
    two_classes(&world, "s");
    world.write("s/cat/0001a.jpg", "no picture");
    prepare(&world, "straight").assert().success();
    assert_eq!(
        header(&world, "straight")["splits"]["train"]["shards"].as_array().unwrap().len(),
        2
    );
    world
}

#[test]
fn ended_before_any_call_it_goes_on_to_the_same_end() {
    let world = source();
    let Some(library) = preloaded("data_sets/faults.c") else { return };
    let straight = contents(&world, "straight");
    // Most of the time goes into waiting for the disk.
    let lanes = 4;
    let ended: usize = std::thread::scope(|scope| {
        let lane = |lane| {
            let ends = |at: &usize| ended_before(&world, &library, &straight, *at);
            scope.spawn(move || (lane..).step_by(lanes).take_while(ends).count())
        };
        let all: Vec<_> = (1..=lanes).map(lane).collect();
        all.into_iter().map(|lane| lane.join().unwrap()).sum()
    });
    assert!(ended > 40, "{ended} calls were found");
}

/// Ends `prepare` before call `at` and starts it again; false: it has fewer calls.
fn ended_before(
    world: &World,
    library: &Path,
    straight: &BTreeMap<String, Vec<u8>>,
    at: usize,
) -> bool {
    let out = format!("killed-{at}");
    let mut first = prepare(world, &out);
    let output = first.env("LD_PRELOAD", library).env("KILL_AT", at.to_string()).output().unwrap();
    if output.status.success() {
        return false;
    }
    assert_eq!(output.status.code(), Some(137), "{}", stderr(&output));
    let there = |name: &str| world.path(&out).join(name).exists();
    let is_whole = there("dataset.json") && !there("unfinished.json");
    let again = prepare(world, &out).output().unwrap();
    if is_whole {
        // All was done but for the lock's file.
        assert!(stderr(&again).contains("finished data set already"), "before call {at}");
    } else {
        assert!(again.status.success(), "before call {at}: {}", stderr(&again));
    }
    assert!(contents(world, &out) == *straight, "before call {at}");
    true
}

#[test]
fn a_full_disk_is_said_and_gone_on_from() {
    let world = source();
    let Some(library) = preloaded("data_sets/faults.c") else { return };
    let straight = contents(&world, "straight");
    let mut failed = 0;
    for room in (0..).step_by(1301) {
        let out = format!("full-{room}");
        let mut first = prepare(&world, &out);
        let first = first.env("LD_PRELOAD", &library).env("FULL_AFTER", room.to_string());
        let output = first.output().unwrap();
        if output.status.success() {
            break;
        }
        let sentence = common::sentence(&output);
        assert!(sentence.contains(&format!("there is no room for {out}; make some")), "{sentence}");
        assert!(sentence.contains("No space left on device"), "{sentence}");
        let left = world.names(&out);
        assert!(!left.iter().any(|name| name.ends_with(".tmp")), "{left:?}");
        prepare(&world, &out).assert().success();
        assert!(contents(&world, &out) == straight, "room for {room} bytes");
        failed += 1;
    }
    assert!(failed > 3, "{failed} times there was no room");
}

#[test]
fn a_file_that_the_disk_cannot_read_is_no_bad_image() {
    let world = source();
    let Some(library) = preloaded("data_sets/faults.c") else { return };
    let mut first = prepare(&world, "d");
    let output =
        first.env("LD_PRELOAD", &library).env("BROKEN", "s/dog/0001.png").output().unwrap();
    let sentence = common::sentence(&output);
    assert_eq!(output.status.code(), Some(1), "{sentence}");
    assert!(sentence.contains("s/dog/0001.png cannot be read; see to the disk"), "{sentence}");
    prepare(&world, "d").assert().success();
    assert!(contents(&world, "d") == contents(&world, "straight"));
}
