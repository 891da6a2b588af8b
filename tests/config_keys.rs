//! `configs/README.md` holds every key of a config, its kind and its default: each is held against
//! the program, and no key of the program is missing.

use alexnet::config::{Config, Data, Init, Prepare, Train};
use alexnet::gpu::precision::GpuOptions;
use alexnet::keys::fields_of;
use alexnet::layers::conv::CpuOptions;
use alexnet::layers::{Family, KINDS, Weights};
use alexnet::schedules::{self, Start};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A line of a table.
#[derive(Debug)]
struct Line {
    /// The heading above the table: `[train]`, `kind = "steps"`.
    section: String,
    /// Kinds of layers; empty outside of that table.
    layers: Vec<String>,
    key: String,
    kind: String,
    /// As TOML; None: there is none.
    default: Option<String>,
}

fn lines() -> Vec<Line> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/README.md");
    let text = fs::read_to_string(path).unwrap();
    let (_, text) = text.split_once("## What may be written").unwrap();
    let quoted = |cell: &str| -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(String::from).collect()
    };
    let (mut section, mut lines) = (String::new(), Vec::new());
    for line in text.split("\n## ").next().unwrap().lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            section = heading.replace('`', "");
        }
        let mut cells: Vec<&str> = line.split('|').skip(1).map(str::trim).collect();
        if !line.starts_with("| `") {
            continue;
        }
        let layers = if section == "[[layer]]" { quoted(cells.remove(0)) } else { Vec::new() };
        let Some(key) = quoted(cells[0]).pop() else { continue };
        let default = quoted(cells[2]).pop();
        assert!(default.is_some() || cells[2] == "–", "{line}");
        lines.push(Line { section: section.clone(), layers, key, kind: cells[1].into(), default });
    }
    assert!(lines.len() > 60, "{}", lines.len());
    lines
}

/// A config with a layer of every kind that goes into one network, and a schedule of `kind`.
fn config(kind: &str) -> String {
    let mut text = format!(
        "name = 'a'\n[data]\npath = 'd'\ncrop = 16\n[data.prepare]\nkind = 'idx'\n\
         source = 's'\n[init]\nfrom = 'f'\n[schedule]\nkind = '{kind}'\n"
    );
    for (kind, keys) in [
        ("conv", "kernels = 4\nsize = 3"),
        ("relu", ""),
        ("tanh", ""),
        ("lrn", ""),
        ("max-pool", "size = 3\nstride = 2"),
        ("average-pool", "size = 3\nstride = 2"),
        ("local", "kernels = 4\nsize = 3"),
        ("fc", "outputs = 4"),
        ("dropout", ""),
        ("softmax", ""),
    ] {
        text += &format!("[[layer]]\nname = '{kind}'\nkind = '{kind}'\n{keys}\n");
    }
    text
}

/// The key as `--set` takes it, and the kind of schedule that has it.
fn places(line: &Line) -> Vec<(String, &'static str)> {
    let key = &line.key;
    let section = line.section.trim_matches(['[', ']']);
    if !line.layers.is_empty() {
        return line.layers.iter().map(|l| (format!("layer.{l}.{key}"), "plateau")).collect();
    }
    let kind = schedules::KINDS.iter().find(|kind| line.section.contains(kind.name));
    match kind {
        Some(kind) => vec![(format!("schedule.{key}"), kind.name)],
        None if line.section.starts_with('[') => vec![(format!("{section}.{key}"), "plateau")],
        None => vec![(key.clone(), "plateau")],
    }
}

fn read(kind: &str, set: Option<String>) -> Result<String, String> {
    let set: Vec<String> = set.into_iter().collect();
    let config = Config::parse(&config(kind), &set, "a test");
    config.map(|config| config.to_toml()).map_err(|error| format!("{error:#}"))
}

