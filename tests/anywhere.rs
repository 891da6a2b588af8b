//! The way of a user with names that are no ASCII, on any system: `.ci/windows` runs it under Wine,
//! where separators, signals and files that are open are others.

mod common;

use common::{World, picture, stderr};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

const CLASSES: [&str; 3] = ["Größe", "大きさ", "мера м"];

/// A folder that holds its program, as words that may have spaces.
struct Abroad {
    world: World,
}

impl Abroad {
    fn new() -> Abroad {
        let world = World { folder: tempfile::tempdir().unwrap() };
        for (class, name) in CLASSES.iter().enumerate() {
            let folder = world.path("Bilder é").join(name);
            fs::create_dir_all(&folder).unwrap();
            for i in 0..24 {
                let image = picture(class as u32, i, 20, 18);
                image.save(folder.join(format!("Bild {i} ö.png"))).unwrap();
            }
        }
        world.write("netz.toml", common::NETWORK);
        Abroad { world }
    }

    /// Runs the program with `args`, which must succeed; its standard output.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.world.command("").args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// A path in this folder, with the system's separators.
    fn native(&self, parts: &[&str]) -> String {
        let path: PathBuf = parts.iter().collect();
        path.to_str().unwrap().to_string()
    }
}

#[test]
fn names_in_any_language_and_a_run_in_two_parts() {
    let abroad = Abroad::new();
    let (set, run) = (abroad.native(&["Daten ü", "größe"]), abroad.native(&["Läufe", "erster ß"]));
    abroad.ok(&["prepare", "image-folder", "Bilder é", "--out", &set, "--size", "16"]);
    assert!(abroad.ok(&["data", "verify", &set]).contains("all 72 images are sound"));
    let train = |run: &str, epochs: &str| {
        let epochs = format!("train.epochs={epochs}");
        let data = ["--data", &set, "--run", run, "--set", &epochs, "--set", "schedule.rate=0.002"];
        abroad.ok(&[&["train", "--config", "netz.toml"][..], &data].concat())
    };
    let said = train(&run, "2");
    assert!(said.contains(&run), "{said}");
    let files = |run: &str| -> Vec<u8> {
        fs::read(abroad.world.path(run).join("last.safetensors")).unwrap()
    };
    // Every file that is there is written over.
    abroad.ok(&["train", "--resume", "--run", &run, "--epochs", "4"]);
    train("ohne Pause", "4");
    assert!(files(&run) == files("ohne Pause"), "the bits of a run without a break");

    let whole = abroad.world.path(&run).join("best.safetensors");
    let whole = whole.to_str().unwrap();
    let one: Value = serde_json::from_str(&abroad.ok(&["eval", whole, "--json"])).unwrap();
    assert_eq!(one["images"], 6, "{one}");
    picture(1, 77, 31, 22).save(abroad.world.path("neu 新.png")).unwrap();
    let list = abroad.ok(&["predict", "neu 新.png", "--checkpoint", &run, "--json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list[0]["image"], "neu 新.png");
    let labels: Vec<&str> = list[0]["top"]
        .as_array()
        .unwrap()
        .iter()
        .map(|top| top["label"].as_str().unwrap())
        .collect();
    assert!(labels.len() == 3 && CLASSES.iter().all(|class| labels.contains(class)), "{labels:?}");
    assert!(abroad.ok(&["inspect", &run]).contains("conv2"));
    abroad.ok(&["filters", &run, "--out", "Kerne ñ.png"]);
    assert!(Path::new(&abroad.world.path("Kerne ñ.png")).exists());
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let abroad = Abroad::new();
    let carried = std::env::var_os("ALEXNET_TEST_PROGRAM");
    let program = carried.unwrap_or_else(|| env!("CARGO_BIN_EXE_alexnet").into());
    let mut child = std::process::Command::new(program)
        .current_dir(abroad.world.folder.path())
        .args(["inspect", "ilsvrc2010"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}
