//! What the tests of the built binary share: a folder of learnable images, a small network with
//! every ingredient of the paper, and runs of the program in that folder.

#![allow(dead_code)] // each test binary uses its part

pub mod running;

use assert_cmd::Command;
use image::RgbImage;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;

/// Two towers, a layer that crosses them, response normalisation, overlapping pooling, dropout,
/// crops, flips, colour noise.
pub const NETWORK: &str = r#"
name = "stripes"
seed = 3
towers = 2
[data]
path = "set"
crop = 12
flip = true
color_noise = 0.1
[train]
batch = 10
epochs = 6
[schedule]
rate = 0.02
patience = 20
[[layer]]
name = "conv1"
kind = "conv"
kernels = 8
size = 3
weight_sigma = 0.1
[[layer]]
name = "relu1"
kind = "relu"
[[layer]]
name = "lrn1"
kind = "lrn"
[[layer]]
name = "pool1"
kind = "max-pool"
size = 3
stride = 2
[[layer]]
name = "conv2"
kind = "conv"
kernels = 8
size = 3
input = "all-towers"
weight_sigma = 0.1
[[layer]]
name = "relu2"
kind = "relu"
[[layer]]
name = "fc3"
kind = "fc"
outputs = 16
weight_sigma = 0.1
[[layer]]
name = "relu3"
kind = "relu"
[[layer]]
name = "drop3"
kind = "dropout"
rate = 0.5
[[layer]]
name = "fc4"
kind = "fc"
outputs = "classes"
weight_sigma = 0.1
[[layer]]
name = "softmax"
kind = "softmax"
"#;

/// One fully connected layer on the pixels: for tests of the loop, not of the network.
pub const LINEAR: &str = r#"
name = "linear"
[data]
path = "set"
crop = 12
[train]
batch = 10
epochs = 3
[schedule]
rate = 0.0001
patience = 20
[[layer]]
name = "fc"
kind = "fc"
outputs = "classes"
weight_sigma = 0.001
[[layer]]
name = "softmax"
kind = "softmax"
"#;

/// A small network for grey images in two classes.
pub const GREY: &str = r#"
name = "grey"
towers = 2
[data]
path = "set"
crop = 10
[train]
batch = 8
epochs = 4
[schedule]
kind = "steps"
rate = 0.0005
[[layer]]
name = "conv1"
kind = "conv"
kernels = 4
size = 3
[[layer]]
name = "relu1"
kind = "relu"
[[layer]]
name = "fc2"
kind = "fc"
outputs = "classes"
tower = 0
[[layer]]
name = "softmax"
kind = "softmax"
"#;

/// A folder that the program runs in.
pub struct World {
    pub folder: TempDir,
}

impl World {
    /// `photos/train` and `photos/val` with 30 and 10 images of each of three classes, JPEG and
    /// PNG, and from them the data set `set` of 16×16 images; `net.toml`, `linear.toml`.
    pub fn new() -> World {
        let world = World { folder: tempfile::tempdir().unwrap() };
        world.photos("photos/train", ["down", "level", "slant"], 30);
        world.photos("photos/val", ["down", "level", "slant"], 10);
        world.write("net.toml", NETWORK);
        world.write("linear.toml", LINEAR);
        world.ok("prepare image-folder photos --out set --size 16");
        world
    }

