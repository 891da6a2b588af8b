//! Folders of classes; interruptions.

use super::*;
use alexnet::data::dataset::Dataset;
use alexnet::data::preparation::Orientation;
use alexnet::data::prepare::writer::{self, Options};
use alexnet::data::prepare::{Content, image_folder};

#[test]
fn class_folders_become_a_data_set() {
    let folder = tempfile::tempdir().unwrap();
    class_folders(&folder.path().join("src"));
    run(folder.path(), "image-folder @src --out @out --size 32 --val-fraction 0.2").unwrap();
    let data = Dataset::open(&folder.path().join("out")).unwrap();
    let header = &data.header;
    let ids: Vec<&str> = header.classes.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(ids, ["Eel", "cat", "dog"]);
    assert_eq!((header.height, header.width, header.channels), (32, 32, 3));
    assert_eq!(header.preparation.orientation, Orientation::Apply);
    let (train, val) = (data.split("train").unwrap(), data.split("val").unwrap());
    assert_eq!((train.len(), val.len()), (24, 6));
    for class in 0..3 {
        assert_eq!(labels(&val).iter().filter(|(_, label)| *label == class).count(), 2);
    }
    let mut names: Vec<String> =
        labels(&train).into_iter().chain(labels(&val)).map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 30, "every image once");
    assert!(names.contains(&"dog/07.JPEG".to_string()));
    let mut text = String::new();
    contents(data.path.as_path()).keys().for_each(|name| text += &format!("{name} "));
    assert_eq!(text, "dataset.json statistics.safetensors train-00000.shard val-00000.shard ");
    // The mean image, from the pixels by plain arithmetic.
    let mut sum = vec![0f64; 32 * 32 * 3];
    for i in 0..train.len() {
        let image = pixels(&train, i, [32, 32, 3]);
        sum.iter_mut().zip(image).for_each(|(s, x)| *s += f64::from(x));
    }
    for (mean, sum) in data.statistics.mean.iter().zip(sum) {
        assert!((f64::from(*mean) - sum / 24.0).abs() < 1e-4);
    }
    assert_eq!(
        errors::exit_code(&data.split("test").err().unwrap()),
        2,
        "a split that is not there is an error of the command line"
    );
    fails(folder.path(), "image-folder @src --out @out --size 32", 2, "finished data set already");
}

#[test]
fn any_number_of_workers_gives_the_same_files() {
    let folder = tempfile::tempdir().unwrap();
    class_folders(&folder.path().join("src"));
    for workers in [1, 4] {
        let args = format!("image-folder @src --out @{workers} --size 40 --workers {workers}");
        run(folder.path(), &args).unwrap();
    }
    assert!(contents(&folder.path().join("1")) == contents(&folder.path().join("4")));
    run(folder.path(), "image-folder @src --out @5 --size 40 --seed 1").unwrap();
    assert!(contents(&folder.path().join("1")) != contents(&folder.path().join("5")));
}

#[test]
fn splits_of_the_source_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let src = folder.path().join("src");
    for (split, count) in [("train", 3), ("val", 2), ("test", 1)] {
        for class in ["a", "b"] {
            for i in 0..count {
                put(src.join(format!("{split}/{class}/{i}.png")), &sample("plain.png"));
            }
        }
    }
    run(folder.path(), "image-folder @src --out @out --size 16").unwrap();
    let data = Dataset::open(&folder.path().join("out")).unwrap();
    for (split, count) in [("train", 6), ("val", 4), ("test", 2)] {
        assert_eq!(data.split(split).unwrap().len(), count);
    }
    fails(folder.path(), "image-folder @src --out @o2 --val-fraction 0.5", 2, "`val` of its own");
    put(src.join("val/c/0.png"), &sample("plain.png"));
    fails(folder.path(), "image-folder @src --out @o2", 1, "src/val/c is a class without training");
    fs::remove_dir_all(src.join("val/c")).unwrap();
    fs::create_dir(src.join("train/d")).unwrap();
    fails(folder.path(), "image-folder @src --out @o2", 1, "src/train/d has no images");
    assert!(!folder.path().join("o2").exists());
}

