//! Every command with every file that is there to break it: whatever is given in whatever place, it
//! ends by itself, with a sentence, and never with a panic or an abort.

mod common;

use common::{World, stderr};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The hostile files and what a person might do to them.
fn files(world: &World) -> Vec<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut files = Vec::new();
    let data = ["data/hostile/libpng", "data/hostile/pillow", "data/hostile/libjpeg-turbo"];
    // The seeds of configs are whole ones, some of networks that take minutes.
    let seeds = ["checkpoint", "shard", "idx", "devkit", "jpeg", "list"];
    let seeds = seeds.map(|seed| format!("fuzz/seeds/{seed}"));
    for folder in data.iter().copied().chain(seeds.iter().map(String::as_str)) {
        let entries = fs::read_dir(tests.join(folder)).unwrap();
        files.extend(entries.map(|entry| entry.unwrap().path()));
    }
    let jpeg = fs::read(tests.join("data/jpeg/small-2x2-plain.jpg")).unwrap();
    let progressive = fs::read(tests.join("data/jpeg/small-2x2-progressive.jpg")).unwrap();
    let png = fs::read(tests.join("data/prepare/palette.png")).unwrap();
    let checkpoint = world.bytes("run/best.safetensors");
    let text = world.bytes("linear.toml");
    let mut made: Vec<(String, Vec<u8>)> = vec![
        ("empty".into(), Vec::new()),
        ("zeros".into(), vec![0; 5000]),
        ("ones".into(), vec![0xff; 5000]),
        ("brackets".into(), vec![b'['; 100_000]),
        ("braces".into(), b"{\"a\":".repeat(50_000)),
        ("keys".into(), b"a.".repeat(100_000)),
        ("length".into(), [&(60u64 << 20).to_le_bytes()[..], b"{\"", &[b'a'; 1000]].concat()),
    ];
    for (name, whole) in [
        ("jpeg", &jpeg),
        ("progressive", &progressive),
        ("png", &png),
        ("checkpoint", &checkpoint),
        ("text", &text),
    ] {
        for percent in [1, 50, 99] {
            let cut = whole[..whole.len() * percent / 100].to_vec();
            let mut filled = cut.clone();
            filled.resize(2 * whole.len(), 0);
            made.push((format!("{name}-cut-{percent}"), cut));
            made.push((format!("{name}-filled-{percent}"), filled));
        }
        for place in 1..6 {
            let mut flipped = whole.clone();
            flipped[whole.len() * place / 6] ^= 0x40;
            made.push((format!("{name}-flipped-{place}"), flipped));
        }
        made.push((format!("{name}-marked"), [b"\xef\xbb\xbf", &whole[..]].concat()));
    }
    fs::create_dir(world.path("made")).unwrap();
    for (name, bytes) in made {
        let path = world.path("made").join(name);
        fs::write(&path, bytes).unwrap();
        files.push(path);
    }
    files
}

/// What can be done with a file called `@`, in folder `#` that is this one's alone.
const COMMANDS: [&str; 15] = [
    "inspect @",
    "inspect linear.toml --data #/set",
    "eval @ --device cpu",
    "eval run/best.safetensors --device cpu --data #/set",
    "predict @ --device cpu --checkpoint run/best.safetensors",
    "predict photos/val/down/001.png --device cpu --checkpoint @",
    "train --config @ --device cpu --run #/run --set train.epochs=1 --set train.batch=8",
    "train --resume --run #/old --device cpu",
    "bench --config @ --device cpu --steps 1 --batch 2",
    "prepare image-folder #/pictures --out #/made --size 16 --val-fraction 0 --workers 1",
    "prepare idx idx --out #/idx --classes @",
    "prepare list @ --out #/list --size 16 --workers 1",
    "prepare parquet @ --out #/parquet --size 16 --workers 1",
    "prepare webdataset @ --out #/web --size 16 --workers 1",
    "data verify #/set",
];

/// As a program ends that is in order: 0, 1 or 2, and a sentence where it is not 0.
fn check(args: &str, file: &Path, output: &Output) {
    let said = stderr(output);
    let what = format!("{args} with {}: {said}", file.display());
    assert!(matches!(output.status.code(), Some(0..=2)), "{:?} {what}", output.status);
    for word in ["panicked", "error in the program", "stack overflow", "memory allocation of"] {
        assert!(!said.contains(word), "{what}");
    }
    let sentences = said.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(sentences, usize::from(!output.status.success()), "{what}");
}

#[test]
fn no_file_panics_any_command() {
    let world = World::new();
    world.ok("train --config linear.toml --set train.epochs=1 --run run --device cpu");
    let grey = World { folder: tempfile::tempdir().unwrap() };
    grey.grey(20, 4);
    fs::rename(grey.path("idx"), world.path("idx")).unwrap();
    let files = files(&world);
    assert!(files.len() > 100, "{}", files.len());
    let (next, threads) = (AtomicUsize::new(0), 2);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    each_command(&world, file);
                }
            });
        }
    });
}

fn each_command(world: &World, file: &Path) {
    let folder = tempfile::tempdir_in(world.folder.path()).unwrap();
    let at = |name: &str| folder.path().join(name);
    // A data set, a run and a class with the file in the place of one of theirs.
    for name in ["set", "old", "pictures", "pictures/a"] {
        fs::create_dir(at(name)).unwrap();
    }
    for name in world.names("set").iter().filter(|name| !name.starts_with('.')) {
        fs::copy(world.path("set").join(name), at("set").join(name)).unwrap();
    }
    let part = ["dataset.json", "statistics.safetensors", "train-00000.shard"];
    let bytes = fs::read(file).unwrap();
    fs::write(at("set").join(part[bytes.len() % 3]), &bytes).unwrap();
    fs::write(at("old/last.safetensors"), &bytes).unwrap();
    fs::write(at("old/metrics.jsonl"), &bytes).unwrap();
    fs::write(at("pictures/a/picture.png"), &bytes).unwrap();
    for args in COMMANDS {
        let words = args
            .replace('@', &file.display().to_string())
            .replace('#', &folder.path().display().to_string());
        let output = world.run(&format!("{words} --threads 1"));
        check(args, file, &output);
    }
}
