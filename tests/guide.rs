//! What is owed to readers: a test for each line of what is guaranteed, and no name or link on the
//! pages that leads nowhere. The guide itself is `.github/CONTRIBUTING.md`; keys of configs:
//! `config_keys.rs`.

use std::fs;
use std::path::Path;

fn text(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// What a reader is sent to from the first page, that page first.
const PAGES: [&str; 12] = [
    "README.md",
    "configs/README.md",
    "src/README.md",
    "src/commands/README.md",
    "src/train/README.md",
    "src/data/README.md",
    "src/weights/README.md",
    "src/gpu/README.md",
    "src/mpi/README.md",
    "kernels/README.md",
    "tests/README.md",
    "benches/README.md",
];

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
    let page = text("tests/README.md");
    let (_, section) = page.split_once("## What is guaranteed").expect("the section");
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
                assert!(here, "tests/README.md names {name}, which its file does not have: {line}");
            }
        }
        assert!(!source.is_empty(), "a guarantee without a test: {line}");
        lines += 1;
    }
    assert!(lines > 15, "the section has {lines} lines");
}

/// A reader decides in a minute.
#[test]
fn the_first_page_is_short() {
    let lines = text("README.md").lines().count();
    assert!(lines <= 180, "README.md has {lines} lines");
}

/// Files and folders that the pages name or link to.
#[test]
fn what_the_pages_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for page in PAGES {
        let said = text(page);
        let places = ["src/", "kernels/", "tests/", "benches/", "configs/"];
        for word in said.split('`').skip(1).step_by(2) {
            let is_path = places.iter().any(|folder| word.starts_with(folder));
            if is_path && !word.contains([' ', '*', '{']) && !root.join(word).exists() {
                wrong.push(format!("{page} names {word}, which is not there"));
            }
        }
        let here = Path::new(page).parent().unwrap();
        for link in said.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("http") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.into() } else { here.join(file) };
            if !root.join(&target).exists() {
                wrong.push(format!("{page} links to {link}, which is not there"));
            } else if !heading.is_empty() && !has_heading(&root.join(&target), heading) {
                wrong.push(format!("{page} links to {link}, where there is no such heading"));
            }
        }
        if page != "README.md" && !text("README.md").contains(&format!("]({page})")) {
            wrong.push(format!("README.md does not lead to {page}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether a page has the heading that `anchor` leads to.
fn has_heading(page: &Path, anchor: &str) -> bool {
    let said = fs::read_to_string(page).unwrap();
    let mut headings = said.lines().filter(|line| line.starts_with('#'));
    headings.any(|line| {
        let words = line.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
        kept.map(|c| if c == ' ' { '-' } else { c }).eq(anchor.chars())
    })
}

#[test]
fn every_config_is_named() {
    let named = text("configs/README.md");
    let words: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
    for config in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")).unwrap() {
        let name = config.unwrap().file_name().into_string().unwrap();
        // Of a row's similar names the later ones may be written without what they share.
        let short =
            name.trim_end_matches(".toml").rsplit_once('-').map(|(_, end)| format!("-{end}"));
        let is_named = named.contains(&name) || short.is_some_and(|s| words.contains(&s.as_str()));
        assert!(is_named || !name.ends_with(".toml"), "configs/README.md does not name {name}");
    }
}
