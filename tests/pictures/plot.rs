//! `plot` against numbers worked out here from the log.

use crate::common::World;
use resvg::usvg::roxmltree::Document;
use serde_json::{Value, json};
use std::fs;

/// A log with an epoch for each error, and a step before each.
fn log(world: &World, run: &str, errors: &[f64]) {
    fs::create_dir_all(world.path(run)).unwrap();
    let line = |kind: &str, epoch: usize, error: f64| {
        json!({
            "kind": kind, "step": epoch, "epoch": epoch, "learning_rate": 0.01,
            "loss": 2.0 * error, "top1_error": error, "top5_error": 0.0,
            "images_per_second": 100.0 + epoch as f64, "wait_seconds": 0.0,
        })
    };
    let mut text = String::new();
    for (index, &error) in errors.iter().enumerate() {
        text += &format!("{}\n", line("step", index + 1, 0.999));
        let mut epoch = line("epoch", index + 1, error);
        epoch["val_loss"] = json!(3.0 * error);
        epoch["val_top1_error"] = json!(error + 0.1);
        epoch["val_top5_error"] = json!(null);
        text += &format!("{epoch}\n");
    }
    // What a killed run may leave.
    text += r#"{"kind":"epoch","step":9"#;
    world.write(&format!("{run}/metrics.jsonl"), &text);
}

const FAST: [f64; 5] = [0.7, 0.4, 0.2, 0.15, 0.16];
const SLOW: [f64; 6] = [0.9, 0.8, 0.6, 0.4, 0.3, 0.1];

fn runs() -> World {
    let world = World { folder: tempfile::tempdir().unwrap() };
    log(&world, "runs/fast", &FAST);
    log(&world, "runs/slow", &SLOW);
    world
}

#[test]
fn who_reaches_the_target_when_and_how_many_times_as_fast() {
    let world = runs();
    let said = world.json("plot runs/fast runs/slow --target 0.25 --out figure.png --json");
    // Between epochs 2 and 3, and between 5 and 6.
    let (fast, slow) = (2.0 + (0.4 - 0.25) / (0.4 - 0.2), 5.0 + (0.3 - 0.25) / (0.3 - 0.1));
    let runs = said["runs"].as_array().unwrap();
    for (run, epoch, between, errors) in
        [(&runs[0], 3.0, fast, &FAST[..]), (&runs[1], 6.0, slow, &SLOW[..])]
    {
        assert_eq!(run["reached"]["epoch"], epoch);
        assert!((run["reached"]["interpolated"].as_f64().unwrap() - between).abs() < 1e-12);
        assert_eq!(run["values"], json!(errors));
    }
    assert_eq!(runs[0]["best"], json!({"epoch": 4.0, "value": 0.15}));
    let faster = &said["faster"]["times_as_fast_as"][0];
    assert_eq!(
        (said["faster"]["first"].as_str(), faster["name"].as_str()),
        (Some("fast"), Some("slow"))
    );
    assert!((faster["ratio"].as_f64().unwrap() - slow / fast).abs() < 1e-12);
    let text = world.ok("plot fast slow --target 0.25");
    for words in ["epoch 3 (2.75)", "epoch 6 (5.25)", "fast reaches it 1.91 times as fast as slow"]
    {
        assert!(text.contains(words), "{text}");
    }
    let text = world.ok("plot fast slow --target 0.12");
    assert!(text.contains("fast  not reached; best 0.1500 in epoch 4 of 5"), "{text}");
    let said = world.json("plot fast --key images_per_second --target 102.5 --json");
    assert_eq!(said["runs"][0]["reached"], json!({"epoch": 3.0, "interpolated": 2.5}));
    let said = world.json("plot fast --key loss --split val --out loss.svg --json");
    assert_eq!(said["key"], "val_loss");
    assert_eq!(said["runs"][0]["values"][1], json!(3.0 * 0.4));
}

