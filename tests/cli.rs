//! The way of a new user through the built binary: prepare, train, eval, predict, inspect, on real
//! image files. What may go wrong on it is in the other cli_*.rs.

mod common;

use common::{NETWORK, World, picture, sentence, slashed, stderr, tensors};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn fraction(value: &Value) -> f64 {
    let value = value.as_f64().unwrap();
    assert!((0.0..=1.0).contains(&value), "{value}");
    value
}

#[test]
fn prepare_train_eval_predict_inspect() {
    let world = World::new();
    let output = world.run("train --config net.toml");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = slashed(&String::from_utf8(output.stdout).unwrap());
    for words in [
        "best top-1 error",
        "checkpoint: runs/stripes/best.safetensors",
        "alexnet eval runs/stripes --ten-crop\n",
        "alexnet predict IMAGE --checkpoint runs/stripes\n",
        "alexnet inspect runs/stripes\n",
    ] {
        assert!(said.contains(words), "{said}");
    }
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(!log.contains('\r') && !log.contains('\x1b'), "{log}");
    assert!(log.contains("90 training images"), "{log}");
    assert!(log.contains("epoch 6/6: loss"), "{log}");
    for line in log.lines().filter(|line| line.contains(" %") && !line.contains("waited")) {
        assert!(line.contains("error") && line.chars().count() <= 80, "{line}");
    }
    assert!(log.contains("learning rate 0.02;") && log.contains("; a new best\n"), "{log}");
    assert!(!log.contains("top-5"), "of three classes none is left out: {log}");

    // The run's folder.
    let files = [
        "best.safetensors",
        "config.toml",
        "curves.png",
        "filters.png",
        "last.safetensors",
        "metrics.jsonl",
    ];
    assert_eq!(world.names("runs/stripes"), files);
    let lines = world.metrics("runs/stripes");
    let step_keys: BTreeSet<&str> = "kind step epoch learning_rate loss top1_error top5_error \
        images_per_second wait_seconds"
        .split_whitespace()
        .collect();
    let mut epoch_keys = step_keys.clone();
    epoch_keys.extend(["val_loss", "val_top1_error", "val_top5_error"]);
    let (mut step, mut epoch) = (0, 0);
    for line in &lines {
        if line["kind"] == "step" {
            step += 1;
            assert_eq!(keys(line), step_keys);
            assert_eq!(line["epoch"], epoch + 1);
        } else {
            epoch += 1;
            assert_eq!(line["kind"], "epoch");
            assert_eq!(keys(line), epoch_keys);
            assert_eq!(line["epoch"], epoch);
            assert_eq!(line["val_top5_error"], 0.0, "three classes: top-5 means all of them");
            fraction(&line["val_top1_error"]);
        }
        assert_eq!(line["step"], step);
        assert_eq!(line["learning_rate"], 0.02);
        assert!(line["loss"].as_f64().unwrap() > 0.0);
        assert!(line["images_per_second"].as_f64().unwrap() > 0.0);
        assert!(line["wait_seconds"].as_f64().unwrap() >= 0.0);
        fraction(&line["top1_error"]);
    }
    assert_eq!((step, epoch), (54, 6), "9 batches of 10 an epoch");
    let errors =
        lines.iter().filter(|l| l["kind"] == "epoch").map(|l| fraction(&l["val_top1_error"]));
    let best = errors.fold(1.0, f64::min);
    assert!(best < 0.2, "chance is 0.67: {best}");

    // eval counts what training counted.
    let one = world.json("eval --json");
    assert_eq!(
        keys(&one),
        BTreeSet::from(["images", "top1_error", "top5_error", "log_loss", "crops", "checkpoints"])
    );
    assert_eq!(one["images"], 30);
    assert_eq!(one["crops"], 1);
    assert_eq!(one["checkpoints"], json!(["runs/stripes/best.safetensors"]));
    assert_eq!(one["top1_error"], best);
    let ten = world.json("eval --ten-crop --json runs/stripes/best.safetensors");
    assert_eq!(ten["crops"], 10);
    assert!(fraction(&ten["top1_error"]) < 0.3);
    let train = world.json("eval --json --split train");
    assert_eq!(train["images"], 90);
    let table = world.run("eval --ten-crop");
    assert!(stderr(&table).contains("checkpoint: runs/stripes/best.safetensors"));
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains("ten crops averaged") && table.contains("top-1 error"), "{table}");

    // Twice the same network averages to itself; two networks to something between.
    let twice =
        world.json("eval --json runs/stripes/best.safetensors runs/stripes/best.safetensors");
    assert_eq!(twice["log_loss"], one["log_loss"]);
    world.ok("train --config net.toml --set seed=4");
    let other = world.json("eval --json");
    assert_eq!(other["checkpoints"], json!(["runs/stripes-2/best.safetensors"]));
    let both =
        world.json("eval --json runs/stripes/best.safetensors runs/stripes-2/best.safetensors");
    assert_eq!(both["checkpoints"].as_array().unwrap().len(), 2);
    let loss = |v: &Value| v["log_loss"].as_f64().unwrap();
    assert!(loss(&both) <= (loss(&one) + loss(&other)) / 2.0 + 1e-6, "the logarithm is concave");
}

