//! Parquet files, as pyarrow and Hugging Face's `datasets` wrote them.

use super::*;
use std::process::Output;

/// `prepare parquet` of a file or folder that was made, into `set`; all images for training unless
/// `more` says otherwise.
fn prepare(world: &World, src: &str, set: &str, more: &str) -> Output {
    let mut command = world.command(&format!("prepare parquet --out {set} --size 16 {more}"));
    command.arg(made(src)).output().unwrap()
}

/// The images of `split` are the rows of the file `name`, in their order.
fn check(world: &World, set: &str, split: &str, files: &[&str]) {
    let images = images(world, set, split);
    let rows: Vec<Value> = files.iter().flat_map(|name| expected("parquet", name)).collect();
    assert_eq!(images.len(), rows.len(), "{files:?}");
    for (Seen { class, name, pixels }, row) in images.iter().zip(rows) {
        assert_eq!(
            (class.as_str(), sum(pixels)),
            (row[0].as_str().unwrap(), row[1].as_str().unwrap().into()),
            "{name}"
        );
    }
}

#[test]
fn a_folder_as_hugging_face_stores_it_is_a_data_set() {
    let world = world();
    let output = prepare(&world, "hf", "set", "--val-fraction 0");
    assert!(output.status.success(), "{}", stderr(&output));
    // In the order of the class label's names, not the alphabet's.
    assert_eq!(classes(&world, "set"), "owl fox eel");
    let train = ["hf/train-00000-of-00002.parquet", "hf/train-00001-of-00002.parquet"];
    check(&world, "set", "train", &train);
    check(&world, "set", "test", &["hf/test-00000-of-00001.parquet"]);
    assert_eq!(images(&world, "set", "train")[14].name, "train-00001-of-00002.parquet/1");

    // The same with validation images, which lie between the others in the files.
    let output = prepare(&world, "hf", "carved", "--val-fraction 0.25 --workers 3");
    assert!(output.status.success(), "{}", stderr(&output));
    let mut both = [images(&world, "carved", "train"), images(&world, "carved", "val")].concat();
    assert_eq!(images(&world, "carved", "val").len(), 6);
    both.sort();
    let mut all = images(&world, "set", "train");
    all.sort();
    assert!(both == all);
}

#[test]
fn every_packing_and_encoding_is_read() {
    let world = world();
    for name in ["none", "snappy", "gzip", "zstd", "second-version", "deltas", "small-pages"] {
        let file = format!("parquet/{name}.parquet");
        let output = prepare(&world, &file, name, "--val-fraction 0");
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        assert_eq!(classes(&world, name), "eel fox owl");
        check(&world, name, "train", &[&file]);
    }
    for name in ["brotli", "lz4"] {
        let output = prepare(&world, &format!("parquet/{name}.parquet"), "o", "");
        assert_eq!(output.status.code(), Some(1));
        let error = common::sentence(&output);
        let words = ["it is compressed with", &name.to_uppercase(), "with snappy, gzip or zstd"];
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

#[test]
fn columns_are_found_or_asked_for() {
    let world = world();
    let file = "parquet/two-labels.parquet";
    let output = prepare(&world, file, "fine", "--val-fraction 0");
    assert!(stderr(&output).contains("labels are those of the column `fine_label`"));
    assert_eq!(classes(&world, "fine"), "0 1 2 3");
    prepare(&world, file, "coarse", "--val-fraction 0 --label-column coarse_label");
    assert_eq!(classes(&world, "coarse"), "0 1");

    let file = "parquet/two-pictures.parquet";
    let output = prepare(&world, file, "o", "");
    let error = common::sentence(&output);
    assert_eq!(output.status.code(), Some(2), "{error}");
    let words = ["left.bytes", "right.bytes", "which column holds the pictures", "--image-column"];
    assert!(words.iter().all(|word| error.contains(word)), "{error}");
    for (side, set) in [("left", "l"), ("right", "r")] {
        let output = prepare(&world, file, set, &format!("--val-fraction 0 --image-column {side}"));
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let (left, mut right) = (images(&world, "l", "train"), images(&world, "r", "train"));
    right.reverse();
    assert!(left.iter().zip(&right).all(|(a, b)| a.pixels == b.pixels));
    let output = prepare(&world, file, "o", "--image-column middle --label-column label");
    assert!(common::sentence(&output).contains("--image-column middle is no column of pictures"));
}

#[test]
fn rows_without_label_are_left_out_and_those_without_picture_skipped() {
    let world = world();
    let file = "parquet/holes.parquet";
    let output = prepare(&world, file, "set", "--val-fraction 0 --max-bad 2");
    assert!(output.status.success(), "{}", stderr(&output));
    let left: Vec<String> = images(&world, "set", "train").into_iter().map(|i| i.name).collect();
    let numbers = [0, 1, 4, 7, 8, 9, 10, 11].map(|row| format!("holes.parquet/{row}"));
    assert_eq!(left, numbers);
    let of = skipped(&world, "set");
    let files: Vec<&str> = of.iter().map(|line| line["file"].as_str().unwrap()).collect();
    assert_eq!(files, [5, 6, 2, 3].map(|row| format!("holes.parquet/{row}")));
    assert!(of[0]["reason"].as_str().unwrap().contains("the row has no picture"));
    assert!(stderr(&output).contains("2 images are left out since they have no label"));
}

/// Ended before its header, and with a shard missing, it goes on to the same bytes; what is whole
/// is kept.
#[test]
fn an_interrupted_parquet_goes_on_and_ends_the_same() {
    let world = world();
    let shards = "--val-fraction 0 --shard-size 0.003 --max-bad";
    let file = "parquet/holes.parquet";
    assert!(prepare(&world, file, "straight", &format!("{shards} 2")).status.success());
    assert_eq!(prepare(&world, file, "set", &format!("{shards} 0")).status.code(), Some(1));
    assert!(!world.path("set/dataset.json").exists());
    let time = || fs::metadata(world.path("set/train-00000.shard")).unwrap().modified().unwrap();
    let before = time();
    fs::remove_file(world.path("set/train-00002.shard")).unwrap();
    assert!(prepare(&world, file, "set", &format!("{shards} 2")).status.success());
    assert_eq!(time(), before, "written again");
    let contents = |set: &str| common::running::contents(&world.path(set));
    assert!(contents("set") == contents("straight") && contents("set").len() == 6);
}
