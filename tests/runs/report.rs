//! `alexnet report`: what is on the page, that it is whole in itself, and that no text becomes part
//! of it as more than text.

use crate::common::World;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The page's elements: whether each is closed, no attribute without quotation marks, nothing that
/// a browser would fetch or run; and its text.
fn parsed(page: &str) -> String {
    let body = page.split_once("</style>").expect("a style").1;
    let empty = ["img", "br", "meta"];
    let (mut open, mut text, mut rest) = (vec!["html", "head"], String::new(), body);
    while let Some(start) = rest.find('<') {
        text += &rest[..start];
        text.push(' ');
        let end = start + rest[start..].find('>').expect("a tag's end");
        let tag = &rest[start + 1..end];
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap();
        let allowed = "html head body h1 h2 h3 p b br div span table caption thead tbody tr th td \
            figure figcaption img svg path circle line text ul li pre details summary";
        assert!(allowed.split_whitespace().any(|word| word == name), "<{tag}>");
        for (attribute, value) in attributes(tag) {
            let src = ["src", "href", "xlink:href"].contains(&attribute);
            assert!(!src || value.starts_with("data:image/"), "{attribute}={value}");
            assert!(!attribute.starts_with("on"), "{attribute}");
        }
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "</{closed}>");
        } else if !empty.contains(&name) && !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
    text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&")
}

fn attributes(tag: &str) -> Vec<(&str, &str)> {
    let (mut found, mut rest) = (Vec::new(), tag.split_once(' ').map_or("", |(_, rest)| rest));
    while let Some((name, after)) = rest.split_once("=\"") {
        let (value, after) = after.split_once('"').expect("quotation marks");
        found.push((name.trim(), value));
        rest = after;
    }
    found
}

#[track_caller]
fn has(text: &str, words: &[&str]) {
    let flat: Vec<&str> = text.split_whitespace().collect();
    let flat = flat.join(" ");
    for word in words {
        assert!(flat.contains(word), "no {word:?} in the page's text: {flat:.3000}");
    }
}

/// Of each class of the validation images, and each pair of classes, what `alexnet predict` says of
/// the files themselves: none of the report's code, nor the data set.
fn predictions(world: &World) -> BTreeMap<(String, String), u64> {
    let mut counts = BTreeMap::new();
    for class in ["down", "level", "slant"] {
        for name in world.names(&format!("photos/val/{class}")) {
            let image = format!("photos/val/{class}/{name}");
            let found = world
                .json(&format!("predict {image} --checkpoint runs/net/best.safetensors --json"));
            let text = found.to_string();
            let answer = ["down", "level", "slant"]
                .into_iter()
                .min_by_key(|class| text.find(&format!("\"{class}\"")).unwrap_or(usize::MAX))
                .unwrap();
            *counts.entry((class.to_string(), answer.to_string())).or_default() += 1;
        }
    }
    counts
}

#[test]
fn a_report_has_what_the_runs_came_to() {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=3 --run runs/net");
    world.ok("train --config linear.toml --run runs/linear");
    let said = world.ok("report runs/net linear --out report.html");
    assert!(said.starts_with("report.html: 2 runs, "), "{said}");
    let page = world.text("report.html");
    assert!(page.starts_with("<!doctype html>") && page.contains("default-src 'none'"));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("<script"));
    assert!(page.contains("prefers-color-scheme: dark") && page.contains("@media print"));
    let text = parsed(&page);

    // Errors beside the paper's.
    let epochs: Vec<Value> =
        world.metrics("runs/net").into_iter().filter(|line| line["kind"] == "epoch").collect();
    let error = |line: &Value| line["val_top1_error"].as_f64().unwrap();
    let best = epochs.iter().reduce(|a, b| if error(b) < error(a) { b } else { a }).unwrap();
    let percent = |value: &Value| format!("{:.2} %", 100.0 * value.as_f64().unwrap());
    let (top1, top5) = (percent(&best["val_top1_error"]), percent(&best["val_top5_error"]));
    has(&text, &[&format!("net set {} {top1} {top5}", best["epoch"])]);
    has(&text, &["CNN (the paper's) 37.5 % 17.0 %".replace('\'', "&#39;").as_str()]);
    has(&text, &["5 CNNs 38.1 % 16.4 % 16.4 %", "7 CNNs* 36.7 % 15.4 % 15.3 %"]);
    // Curves of two runs, each twice, or once where there is no validation.
    for title in ["Loss (nats)", "Top-1 error", "Top-5 error", "Learning rate", "Images per second"]
    {
        let (_, chart) = page.split_once(&format!("<h3>{title}</h3>")).expect(title);
        let chart = chart.split_once("</figure>").unwrap().0;
        let curves = chart.matches(" d=\"M").count() - chart.matches("d=\"M0 5H26\"").count();
        assert_eq!(
            curves,
            if title.contains(['L', 'T']) && !title.contains("rate") { 4 } else { 2 }
        );
    }
    has(&text, &["finished, 3 of 3 epochs, 27 steps", "images a second in the median epoch"]);
    has(&text, &["before training", "epoch 1, step 9", "epoch 3, step 27", "kind = \"max-pool\""]);

    // Errors by class, and the matrix, against what single predictions come to.
    let counts = predictions(&world);
    let (_, of_net) = page.split_once("<h2>net</h2>").unwrap();
    for class in ["down", "level", "slant"] {
        let right = counts.get(&(class.into(), class.into())).copied().unwrap_or(0);
        let error = format!("{class} 10 {:.2} %", 10.0 * (10.0 - right as f64));
        has(&parsed(&format!("</style></head><body>{of_net}")), &[&error]);
    }
    let row = |class: &str| {
        let start = format!("<tr><th scope=\"row\">{class}</th>");
        let (_, row) = of_net.split_once(&start).expect("the class's row");
        let cells = row.split_once("</tr>").unwrap().0.split("</td>").filter(|c| c.contains("<td"));
        let number = |cell: &str| cell.rsplit('>').next().unwrap().parse().unwrap_or(0u64);
        cells.map(number).collect::<Vec<u64>>()
    };
    for class in ["down", "level", "slant"] {
        let of =
            |answer: &&str| counts.get(&(class.into(), answer.to_string())).copied().unwrap_or(0);
        let expected: Vec<u64> = ["down", "level", "slant"].iter().map(of).collect();
        assert_eq!(row(class), expected, "{class}");
    }
    let wrong: u64 = counts.iter().filter(|((a, b), _)| a != b).map(|(_, count)| count).sum();
    let shown = of_net.split("<h2>").next().unwrap().matches("loading=\"lazy\"").count();
    assert_eq!(shown as u64, wrong.min(24), "the hardest pictures");
}

