//! The contests' archives and Kaggle's folder.

use super::*;
use alexnet::data::dataset::Dataset;
use alexnet::data::preparation::Orientation;

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
    assert!(near(&pixels(&train, 6, [47, 47, 3]), &middle(sample("grey.rgb"))), "gzipped");
    let plain = image::load_from_memory(&sample("plain.png")).unwrap().to_rgb8().into_raw();
    assert_eq!(train.name(4), "n02100735_10.JPEG");
    assert!(pixels(&train, 4, [47, 47, 3]) == middle(plain.clone()), "patched in train");
    assert!(pixels(&val, 1, [47, 47, 3]) == middle(plain), "patched in val");
    assert!(near(&pixels(&val, 0, [47, 47, 3]), &middle(sample("baseline420.rgb"))), "as it is");
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
