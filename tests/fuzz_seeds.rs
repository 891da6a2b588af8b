//! What the fuzz targets of tests/fuzz began with and found, run once with every build.

#[path = "fuzz/parsers.rs"]
mod parsers;

use alexnet::data::shard::Store;
use alexnet::data::shard::{RecordShape, Writer, jpeg};
use alexnet::train::checkpoint::Checkpoint;
use std::fs;
use std::path::{Path, PathBuf};

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 8] = [
    ("shard", parsers::shard),
    ("jpeg", parsers::jpeg),
    ("idx", parsers::idx),
    ("cifar", parsers::cifar),
    ("devkit", parsers::devkit),
    ("archive", parsers::archive),
    ("config", parsers::config),
    ("checkpoint", parsers::checkpoint),
];

fn seeds(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target)
}

#[test]
fn every_seed_is_survived() {
    for (name, target) in TARGETS {
        let mut folders = vec![seeds(name)];
        if name == "jpeg" {
            // The decoder's test files are what its fuzzer began with.
            folders.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/jpeg"));
        }
        let files: Vec<PathBuf> = folders
            .iter()
            .flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()))
            .collect();
        assert!(!files.is_empty(), "{name} has no seeds");
        for file in files {
            let bytes = fs::read(&file).unwrap();
            let result = std::panic::catch_unwind(|| target(&bytes));
            assert!(result.is_ok(), "{} panics", file.display());
        }
    }
}

/// The targets would prove nothing if their checksums were wrong: a changed header is sealed again.
#[test]
fn sealing_a_checkpoint_gets_past_its_checksum() {
    let bytes = fs::read(seeds("checkpoint").join("fc")).unwrap();
    assert!(parsers::sealed(&bytes).unwrap() == bytes);
    let at = bytes.windows(6).position(|w| w == b"alexne").unwrap();
    let mut changed = bytes.clone();
    changed[at] = b'b';
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let error = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        alexnet::errors::sentence(&Checkpoint::open(&path).err().unwrap())
    };
    assert!(error(&changed).contains("checksum"));
    assert!(error(&parsers::sealed(&changed).unwrap()).contains("its format is"));
}

/// The seeds that this program writes itself: `cargo test --test fuzz_seeds -- --ignored`.
#[test]
#[ignore = "writes into the source tree"]
fn write_shard_seeds() {
    for (name, store) in [("raw", Store::Raw), ("jpeg", Store::Jpeg)] {
        let shape = RecordShape { store, height: 2, width: 3, channels: 3 };
        fs::create_dir_all(seeds("shard")).unwrap();
        let mut writer = Writer::create(&seeds("shard").join(name), shape).unwrap();
        for i in 0..3u8 {
            let pixels: Vec<u8> = (0..18).map(|j| i * 50 + j * 7).collect();
            let record = match store {
                Store::Raw => pixels,
                Store::Jpeg => jpeg::encode(&pixels, &shape, 95).unwrap(),
            };
            writer.append(&record, i.into(), &format!("{i}.jpg")).unwrap();
        }
        writer.finish().unwrap();
    }
}