#[test]
fn bad_images_are_listed_and_too_many_are_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let src = folder.path().join("src");
    class_folders(&src);
    put(src.join("cat/short.jpg"), &sample("baseline420.jpg")[..700]);
    put(src.join("dog/page.jpg"), b"<html>404</html>");
    let all = "image-folder @src --out @out --size 32 --val-fraction 0";
    fails(folder.path(), all, 1, "2 of 32 images could not be used, more than the 0 allowed");
    let out = folder.path().join("out");
    assert!(!out.join("dataset.json").exists());
    let error = errors::sentence(&Dataset::open(&out).unwrap_err());
    assert!(error.contains("unfinished"), "{error}");
    // Allowed more, the same command finishes what is there.
    run(folder.path(), &format!("{all} --max-bad 2")).unwrap();
    assert_eq!(Dataset::open(&out).unwrap().split("train").unwrap().len(), 30);
    let lines = fs::read_to_string(out.join("skipped.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["file"], "cat/short.jpg");
    assert_eq!(lines[1]["file"], "dog/page.jpg");
    assert!(lines[1]["reason"].as_str().unwrap().contains("a web page"));
    assert!(!out.join("unfinished.json").exists());
}

#[test]
fn folders_that_cannot_be_used_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    class_folders(&folder.path().join("src"));
    put(folder.path().join("full/letter.txt"), b"dear");
    fails(folder.path(), "image-folder @none --out @out", 1, "none does not exist");
    fails(folder.path(), "image-folder @full --out @out", 2, "has no class folders");
    fails(folder.path(), "image-folder @src --out @full", 2, "is not empty");
    fails(folder.path(), "image-folder @src --out @src/out", 2, "lies inside of the source");
    fails(folder.path(), "image-folder @src --out @o --val-fraction 1.5", 2, "--val-fraction 1.5");
    fails(folder.path(), "image-folder @src --out @o --size 3", 2, "from 8 to 4096");
    assert_eq!(fs::read(folder.path().join("full/letter.txt")).unwrap(), b"dear");
}

/// Interrupted in the middle, started again: finished shards are kept, and the end is the same.
#[test]
fn an_interrupted_run_goes_on_and_ends_the_same() {
    for quality in [None, Some(90)] {
        interrupted_run(quality);
    }
}

fn interrupted_run(quality: Option<u8>) {
    let folder = tempfile::tempdir().unwrap();
    class_folders(&folder.path().join("src"));
    put(folder.path().join("src/cat/bad.jpg"), b"no image");
    let how = image_folder::Options {
        size: 16,
        orientation: Orientation::Ignore,
        val_fraction: None,
        test_fraction: None,
        seed: 0,
        no_splits: false,
    };
    let find = || image_folder::find(&folder.path().join("src"), &how).unwrap();
    let options = |out: &str| Options {
        out: folder.path().join(out),
        max_bad: Some(5),
        workers: Some(2),
        shard_bytes: 16 * 16 * 3 * 4,
        jpeg_quality: quality,
    };
    writer::write(&find(), &options("straight")).unwrap();

    // The archive that image 20 lies in cannot be read: everything stops there.
    let mut source = find();
    let good = source.splits[0].1[20].content.clone();
    let nothing = folder.path().join("nothing");
    put(nothing.clone(), b"");
    let of = alexnet::data::prepare::Backing::open(&nothing).unwrap().into();
    source.splits[0].1[20].content = Content::Part { of, offset: 0, length: 10 };
    assert!(writer::write(&source, &options("broken")).is_err());
    let first = folder.path().join("broken/train-00000.shard");
    let before = fs::metadata(&first).unwrap().modified().unwrap();
    assert!(!folder.path().join("broken/dataset.json").exists());

    source.splits[0].1[20].content = good;
    let summary = writer::write(&source, &options("broken")).unwrap();
    assert_eq!(summary.skipped, 1);
    assert_eq!(fs::metadata(&first).unwrap().modified().unwrap(), before, "written again");
    assert!(contents(&folder.path().join("broken")) == contents(&folder.path().join("straight")));
    assert!(folder.path().join("straight/train-00006.shard").exists());

    // Other settings do not go on.
    source.splits[0].1.pop();
    fs::remove_file(folder.path().join("broken/dataset.json")).unwrap();
    assert!(writer::write(&source, &options("broken")).is_err());
}
