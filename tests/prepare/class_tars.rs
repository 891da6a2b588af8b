//! Classes that come as a tar archive each.

use super::*;
use alexnet::data::dataset::Dataset;
use alexnet::data::preparation::Orientation;
use alexnet::data::prepare::writer::{self, Options};
use alexnet::data::prepare::{Content, image_folder};

/// The folder SRC/CLASS as SRC/CLASS.tar, which has what `before` are too.
fn packed(src: &Path, class: &str, before: &[(&str, &[u8])]) {
    let folder = src.join(class);
    let mut files: Vec<(String, Vec<u8>)> =
        before.iter().map(|(name, bytes)| (name.to_string(), bytes.to_vec())).collect();
    for (name, bytes) in contents(&folder) {
        files.push((name, bytes));
    }
    fs::remove_dir_all(&folder).unwrap();
    let files = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone()));
    put(src.join(format!("{class}.tar")), &tar_of(files));
}

/// (class, file's base name) → pixels, of a split.
fn images(data: &Dataset, split: &str) -> BTreeMap<(String, String), Vec<u8>> {
    let split = data.split(split).unwrap();
    let image = |index: usize| {
        let class = data.header.classes[split.label(index) as usize].id.clone();
        let name = split.name(index).rsplit('/').next().unwrap().to_string();
        ((class, name), pixels(&split, index, [32, 32, 3]))
    };
    (0..split.len()).map(image).collect()
}

#[test]
fn an_archive_is_a_class_like_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    for src in ["folders", "mixed"] {
        class_folders(&folder.path().join(src));
    }
    let mixed = folder.path().join("mixed");
    // As Macs pack, with a folder inside, and a folder of what is hidden.
    packed(&mixed, "cat", &[("._00.JPEG", b"x"), ("__MACOSX/0.JPEG", b"x")]);
    packed(&mixed, "Eel", &[("./more/10.JPEG", &sample("plain.png"))]);
    put(folder.path().join("folders/Eel/more/10.JPEG"), &sample("plain.png"));
    for src in ["folders", "mixed"] {
        let args = format!("image-folder @{src} --out @of-{src} --size 32 --val-fraction 0");
        run(folder.path(), &args).unwrap();
    }
    let [folders, mixed] = ["folders", "mixed"]
        .map(|s| Dataset::open(&folder.path().join(format!("of-{s}"))).unwrap());
    assert_eq!(mixed.header.classes, folders.header.classes);
    assert_eq!(images(&folders, "train").len(), 31);
    assert!(images(&mixed, "train") == images(&folders, "train"));
    assert_eq!(mixed.statistics.deviations, folders.statistics.deviations);
    let names: Vec<String> =
        labels(&mixed.split("train").unwrap()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names[0], "Eel.tar/more/10.JPEG");
    assert_eq!(names[11], "cat.tar/00.JPEG");
    assert_eq!(names[21], "dog/00.JPEG");
    assert!(!folder.path().join("mixed/cat").exists(), "nothing is unpacked");
}

#[test]
fn splits_may_hold_archives_and_all_classes_may_be() {
    let folder = tempfile::tempdir().unwrap();
    let src = folder.path().join("src");
    for (split, count) in [("train", 3), ("val", 2), ("test", 1)] {
        for class in ["n01", "n02", "n01-b"] {
            for i in 0..count {
                put(src.join(format!("{split}/{class}/{i}.png")), &sample("plain.png"));
            }
            packed(&src.join(split), class, &[]);
        }
    }
    run(folder.path(), "image-folder @src --out @out --size 16").unwrap();
    let data = Dataset::open(&folder.path().join("out")).unwrap();
    let ids: Vec<&str> = data.header.classes.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(ids, ["n01", "n01-b", "n02"], "by the class's name, not the file's");
    for (split, count) in [("train", 9), ("val", 6), ("test", 3)] {
        assert_eq!(data.split(split).unwrap().len(), count);
    }
    put(src.join("val/n03.tar"), &tar_of([("0.png", sample("plain.png"))]));
    fails(
        folder.path(),
        "image-folder @src --out @o2",
        1,
        "val/n03.tar is a class without training",
    );
}

