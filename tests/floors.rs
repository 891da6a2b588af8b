//! The walls of the house: an import goes down or stays (the list of floors is in `src/lib.rs`),
//! and no folders, nor files of one folder, import each other in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module as its path below `crate`: `layers::conv::cpu`.
type Module = String;

/// Every module of the crate with the text of its file, tests within the file cut off.
fn modules() -> BTreeMap<Module, String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    let module = |path: PathBuf| {
        let inside = path.strip_prefix(&root).unwrap().with_extension("");
        let mut parts: Vec<String> =
            inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        if parts.last().is_some_and(|last| last == "mod") {
            parts.pop();
        }
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_string();
        (parts.join("::"), text)
    };
    let all: BTreeMap<Module, String> = files.into_iter().map(module).collect();
    all.into_iter().filter(|(name, _)| !name.ends_with("tests") && name != "lib").collect()
}

/// The names in `text` that begin with `crate::` or `super::`, groups in braces written out.
fn paths(text: &str) -> Vec<String> {
    let code: String = text.lines().map(|line| line.split("//").next().unwrap_or("")).fold(
        String::new(),
        |mut all, line| {
            all.push_str(line);
            all.push('\n');
            all
        },
    );
    let mut found = Vec::new();
    for start in ["crate::", "super::", "alexnet::"] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '$') {
                continue;
            }
            expand(&code[at..], "", &mut found);
        }
    }
    found
}

/// One path of a `use` or an expression, and what its braces hold.
fn expand(text: &str, prefix: &str, found: &mut Vec<String>) {
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    let (path, rest) = text.split_at(end.unwrap_or(text.len()));
    let path = format!("{prefix}{path}");
    if !rest.starts_with('{') || !path.ends_with("::") {
        found.push(path);
        return;
    }
    let (mut depth, mut item) = (0, String::new());
    for c in rest.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            let one = item.trim().trim_start_matches('{').trim();
            if !one.is_empty() {
                expand(one, &path, found);
            }
            item.clear();
            if depth == 0 {
                return;
            }
        } else {
            item.push(c);
        }
    }
}

/// The modules that `module` imports: of every path the longest beginning that is one.
fn imports(module: &str, text: &str, all: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let mut found = BTreeSet::new();
    for path in paths(text) {
        let mut from: Vec<&str> = module.split("::").collect();
        let mut parts: Vec<&str> = path.split("::").filter(|part| !part.is_empty()).collect();
        match parts[0] {
            "super" => {
                while parts.first() == Some(&"super") {
                    parts.remove(0);
                    from.pop();
                }
                from.extend(parts);
                parts = from;
            }
            _ => {
                parts.remove(0);
            }
        }
        while !parts.is_empty() && !all.contains_key(&parts.join("::")) {
            parts.pop();
        }
        if !parts.is_empty() {
            found.insert(parts.join("::"));
        }
    }
    found.remove(module);
    found
}

/// The floors, the roof first, as the guide in `lib.rs` lists them.
fn floors() -> Vec<String> {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let guide = fs::read_to_string(guide).unwrap();
    let lines = guide.lines().filter_map(|line| line.strip_prefix("//! - [`"));
    lines.map(|line| line.split('`').next().unwrap().to_string()).collect()
}

#[test]
fn an_import_goes_down_or_stays() {
    let (floors, all) = (floors(), modules());
    let floor = |module: &str| {
        let top = module.split("::").next().unwrap();
        floors.iter().position(|f| f == top)
    };
    let mut wrong = Vec::new();
    for (module, text) in all.iter().filter(|(module, _)| *module != "main") {
        let Some(own) = floor(module) else {
            wrong.push(format!("{module} stands on no floor: add it to the list in src/lib.rs"));
            continue;
        };
        for import in imports(module, text, &all) {
            if floor(&import).is_some_and(|other| other < own) {
                wrong.push(format!("{module} imports {import}, a floor above"));
            }
        }
    }
    assert!(floors.len() > 10 && all.len() > 100, "{} floors, {} modules", floors.len(), all.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether `to` can be reached from `from`.
fn reaches(graph: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(at) = open.pop() {
        for next in graph.get(at).into_iter().flatten() {
            if next == to {
                return true;
            }
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    false
}

#[test]
fn no_folders_or_files_go_round_in_a_circle() {
    let all = modules();
    let mut wrong = Vec::new();
    // Of every folder its rooms: files and folders. A folder's own file is its face, and no room.
    let folders: BTreeSet<&str> = all
        .keys()
        .filter_map(|module| module.rsplit_once("::"))
        .map(|(folder, _)| folder)
        .collect();
    for folder in folders {
        let room = |module: &str| -> Option<String> {
            let inside = module.strip_prefix(folder)?.strip_prefix("::")?;
            Some(inside.split("::").next()?.to_string())
        };
        let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (module, text) in &all {
            let Some(from) = room(module) else { continue };
            let to = imports(module, text, &all);
            let to: Vec<String> =
                to.iter().filter_map(|import| room(import)).filter(|to| *to != from).collect();
            graph.entry(from).or_default().extend(to);
        }
        for from in graph.keys().filter(|from| reaches(&graph, from, from)) {
            wrong.push(format!("{folder}::{from} is part of a circle: {:?}", graph[from]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// One place asks the processor what it has, so that `ALEXNET_SIMD` reaches everything.
#[test]
fn only_the_levels_of_vectors_ask_the_processor() {
    let all = modules();
    let ask = all.iter().filter(|(_, text)| text.contains("feature_detected"));
    let ask: Vec<&str> = ask.map(|(module, _)| module.as_str()).collect();
    assert_eq!(ask, ["vectors::levels"]);
}

#[test]
fn the_reader_of_imports_sees_what_there_is() {
    let text = "use crate::a::{b, c::{D, e}};\nlet x = crate::f::g(super::h);\n// crate::no\n";
    let mut found = paths(text);
    found.sort();
    assert_eq!(
        found,
        ["crate::a::b", "crate::a::c::D", "crate::a::c::e", "crate::f::g", "super::h"]
    );
}
