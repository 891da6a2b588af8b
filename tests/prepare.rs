//! `prepare` end to end, on small files laid out as people have them: what lands in the data set,
//! which faults are named, and that workers and interruptions change nothing.
//!
//! tests/data/prepare/generate.py made the images and the contest kits' tables, with Pillow and SciPy.

use alexnet::commands::{data, prepare};
use alexnet::data::dataset::{Dataset, Orientation, Split};
use alexnet::data::prepare::writer::{self, Options};
use alexnet::data::prepare::{Content, cifar, image_folder};
use alexnet::errors;
use clap::Parser;
use flate2::write::GzEncoder;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What the command line of `alexnet prepare …` is parsed to.
#[derive(Parser)]
struct Command {
    #[command(flatten)]
    args: prepare::Args,
}

/// Runs `alexnet prepare ARGS`, with `@` for the folder; on failure the exit code and the sentence.
fn run(folder: &Path, args: &str) -> Result<(), (i32, String)> {
    let at = format!("{}/", folder.display());
    let words = std::iter::once("prepare".to_string())
        .chain(args.split_whitespace().map(|word| word.replace('@', &at)));
    let command = Command::try_parse_from(words).map_err(|e| (e.exit_code(), e.to_string()))?;
    prepare::run(command.args).map_err(|e| (errors::exit_code(&e), errors::sentence(&e)))
}

fn fails(folder: &Path, args: &str, code: i32, with: &str) {
    let (found, sentence) = run(folder, args).expect_err(args);
    assert!(sentence.contains(with), "`{args}`: {sentence}");
    assert_eq!(found, code, "`{args}`: {sentence}");
}

fn sample(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/prepare").join(name)).unwrap()
}

fn put(path: PathBuf, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// name → label, in the split's order.
fn labels(split: &Split) -> Vec<(String, u32)> {
    (0..split.len()).map(|i| (split.name(i).to_string(), split.label(i))).collect()
}

fn pixels(split: &Split, index: usize, bytes: usize) -> Vec<u8> {
    let mut pixels = vec![0; bytes];
    split.read(index, &mut pixels).unwrap();
    pixels
}

/// All files of a folder.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let read = |e: std::io::Result<fs::DirEntry>| {
        let path = e.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap())
    };
    fs::read_dir(folder).unwrap().map(read).collect()
}

const IMAGES: [&str; 4] = ["baseline420.jpg", "baseline444.jpg", "progressive420.jpg", "plain.png"];

