//! Data sets as people make them, with the built program: from folders that hold all sorts of
//! things, interrupted, on a full disk, twice at once, damaged.

#[path = "../common/mod.rs"]
mod common;

mod checksums;
#[cfg(unix)]
mod folders;
#[cfg(target_os = "linux")]
mod interrupted;
#[cfg(unix)]
mod mended;
mod splits;
mod together;

use common::{World, running};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;

/// An empty folder for the program to run in.
fn world() -> World {
    World { folder: tempfile::tempdir().unwrap() }
}

/// `count` pictures of 20×18 in the folder `name`; of `shade` is what they look like.
fn pictures(world: &World, name: &str, shade: u32, count: u32) {
    fs::create_dir_all(world.path(name)).unwrap();
    for i in 0..count {
        let path = world.path(name).join(format!("{i:04}.png"));
        common::picture(shade % 3, i, 20, 18).save(path).unwrap();
    }
}

/// SRC/cat and SRC/dog with three pictures each.
fn two_classes(world: &World, src: &str) {
    pictures(world, &format!("{src}/cat"), 0, 3);
    pictures(world, &format!("{src}/dog"), 1, 3);
}

/// The content of a data set's dataset.json.
fn header(world: &World, set: &str) -> Value {
    serde_json::from_str(&world.text(&format!("{set}/dataset.json"))).unwrap()
}

/// The ids of its classes, with spaces between.
fn classes(world: &World, set: &str) -> String {
    let header = header(world, set);
    let classes = header["classes"].as_array().unwrap().iter();
    classes.map(|class| class["id"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

/// The images of a split; 0 where there is none.
fn images(world: &World, set: &str, split: &str) -> u64 {
    header(world, set)["splits"][split]["images"].as_u64().unwrap_or(0)
}

/// All files of a folder.
fn contents(world: &World, folder: &str) -> BTreeMap<String, Vec<u8>> {
    running::contents(&world.path(folder))
}
