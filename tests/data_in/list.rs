//! Tables of pictures.

use super::*;

/// Pictures 0 to `n` of three classes in the folder `img`; the lines `path,class` of a table.
fn pictures(world: &World, n: u32) -> Vec<String> {
    let one = |i: u32| {
        put(world, &format!("t/img/{i}.png"), &png(&picture(i % 3, i)));
        format!("img/{i}.png,{}", ["owl", "eel", "fox"][i as usize % 3])
    };
    (0..n).map(one).collect()
}

#[test]
fn a_table_with_splits_is_a_data_set() {
    let world = world();
    let lines = pictures(&world, 18);
    let splits = ["train", "Training", "", "val", "validation", "test"];
    let lines: Vec<String> = lines
        .iter()
        .zip(splits.iter().cycle())
        .map(|(line, split)| format!("{line},{split}\n"))
        .collect();
    world.write("t/plain.csv", &lines.concat());
    world.ok("prepare list t/plain.csv --out set --size 16");
    assert_eq!(classes(&world, "set"), "eel fox owl");
    let train = images(&world, "set", "train");
    assert_eq!((train.len(), images(&world, "set", "val").len()), (9, 6));
    assert_eq!(images(&world, "set", "test").len(), 3);
    for Seen { class, name, pixels } in train {
        let number: u32 = name.trim_start_matches("img/").trim_end_matches(".png").parse().unwrap();
        assert_eq!(class, ["owl", "eel", "fox"][number as usize % 3]);
        assert!(pixels == picture(number % 3, number).into_raw(), "{name}");
    }
    let header: Value = serde_json::from_str(&world.text("set/dataset.json")).unwrap();
    assert_eq!(header["source"], "list");

    // The same with a first line, other columns, another order, other marks between, and a mark of
    // byte order; run from another folder.
    let line = |line: &String| {
        let [path, label, split] = line.trim_end().split(',').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        format!("{split};7;{label};\"{path}\"\r\n")
    };
    let named: String = lines.iter().map(line).collect();
    world.write("t/named.csv", &format!("\u{feff}Split;id;Label;Filename\r\n{named}"));
    world.ok("prepare list t/named.csv --out again --size 16");
    assert!(world.bytes("set/train-00000.shard") == world.bytes("again/train-00000.shard"));
    assert!(world.bytes("set/val-00000.shard") == world.bytes("again/val-00000.shard"));
}

#[test]
fn without_splits_validation_images_are_chosen() {
    let world = world();
    world.write("t.csv", "");
    let lines = pictures(&world, 30);
    world.write("t/t.csv", &lines.join("\n"));
    world.ok("prepare list t/t.csv --out set --size 16 --val-fraction 0.2");
    assert_eq!((names(&world, "set", "train").len(), names(&world, "set", "val").len()), (24, 6));
    world.write("t/s.csv", &lines.iter().map(|line| format!("{line},val\n")).collect::<String>());
    world.fails("prepare list t/s.csv --out o --size 16", 2, &["no images", "to train on"]);
    let both = format!("{},train\n{},val\n", lines[0], lines[1]);
    world.write("t/b.csv", &both);
    let words = ["validation images of its own", "--val-fraction"];
    world.fails("prepare list t/b.csv --out o --size 16 --val-fraction 0.5", 2, &words);
}

/// Numbers are in the order of numbers, as labels of others are.
#[test]
fn classes_that_are_numbers_are_in_their_order() {
    let world = world();
    let mut lines = String::new();
    for i in 0..24 {
        put(&world, &format!("t/{i}.png"), &png(&picture(i % 3, i)));
        lines += &format!("{i}.png,{}\n", i % 12);
    }
    world.write("t/t.csv", &lines);
    world.ok("prepare list t/t.csv --out set --size 16");
    assert_eq!(classes(&world, "set"), "0 1 2 3 4 5 6 7 8 9 10 11");
}

#[test]
fn what_is_wrong_with_a_table_is_said_with_its_line() {
    let world = world();
    let good = pictures(&world, 6).join("\n");
    for (end, code, words) in [
        ("\nimg/0.png\n", 1, &["t.csv: line 7: img/0.png has no label"][..]),
        ("\n,owl\n", 1, &["line 7: it has no path"]),
        ("\nimg/0.png,owl,everything\n", 1, &["line 7", "`everything` is no split's name"]),
        ("\nimg/0.png,owl, with wings,x\n", 1, &["line 7", "quotation marks"]),
        ("\n\n\nimg,owl\n", 1, &["line 9", "img is no file"]),
    ] {
        world.write("t/t.csv", &format!("{good}{end}"));
        world.fails("prepare list t/t.csv --out o --size 16", code, words);
    }
    world.write("t/none.csv", "path,label\n");
    world.fails("prepare list t/none.csv --out o", 2, &["none.csv", "lists no pictures"]);
    world.write("t/names.csv", &format!("filename,breed\n{good}"));
    let words = ["names.csv: line 1", "the column filename of the paths", "label, labels, class"];
    world.fails("prepare list t/names.csv --out o", 1, &words);
    world.write("other.csv", &good);
    let words = ["none of its pictures is there", "in line 1", "relative to the table's folder"];
    world.fails("prepare list other.csv --out o", 1, &words);
    world.fails("prepare list t --out o", 1, &["t is a folder", "image-folder"]);
    world.fails("prepare list nothing.csv --out o", 1, &["nothing.csv cannot be read"]);
    assert!(!world.path("o").exists());

    // One that is missing is skipped, and counts as any that cannot be used.
    world.write("t/t.csv", &format!("{good}\nimg/lost.png,owl\n"));
    world.fails("prepare list t/t.csv --out o --size 16", 1, &["1 of 7 images"]);
    world.ok("prepare list t/t.csv --out o --size 16 --max-bad 1");
    assert_eq!(skipped(&world, "o")[0]["file"], "img/lost.png");
}
