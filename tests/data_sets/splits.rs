//! Which folders are splits and which are classes.

use super::*;
use common::stderr;

#[test]
fn splits_go_by_all_their_names_in_any_case() {
    for [train, val, test] in [
        ["train", "val", "test"],
        ["training", "valid", "testing"],
        ["Train", "VALIDATION", "Test"],
        ["TRAINING", "Valid", "TESTING"],
    ] {
        let world = world();
        for (split, count) in [(train, 4), (val, 2), (test, 1)] {
            pictures(&world, &format!("s/{split}/cat"), 0, count);
            pictures(&world, &format!("s/{split}/dog"), 1, count);
        }
        world.ok("prepare image-folder s --out d --size 16");
        assert_eq!(classes(&world, "d"), "cat dog");
        let counts = ["train", "val", "test"].map(|split| images(&world, "d", split));
        assert_eq!(counts, [8, 4, 2], "{train} {val} {test}");
        world.fails("prepare image-folder s --out e --val-fraction 0.5", 2, &["of its own"]);
    }
}

#[test]
fn val_is_carved_where_there_are_training_and_testing() {
    let world = world();
    two_classes(&world, "s/training");
    two_classes(&world, "s/testing");
    world.ok("prepare image-folder s --out d --size 16");
    assert_eq!(classes(&world, "d"), "cat dog");
    let counts = ["train", "val", "test"].map(|split| images(&world, "d", split));
    assert_eq!(counts, [4, 2, 6]);
}

#[test]
fn a_split_without_labels_is_refused_with_the_way_out() {
    let world = world();
    let refused = |src: &str, words: &[&str]| {
        world.fails(&format!("prepare image-folder {src} --out d --size 16"), 2, words);
        assert!(!world.path("d").exists());
    };
    two_classes(&world, "a/train");
    pictures(&world, "a/val", 0, 2);
    refused("a", &["a/val has no class folders", "--val-fraction"]);

    two_classes(&world, "b");
    pictures(&world, "b/val", 0, 2);
    refused("b", &["b/val has the name of the split val", "b/train/CLASS/", "--no-splits"]);

    pictures(&world, "c/train", 0, 2);
    pictures(&world, "c/test", 0, 2);
    refused("c", &["c/train has the name of the training split", "--no-splits"]);

    two_classes(&world, "e/train");
    two_classes(&world, "e/Training");
    refused("e", &["e/Training and", "e/train both have names of the split train", "--no-splits"]);
}

#[test]
fn no_splits_takes_any_name_as_a_class() {
    let world = world();
    for class in ["car", "plane", "train", "Test"] {
        pictures(&world, &format!("s/{class}"), 0, 3);
    }
    world.ok("prepare image-folder s --out d --size 16 --no-splits");
    assert_eq!(classes(&world, "d"), "Test car plane train");
    assert_eq!(images(&world, "d", "test"), 0);
}

#[test]
fn folders_beside_the_splits_are_named() {
    let world = world();
    two_classes(&world, "s/train");
    two_classes(&world, "s/extra");
    two_classes(&world, "s/val_old");
    pictures(&world, "s/test", 0, 2);
    fs::create_dir(world.path("s/valid")).unwrap();
    let output = world.run("prepare image-folder s --out d --size 16");
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    for words in ["extra, val_old in s", "s/test has no class folders", "s/valid is empty"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert_eq!(classes(&world, "d"), "cat dog");
}

#[test]
fn a_class_without_a_readable_picture_is_named() {
    let world = world();
    two_classes(&world, "s");
    fs::create_dir(world.path("s/emu")).unwrap();
    world.write("s/emu/IMG_1.HEIC", "\0\0\0\x18ftypheic\0\0\0\0mif1heic");
    let output = world.run("prepare image-folder s --out d --size 16 --max-bad 1");
    let text = stderr(&output);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("no training image of 1 class could be read: emu"), "{text}");
    assert_eq!(classes(&world, "d"), "cat dog emu", "labels are what they were");
}
