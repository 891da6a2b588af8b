//! Letters of the world's scripts in pictures.

use crate::Picture;
use crate::common::World;
use std::path::Path;

/// The sheet of one image of a class called `name`, with the fonts of the folder `fonts`.
fn sheet(name: &str, fonts: &Path) -> Vec<u8> {
    let world = World { folder: tempfile::tempdir().unwrap() };
    world.photos("photos", [name, "b", "c"], 1);
    for other in ["b", "c"] {
        std::fs::remove_dir_all(world.path("photos").join(other)).unwrap();
    }
    let folder = fonts.display();
    world.write("fonts.conf", &format!("<fontconfig><dir>{folder}</dir></fontconfig>"));
    world.ok("prepare image-folder photos --out set --size 16 --val-fraction 0");
    let mut command = world.command("data show set --count 1 --out sheet.png");
    let output = command.env("FONTCONFIG_FILE", world.path("fonts.conf")).output().unwrap();
    assert!(output.status.success());
    let boxes = name.contains('犬') && !fonts.join("kana.otf").exists();
    let said = crate::common::stderr(&output);
    assert_eq!(said.contains("no font of this machine has 犬; there are boxes"), boxes, "{said}");
    let (width, height) = Picture::open(&world, "sheet.png").0.dimensions();
    let picture = Picture::open(&world, "sheet.png").0;
    // The caption below the image.
    image::imageops::crop_imm(&picture, 0, height - 24, width, 24).to_image().into_raw()
}

#[test]
fn cyrillic_and_greek_are_drawn_without_any_font_on_the_machine() {
    let none = tempfile::tempdir().unwrap();
    let asked = sheet("????", none.path());
    for name in ["коты", "γάτα"] {
        let drawn = sheet(name, none.path());
        assert!(drawn != asked, "{name}");
        let turned: String = name.chars().rev().collect();
        assert!(drawn != sheet(&turned, none.path()), "{name}: each letter its own");
    }
}

#[test]
fn letters_that_the_own_font_lacks_come_from_the_machine_one_by_one() {
    let none = tempfile::tempdir().unwrap();
    let with = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/fonts");
    let (dog, cat) = (sheet("犬 dog", &with), sheet("猫 dog", &with));
    assert!(dog != cat, "each its own glyph");
    assert!(dog != sheet("犬 dog", none.path()), "not the box for what is missing");
    assert!(sheet("かな", &with) != sheet("なか", &with));
    // Without one that has them there are boxes, and nothing fails.
    assert!(sheet("犬 dog", none.path()) == sheet("猫 dog", none.path()));
    // Latin letters are the same, whatever fonts there are.
    assert!(sheet("dog", none.path()) == sheet("dog", &with));
}