/// What is written as the default changes nothing, and something else does.
#[test]
fn every_default_is_the_programs() {
    let mut held = 0;
    for line in lines() {
        let Some(default) = &line.default else { continue };
        for (key, kind) in places(&line) {
            let before = read(kind, None).unwrap();
            let after = read(kind, Some(format!("{key}={default}")));
            assert_eq!(after.as_ref(), Ok(&before), "{key} = {default}");
            let others = [
                "true",
                "false",
                "1",
                "2",
                "3",
                "0.25",
                "'steps'",
                "'window'",
                "'eigenvalue'",
                "'checkpoint'",
                "'hybrid'",
                "'lars'",
                "'auto'",
                "'within-map'",
                "'down'",
                "'train'",
                "['conv']",
                "[1, 1, 1, 1]",
                "[{ epoch = 2, rate = 0.5 }]",
            ];
            let other = |other: &&str| {
                read(kind, Some(format!("{key}={other}"))).is_ok_and(|after| after != before)
            };
            assert!(key == "format" || others.iter().any(other), "{key}: no other value counts");
            held += 1;
        }
    }
    assert!(held > 45, "{held}");
}

/// Values of other kinds are refused, and those of the key's own are not for their kind.
#[test]
fn every_key_takes_its_kind_and_no_other() {
    for line in lines() {
        let wrong: &[&str] = match line.kind.as_str() {
            "whole number" => &["true", "0.5", "[true]", "'no number'"],
            "number" => &["[true]", "'no number'"],
            "true or false" => &["3", "'yes'", "[true]"],
            "text" => &["3", "[true]"],
            "list" => &["3", "true", "'text'"],
            "section" => &["3", "'text'"],
            kind => panic!("{}: no kind {kind:?}", line.key),
        };
        for (key, kind) in places(&line) {
            for wrong in wrong {
                let error = read(kind, Some(format!("{key}={wrong}"))).err();
                assert!(error.is_some(), "{key} = {wrong} is taken");
            }
        }
    }
}

/// Every key of the program has its line, and there are no others.
#[test]
fn the_keys_are_the_programs() {
    let lines = lines();
    let said = |section: &str| -> BTreeSet<String> {
        let own = lines.iter().filter(|line| line.section == section && line.layers.is_empty());
        own.map(|line| line.key.clone()).collect()
    };
    let set = |keys: &[&str]| -> BTreeSet<String> { keys.iter().map(|k| k.to_string()).collect() };
    assert_eq!(said("[data]"), set(fields_of::<Data>()));
    assert_eq!(said("[data.prepare]"), set(fields_of::<Prepare>()));
    assert_eq!(said("[init]"), set(fields_of::<Init>()));
    assert_eq!(said("[train]"), set(fields_of::<Train>()));
    assert_eq!(said("[cpu]"), set(fields_of::<CpuOptions>()));
    assert_eq!(said("[gpu]"), set(fields_of::<GpuOptions>()));
    let mut shared = set(fields_of::<Start>());
    shared.insert("kind".into());
    assert_eq!(said("[schedule]"), shared);
    for kind in schedules::KINDS {
        assert_eq!(said(&format!("kind = \"{}\"", kind.name)), set((kind.keys)()), "{}", kind.name);
    }
    for kind in KINDS {
        let mut keys = set((kind.keys)());
        if matches!(kind.family, Family::Learns(_)) {
            keys.extend(set(fields_of::<Weights>()));
        }
        let of_kind = |line: &&Line| line.layers.iter().any(|layer| layer == kind.name);
        let said = lines.iter().filter(of_kind).map(|line| line.key.clone()).collect();
        assert_eq!(keys, said, "{}", kind.name);
    }
    // Outside of sections: what the program says that it knows, without its sections.
    let error = read("plateau", Some("zzz=1".into())).unwrap_err();
    let known = error.split("it knows ").nth(1).unwrap_or_else(|| panic!("{error}"));
    let sections = ["data", "init", "train", "schedule", "cpu", "gpu", "layer"];
    let top = known.split(", ").filter(|key| !sections.contains(key));
    assert_eq!(said("Outside of sections"), top.map(String::from).collect());
}