/// SRC/{cat,dog,Eel}/… with ten images each.
fn class_folders(src: &Path) {
    for class in ["cat", "dog", "Eel"] {
        for i in 0..10 {
            // Whatever their names say: content decides.
            put(src.join(class).join(format!("{i:02}.JPEG")), &sample(IMAGES[i % 4]));
        }
    }
    put(src.join("cat/.DS_Store"), b"x");
    put(src.join("dog/Thumbs.db"), b"x");
    put(src.join(".cache/x"), b"x");
}

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
    assert_eq!(
        text,
        "dataset.json skipped.jsonl statistics.safetensors train-00000.shard val-00000.shard "
    );
    // The mean image, from the pixels by plain arithmetic.
    let mut sum = vec![0f64; 32 * 32 * 3];
    for i in 0..train.len() {
        let image = pixels(&train, i, sum.len());
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
    fails(folder.path(), "image-folder @none --out @out", 2, "none does not exist");
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
    let folder = tempfile::tempdir().unwrap();
    class_folders(&folder.path().join("src"));
    put(folder.path().join("src/cat/bad.jpg"), b"no image");
    let find = || {
        image_folder::find(&folder.path().join("src"), 16, Orientation::Ignore, None, 0).unwrap()
    };
    let options = |out: &str| Options {
        out: folder.path().join(out),
        max_bad: Some(5),
        workers: Some(2),
        shard_bytes: 16 * 16 * 3 * 4,
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

/// A tar archive of `files`, as GNU tar writes it.
fn tar_of<'a>(files: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, bytes.as_slice()).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Default::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The training archive: of the kit's three classes (meta*.mat), 3, 2 and 4 images.
fn training_tar(first: &[u8]) -> Vec<u8> {
    let class = |id: &str, count: usize| {
        let names: Vec<String> = (0..count).map(|i| format!("{id}_{}.JPEG", 10 + 7 * i)).collect();
        let first = if id == "n02119789" { first.to_vec() } else { sample("baseline444.jpg") };
        let bytes = |i| if i == 0 { first.clone() } else { sample(IMAGES[i % 4]) };
        tar_of(names.iter().enumerate().map(|(i, name)| (name.as_str(), bytes(i))))
    };
    tar_of([
        ("n02119789.tar", class("n02119789", 3)),
        ("n02100735.tar", class("n02100735", 2)),
        ("n01440764.tar", class("n01440764", 4)),
    ])
}

fn kit(year: u32, leading: &str) -> Vec<u8> {
    gzip(&tar_of([
        (format!("{leading}data/meta.mat").as_str(), sample(&format!("meta{year}.mat"))),
        (
            format!("{leading}data/ILSVRC{year}_validation_ground_truth.txt").as_str(),
            b"3\n1\n2\n".to_vec(),
        ),
        (format!("{leading}readme.txt").as_str(), b"read me".to_vec()),
    ]))
}

fn flat_tar(stem: &str, count: usize) -> Vec<u8> {
    // Not in the order of their names.
    let names: Vec<String> = (1..=count).rev().map(|i| format!("{stem}_{i:08}.JPEG")).collect();
    tar_of(names.iter().map(|name| (name.as_str(), sample("baseline420.jpg"))))
}

#[test]
fn ilsvrc_2012_archives() {
    let folder = tempfile::tempdir().unwrap();
    let src = folder.path().join("src");
    put(src.join("ILSVRC2012_img_val.tar"), &flat_tar("ILSVRC2012_val", 3));
    let args = "ilsvrc @src --year 2012 --out @out --size 32";
    fails(
        folder.path(),
        args,
        2,
        "lacks ILSVRC2012_img_train.tar (training images), ILSVRC2012_dev",
    );
    put(src.join("ILSVRC2012_img_train.tar"), &training_tar(&sample("rotated.jpg")));
    put(src.join("kit/ILSVRC2012_devkit_t12.tar.gz"), &kit(2012, "ILSVRC2012_devkit_t12/"));
    run(folder.path(), args).unwrap();

    let data = Dataset::open(&folder.path().join("out")).unwrap();
    let classes: Vec<(&str, &str, Option<u32>)> =
        data.header.classes.iter().map(|c| (c.id.as_str(), c.name.as_str(), c.number)).collect();
    assert_eq!(
        classes,
        [
            ("n01440764", "tench, Tinca tinca", Some(3)),
            ("n02100735", "English setter", Some(2)),
            ("n02119789", "kit fox, Vulpes macrotis", Some(1)),
        ]
    );
    assert_eq!(data.header.preparation.orientation, Orientation::Ignore);
    let train = labels(&data.split("train").unwrap());
    assert_eq!(
        train.iter().map(|(_, label)| *label).collect::<Vec<_>>(),
        [0, 0, 0, 0, 1, 1, 2, 2, 2]
    );
    assert_eq!(train[1].0, "n01440764_17.JPEG");
    // Ids 3, 1, 2 of the images in the order of their numbers.
    let val: Vec<(String, u32)> = [0, 2, 1]
        .iter()
        .enumerate()
        .map(|(i, &label)| (format!("ILSVRC2012_val_{:08}.JPEG", i + 1), label))
        .collect();
    assert_eq!(labels(&data.split("val").unwrap()), val);
}

#[test]
fn ilsvrc_2010_with_test_split_patches_and_gzipped_images() {
    let folder = tempfile::tempdir().unwrap();
    let src = folder.path().join("src");
    put(src.join("ILSVRC2010_images_train.tar"), &training_tar(&gzip(&sample("grey.jpg"))));
    put(src.join("ILSVRC2010_images_val.tar"), &flat_tar("val/ILSVRC2010_val", 3));
    put(src.join("ILSVRC2010_images_test.tar"), &flat_tar("test/ILSVRC2010_test", 4));
    put(src.join("ILSVRC2010_test_ground_truth.txt"), b"1\n1\n3\n2\n");
    put(src.join("ILSVRC2010_devkit-1.0.tar.gz"), &kit(2010, ""));
    let patch = [
        ("patch_images/train/n02100735/n02100735_10.JPEG", sample("plain.png")),
        ("patch_images/val/ILSVRC2010_val_00000002.JPEG", sample("plain.png")),
    ];
    put(src.join("patch_images.tar"), &tar_of(patch));
    run(folder.path(), "ilsvrc @src --year 2010 --out @out --size 47").unwrap();

    let data = Dataset::open(&folder.path().join("out")).unwrap();
    let test: Vec<u32> =
        labels(&data.split("test").unwrap()).into_iter().map(|(_, label)| label).collect();
    assert_eq!(test, [2, 2, 0, 1]);
    // 47 is the images' height: only the middle columns are cut out.
    let middle = |rgb: Vec<u8>| -> Vec<u8> {
        rgb.chunks(61 * 3).flat_map(|row| row[7 * 3..54 * 3].to_vec()).collect()
    };
    let near = |ours: &[u8], theirs: &[u8]| {
        let far = ours.iter().zip(theirs).filter(|(a, b)| a.abs_diff(**b) > 2).count();
        ours.len() == theirs.len() && far * 1000 <= ours.len()
    };
    let (train, val) = (data.split("train").unwrap(), data.split("val").unwrap());
    assert_eq!(train.name(6), "n02119789_10.JPEG");
    assert!(near(&pixels(&train, 6, 47 * 47 * 3), &middle(sample("grey.rgb"))), "gzipped");
    let plain = image::load_from_memory(&sample("plain.png")).unwrap().to_rgb8().into_raw();
    assert_eq!(train.name(4), "n02100735_10.JPEG");
    assert!(pixels(&train, 4, 47 * 47 * 3) == middle(plain.clone()), "patched in train");
    assert!(pixels(&val, 1, 47 * 47 * 3) == middle(plain), "patched in val");
    assert!(near(&pixels(&val, 0, 47 * 47 * 3), &middle(sample("baseline420.rgb"))), "as it is");
}

#[test]
fn faults_of_the_archives_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let src = folder.path().join("src");
    let train = training_tar(&sample("baseline420.jpg"));
    let whole = [
        ("ILSVRC2012_img_train.tar", train.clone()),
        ("ILSVRC2012_img_val.tar", flat_tar("ILSVRC2012_val", 3)),
        ("ILSVRC2012_devkit_t12.tar.gz", kit(2012, "x/")),
    ];
    let with = |name: &str, bytes: &[u8], says: &str| {
        for (name, bytes) in &whole {
            put(src.join(name), bytes);
        }
        put(src.join(name), bytes);
        fails(folder.path(), "ilsvrc @src --year 2012 --out @out --size 32", 1, says);
    };
    with(whole[0].0, &train[..train.len() - 5000], "cut short");
    with(whole[0].0, &train[..700], "cut short");
    with(whole[0].0, b"<html>sign in</html>", "img_train.tar: ");
    with(whole[1].0, &flat_tar("ILSVRC2012_val", 2), "has 2 images, and there are 3 labels");
    with(whole[2].0, &whole[2].1[..200], "devkit_t12.tar.gz: ");
    let other = tar_of([("n99999999.tar", tar_of([("n99999999_1.JPEG", vec![1])]))]);
    with(whole[0].0, &other, "n99999999.tar belongs to no class");
    let few = tar_of([("n02100735.tar", tar_of([("n02100735_1.JPEG", vec![1])]))]);
    with(whole[0].0, &few, "has no images of 2 of the 3 classes, n01440764 the first");
}

#[test]
fn kaggles_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("src/ILSVRC/Data/CLS-LOC");
    for (id, count) in [("n01440764", 2), ("n02100735", 1)] {
        for i in 0..count {
            put(data.join(format!("train/{id}/{id}_{i}.JPEG")), &sample("baseline420.jpg"));
        }
    }
    for i in 1..=2 {
        put(data.join(format!("val/ILSVRC2012_val_{i:08}.JPEG")), &sample("plain.png"));
    }
    let args = "ilsvrc @src --year 2012 --out @out --size 32";
    fails(folder.path(), args, 1, "LOC_synset_mapping.txt is missing");
    put(
        folder.path().join("src/LOC_synset_mapping.txt"),
        b"n01440764 tench, Tinca tinca\nn02100735 English setter\n",
    );
    fails(folder.path(), args, 1, "LOC_val_solution.csv is missing");
    put(
        folder.path().join("src/LOC_val_solution.csv"),
        b"ImageId,PredictionString\nILSVRC2012_val_00000002,n01440764 1 2 3 4 n01440764 5 6 7 8\n\
          ILSVRC2012_val_00000001,n02100735 1 2 3 4\n",
    );
    run(folder.path(), args).unwrap();
    let data = Dataset::open(&folder.path().join("out")).unwrap();
    assert_eq!(data.header.classes[0].name, "tench, Tinca tinca");
    let val: Vec<u32> =
        labels(&data.split("val").unwrap()).into_iter().map(|(_, label)| label).collect();
    assert_eq!(val, [1, 0]);
}

