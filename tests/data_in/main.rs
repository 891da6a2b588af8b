//! Data as people have them, with the built program: tables, web data sets, Parquet files, pictures
//! in other formats than JPEG and PNG, pictures that are transparent in places, and what is said of
//! them at the end. tests/data/data_in/generate.py made the files, with pyarrow, Hugging Face's
//! `datasets` and Pillow, and says what these see in them.

#[path = "../common/mod.rs"]
mod common;

mod backgrounds;
mod formats;
mod hostile;
mod list;
mod parquet;
mod resize;
mod summary;
mod webdataset;

use alexnet::data::area::Area;
use alexnet::data::dataset::Dataset;
use common::{World, stderr};
use image::RgbImage;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// An empty folder for the program to run in.
fn world() -> World {
    World { folder: tempfile::tempdir().unwrap() }
}

/// The file or folder `name` of what generate.py made.
fn made(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/data_in").join(name)
}

/// What generate.py says of the file `name`: in `parquet` its rows, in `pictures` sizes and sums.
fn expected(kind: &str, name: &str) -> Vec<Value> {
    let text = fs::read_to_string(made("expected.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    all[kind][name].as_array().unwrap_or_else(|| panic!("{name}")).clone()
}

/// Puts a file that was made into the world.
fn copy(world: &World, from: &str, to: &str) {
    put(world, to, &fs::read(made(from)).unwrap());
}

fn put(world: &World, name: &str, bytes: &[u8]) {
    let path = world.path(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A picture of one class, as `common::picture` draws it, of the size that data sets have here, so
/// that nothing is scaled.
fn picture(class: u32, number: u32) -> RgbImage {
    common::picture(class, number, 16, 16)
}

/// The bytes of a PNG file.
fn png(picture: &RgbImage) -> Vec<u8> {
    let mut file = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut file, image::ImageFormat::Png).unwrap();
    file.into_inner()
}

/// An image of a data set.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    class: String,
    name: String,
    pixels: Vec<u8>,
}

/// The images of a split in their order; none where there is no such split.
fn images(world: &World, set: &str, split: &str) -> Vec<Seen> {
    let dataset = Dataset::open(&world.path(set)).unwrap();
    let header = &dataset.header;
    let Ok(split) = dataset.split(split) else { return Vec::new() };
    let all = Area::all(header.height, header.width);
    let image = |index: usize| {
        let mut pixels = vec![0; header.image_bytes()];
        split.read(index, &all, &mut pixels).unwrap();
        let class = header.classes[split.label(index) as usize].id.clone();
        Seen { class, name: split.name(index).to_string(), pixels }
    };
    (0..split.len()).map(image).collect()
}

/// `class name` of each image of a split.
fn names(world: &World, set: &str, split: &str) -> Vec<String> {
    let name = |seen: Seen| format!("{} {}", seen.class, seen.name);
    images(world, set, split).into_iter().map(name).collect()
}

/// The classes' ids with spaces between.
fn classes(world: &World, set: &str) -> String {
    let dataset = Dataset::open(&world.path(set)).unwrap();
    dataset.header.classes.iter().map(|class| class.id.as_str()).collect::<Vec<_>>().join(" ")
}

/// The CRC-32 of pixels, as generate.py writes it.
fn sum(pixels: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(pixels))
}

/// The lines of a data set's skipped.jsonl.
fn skipped(world: &World, set: &str) -> Vec<Value> {
    let text = world.text(&format!("{set}/skipped.jsonl"));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