#[test]
fn predict_answers_each_image() {
    let world = World::new();
    world.ok("train --config net.toml");
    picture(1, 77, 31, 22).save(world.path("new.png")).unwrap();
    world.write("notes.jpg", "this is no image");
    let output = world.run("predict new.png notes.jpg none.png --json --top 2");
    assert_eq!(output.status.code(), Some(1));
    assert!(sentence(&output).contains("2 of 3 images"), "{}", stderr(&output));
    assert!(stderr(&output).contains("checkpoint: runs/stripes/best.safetensors"));
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 3);
    assert_eq!(keys(&list[0]), BTreeSet::from(["image", "top"]));
    let top = list[0]["top"].as_array().unwrap();
    assert_eq!(top.len(), 2);
    assert_eq!(keys(&top[0]), BTreeSet::from(["label", "index", "probability"]));
    assert_eq!((&top[0]["label"], &top[0]["index"]), (&json!("level"), &json!(1)));
    assert!(fraction(&top[0]["probability"]) > fraction(&top[1]["probability"]));
    for (bad, name) in list[1..].iter().zip(["notes.jpg", "none.png"]) {
        assert_eq!(keys(bad), BTreeSet::from(["image", "error"]));
        assert_eq!(bad["image"], name);
        assert!(bad["error"].as_str().unwrap().contains(name));
    }

    // All labels sum to one, with ten crops too; more than there are is all there are.
    let list = world.json(
        "predict new.png --json --top 9 --ten-crop --checkpoint runs/stripes/last.safetensors",
    );
    let top = list[0]["top"].as_array().unwrap();
    let sum: f64 = top.iter().map(|t| fraction(&t["probability"])).sum();
    assert_eq!(top.len(), 3);
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");

    let text = world.ok("predict new.png");
    assert!(
        text.starts_with("new.png\n") && text.contains("% ") && text.contains("level"),
        "{text}"
    );
    world.fails("predict new.png --top 0", 2, &["--top"]);
    world.fails("predict", 2, &["IMAGE"]);
}