#[test]
fn what_is_missing_is_said_and_no_text_is_more_than_text() {
    let world = World { folder: tempfile::tempdir().unwrap() };
    let evil = ["a<script>alert(1)</script>", "b\" onload=\"x", "c&amp;<img src=x>"];
    world.photos("photos/train", evil.map(|name| name.split('/').next().unwrap()), 6);
    // A folder's name has no slash; the class table has what is in its file.
    world.ok("prepare image-folder photos --out set --size 16 --val-fraction 0.4");
    world.write("linear.toml", crate::common::LINEAR);
    world.ok("train --config linear.toml --set train.batch=3 --set train.epochs=1 --run runs/x");
    fs::rename(world.path("runs/x"), world.path("runs/<b>'x'&\"")).unwrap();
    let report = |more: &str| {
        let mut command = world.command("report --out page.html");
        let output = command.arg("runs/<b>'x'&\"").args(more.split_whitespace()).output().unwrap();
        assert!(output.status.success(), "{}", crate::common::stderr(&output));
        world.text("page.html")
    };
    let page = report("");
    for raw in ["<script", "<b>'x'", "onload=\"x", "<img src=x"] {
        assert!(!page.contains(raw), "{raw}");
    }
    has(&parsed(&page), &["Errors by class", "a<script>alert(1)<", "b\" onload=\"x"]);
    // Without the data set all else is there.
    fs::rename(world.path("set"), world.path("moved")).unwrap();
    let text = parsed(&report(""));
    has(
        &text,
        &["They are missing: ", "--data DIR says where it is now", "finished, 1 of 1 epochs"],
    );
    assert!(parsed(&report("--data moved")).contains("Errors by class "));
    has(&parsed(&report("--no-eval")), &["They are missing: --no-eval was asked for"]);
    // Files of the run that cannot be read.
    world.write("runs/<b>'x'&\"/last.safetensors", "x");
    world.write("runs/<b>'x'&\"/best.safetensors", "x");
    world.write("runs/<b>'x'&\"/metrics.jsonl", "<i>\n");
    let text = parsed(&report(""));
    has(&text, &["damaged, 0 of 1 epochs", "too few for a checkpoint", "No epoch has ended yet"]);
}

#[test]
fn an_old_run_and_one_that_has_not_begun_have_a_report() {
    let world = World { folder: tempfile::tempdir().unwrap() };
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/version-1/run");
    fs::create_dir_all(world.path("runs/old")).unwrap();
    for entry in fs::read_dir(old).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), world.path("runs/old").join(entry.file_name())).unwrap();
    }
    fs::create_dir(world.path("runs/new")).unwrap();
    world.write("runs/new/config.toml", "name = \"new\"\n");
    world.ok("report old new --out page.html");
    let page = world.text("page.html");
    // No event files: the kernels are those of the checkpoints.
    let (_, of_old) = page.split_once("<h2>old</h2>").unwrap();
    assert!(of_old.split("<h2>").next().unwrap().contains("alt=\"kernels, epoch"));
    has(&parsed(&page), &["interrupted, 0 epochs", "the run has no", "holds no picture of them"]);
}

#[test]
fn what_cannot_be_is_refused() {
    let world = World::new();
    world.fails("report --out page.html", 1, &["no run with a checkpoint"]);
    world.fails("report none --out page.html", 1, &["none: no run is there", "alexnet runs"]);
    world.ok("train --config linear.toml --set train.epochs=1 --run runs/one");
    for name in ["config.toml", "metrics.jsonl", "last.safetensors"] {
        let before = world.bytes(&format!("runs/one/{name}"));
        let args = format!("report one --out runs/one/{name}");
        world.fails(&args, 2, &["is what the command reads"]);
        assert!(world.bytes(&format!("runs/one/{name}")) == before);
    }
    world.fails("report one --out set", 2, &["--out set: this is a folder"]);
    world.fails("report one --out no/page.html", 2, &["no/page.html"]);
}
