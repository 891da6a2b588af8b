//! The source's images are others when `prepare` is started again: mended, taken away, added. The
//! end is that of a `prepare` which finds them so from the first, and shards that agree are kept.

use super::*;
use std::os::unix::fs::MetadataExt;

const SETTINGS: &str = "--size 8 --shard-size 0.0004 --val-fraction 0 --max-bad 0";

/// Eight pictures of cats, of which the fifth and the last are none.
fn cats() -> World {
    let world = world();
    pictures(&world, "s/cat", 0, 8);
    for bad in ["0004", "0007"] {
        world.write(&format!("s/cat/{bad}.png"), "no picture");
    }
    world.fails(
        &format!("prepare image-folder s --out d {SETTINGS}"),
        1,
        &["2 of 8 images could not be used"],
    );
    world
}

/// The same command ends as a new one does, and the first `kept` shards stay as they are.
fn goes_on(world: &World, kept: usize) {
    let inode = |number: usize| {
        let path = world.path(&format!("d/train-{number:05}.shard"));
        fs::metadata(path).unwrap().ino()
    };
    let before: Vec<u64> = (0..kept).map(inode).collect();
    world.ok(&format!("prepare image-folder ./s/../s --out ./d {SETTINGS}"));
    world.ok(&format!("prepare image-folder s --out straight {SETTINGS}"));
    assert!(contents(world, "d") == contents(world, "straight"));
    assert_eq!((0..kept).map(inode).collect::<Vec<_>>(), before, "written again");
}

#[test]
fn mended_files_are_taken() {
    let world = cats();
    pictures(&world, "s/cat", 0, 8);
    // The first two shards hold the first four images, as before.
    goes_on(&world, 2);
    assert_eq!(images(&world, "d", "train"), 8);
}

#[test]
fn files_that_were_taken_away_are_not_missed() {
    let world = cats();
    for bad in ["0004", "0007"] {
        fs::remove_file(world.path(&format!("s/cat/{bad}.png"))).unwrap();
    }
    goes_on(&world, 3);
    assert_eq!(images(&world, "d", "train"), 6);
}

#[test]
fn one_mended_and_one_taken_away() {
    let world = cats();
    pictures(&world, "s/cat", 0, 7);
    fs::remove_file(world.path("s/cat/0007.png")).unwrap();
    goes_on(&world, 2);
}

#[test]
fn added_and_lost_good_ones_change_what_follows_only() {
    let world = cats();
    pictures(&world, "s/cat", 0, 8);
    fs::remove_file(world.path("s/cat/0003.png")).unwrap();
    pictures(&world, "s/cow", 0, 3);
    goes_on(&world, 1);
    let world = cats();
    for gone in ["0002", "0003", "0004", "0005", "0006", "0007"] {
        fs::remove_file(world.path(&format!("s/cat/{gone}.png"))).unwrap();
    }
    goes_on(&world, 1);
    assert_eq!(world.names("d").iter().filter(|name| name.ends_with(".shard")).count(), 1);
}

#[test]
fn a_damaged_finished_shard_is_made_again() {
    for at in [10, 70, 300, 500] {
        let world = cats();
        pictures(&world, "s/cat", 0, 8);
        let path = world.path("d/train-00001.shard");
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        goes_on(&world, 1);
    }
}
