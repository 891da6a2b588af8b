//! Sources whose images come in one size: idx and CIFAR.

use super::*;
use alexnet::data::dataset::Dataset;
use alexnet::data::prepare::cifar;

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
            assert_eq!(pixels(split, i, [2, 3, 1]), expected);
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
    assert!(pixels(&test, 0, [32, 32, 3]) == expected);

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
