//! Sheets of images with their labels.

use crate::Picture;
use crate::common::{World, picture};

/// The frame and the tick of the right label, and nothing else, are of this colour.
const RED: [u8; 3] = [213, 94, 0];

/// A data set of 16×16 images, a network that has learned them somewhat, and an image of that size,
/// which needs no scaling.
fn world() -> World {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=1 --run run");
    std::fs::create_dir_all(world.path("level")).unwrap();
    picture(1, 3, 16, 16).save(world.path("level/a.png")).unwrap();
    picture(1, 3, 16, 16).save(world.path("a.png")).unwrap();
    world
}

#[test]
fn the_image_is_there_and_the_right_label_marked_where_it_is_known() {
    let world = world();
    let predict = "predict --checkpoint run/best.safetensors --out sheet.png";
    let said = world.ok(&format!("{predict} a.png"));
    assert_eq!(said, world.ok("predict --checkpoint run/best.safetensors a.png"), "as without");
    let sheet = Picture::open(&world, "sheet.png");
    let image = picture(1, 3, 16, 16);
    // The edge is 16 pixels, and 16 pixels of the image are 160.
    for (x, y) in [(0, 0), (5, 9), (15, 15)] {
        for inside in [0, 9] {
            let seen = sheet.at(16 + 10 * x + inside, 16 + 10 * y + inside);
            assert_eq!(seen, image.get_pixel(x as u32, y as u32).0, "{x} {y}");
        }
    }
    assert_eq!(sheet.count(RED), 0, "nobody said which label is right");
    let bars = |sheet: &Picture| sheet.count([140, 192, 220]);
    assert!(bars(&sheet) > 0);
    let known = sheet;
    for right in ["level/a.png", "a.png --label level"] {
        world.ok(&format!("{predict} {right}"));
        let sheet = Picture::open(&world, "sheet.png");
        assert!(sheet.count(RED) > 50, "{right}");
        assert!(bars(&sheet) < bars(&known), "{right}: that bar is no other's");
    }
    world.ok("predict --checkpoint run/best.safetensors a.png level/a.png --out sheet.svg");
    let svg = world.text("sheet.svg");
    let document = resvg::usvg::roxmltree::Document::parse(&svg).unwrap();
    let tags = |name: &str| document.descendants().filter(|n| n.has_tag_name(name)).count();
    assert_eq!(tags("image"), 2);
    // A frame beside the colour: one label of one image is right.
    assert_eq!(svg.matches("fill=\"none\" stroke=\"#d55e00\"").count(), 1);
    assert!(document.descendants().any(|node| node.text() == Some("a.png")));
}

#[test]
fn a_wrong_label_or_file_is_refused_before_any_work() {
    let world = world();
    let predict = "predict --checkpoint run/best.safetensors a.png";
    world.fails(&format!("{predict} --out s.png --label levle"), 2, &["\"levle\"", "\"level\""]);
    let before = world.bytes("a.png");
    world.fails(&format!("{predict} --out a.png"), 2, &["a.png", "read here"]);
    world.fails(&format!("{predict} --out ./level/../a.png"), 2, &["read here"]);
    world.fails(&format!("{predict} --out sheet.gif"), 2, &["sheet.gif", ".png or .svg"]);
    assert!(world.bytes("a.png") == before);
    // An image that cannot be read keeps no other off the sheet.
    world.write("bad.png", "no image");
    let output = world.run(&format!("{predict} bad.png --out s.png"));
    assert_eq!(output.status.code(), Some(1));
    Picture::open(&world, "s.png");
}

#[test]
fn class_folders_called_after_synsets_are_shown_with_their_names() {
    let world = World { folder: tempfile::tempdir().unwrap() };
    let synsets = ["n01440764", "n02123045", "n15075141"];
    world.photos("photos", synsets, 12);
    world.write("linear.toml", crate::common::LINEAR);
    world.ok("prepare image-folder photos --out set --size 16");
    world.ok("train --config linear.toml --set train.epochs=1 --run run");
    let predict = "predict --checkpoint run/best.safetensors photos/n02123045/001.png";
    let said = world.ok(&format!("{predict} --out sheet.svg"));
    for name in ["tench, Tinca tinca", "tabby, tabby cat", "toilet tissue, toilet paper"] {
        assert!(said.contains(name), "{said}");
    }
    assert!(world.text("sheet.svg").contains("tabby, tabby cat"));
    // Scripts get the class table's own words.
    let answers = world.json(&format!("{predict} --json"));
    let labels = answers[0]["top"].as_array().unwrap().iter().map(|top| top["label"].as_str());
    let mut labels: Vec<&str> = labels.map(Option::unwrap).collect();
    labels.sort();
    assert_eq!(labels, synsets);
}
