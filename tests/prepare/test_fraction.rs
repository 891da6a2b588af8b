//! `--test-fraction`: which images are tested on, by their files' names.

use super::*;
use alexnet::data::dataset::Dataset;
use std::collections::BTreeSet;

/// zlib's CRC-32, bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

fn name(number: usize) -> String {
    format!("n{:08}_{number}.png", number * 7919)
}

/// SRC/CLASS/… with 20 images in each of `classes`, no name twice.
fn source(src: &Path, classes: &[&str]) {
    for (class, folder) in classes.iter().enumerate() {
        for i in 0..20 {
            put(src.join(folder).join(name(100 * class + i)), &sample("plain.png"));
        }
    }
}

fn base_names(data: &Dataset, split: &str) -> BTreeSet<String> {
    let names = labels(&data.split(split).unwrap()).into_iter();
    names.map(|(name, _)| name.rsplit('/').next().unwrap().to_string()).collect()
}

#[test]
fn the_crc_of_a_name_decides_whatever_else_there_is() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    let folder = tempfile::tempdir().unwrap();
    source(&folder.path().join("src"), &["a", "b", "c"]);
    for (share, out) in [(0.5, "half"), (0.1, "tenth"), (0.0, "none")] {
        let args = format!(
            "image-folder @src --out @{out} --size 16 --test-fraction {share} --val-fraction 0.2"
        );
        run(folder.path(), &args).unwrap();
        let data = Dataset::open(&folder.path().join(out)).unwrap();
        let all = (0..3).flat_map(|class| (0..20).map(move |i| name(100 * class + i)));
        let tested = |name: &String| f64::from(crc32(name.as_bytes())) < share * 4_294_967_296.0;
        let expected: BTreeSet<String> = all.filter(tested).collect();
        if share == 0.0 {
            assert!(data.split("test").is_err());
            assert_eq!(base_names(&data, "train").len(), 48);
            continue;
        }
        assert_eq!(base_names(&data, "test"), expected, "{share}");
        // What is left is trained and validated on: about a fifth of each class.
        let (train, val) = (base_names(&data, "train"), base_names(&data, "val"));
        assert_eq!(train.len() + val.len() + expected.len(), 60);
        assert!(train.is_disjoint(&expected) && val.is_disjoint(&expected));
        let least = if share == 0.5 { 4 } else { 9 };
        assert!((least..=15).contains(&val.len()), "{}", val.len());
    }
    // More classes, an archive, a split of its own to validate on: the same names are tested on.
    let moved = folder.path().join("moved/train");
    source(&moved, &["z", "b", "a", "new"]);
    let files = contents(&moved.join("b"));
    fs::remove_dir_all(moved.join("b")).unwrap();
    let files = files.iter().rev().map(|(name, bytes)| (name.as_str(), bytes.clone()));
    put(moved.join("b.tar"), &tar_of(files));
    source(&folder.path().join("moved/val"), &["z"]);
    run(folder.path(), "image-folder @moved --out @o --size 16 --test-fraction 0.5").unwrap();
    let (half, moved) = (folder.path().join("half"), folder.path().join("o"));
    let [half, moved] =
        [half, moved].map(|path| base_names(&Dataset::open(&path).unwrap(), "test"));
    assert!(moved.is_superset(&half) && moved.len() > half.len());
}

#[test]
fn what_cannot_be_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    source(&folder.path().join("src"), &["a", "b"]);
    let args = "image-folder @src --out @out --size 16 --test-fraction";
    for share in ["1", "1.5", "-0.1", "NaN"] {
        fails(folder.path(), &format!("{args}={share}"), 2, "--test-fraction");
    }
    // Of two classes with one image one is tested on, and it is said; of one nothing is left.
    let few = folder.path().join("few");
    let (low, high): (Vec<usize>, Vec<usize>) =
        (0..20).partition(|&i| crc32(name(i).as_bytes()) < 1 << 31);
    put(few.join("a").join(name(low[0])), &sample("plain.png"));
    fails(
        folder.path(),
        "image-folder @few --out @o --test-fraction 0.5",
        1,
        "no images to train on",
    );
    put(few.join("b").join(name(high[0])), &sample("plain.png"));
    run(folder.path(), "image-folder @few --out @o --size 16 --test-fraction 0.5").unwrap();
    let data = Dataset::open(&folder.path().join("o")).unwrap();
    assert_eq!(data.header.classes.len(), 2);
    // A split of its own.
    let own = folder.path().join("own");
    source(&own.join("train"), &["a"]);
    source(&own.join("test"), &["a"]);
    fails(folder.path(), "image-folder @own --out @o2 --test-fraction 0.5", 2, "`test` of its own");
    run(folder.path(), "image-folder @own --out @o2 --size 16").unwrap();
}
