//! The pictures in a run's folder, during training.

use crate::Picture;
use crate::common::running::preloaded;
use crate::common::{World, stderr};
use std::fs;

#[test]
fn the_folder_holds_the_kernels_and_curves_of_the_last_epoch() {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=2 --run run");
    world.ok("filters run/last.safetensors --out last.png");
    let (held, last) =
        (Picture::open(&world, "run/filters.png"), Picture::open(&world, "last.png"));
    let below = |picture: &Picture| {
        let (width, height) = picture.0.dimensions();
        // Without the heading, which says of what they are.
        image::imageops::crop_imm(&picture.0, 0, 26, width, height - 26).to_image()
    };
    assert!(below(&held) == below(&last));
    // As many dots on each line as epochs, of whatever process: the mark of the second colour grows.
    let before = world.bytes("run/curves.png");
    world.ok("train --resume --run run --set train.epochs=4");
    assert!(world.bytes("run/curves.png") != before);
    assert!(world.names("run").iter().all(|name| !name.ends_with(".tmp")));
    // The same log draws the same curves, whichever process wrote which part.
    world.ok("train --config net.toml --set train.epochs=4 --run whole");
    let half = |run: &str| {
        let curves = Picture::open(&world, &format!("{run}/curves.png"));
        // Loss and error; speeds, below on the right, differ.
        image::imageops::crop_imm(&curves.0, 0, 0, 1000, 330).to_image()
    };
    assert!(half("run") == half("whole"));
}

/// Folders where files should come, which nothing can be renamed to.
#[test]
fn a_picture_that_cannot_be_written_ends_no_run() {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=3 --run whole");
    fs::create_dir_all(world.path("run/curves.png/full")).unwrap();
    fs::create_dir_all(world.path("run/filters.png/full")).unwrap();
    let output = world.run("train --config net.toml --set train.epochs=3 --run run");
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(said.matches("the run goes on without that picture").count(), 1, "{said}");
    assert!(said.contains("curves.png"), "{said}");
    assert_eq!(world.timeless("run"), world.timeless("whole"));
    for file in ["last", "best"] {
        let bytes = |run: &str| world.bytes(&format!("{run}/{file}.safetensors"));
        assert!(bytes("run") == bytes("whole"));
    }
}

/// On a disk without room for checkpoints, pictures take none.
#[test]
fn pictures_give_way_to_checkpoints_that_find_no_room() {
    let Some(library) = preloaded("saving/faults.c") else { return };
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=1 --run run");
    assert!(world.path("run/curves.png").exists() && world.path("run/filters.png").exists());
    let mut command = world.command("train --resume --run run --set train.epochs=5");
    command.env("LD_PRELOAD", library).env("FAULT", "write .safetensors.tmp 0 1000000 28");
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).contains("training goes on"), "{}", stderr(&output));
    let left = ["best.safetensors", "config.toml", "last.safetensors", "metrics.jsonl"];
    assert_eq!(world.names("run"), left);
    // With room again the run ends whole, and its pictures tell of all epochs.
    world.ok("train --resume --run run --set train.epochs=5");
    world.ok("train --config net.toml --set train.epochs=5 --run whole");
    assert_eq!(world.names("run"), world.names("whole"));
}