#[test]
fn inspect_shows_configs_and_checkpoints() {
    let world = World::new();
    let document = world.json("inspect net.toml --json");
    let expected = "parameters neurons multiply_adds towers layers crossings memory_bytes";
    assert_eq!(keys(&document), expected.split_whitespace().collect());
    // conv1 8·(3·9+1), conv2 8·(8·9+1), pool1 gives 5×5, conv2 3×3: fc3 16·(72+1), fc4 3·(16+1).
    assert_eq!(document["parameters"], 224 + 584 + 1168 + 51);
    assert_eq!(document["neurons"], 800 + 72 + 16 + 3);
    assert_eq!(document["multiply_adds"], 100 * 216 + 9 * 576 + 1152 + 48);
    assert_eq!(document["towers"], 2);
    let layers = document["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 11, "every layer once");
    assert_eq!(
        layers[0],
        json!({"name": "conv1", "kind": "conv", "output": [10, 10, 8], "parameters": 224, "multiply_adds": 21600})
    );
    assert_eq!(layers[3]["output"], json!([5, 5, 8]));
    assert_eq!(layers[9]["output"], json!([1, 1, 3]), "counted in the data set");
    // Batch 10, f32: each tower sends its half to the other.
    let crossings = document["crossings"].as_array().unwrap();
    assert_eq!(
        crossings[0],
        json!({"layer": "conv2", "bytes_forward": 5 * 5 * 8 * 40, "bytes_backward": 5 * 5 * 8 * 40})
    );
    assert_eq!(document["memory_bytes"].as_array().unwrap().len(), 2);

    world.ok("train --config net.toml --set train.epochs=1");
    let of_checkpoint = world.json("inspect runs/stripes/last.safetensors --json");
    assert_eq!(of_checkpoint, document);
    fs::copy(world.path("runs/stripes/last.safetensors"), world.path("model.bin")).unwrap();
    assert_eq!(world.json("inspect model.bin --json"), document);
    let table = world.ok("inspect net.toml");
    for words in ["stripes: 2 towers, input 12×12×3, 3 classes, batch 10", "8 of 3×3×3", "2,027"]
    {
        assert!(table.contains(words), "{words}: {table}");
    }
}

/// A config that leaves the number of classes to its data set can be looked at without one: it says
/// that it assumes ten; an error in the network is the network's own, whatever the classes.
#[test]
fn a_network_without_its_data_set_assumes_ten_classes() {
    let world = World::new();
    let document = world.json("inspect net.toml --set data.path=nowhere --json");
    assert_eq!(document["assumed_classes"], 10);
    // fc4 has 16 inputs: seven classes more than the data set's three.
    let known = world.json("inspect net.toml --json");
    assert!(known.get("assumed_classes").is_none());
    let parameters = |d: &Value| d["parameters"].as_u64().unwrap();
    assert_eq!(parameters(&document) - parameters(&known), 7 * (16 + 1));
    let table = world.ok("inspect net.toml --set data.path=nowhere");
    assert!(table.contains("10 classes assumed") && table.contains("--data DIR"), "{table}");
    let bench = "bench --config net.toml --device cpu --steps 1 --batch 2";
    assert!(world.ok(bench).contains("10 classes assumed"));
    let given = world.ok(&format!("{bench} --set data.classes=4"));
    assert!(!given.contains("assumed"), "{given}");

    // The first error is told, not one of a second attempt.
    let wrong = "--set layer.conv1.groups=5";
    for command in ["inspect net.toml --set data.path=nowhere", "bench --config net.toml"] {
        world.fails(&format!("{command} {wrong}"), 2, &["layer conv1", "groups = 5"]);
    }
    // Every shipped config can be looked at.
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    for file in fs::read_dir(configs).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_some_and(|e| e == "toml") {
            world.ok(&format!("inspect {}", file.display()));
        }
    }
}

#[test]
fn runs_have_names_and_what_they_hold() {
    let world = World::new();
    for name in ["runs/linear", "runs/linear-2", "runs/linear-3"] {
        assert!(!world.path(name).exists());
        world.ok("train --config linear.toml --set train.epochs=1");
        assert!(world.path(name).join("last.safetensors").exists());
    }
    world.ok("train --config linear.toml --run mine --set train.keep=2 --set train.epochs=5");
    let kept = [
        "best.safetensors",
        "config.toml",
        "curves.png",
        "epoch-0002.safetensors",
        "epoch-0004.safetensors",
    ];
    assert_eq!(world.names("mine")[..5], kept);
    assert_eq!(world.names("mine").len(), 7);
    let before = world.bytes("mine/config.toml");
    world.fails("train --config linear.toml --run mine", 2, &["mine", "--resume"]);
    assert_eq!(world.bytes("mine/config.toml"), before);

    // The resolved config describes the same run, from any folder.
    world.ok("train --config mine/config.toml --run again");
    assert_eq!(world.bytes("again/config.toml"), before);
    assert_eq!(world.bytes("again/last.safetensors"), world.bytes("mine/last.safetensors"));
    assert!(world.text("mine/config.toml").contains("momentum = 0.9"), "defaults are filled in");
    let config: toml::Table = world.text("mine/config.toml").parse().unwrap();
    let path = Path::new(config["data"]["path"].as_str().unwrap());
    assert!(path.is_absolute(), "{}", path.display());
    assert_eq!(path.canonicalize().unwrap(), world.path("set").canonicalize().unwrap());
}

