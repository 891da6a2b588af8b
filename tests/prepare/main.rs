//! `prepare` end to end, on small files laid out as people have them: what lands in the data set,
//! which faults are named, and that workers and interruptions change nothing.
//!
//! tests/data/prepare/generate.py made the images and the contest kits' tables, with Pillow and
//! SciPy.

mod class_tars;
#[path = "../common/mod.rs"]
mod common;
mod damage;
mod hostile;
mod ilsvrc;
mod image_folder;
mod jpeg_store;
mod small_images;
mod test_fraction;

use alexnet::commands::prepare;
use alexnet::data::area::Area;
use alexnet::data::dataset::Split;
use alexnet::errors;
use clap::Parser;
use flate2::write::GzEncoder;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What the command line of `alexnet prepare …` is parsed to.
#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: prepare::Args,
}

/// Runs `alexnet prepare ARGS`, with `@` for the folder; on failure the exit code and the sentence.
fn run(folder: &Path, args: &str) -> Result<(), (i32, String)> {
    let at = format!("{}/", folder.display());
    let words = std::iter::once("prepare".to_string())
        .chain(args.split_whitespace().map(|word| word.replace('@', &at)));
    let command = Command::try_parse_from(words).map_err(|e| (e.exit_code(), e.to_string()))?;
    prepare::run(command.args)
        .map_err(|e| (errors::exit_code(&e), common::slashed(&errors::sentence(&e))))
}

fn fails(folder: &Path, args: &str, code: i32, with: &str) {
    let (found, sentence) = run(folder, args).expect_err(args);
    assert!(sentence.contains(with), "`{args}`: {sentence}");
    assert_eq!(found, code, "`{args}`: {sentence}");
}

fn sample(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/prepare").join(name)).unwrap()
}

fn put(path: PathBuf, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// name → label, in the split's order.
fn labels(split: &Split) -> Vec<(String, u32)> {
    (0..split.len()).map(|i| (split.name(i).to_string(), split.label(i))).collect()
}

fn pixels(split: &Split, index: usize, [height, width, channels]: [usize; 3]) -> Vec<u8> {
    let mut pixels = vec![0; height * width * channels];
    split.read(index, &Area::all(height, width), &mut pixels).unwrap();
    pixels
}

/// All files of a folder, but for the lock of a process that was killed at its very end.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |e: std::io::Result<fs::DirEntry>| {
        let path = e.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap())
    };
    let mut all: BTreeMap<String, Vec<u8>> = fs::read_dir(folder).unwrap().map(read).collect();
    all.remove(".lock");
    all
}

const IMAGES: [&str; 4] = ["baseline420.jpg", "baseline444.jpg", "progressive420.jpg", "plain.png"];

/// SRC/{cat,dog,Eel}/… with ten images each.
fn class_folders(src: &Path) {
    for class in ["cat", "dog", "Eel"] {
        for i in 0..10 {
            // Whatever their names say: content decides.
            put(src.join(class).join(format!("{i:02}.JPEG")), &sample(IMAGES[i % 4]));
        }
    }
    put(src.join("cat/.DS_Store"), b"x");
    put(src.join("dog/Thumbs.db"), b"x");
    put(src.join(".cache/x"), b"x");
}

/// A tar archive of `files`, as GNU tar writes it.
fn tar_of<'a>(files: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Default::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