/// The points of each line that has as many as a run has epochs.
fn lines(svg: &str) -> Vec<Vec<(f64, f64)>> {
    let document = Document::parse(svg).unwrap();
    let number = |text: &str| text.parse::<f64>().unwrap();
    let points = |text: &str| {
        let pairs = text.split(' ').map(|pair| pair.split_once(',').unwrap());
        pairs.map(|(x, y)| (number(x), number(y))).collect()
    };
    let all = document.descendants().filter(|node| node.has_tag_name("polyline"));
    let all = all.map(|node| points(node.attribute("points").unwrap()));
    all.filter(|line: &Vec<_>| line.len() > 4).collect()
}

#[test]
fn the_lines_of_an_svg_go_through_the_numbers_of_the_log() {
    let world = runs();
    world.ok("plot fast slow --target 0.25 --out figure.svg --name ReLU --name tanh<&>");
    let svg = world.text("figure.svg");
    let drawn = lines(&svg);
    assert_eq!(drawn.len(), 2);
    // One scale for both lines: y = a + b·error, x = c + d·epoch, to the hundredths that are written.
    let b = (drawn[1][5].1 - drawn[1][0].1) / (SLOW[5] - SLOW[0]);
    let d = (drawn[1][5].0 - drawn[1][0].0) / 5.0;
    assert!(b < -100.0 && d > 50.0, "{b} {d}");
    for (line, errors) in drawn.iter().zip([&FAST[..], &SLOW[..]]) {
        for (epoch, (error, place)) in errors.iter().zip(line).enumerate() {
            let expected =
                (drawn[1][0].0 + d * epoch as f64, drawn[1][0].1 + b * (error - SLOW[0]));
            assert!((place.0 - expected.0).abs() < 0.03, "{place:?} {expected:?}");
            assert!((place.1 - expected.1).abs() < 0.03, "{place:?} {expected:?}");
        }
    }
    let document = Document::parse(&svg).unwrap();
    let texts: Vec<&str> = document.descendants().filter_map(|node| node.text()).collect();
    for text in ["ReLU", "tanh<&>", "target 25 %", "epochs", "training top-1 error"] {
        assert!(texts.contains(&text), "{text}: {texts:?}");
    }
    // Lines can be told apart without their colours.
    let dashes = svg.matches("stroke-dasharray=\"8 5\"").count();
    assert_eq!(dashes, 2, "the second line, and its sample in the key");
}

#[test]
fn what_cannot_be_drawn_is_said() {
    let world = runs();
    let plot = |more: &str| format!("plot runs/fast {more}");
    world.fails(
        &plot("--key top9_error --out a.png"),
        2,
        &["\"top9_error\"", "top1_error", "val_loss"],
    );
    world.fails(&plot("--key val_top5_error --out a.png"), 2, &["\"val_top5_error\""]);
    world.fails(&plot("--out a.jpg"), 2, &["a.jpg", ".png or .svg"]);
    world.fails(&plot("--out a.png --name a --name b"), 2, &["2 times for 1 runs"]);
    world.fails("plot runs/none --out a.png", 1, &["runs/none/metrics.jsonl", "no run"]);
    log(&world, "runs/begun", &[]);
    world.fails("plot runs/begun --out a.png", 1, &["not ended its first epoch"]);
    fs::copy(world.path("runs/fast/metrics.jsonl"), world.path("log.svg")).unwrap();
    world.fails("plot log.svg --out log.svg", 2, &["log.svg", "read here"]);
    assert!(world.text("log.svg").starts_with('{'), "as it was");
    assert!(!world.path("a.png").exists());
    let output = world.run("plot runs/fast");
    assert_eq!(output.status.code(), Some(2), "nothing to do");
}

#[test]
fn the_picture_shows_the_target_and_both_runs() {
    let world = runs();
    let _: Value = world.json("plot fast slow --target 0.25 --out a.png --json");
    let picture = crate::Picture::open(&world, "a.png");
    assert!(picture.count([0, 114, 178]) > 300 && picture.count([213, 94, 0]) > 300);
}
