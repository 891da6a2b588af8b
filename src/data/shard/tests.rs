use super::*;
use crate::data::area::Area;
use anyhow::Result;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

const SHAPE: RecordShape = RecordShape { store: Store::Raw, height: 2, width: 3, channels: 1 };

const ALL: Area = Area { rows: 0..2, columns: 0..3 };

fn three(folder: &Path) -> PathBuf {
    let path = folder.join("train-00000.shard");
    let mut writer = Writer::create(&path, SHAPE).unwrap();
    for (i, name) in ["a.jpg", "", "größe.jpg"].iter().enumerate() {
        writer.append(&[i as u8 + 1; 6], i as u32, name).unwrap();
    }
    let info = writer.finish().unwrap();
    assert_eq!((info.file.as_str(), info.records), ("train-00000.shard", 3));
    assert_eq!(info.bytes, fs::metadata(&path).unwrap().len());
    path
}

fn open(path: &Path) -> Result<Shard> {
    Shard::open(path, &SHAPE, 3, true)
}

/// The table in this module's head, byte by byte; the checksums are zlib's.
#[test]
fn the_layout_is_as_documented() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = fs::read(three(folder.path())).unwrap();
    assert_eq!(&bytes[..8], b"ALEXSHRD");
    let number = |at| u32_at(&bytes, at);
    assert_eq!([8, 12, 16, 20, 24, 28].map(number), [1, 0, 2, 3, 1, 3]);
    assert_eq!((u64_at(&bytes, 32), u64_at(&bytes, 40)), (64 + 18, bytes.len() as u64));
    assert_eq!(
        &bytes[64..82],
        b"\x01\x01\x01\x01\x01\x01\x02\x02\x02\x02\x02\x02\x03\x03\x03\x03\x03\x03"
    );
    assert_eq!(u64_at(&bytes, 82 + 24), 70);
    // python: zlib.crc32(b"\x02" * 6)
    assert_eq!([8, 12, 16, 20].map(|at| number(82 + 24 + at)), [6, 1, 0xf37f4c83, 5]);
    assert_eq!(&bytes[82 + 72..], "a.jpggröße.jpg".as_bytes());
    let mut covered = bytes[..60].to_vec();
    covered.extend_from_slice(&bytes[82..]);
    assert_eq!(number(60), crc32fast::hash(&covered));
}

#[test]
fn records_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = three(folder.path());
    for keep_open in [true, false] {
        let shard = Shard::open(&path, &SHAPE, 3, keep_open).unwrap();
        let mut pixels = [0; 6];
        shard.read(2, &ALL, &mut pixels, true).unwrap();
        assert_eq!(pixels, [3; 6]);
        let mut pixels = [0; 6];
        shard.read(1, &Area { rows: 1..2, columns: 1..3 }, &mut pixels, false).unwrap();
        assert_eq!(pixels, [0, 0, 0, 2, 2, 2], "only the rows that are asked for are read");
        let names = [0, 1, 2].map(|i| shard.name(i).to_string());
        assert_eq!(names, ["a.jpg", "", "größe.jpg"]);
        assert_eq!([0, 1, 2].map(|i| shard.label(i)), [0, 1, 2]);
    }
    assert!(Shard::open(&path, &SHAPE, 2, true).is_err(), "label 2 of 2 classes");
    assert!(Shard::open(&path, &RecordShape { width: 4, ..SHAPE }, 3, true).is_err());
}

/// Every bit of the file is covered by a checksum.
#[test]
fn every_flipped_bit_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = three(folder.path());
    let whole = fs::read(&path).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bytes).unwrap();
        let found = open(&path).and_then(|shard| {
            (0..3).try_for_each(|record| shard.read(record, &ALL, &mut [0; 6], true))
        });
        assert!(found.is_err(), "bit {bit}");
    }
}

#[test]
fn every_cut_is_found_at_open() {
    let folder = tempfile::tempdir().unwrap();
    let path = three(folder.path());
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(open(&path).is_err(), "{length} bytes");
    }
}

/// A mapping would end the process with SIGBUS here.
#[test]
fn a_file_cut_short_while_in_use_is_an_error_with_file_and_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = three(folder.path());
    let shard = open(&path).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(70).unwrap();
    shard.read(0, &ALL, &mut [0; 6], true).unwrap();
    let error = format!("{:#}", shard.read(2, &ALL, &mut [0; 6], true).unwrap_err());
    assert!(error.contains("record 2") && error.contains("train-00000.shard"), "{error}");
}

#[test]
fn an_unfinished_shard_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::create(&folder.path().join("a.shard"), SHAPE).unwrap();
    writer.append(&[0; 6], 0, "a").unwrap();
    drop(writer);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}
