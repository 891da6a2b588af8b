//! What a new kind of layer or schedule owes to readers: its row in the README, with every key. The
//! guide itself is `.github/CONTRIBUTING.md`.

use alexnet::keys::fields_of;
use alexnet::layers::{Family, KINDS, Weights};
use alexnet::schedules;
use std::fs;
use std::path::Path;

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
}

/// The rows of the README's tables whose first cell has `name` in backquotes.
fn rows<'a>(readme: &'a str, name: &str) -> Vec<&'a str> {
    let quoted = format!("`{name}`");
    let first = |line: &str| line.split('|').nth(1).is_some_and(|cell| cell.contains(&quoted));
    readme.lines().filter(|line| line.starts_with('|') && first(line)).collect()
}

/// Whether `text` has the word `key`, as code or as one of several in it.
fn says(text: &str, key: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    text.split(|c: char| !is_part(c)).any(|word| word == key)
}

#[test]
fn every_kind_has_its_row_and_its_keys_in_the_readme() {
    let readme = readme();
    let mut wrong = Vec::new();
    for kind in KINDS {
        let rows = rows(&readme, kind.name);
        if rows.is_empty() {
            wrong.push(format!("the README's table of kinds has no `{}`", kind.name));
        }
        let keys = (kind.keys)().iter();
        for key in keys.filter(|key| !rows.iter().any(|row| says(row, key))) {
            wrong.push(format!("the README's row of `{}` does not have its key {key}", kind.name));
        }
    }
    assert!(KINDS.iter().any(|kind| matches!(kind.family, Family::Learns(_))));
    let shared = readme.lines().find(|line| line.starts_with("| these three")).unwrap();
    for key in fields_of::<Weights>().iter().filter(|key| !says(shared, key)) {
        wrong.push(format!("the README does not have {key}, a key of layers that learn"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_schedule_kind_and_its_keys_are_in_the_readme() {
    let readme = readme();
    let table: String = readme.lines().filter(|line| line.starts_with("| `schedule")).collect();
    for kind in schedules::KINDS {
        assert!(says(&table, kind.name), "the README has no schedule kind {:?}", kind.name);
        for key in (kind.keys)() {
            assert!(says(&table, key), "the README has no key {key} of {:?}", kind.name);
        }
    }
}

/// The names in a worked example grow old unseen otherwise.
#[test]
fn the_guide_names_files_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let guide = fs::read_to_string(root.join(".github/CONTRIBUTING.md")).unwrap();
    let links = guide.split("](../").skip(1).map(|rest| rest.split(')').next().unwrap());
    let links: Vec<&str> = links.collect();
    assert!(links.len() > 4);
    for link in links {
        assert!(root.join(link).exists(), "{link}");
    }
    for text in ["src/layers/mod.rs", "tests/cases/mod.rs", "tests/cases/reference.rs"] {
        assert!(guide.contains(text) && root.join(text).exists(), "{text}");
    }
}
