//! `alexnet runs`: what it says of runs that are at any point, old, broken, or many.

use crate::common::World;
use crate::common::running::{LONG, start, wait_for};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

/// The entry of the run `name` in the list of `folder`.
#[track_caller]
fn entry(world: &World, folder: &str, name: &str) -> Value {
    let list = world.json(&format!("runs {folder} --json"));
    let mut runs = list["runs"].as_array().unwrap().iter();
    runs.find(|run| run["name"] == name).unwrap_or_else(|| panic!("no {name} in {list}")).clone()
}

/// What training has said of itself, by plain reading of its log.
fn epochs(world: &World, run: &str) -> Vec<Value> {
    world.metrics(run).into_iter().filter(|line| line["kind"] == "epoch").collect()
}

#[test]
fn each_state_is_told_with_the_numbers_of_the_log() {
    let world = World::new();
    world.ok("train --config linear.toml");
    let log = epochs(&world, "runs/linear");
    let best = log.iter().map(|line| line["val_top1_error"].as_f64().unwrap());
    let (mut best_epoch, mut best_error) = (0, f64::INFINITY);
    for (epoch, error) in (1..).zip(best) {
        if error < best_error {
            (best_epoch, best_error) = (epoch, error);
        }
    }
    let mut found = entry(&world, "", "linear");
    let changed = found["changed"].take();
    let data = found["data"].take();
    assert_eq!(
        found,
        json!({
            "name": "linear", "path": "runs/linear", "data": null, "state": "finished",
            "why": null, "epochs_done": 3, "epochs": 3, "step": 27, "best_epoch": best_epoch,
            "best_top1_error": best_error, "last_top1_error": log[2]["val_top1_error"],
            "last_training_top1_error": log[2]["top1_error"], "learning_rate": 0.0001,
            "changed": null, "problems": [],
        })
    );
    assert!(Path::new(data.as_str().unwrap()).ends_with("set"), "{data}");
    assert!(changed.as_str().unwrap().ends_with('Z'), "{changed}");

    // One that diverges says so until somebody goes on with it.
    world.ok("train --config net.toml --set train.epochs=1 --run runs/wild");
    let more = "train --resume --run runs/wild --set train.epochs";
    let said = world.fails(&format!("{more}=9 --set schedule.rate=1e6"), 1, &["diverged"]);
    let wild = entry(&world, "runs", "wild");
    assert_eq!(wild["state"], "diverged");
    assert_eq!(format!("error: {}\n", wild["why"].as_str().unwrap()), said);
    world.ok(&format!("{more}=2 --set schedule.rate=0.001"));
    let tamed = entry(&world, "runs", "wild");
    assert_eq!((&tamed["state"], &tamed["why"]), (&json!("finished"), &Value::Null));
    assert_eq!((&tamed["epochs_done"], &tamed["learning_rate"]), (&json!(2), &json!(0.001)));

    // While a process trains it runs; killed it is interrupted, whatever it left behind.
    let mut child = start(&world, &format!("{LONG} --run runs/long"));
    wait_for(&world, "runs/long", 100);
    let running = entry(&world, "runs", "long");
    assert_eq!((&running["state"], &running["epochs"]), (&json!("running"), &json!(20)));
    assert!(running["step"].as_u64().unwrap() >= 99, "{running}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(world.names("runs/long").contains(&".lock".to_string()));
    let before = world.names("runs/long");
    assert_eq!(entry(&world, "runs", "long")["state"], "interrupted");
    assert_eq!(world.names("runs/long"), before, "a look changes nothing");

    // The newest first, as a table too.
    let list = world.json("runs --json");
    let names: Vec<&str> =
        list["runs"].as_array().unwrap().iter().map(|run| run["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["long", "wild", "linear"]);
    let table = world.ok("runs");
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[0].trim_start().starts_with("run"), "{table}");
    let words: Vec<&str> = rows[3].split_whitespace().take(4).collect();
    assert_eq!(words, ["linear", "set", "finished", "3/3"], "{table}");
    let error = format!("{:.2} % (epoch {best_epoch})", 100.0 * best_error);
    assert!(rows[3].contains(&error) && rows[3].contains("0.0001"), "{table}");
    // A run's own folder is a list of one.
    assert_eq!(world.json("runs runs/wild --json")["runs"].as_array().unwrap().len(), 1);
}

#[test]
fn a_run_of_the_first_version_and_one_of_a_later_are_listed() {
    let world = World { folder: tempfile::tempdir().unwrap() };
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/version-1/run");
    copy(&old, &world.path("runs/old"));
    let run = entry(&world, "", "old");
    assert_eq!((&run["state"], &run["problems"]), (&json!("finished"), &json!([])), "{run}");
    let last = epochs(&world, "runs/old").pop().unwrap();
    assert_eq!(run["epochs_done"], last["epoch"]);
    assert_eq!(run["last_top1_error"], last["val_top1_error"]);
    // Keys that nobody here knows, in the config and in the log.
    copy(&old, &world.path("runs/new"));
    let config = world.text("runs/new/config.toml");
    world.write("runs/new/config.toml", &config.replace("[train]\n", "[train]\nwarp = 9\n"));
    let log = world.text("runs/new/metrics.jsonl");
    world.write("runs/new/metrics.jsonl", &log.replace("{\"kind\"", "{\"warp\":9,\"kind\""));
    let later = entry(&world, "", "new");
    assert_eq!(later["problems"], json!([]));
    for key in ["state", "epochs", "epochs_done", "step", "best_top1_error", "learning_rate"] {
        assert_eq!(later[key], run[key], "{key}");
    }
}

#[test]
fn what_is_broken_is_a_row_that_says_so_and_hides_no_other() {
    let world = World::new();
    world.ok("train --config linear.toml --set train.epochs=2 --run runs/whole");
    let whole = || entry(&world, "runs", "whole");
    let before = whole();
    let made = |name: &str| copy(&world.path("runs/whole"), &world.path(&format!("runs/{name}")));
    let break_it = |name: &str, file: &str, change: fn(&mut Vec<u8>)| {
        made(name);
        let path = format!("runs/{name}/{file}");
        let mut bytes = world.bytes(&path);
        change(&mut bytes);
        fs::write(world.path(&path), bytes).unwrap();
    };
    let half = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    break_it("cut", "last.safetensors", half);
    break_it("bit", "last.safetensors", |bytes| bytes[40] ^= 4);
    break_it("empty", "last.safetensors", Vec::clear);
    break_it("zeros", "metrics.jsonl", |bytes| bytes.fill(0));
    break_it("prose", "metrics.jsonl", |bytes| bytes.extend_from_slice(b"and so on\n"));
    break_it("torn", "metrics.jsonl", |bytes| bytes.truncate(bytes.len() - 9));
    break_it("toml", "config.toml", |bytes| bytes.extend_from_slice(b"\n[train\n"));
    made("no-log");
    fs::remove_file(world.path("runs/no-log/metrics.jsonl")).unwrap();
    made("folder");
    fs::remove_file(world.path("runs/folder/metrics.jsonl")).unwrap();
    fs::create_dir(world.path("runs/folder/metrics.jsonl")).unwrap();
    made("bare");
    for name in ["config.toml", "metrics.jsonl"] {
        fs::remove_file(world.path("runs/bare").join(name)).unwrap();
    }
    // No runs.
    fs::create_dir(world.path("runs/other")).unwrap();
    world.write("runs/other/notes.txt", "x");
    world.write("runs/file", "x");

    let list = world.json("runs --json");
    assert_eq!(list["runs"].as_array().unwrap().len(), 11, "{list}");
    assert_eq!(whole(), before);
    let problem = |name: &str, state: &str, words: &[&str]| {
        let run = entry(&world, "runs", name);
        assert_eq!(run["state"], state, "{run}");
        let said = run["problems"].to_string();
        assert!(words.iter().all(|word| said.contains(word)), "{name}: {said}");
        run
    };
    let last = "last.safetensors";
    for (name, words) in [
        ("cut", ["runs/cut/last.safetensors", "cut short"]),
        ("bit", ["runs/bit/last.safetensors", "header"]),
        ("empty", ["runs/empty/last.safetensors", "too few"]),
    ] {
        let run = problem(name, "damaged", &words);
        // The log still tells.
        assert_eq!((&run["epochs_done"], &run["epochs"]), (&json!(2), &json!(2)), "{last}");
        assert_eq!(run["last_top1_error"], before["last_top1_error"]);
    }
    for name in ["zeros", "prose", "no-log", "folder"] {
        let run = problem(name, "finished", &[&format!("runs/{name}/metrics.jsonl")]);
        assert_eq!(run["epochs_done"], 2, "{run}");
        assert_eq!(run["best_top1_error"], before["best_top1_error"]);
    }
    let toml = problem("toml", "finished", &["runs/toml/config.toml"]);
    assert_eq!((&toml["epochs"], &toml["data"]), (&json!(2), &before["data"]));
    for (name, done) in [("torn", 1), ("bare", 2)] {
        let run = problem(name, "finished", &[]);
        assert_eq!(run["epochs_done"], done, "{run}");
    }
    let table = world.ok("runs");
    assert!(table.contains("cut: runs/cut/last.safetensors: "), "{table}");
    assert!(table.lines().any(|row| row.contains("prose") && row.contains("finished, damaged")));
}

#[test]
fn thousands_of_runs_are_listed_and_a_folder_without_is_no_error() {
    let world = World { folder: tempfile::tempdir().unwrap() };
    world.fails("runs", 1, &["runs does not exist", "alexnet train"]);
    fs::create_dir(world.path("runs")).unwrap();
    assert_eq!(world.ok("runs"), "no runs in runs\n");
    assert_eq!(world.json("runs --json"), json!({ "folder": "runs", "runs": [] }));
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/version-1/run");
    copy(&old, &world.path("one"));
    for number in 0..3000 {
        let run = world.path(&format!("runs/r{number}"));
        fs::create_dir(&run).unwrap();
        for name in world.names("one") {
            fs::hard_link(world.path("one").join(&name), run.join(&name)).unwrap();
        }
    }
    let list = world.json("runs --json");
    let runs = list["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3000);
    assert!(runs.iter().all(|run| run["state"] == "finished" && run["problems"] == json!([])));
    assert_eq!(world.ok("runs").lines().count(), 3001);
}

/// A name is text that somebody chose, and a terminal obeys some.
#[cfg(unix)]
#[test]
fn a_name_cannot_speak_to_the_terminal() {
    let world = World { folder: tempfile::tempdir().unwrap() };
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/version-1/run");
    copy(&old, &world.path("runs/a\u{1b}[2Jb\n"));
    world.write("runs/a\u{1b}[2Jb\n/diverged.txt", "be\u{7}ep");
    let table = world.ok("runs");
    assert!(table.contains("a\\u{1b}[2Jb\\n") && !table.contains('\u{1b}'), "{table}");
    assert!(table.contains("be\\u{7}ep"), "{table}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