/// An idx file: magic number, sizes, values.
fn idx(magic: u32, sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = magic.to_be_bytes().to_vec();
    sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.extend(values);
    bytes
}

#[test]
fn idx_files_plain_and_gzipped() {
    let folder = tempfile::tempdir().unwrap();
    let src = folder.path().join("src");
    let values: Vec<u8> = (0..20 * 6).collect();
    let digits: Vec<u8> = (0..20).map(|i| i % 2).collect();
    put(src.join("train-images-idx3-ubyte.gz"), &gzip(&idx(0x803, &[20, 2, 3], &values)));
    let args = "idx @src --out @out --val-fraction 0.1";
    fails(folder.path(), args, 1, "train-labels-idx1-ubyte (or .gz) is missing");
    put(src.join("train-labels-idx1-ubyte"), &idx(0x801, &[20], &digits));
    put(src.join("t10k-images-idx3-ubyte"), &idx(0x803, &[1, 2, 3], &[9; 6]));
    put(src.join("t10k-labels-idx1-ubyte.gz"), &gzip(&idx(0x801, &[1], &[7])));
    run(folder.path(), args).unwrap();
    let data = Dataset::open(&folder.path().join("out")).unwrap();
    assert_eq!(data.header.classes[7].name, "7");
    assert_eq!((data.header.height, data.header.width, data.header.channels), (2, 3, 1));
    let (train, val, test) =
        (data.split("train").unwrap(), data.split("val").unwrap(), data.split("test").unwrap());
    assert_eq!((train.len(), val.len(), test.len()), (18, 2, 1));
    assert_eq!((val.label(0) + val.label(1), test.label(0)), (1, 7));
    for split in [&train, &val] {
        for i in 0..split.len() {
            let number: u8 = split.name(i).split('#').nth(1).unwrap().parse().unwrap();
            let expected: Vec<u8> = (number * 6..number * 6 + 6).collect();
            assert_eq!(pixels(split, i, 6), expected);
            assert_eq!(split.label(i), u32::from(number % 2));
        }
    }
    put(src.join("classes.txt"), b"even\nodd\n2\n3\n4\n5\n6\nseven\n");
    run(folder.path(), "idx @src --out @named --val-fraction 0").unwrap();
    let data = Dataset::open(&folder.path().join("named")).unwrap();
    assert_eq!((data.header.classes.len(), data.header.classes[7].name.as_str()), (8, "seven"));
    assert!(data.split("val").is_err());
    fails(
        folder.path(),
        "idx @src --out @o --classes a,b",
        1,
        "label 7 of image 0 is out of range",
    );
    fails(folder.path(), "idx @src --out @o --classes a,a", 1, "two classes are called `a`");
}

