//! What is owed to readers: a test for each line of what the README guarantees, and no name in it
//! that is none. The guide itself is `.github/CONTRIBUTING.md`; keys of configs: `config_keys.rs`.

use std::fs;
use std::path::Path;

fn readme() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap()
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

/// The tables of guarantees name files, and functions in the file named before them.
#[test]
fn every_guarantee_names_tests_that_there_are() {
    let readme = readme();
    let (_, section) = readme.split_once("## What is guaranteed").expect("the section");
    let section = section.split("\n## ").next().unwrap();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut lines = 0;
    for line in section.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        let named = line.split('|').nth(2).unwrap_or_default();
        let mut source = String::new();
        for name in named.split('`').skip(1).step_by(2) {
            let file = tests.join(format!("{name}.rs"));
            if file.exists() {
                source = fs::read_to_string(file).unwrap();
                assert!(source.contains("#[test]"), "{name} has no tests");
            } else {
                let here = source.contains(&format!("fn {name}("));
                assert!(here, "the README names {name}, which its file does not have: {line}");
            }
        }
        assert!(!source.is_empty(), "a guarantee without a test: {line}");
        lines += 1;
    }
    assert!(lines > 15, "the section has {lines} lines");
}

/// Files and folders that the README names, and the configs that there are.
#[test]
fn what_the_readme_names_is_there_and_every_config_is_named() {
    let (root, readme) = (Path::new(env!("CARGO_MANIFEST_DIR")), readme());
    let words: Vec<&str> = readme.split('`').skip(1).step_by(2).collect();
    let mut wrong = Vec::new();
    for word in &words {
        let place = ["src/", "kernels/", "tests/", "benches/", "configs/"];
        let is_path = place.iter().any(|folder| word.starts_with(folder));
        if is_path && !word.contains([' ', '*', '{']) && !root.join(word).exists() {
            wrong.push(format!("the README names {word}, which is not there"));
        }
    }
    for config in fs::read_dir(root.join("configs")).unwrap() {
        let name = config.unwrap().file_name().into_string().unwrap();
        // Of a row's similar names the later ones may be written without what they share.
        let short =
            name.trim_end_matches(".toml").rsplit_once('-').map(|(_, end)| format!("-{end}"));
        let named = readme.contains(&name) || short.is_some_and(|s| words.contains(&s.as_str()));
        if name.ends_with(".toml") && !named {
            wrong.push(format!("the README does not name configs/{name}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