#[test]
fn a_checkpoint_is_a_file_that_other_tools_read() {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=1");
    let path = world.path("runs/stripes/last.safetensors");
    let names: Vec<(String, Vec<usize>)> =
        tensors(&path).into_iter().map(|(name, shape, _)| (name, shape)).collect();
    // Towers joined; inputs of fc3 ordered channel, row, column.
    let parameters: [(&str, &[usize]); 8] = [
        ("conv1.bias", &[8]),
        ("conv1.weight", &[8, 3, 3, 3]),
        ("conv2.bias", &[8]),
        ("conv2.weight", &[8, 8, 3, 3]),
        ("fc3.bias", &[16]),
        ("fc3.weight", &[16, 72]),
        ("fc4.bias", &[3]),
        ("fc4.weight", &[3, 16]),
    ];
    let mut expected: Vec<(String, Vec<usize>)> = Vec::new();
    for (name, shape) in parameters {
        expected.push((name.into(), shape.to_vec()));
        expected.push((format!("momentum/{name}"), shape.to_vec()));
    }
    expected.push(("data.components".into(), vec![3, 3]));
    expected.push(("data.deviations".into(), vec![3]));
    expected.push(("data.mean".into(), vec![3, 16, 16]));
    expected.sort();
    assert_eq!(names, expected);
    let bytes = fs::read(&path).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().unwrap();
    for key in ["config", "classes", "seed", "step", "checksums"] {
        assert!(metadata.contains_key(key), "{key}");
    }
    assert_eq!((metadata["seed"].as_str(), metadata["step"].as_str()), ("3", "9"));
    assert!(metadata["classes"].contains("slant"));
}

/// One seed, one result: whatever the threads of computing and of loading.
#[test]
fn threads_change_no_bit() {
    let world = World::new();
    world.ok("train --config net.toml --run one --threads 1");
    let expected = world.bytes("one/last.safetensors");
    for threads in [2, 8] {
        world.ok(&format!("train --config net.toml --run of{threads} --threads {threads}"));
        assert!(world.bytes(&format!("of{threads}/last.safetensors")) == expected, "{threads}");
        assert!(
            world.bytes(&format!("of{threads}/best.safetensors"))
                == world.bytes("one/best.safetensors")
        );
        assert_eq!(world.timeless(&format!("of{threads}")), world.timeless("one"));
    }
    world
        .command("train --config net.toml --run env")
        .env("RAYON_NUM_THREADS", "3")
        .assert()
        .success();
    assert!(world.bytes("env/last.safetensors") == expected);
    // What is asked for is kept in the config, so here only the tensors are the same.
    for workers in [1, 3] {
        let run = format!("workers{workers}");
        world.ok(&format!("train --config net.toml --run {run} --set data.workers={workers} --set data.prefetch={workers}"));
        let path = world.path(&run).join("last.safetensors");
        assert!(tensors(&path) == tensors(&world.path("one/last.safetensors")), "{workers}");
    }
    world.ok("train --config net.toml --run other --set seed=4");
    assert!(
        tensors(&world.path("other/last.safetensors"))
            != tensors(&world.path("one/last.safetensors"))
    );
    assert!(NETWORK.contains("dropout"));
}

#[test]
fn help_reads_well() {
    let world = World { folder: tempfile::tempdir().unwrap() };
    for command in [
        "",
        "prepare",
        "prepare image-folder",
        "prepare ilsvrc",
        "prepare idx",
        "prepare cifar",
        "prepare list",
        "prepare parquet",
        "prepare webdataset",
        "train",
        "eval",
        "predict",
        "inspect",
    ] {
        let text = world.ok(&format!("{command} --help"));
        for artefact in ["[`", "`](", "crate::", "::", "\n\n\n", "  \n  \n"] {
            assert!(!text.contains(artefact), "{command}: {artefact:?} in {text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{command}: {text}");
        assert!(text.contains("Usage: alexnet"), "{command}");
    }
    assert!(world.ok("train --help").contains("metrics.jsonl"));
}