#[test]
fn faults_of_idx_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let src = folder.path().join("src");
    let images = idx(0x803, &[4, 2, 3], &[0; 24]);
    let labels = idx(0x801, &[4], &[0, 1, 2, 3]);
    let with = |images: &[u8], labels: &[u8], says: &str| {
        put(src.join("train-images-idx3-ubyte"), images);
        put(src.join("train-labels-idx1-ubyte"), labels);
        fails(folder.path(), "idx @src --out @out", 1, says);
    };
    with(&labels, &images, "images and labels are swapped");
    with(&images[..30], &labels, "has 30 bytes where its header says 40");
    with(&images, &labels[..7], "too few for a header");
    with(&images, &idx(0x801, &[3], &[0, 1, 2]), "has 4 images, but");
    with(&images, &idx(0x801, &[4], &[0, 1, 2, 10]), "label 10 of image 3 is out of range");
    with(&gzip(&gzip(&images)), &labels, "gzip-compressed twice");
    with(&idx(0x0308_0000, &[4, 2, 3], &[0; 24]), &labels, "in the wrong order");
    with(b"<html><head>", &labels, "it is no idx file");
    with(&idx(0x803, &[u32::MAX, u32::MAX, u32::MAX], &[]), &labels, "a side of 4294967295");
}

