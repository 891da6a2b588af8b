//! What `prepare` says at its end of the data set that it made.

use super::*;

/// `count` pictures of the class `name` in `split`, from number `from` on.
fn class(world: &World, split: &str, name: &str, from: u32, count: u32) {
    for i in from..from + count {
        let picture = RgbImage::from_fn(16, 16, |x, y| {
            image::Rgb([(x * 9 + i) as u8, (y * 7 + i / 5) as u8, (i * 3) as u8])
        });
        put(world, &format!("s/{split}/{name}/{i:04}.png"), &png(&picture));
    }
}

#[test]
fn classes_are_counted_and_what_is_odd_is_said() {
    let world = world();
    class(&world, "train", "cat", 0, 23);
    class(&world, "train", "dog", 100, 2);
    class(&world, "train", "eel", 200, 20);
    class(&world, "val", "cat", 50, 3);
    class(&world, "val", "eel", 250, 4);
    // Two that are trained on as well, under another name, one of them as another class.
    fs::copy(world.path("s/train/cat/0003.png"), world.path("s/val/cat/copy.png")).unwrap();
    fs::copy(world.path("s/train/cat/0004.png"), world.path("s/val/eel/copy.png")).unwrap();
    let output = world.run("prepare image-folder s --out d --size 20");
    assert!(output.status.success());
    let out = String::from_utf8(output.stdout.clone()).unwrap();
    for line in [
        "  54 images are smaller than 20×20 along a side and were enlarged",
        "  images of each class:",
        "              train       val",
        "    cat          23         4",
        "    dog           2         0",
        "    eel          20         5",
    ] {
        assert!(out.lines().any(|other| other == line), "no `{line}` in {out}");
    }
    let said = stderr(&output);
    for words in [
        "warning: val has no image of 1 class: dog; errors on val say nothing of it",
        "warning: cat has 23 training images, dog has 2: over 10 to 1",
        "warning: val is not apart from train: 2 images of it are trained on too",
        "val/cat/copy.png (in train train/cat/0003.png) the first",
    ] {
        assert!(said.contains(words), "no `{words}` in {said}");
    }
}

#[test]
fn of_many_classes_the_smallest_and_largest_are_listed() {
    let world = world();
    for number in 0..24 {
        class(&world, "train", &format!("c{number:02}"), 100 * number, 2 + (number * 7) % 24 / 4);
    }
    let out = world.ok("prepare image-folder s/train --out d --size 16 --val-fraction 0");
    let lines: Vec<&str> = out.lines().collect();
    let title = "  images of the 5 smallest and 5 largest classes:";
    let at = lines.iter().position(|line| *line == title).unwrap_or_else(|| panic!("{out}"));
    let count = |line: &str| -> u32 { line.split_whitespace().last().unwrap().parse().unwrap() };
    let smallest: Vec<u32> = lines[at + 2..at + 7].iter().map(|line| count(line)).collect();
    let largest: Vec<u32> = lines[at + 8..at + 13].iter().map(|line| count(line)).collect();
    assert_eq!((smallest, largest), (vec![2, 2, 2, 2, 3], vec![6, 7, 7, 7, 7]));
    assert!(!out.contains("enlarged"));
}

/// What is said does not depend on an interruption.
#[test]
fn an_interruption_changes_nothing_of_it() {
    let world = world();
    class(&world, "train", "cat", 0, 12);
    class(&world, "train", "dog", 100, 12);
    put(&world, "s/train/dog/bad.png", b"no picture");
    let prepare = "prepare image-folder s/train --size 20 --shard-size 0.004";
    let straight = world.ok(&format!("{prepare} --out a --max-bad 1"));
    world.fails(&format!("{prepare} --out b --max-bad 0"), 1, &["1 of 25"]);
    fs::remove_file(world.path("b/train-00002.shard")).unwrap();
    let again = world.ok(&format!("{prepare} --out b --max-bad 1"));
    assert!(straight.contains("24 images are smaller than 20×20"), "{straight}");
    assert_eq!(straight.replacen("a:", "b:", 1), again);
}
