//! What the fuzz targets of tests/fuzz began with and found, run once with every build.

#[path = "fuzz/parsers.rs"]
mod parsers;

use alexnet::data::shard::Store;
use alexnet::data::shard::{RecordShape, Writer, jpeg};
use alexnet::random::{Purpose, Stream};
use alexnet::train::checkpoint::Checkpoint;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 17] = [
    ("shard", parsers::shard),
    ("jpeg", parsers::jpeg),
    ("idx", parsers::idx),
    ("cifar", parsers::cifar),
    ("devkit", parsers::devkit),
    ("archive", parsers::archive),
    ("config", parsers::config),
    ("checkpoint", parsers::checkpoint),
    ("exif", parsers::exif),
    ("image", parsers::image),
    ("text", parsers::text),
    ("pickle", parsers::pickle),
    ("caffe", parsers::caffe),
    ("onnx", parsers::onnx),
    ("weights", parsers::weights_file),
    ("list", parsers::list),
    ("parquet", parsers::parquet),
];

fn seeds(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(target)
}

/// What a target begins with. The decoders' test files are what their fuzzers began with.
fn seed_files(target: &str) -> Vec<PathBuf> {
    let test_files: &[&str] = match target {
        "jpeg" => &["data/jpeg"],
        "image" => &[
            "data/data_in/alpha",
            "data/data_in/formats",
            "data/exif",
            "data/hostile/libpng",
            "data/hostile/pillow",
        ],
        "parquet" => &["data/data_in/hf", "data/data_in/parquet"],
        _ => &[],
    };
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut folders: Vec<PathBuf> = test_files.iter().map(|name| tests.join(name)).collect();
    folders.extend(Some(seeds(target)).filter(|folder| folder.is_dir()));
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    files.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn every_seed_is_survived() {
    for (name, target) in TARGETS {
        let files = seed_files(name);
        assert!(!files.is_empty(), "{name} has no seeds");
        for file in files {
            let bytes = fs::read(&file).unwrap();
            let result = std::panic::catch_unwind(|| target(&bytes));
            assert!(result.is_ok(), "{} panics", file.display());
        }
    }
}

/// Random changes of the seeds, where no fuzzer is at hand: `FUZZ_SECONDS=60 cargo test --release
/// --test fuzz_seeds -- --ignored changes` takes so many seconds for each target.
#[test]
#[ignore = "runs as long as it is told to"]
fn changes_of_seeds_are_survived() {
    let seconds = std::env::var("FUZZ_SECONDS").map_or(5, |text| text.parse().unwrap());
    for (name, target) in TARGETS {
        let seeds: Vec<Vec<u8>> =
            seed_files(name).iter().map(|file| fs::read(file).unwrap()).collect();
        let mut stream = Stream::new(u64::from(std::process::id()), Purpose::Test, 0, 0);
        let end = Instant::now() + Duration::from_secs(seconds);
        let mut runs = 0;
        while Instant::now() < end {
            let bytes = changed(&seeds, &mut stream);
            if std::panic::catch_unwind(|| target(&bytes)).is_err() {
                let file = std::env::temp_dir().join(format!("panic-{name}"));
                fs::write(&file, &bytes).unwrap();
                panic!("{name} panics with {}", file.display());
            }
            runs += 1;
        }
        eprintln!("{name}: {runs} runs");
    }
}

/// One of `seeds` with a few bytes changed, cut, repeated, or taken from another.
fn changed(seeds: &[Vec<u8>], stream: &mut Stream) -> Vec<u8> {
    let seed = |stream: &mut Stream| &seeds[stream.below(seeds.len() as u32) as usize];
    let mut bytes = seed(stream).clone();
    for _ in 0..=stream.below(6) {
        let at = |stream: &mut Stream, bytes: &[u8]| stream.below(bytes.len() as u32 + 1) as usize;
        let (a, b) = (at(stream, &bytes), at(stream, &bytes));
        let part = a.min(b)..a.max(b).min(a.min(b) + 64);
        match stream.below(7) {
            0 => bytes.truncate(a),
            1 => _ = bytes.drain(part),
            2 => _ = bytes.splice(a..a, bytes[part].to_vec()),
            3 => {
                let other = seed(stream);
                let from = at(stream, other);
                let piece = other[from..].iter().take(64).copied().collect::<Vec<u8>>();
                _ = bytes.splice(part, piece);
            }
            4 if a < bytes.len() => bytes[a] ^= 1 << stream.below(8),
            5 if a < bytes.len() => bytes[a] = [0, 0xff, 0x7f, 0x80][stream.below(4) as usize],
            _ if a < bytes.len() => bytes[a] = stream.below(256) as u8,
            _ => {}
        }
    }
    bytes
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