    /// `idx` with `train` and `test` grey images in two classes, the data set `set` made from them;
    /// `grey.toml`.
    pub fn grey(&self, train: u32, test: u32) {
        fs::create_dir(self.path("idx")).unwrap();
        for (name, n) in [("train", train), ("t10k", test)] {
            let (images, labels) = idx(n);
            fs::write(self.path(&format!("idx/{name}-images-idx3-ubyte")), images).unwrap();
            fs::write(self.path(&format!("idx/{name}-labels-idx1-ubyte")), labels).unwrap();
        }
        self.write("idx/classes.txt", "left\nupper\n");
        self.write("grey.toml", GREY);
        self.ok("prepare idx idx --out set");
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.bytes(name)).unwrap()
    }

    /// `n` images of 20×18 for each class below `folder`: stripes that lean by class, of a colour
    /// that goes with it, at a place and brightness of their own.
    pub fn photos(&self, folder: &str, classes: [&str; 3], n: u32) {
        for (class, name) in classes.iter().enumerate() {
            fs::create_dir_all(self.path(folder).join(name)).unwrap();
            for i in 0..n {
                let ending = if i % 2 == 0 { "jpg" } else { "png" };
                let path = self.path(folder).join(name).join(format!("{i:03}.{ending}"));
                let picture = picture(class as u32, i, 20, 18);
                if ending == "png" {
                    picture.save(path).unwrap();
                } else {
                    let encoder = jpeg_encoder::Encoder::new_file(path, 90).unwrap();
                    encoder.encode(&picture, 20, 18, jpeg_encoder::ColorType::Rgb).unwrap();
                }
            }
        }
    }

    /// The program with `args` (words), to be run in this folder. Where the tests were carried to
    /// another machine, `ALEXNET_TEST_PROGRAM` says where it is.
    pub fn command(&self, args: &str) -> Command {
        let carried = std::env::var_os("ALEXNET_TEST_PROGRAM");
        let mut command =
            Command::new(carried.unwrap_or_else(|| env!("CARGO_BIN_EXE_alexnet").into()));
        command.current_dir(self.folder.path()).args(args.split_whitespace());
        command
    }

    pub fn run(&self, args: &str) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs what must succeed; its standard output.
    pub fn ok(&self, args: &str) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(0), "{args}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs what must succeed and print one JSON document.
    pub fn json(&self, args: &str) -> Value {
        as_elsewhere(serde_json::from_str(&self.ok(args)).unwrap())
    }

    /// Runs what must fail with exit code `code`, nothing on standard output, and one last plain
    /// sentence that has each of `words`; the sentence.
    #[track_caller]
    pub fn fails(&self, args: &str, code: i32, words: &[&str]) -> String {
        let output = self.run(args);
        let sentence = sentence(&output);
        assert_eq!(output.status.code(), Some(code), "{args}: {}", stderr(&output));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{args}");
        for word in words {
            assert!(sentence.contains(word), "{args}: no {word:?} in: {sentence}");
        }
        sentence
    }

    /// The lines of a run's metrics.jsonl.
    pub fn metrics(&self, run: &str) -> Vec<Value> {
        let text = self.text(&format!("{run}/metrics.jsonl"));
        assert!(text.ends_with('\n'));
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The same without what depends on time.
    pub fn timeless(&self, run: &str) -> Vec<Value> {
        let mut lines = self.metrics(run);
        for line in &mut lines {
            let line = line.as_object_mut().unwrap();
            line.remove("images_per_second").unwrap();
            line.remove("wait_seconds").unwrap();
        }
        lines
    }

    /// The names in a folder, sorted, without a run's event files, which are called after the time,
    /// and the lock that Windows leaves.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<String> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.retain(|name| !name.starts_with("events.out.tfevents."));
        names.retain(|name| cfg!(unix) || name != ".lock");
        names.sort();
        names
    }
}

/// One image of `class`.
pub fn picture(class: u32, i: u32, width: u32, height: u32) -> RgbImage {
    let (phase, light) = (i % 5, 120 + (i * 37 % 100) as u8);
    RgbImage::from_fn(width, height, |x, y| {
        let along = [x, y, x + y][class as usize];
        let mut pixel = [40, 40, 40];
        if (along + phase) % 6 < 3 {
            pixel[class as usize] = light;
        }
        image::Rgb(pixel)
    })
}

/// Images [n, 12, 12]: class 0 has a bright left half, class 1 a bright upper half; and their
/// labels.
fn idx(n: u32) -> (Vec<u8>, Vec<u8>) {
    let mut images = [2051, n, 12, 12].map(u32::to_be_bytes).concat();
    let mut labels = [2049, n].map(u32::to_be_bytes).concat();
    for i in 0..n {
        labels.push((i % 2) as u8);
        for pixel in 0..144 {
            let bright = if i % 2 == 0 { pixel % 12 < 6 } else { pixel < 72 };
            images.push(if bright { 200 } else { 30 } + (i * 7 % 50) as u8);
        }
    }
    (images, labels)
}

pub fn stderr(output: &Output) -> String {
    slashed(&String::from_utf8_lossy(&output.stderr))
}

/// What is said on Windows as elsewhere: paths with `/`, the program without its ending.
pub fn slashed(text: &str) -> String {
    if cfg!(windows) {
        text.replace('\\', "/").replace("alexnet.exe", "alexnet")
    } else {
        text.into()
    }
}

/// The same of all texts in a JSON document.
fn as_elsewhere(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(slashed(&text)),
        Value::Array(all) => all.into_iter().map(as_elsewhere).collect(),
        Value::Object(all) => {
            all.into_iter().map(|(name, value)| (name, as_elsewhere(value))).collect()
        }
        other => other,
    }
}

/// The last line of standard error, which says what went wrong.
#[track_caller]
pub fn sentence(output: &Output) -> String {
    let text = stderr(output);
    assert!(!text.contains("panicked"), "{text}");
    assert!(!text.contains('\x1b') && !text.contains('\r'), "no terminal, no bars: {text}");
    let errors = text.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(errors, 1, "{text}");
    text[text.find("error: ").unwrap()..].to_string()
}

/// A tensor file's names and shapes, as the safetensors library reads them.
pub fn tensors(path: &Path) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut all: Vec<_> = file
        .tensors()
        .into_iter()
        .map(|(name, view)| (name, view.shape().to_vec(), view.data().to_vec()))
        .collect();
    all.sort();
    all
}