#[test]
fn an_archive_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let src = folder.path().join("src");
    class_folders(&src);
    packed(&src, "cat", &[]);
    let good = fs::read(src.join("cat.tar")).unwrap();
    let args = "image-folder @src --out @out --size 16";
    let mut header = good.clone();
    header[3] ^= 1;
    let mut later = good.clone();
    // The first file, .DS_Store, has one byte.
    later[1024 + 3] ^= 1;
    for (bytes, words) in [
        (&good[..good.len() / 2], "cut short"),
        (&good[..good.len() - 1024], "end mark"),
        (&header[..], "no tar archive"),
        (&later[..], "damaged or cut short after .DS_Store"),
        (&b""[..], "empty"),
        (&gzip(&good)[..], "no tar archive"),
        (&tar_of([(".hidden", b"x".to_vec())])[..], "has no images"),
    ] {
        put(src.join("cat.tar"), bytes);
        let (code, sentence) = run(folder.path(), args).unwrap_err();
        assert!(code == 1 && sentence.contains("src/cat.tar"), "{words}: {code} {sentence}");
        assert!(sentence.contains(words), "{words}: {sentence}");
        assert!(!folder.path().join("out").exists(), "{words}");
    }
    put(src.join("cat.tar"), &good);
    put(src.join("cat/0.png"), &sample("plain.png"));
    fails(folder.path(), args, 2, "src/cat and ");
    fs::remove_dir_all(src.join("cat")).unwrap();
    // On Windows these are one name.
    if cfg!(unix) {
        put(src.join("cat.TAR"), &good);
        fails(folder.path(), args, 2, "are both the class cat");
        fs::remove_file(src.join("cat.TAR")).unwrap();
    }
    // A whole split in one archive is no class, unless somebody says so.
    put(src.join("Train.tar"), &good);
    fails(folder.path(), args, 2, "Train.tar has the name of a split");
    run(folder.path(), &format!("{args} --no-splits")).unwrap();
    let data = Dataset::open(&folder.path().join("out")).unwrap();
    assert_eq!(data.header.classes.len(), 4);
}

/// Interrupted in the middle of an archive and started again, the end is the same.
#[test]
fn an_interrupted_run_over_archives_goes_on_and_ends_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let src = folder.path().join("src");
    class_folders(&src);
    for class in ["cat", "dog", "Eel"] {
        packed(&src, class, &[("bad.jpg", b"no image")]);
    }
    let how = image_folder::Options {
        size: 16,
        orientation: Orientation::Ignore,
        val_fraction: None,
        test_fraction: Some(0.3),
        seed: 0,
        no_splits: false,
    };
    let options = |out: &str| Options {
        out: folder.path().join(out),
        max_bad: Some(5),
        workers: Some(2),
        shard_bytes: 16 * 16 * 3 * 4,
        jpeg_quality: None,
    };
    let mut source = image_folder::find(&src, &how).unwrap();
    let names: Vec<&str> = source.splits.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["train", "val", "test"]);
    writer::write(&source, &options("straight")).unwrap();
    let nothing = folder.path().join("nothing");
    put(nothing.clone(), b"");
    let of = alexnet::data::prepare::Backing::open(&nothing).unwrap().into();
    source.splits[0].1[10].content = Content::Part { of, offset: 0, length: 10 };
    assert!(writer::write(&source, &options("broken")).is_err());
    let first = folder.path().join("broken/train-00000.shard");
    let before = fs::metadata(&first).unwrap().modified().unwrap();

    let source = image_folder::find(&src, &how).unwrap();
    writer::write(&source, &options("broken")).unwrap();
    assert_eq!(fs::metadata(&first).unwrap().modified().unwrap(), before, "written again");
    assert!(contents(&folder.path().join("broken")) == contents(&folder.path().join("straight")));
}
