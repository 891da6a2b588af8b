//! `eval --show` against the answers that `eval --predictions` writes.

use crate::common::World;
use resvg::usvg::roxmltree::Document;
use std::collections::BTreeMap;

/// Titles and, of each image, how many of its labels are marked as right.
fn titles(svg: &str) -> Vec<String> {
    let document = Document::parse(svg).unwrap();
    let texts = document.descendants().filter(|node| node.has_tag_name("text"));
    let titles = texts.filter(|node| node.attribute("font-size") == Some("15"));
    titles.filter_map(|node| node.text()).map(String::from).collect()
}

fn count(names: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    names.iter().for_each(|name| *counts.entry(name.as_str()).or_default() += 1);
    counts
}

/// The frames that mark a right label.
fn marked(svg: &str) -> usize {
    svg.matches("fill=\"none\" stroke=\"#d55e00\" stroke-width=\"1.5\"").count()
}

#[test]
fn all_images_or_those_that_are_wrong() {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=2 --set schedule.rate=0.003 --run run");
    let eval = "eval run/best.safetensors --json";
    let without = world.json(&format!("{eval} --predictions rows.csv"));
    let rows = world.text("rows.csv");
    let wrong: Vec<String> = rows
        .lines()
        .skip(1)
        .map(|row| row.split(',').collect::<Vec<_>>())
        .filter(|row| row[1] != row[3])
        .map(|row| row[2].to_string())
        .collect();
    assert!(!wrong.is_empty() && wrong.len() < 30, "{} of 30 are wrong", wrong.len());

    assert_eq!(world.json(&format!("{eval} --show 500 --out all.svg")), without, "no other result");
    let all = world.text("all.svg");
    let each = BTreeMap::from([("down", 10), ("level", 10), ("slant", 10)]);
    assert_eq!(count(&titles(&all)), each);
    // Of three classes all are shown, the right one always among them.
    assert_eq!(marked(&all), 30);
    world.ok(&format!("{eval} --show 500 --only-errors --out wrong.svg"));
    let svg = world.text("wrong.svg");
    assert_eq!(count(&titles(&svg)), count(&wrong));
    assert_eq!(marked(&svg), wrong.len());

    world.ok(&format!("{eval} --show 7 --out some.svg"));
    let some = world.text("some.svg");
    assert_eq!(titles(&some).len(), 7);
    assert!(count(&titles(&some)).len() > 1, "not the first seven, which are of one class");
    world.ok(&format!("{eval} --show 7 --out again.svg"));
    assert_eq!(world.text("again.svg"), some, "the same ones each time");
}

#[test]
fn what_cannot_be_shown_is_refused_before_the_work() {
    let world = World::new();
    world.ok("train --config linear.toml --set train.epochs=1 --run run");
    let eval = "eval run/best.safetensors --show 3";
    world.fails(&format!("{eval} --out s.jpg"), 2, &["s.jpg", ".png or .svg"]);
    world.fails(&format!("{eval} --out no/s.png"), 2, &["--out no/s.png", "no folder no"]);
    world.fails("predict photos/val/down/000.jpg --out no/s.png", 2, &["no folder no"]);
    for line in [eval, "eval run/best.safetensors --only-errors --out s.png"] {
        assert_eq!(world.run(line).status.code(), Some(2), "{line}");
    }
}