#[test]
fn cifar_10_folder_and_cifar_100_archive() {
    let folder = tempfile::tempdir().unwrap();
    // Planes of red, green, blue; interleaved afterwards.
    let image = |seed: u8| -> Vec<u8> {
        (0..3u32).flat_map(|c| (0..1024u32).map(move |i| (i * 3 + c * 50) as u8 ^ seed)).collect()
    };
    let record = |labels: &[u8], seed| [labels.to_vec(), image(seed)].concat();
    let ten = folder.path().join("ten/cifar-10-batches-bin");
    for batch in 1..=5u8 {
        let records: Vec<u8> = (0..4).flat_map(|i| record(&[i], batch * 8 + i)).collect();
        put(ten.join(format!("data_batch_{batch}.bin")), &records);
    }
    put(ten.join("test_batch.bin"), &record(&[9], 200));
    let names = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n";
    put(ten.join("batches.meta.txt"), names.as_bytes());
    run(folder.path(), "cifar @ten --out @out --val-fraction 0.2").unwrap();
    let data = Dataset::open(&folder.path().join("out")).unwrap();
    assert_eq!(data.header.classes[9].name, "truck");
    let (train, test) = (data.split("train").unwrap(), data.split("test").unwrap());
    assert_eq!((train.len(), data.split("val").unwrap().len(), test.len()), (16, 4, 1));
    let planar = image(200);
    let expected: Vec<u8> = (0..3072).map(|at| planar[at % 3 * 1024 + at / 3]).collect();
    assert!(pixels(&test, 0, 3072) == expected);

    let names: String = (0..100).map(|i| format!("thing{i}\n")).collect();
    let archive = gzip(&tar_of([
        ("cifar-100-binary/train.bin", [record(&[19, 99], 1), record(&[1, 0], 2)].concat()),
        ("cifar-100-binary/test.bin", record(&[3, 42], 3)),
        ("cifar-100-binary/fine_label_names.txt", names.into_bytes()),
    ]));
    put(folder.path().join("hundred/cifar-100-binary.tar.gz"), &archive);
    for src in ["hundred", "hundred/cifar-100-binary.tar.gz"] {
        let source = cifar::find(&folder.path().join(src), 0.0, 0).unwrap();
        let labels: Vec<u32> =
            source.splits.iter().flat_map(|(_, items)| items).map(|item| item.label).collect();
        assert_eq!((source.kind.as_str(), labels), ("cifar100", vec![99, 0, 42]));
    }
    put(ten.join("data_batch_3.bin"), &[0; 5000]);
    fails(folder.path(), "cifar @ten --out @o", 1, "data_batch_3.bin has 5000 bytes");
    put(ten.join("data_batch_3.bin"), &record(&[10], 0));
    fails(folder.path(), "cifar @ten --out @o", 1, "label 10 of image 0 in data_batch_3.bin");
    fails(folder.path(), "cifar @out --out @o", 2, "has neither test_batch.bin");
}

#[test]
fn a_damaged_record_is_named() {
    let folder = tempfile::tempdir().unwrap();
    class_folders(&folder.path().join("src"));
    run(folder.path(), "image-folder @src --out @out --size 16 --val-fraction 0").unwrap();
    let shard = folder.path().join("out/train-00000.shard");
    let mut bytes = fs::read(&shard).unwrap();
    bytes[64 + 5 * 768 + 100] ^= 4;
    fs::write(&shard, bytes).unwrap();
    let data = Dataset::open(&folder.path().join("out")).unwrap();
    let train = data.split("train").unwrap();
    train.read(4, &mut [0; 768]).unwrap();
    let error = errors::sentence(&train.read(5, &mut [0; 768]).unwrap_err());
    assert!(error.contains("record 5 (from Eel/05.JPEG)"), "{error}");
    assert!(error.contains("train-00000.shard is damaged"), "{error}");

    #[derive(Parser)]
    struct Data {
        #[command(flatten)]
        args: data::Args,
    }
    let verify = || {
        let out = folder.path().join("out");
        let words = ["data".as_ref(), "verify".as_ref(), out.as_os_str()];
        data::run(Data::try_parse_from(words).unwrap().args)
    };
    let error = errors::sentence(&verify().unwrap_err());
    assert!(error.contains("1 of 30 records"), "{error}");
    let mut bytes = fs::read(&shard).unwrap();
    bytes[64 + 5 * 768 + 100] ^= 4;
    fs::write(&shard, bytes).unwrap();
    verify().unwrap();
}
