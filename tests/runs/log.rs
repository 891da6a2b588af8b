//! The keys of `metrics.jsonl`: those written are those that src/train/README.md documents, each
//! with a unit.

use crate::common::World;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Key → unit, of the table there.
fn documented() -> Vec<(String, String)> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/train/README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let (_, table) = readme.split_once("| key of `metrics.jsonl` |").expect("the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let cells = rows.map(|row| row.split('|').map(|cell| cell.trim().to_string()).collect());
    cells.map(|cells: Vec<String>| (cells[1].trim_matches('`').into(), cells[2].clone())).collect()
}

#[test]
fn the_keys_written_are_those_documented() {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=1 --run run");
    let documented = documented();
    let names: BTreeSet<&str> = documented.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(names.len(), documented.len(), "each key once");
    assert!(documented.iter().all(|(_, unit)| !unit.is_empty()), "{documented:?}");
    let of = |kind: &str| -> BTreeSet<String> {
        let lines = world.metrics("run");
        let line = lines.iter().rfind(|line| line["kind"] == kind).unwrap();
        line.as_object().unwrap().keys().cloned().collect()
    };
    let (step, epoch) = (of("step"), of("epoch"));
    assert_eq!(epoch, names.iter().map(|key| key.to_string()).collect());
    let validation = names.iter().filter(|key| key.starts_with("val_")).map(|key| key.to_string());
    assert_eq!(epoch.difference(&step).cloned().collect::<BTreeSet<_>>(), validation.collect());
}
