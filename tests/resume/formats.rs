//! Data sets and runs of older versions, which are read for ever.

use super::copy;
use crate::common::running::reseal;
use crate::common::{World, stderr};
use serde_json::Value;
use std::path::Path;

/// A folder with a copy of the data set and the run of `version`.
fn old(version: &str) -> World {
    let world = World { folder: tempfile::tempdir().unwrap() };
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(version);
    copy(&data.join("set"), &world.path("set"));
    copy(&data.join("run"), &world.path("run"));
    std::fs::copy(data.join("001.png"), world.path("001.png")).unwrap();
    let log = data.join("after-four-epochs.jsonl");
    std::fs::copy(log, world.path("expected.jsonl")).unwrap();
    world
}

#[test]
fn a_run_of_the_first_version_is_evaluated_and_inspected() {
    let world = old("version-1");
    let errors = world.json("eval run/last.safetensors --data set --json");
    assert_eq!(errors["images"], 6);
    assert!((errors["log_loss"].as_f64().unwrap() - 0.931704).abs() < 1e-4, "{errors}");
    assert_eq!(world.json("inspect run/best.safetensors --json")["parameters"], 2027);
    let labels = world.ok("predict 001.png --checkpoint run/last.safetensors");
    assert!(labels.contains("slant") && labels.contains("41.7 %"), "{labels}");
    // Its config is one to begin a run with.
    world.ok("train --config run/config.toml --data set --run new --set train.epochs=1");
}

#[test]
fn a_run_of_the_first_version_goes_on_as_it_would_have_then() {
    let world = old("version-1");
    let output = world.run("train --resume --run run --data set --set train.epochs=4");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stderr(&output).contains("warning"), "{}", stderr(&output));
    let lines = world.metrics("run");
    let expected = world.text("expected.jsonl");
    let expected: Vec<Value> = expected.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), expected.len());
    for (line, expected) in lines.iter().zip(&expected) {
        for key in ["kind", "step", "epoch", "learning_rate"] {
            assert_eq!(line[key], expected[key]);
        }
        let loss = |line: &Value| line["loss"].as_f64().unwrap();
        assert!((loss(line) - loss(expected)).abs() < 1e-3, "{line} {expected}");
    }
}

/// What a checkpoint of the first version knows of its data set is compared.
#[test]
fn another_data_set_is_seen_by_a_run_of_the_first_version() {
    let world = old("version-1");
    world.photos("photos/train", ["down", "level", "slant"], 8);
    world.photos("photos/val", ["down", "level", "slant"], 2);
    world.ok("prepare image-folder photos --out other --size 16");
    let output = world.run("train --resume --run run --data other --set train.epochs=3");
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("24 training images, not 12") && said.contains("mean image"), "{said}");
    assert!(said.contains("chosen anew"), "{said}");
    world.ok("prepare image-folder photos --out larger --size 20");
    let resume = "train --resume --run run --data larger --set train.epochs=4";
    world.fails(resume, 1, &["16×16×3", "20×20×3"]);
}

#[test]
fn files_of_this_version_say_their_format_and_newer_ones_are_refused() {
    let world = World::new();
    world.ok("train --config linear.toml --run run");
    assert!(world.text("run/config.toml").starts_with("format = 1\n"));
    let more = "train --resume --run run --set train.epochs=4";
    let log = world.text("run/metrics.jsonl");
    world.write("run/metrics.jsonl", &log.replacen('{', "{\"format\":2,", 1));
    world.fails(more, 1, &["run/metrics.jsonl", "format 2", "newer version"]);
    world.write("run/metrics.jsonl", &log);
    world.write("newer.toml", "format = 7\nshape = \"round\"");
    world.fails("train --config newer.toml", 2, &["format = 7", "newer version"]);
    world.fails("inspect newer.toml", 2, &["format = 7", "newer version"]);
    // The checkpoint's, behind its checksum.
    let path = world.path("run/last.safetensors");
    reseal(&path, |header| *header = header.replacen("alexnet 1", "alexnet 2", 1));
    for args in [more, "eval run/last.safetensors", "inspect run/last.safetensors"] {
        world.fails(args, 1, &["run/last.safetensors", "\"alexnet 2\"", "newer version"]);
    }
}
