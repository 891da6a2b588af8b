//! Damage to a data set after it was made.

use super::*;
use alexnet::commands::data;
use alexnet::data::dataset::Dataset;

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
    train.read(4, &Area::all(16, 16), &mut [0; 768]).unwrap();
    let error = errors::sentence(&train.read(5, &Area::all(16, 16), &mut [0; 768]).unwrap_err());
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

#[test]
fn a_contact_sheet_is_a_png_of_the_split() {
    let folder = tempfile::tempdir().unwrap();
    class_folders(&folder.path().join("src"));
    run(folder.path(), "image-folder @src --out @out --size 32").unwrap();
    #[derive(Parser)]
    struct Data {
        #[command(flatten)]
        args: data::Args,
    }
    let show = |more: &str| {
        let at = format!("{}/", folder.path().display());
        let line = format!("data show @out --out @sheet.png {more}").replace('@', &at);
        data::run(Data::try_parse_from(line.split_whitespace()).unwrap().args)
    };
    show("--count 12 --seed 3").unwrap();
    let first = fs::read(folder.path().join("sheet.png")).unwrap();
    let sheet = image::load_from_memory(&first).unwrap();
    // Crops of 28 pixels, four times as large, 11 in a row.
    assert_eq!((sheet.width(), sheet.height()), (11 * 120 + 8, 2 * 136 + 8));
    show("--count 12 --seed 3").unwrap();
    assert!(fs::read(folder.path().join("sheet.png")).unwrap() == first, "same seed, same sheet");
    let code = |more| errors::exit_code(&show(more).unwrap_err());
    assert_eq!([code("--crop 33"), code("--split nothing")], [2, 2]);
}

/// Killed while it wrote its first file, `prepare` finds the half of that and nothing else.
#[test]
fn killed_at_its_first_file_it_begins_again() {
    let folder = tempfile::tempdir().unwrap();
    class_folders(&folder.path().join("src"));
    let line = "image-folder @src --out @out --size 16";
    put(folder.path().join("out/unfinished.json.tmp"), b"{\"format\": 1,");
    run(folder.path(), line).unwrap();
    assert!(!contents(&folder.path().join("out")).keys().any(|name| name.ends_with(".tmp")));
    put(folder.path().join("other/a.txt"), b"");
    fails(folder.path(), "image-folder @src --out @other --size 16", 2, "is not empty");
}

/// Killed at any moment, `prepare` goes on: finished shards are never written again, and the files
/// are those of a run that nobody disturbed.
#[test]
fn killed_and_started_again_it_ends_the_same() {
    use std::process::{Command, Stdio};
    use std::time::Duration;
    let folder = tempfile::tempdir().unwrap();
    let src = folder.path().join("src");
    for class in ["a", "b"] {
        for i in 0..180 {
            put(src.join(class).join(format!("{i:03}.jpg")), &sample(IMAGES[i % 4]));
        }
    }
    // One shard of 256 MiB holds 341 images of 512×512.
    let start = |out: &str| {
        Command::new(env!("CARGO_BIN_EXE_alexnet"))
            .args([
                "prepare",
                "image-folder",
                "--size",
                "512",
                "--workers",
                "2",
                "--val-fraction",
                "0",
            ])
            .args(["--out".as_ref(), folder.path().join(out).as_os_str(), src.as_os_str()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    assert!(start("straight").wait().unwrap().success());
    let first = folder.path().join("killed/train-00000.shard");
    let mut written = None;
    let mut killed = 0;
    for pause in [1, 20, 60, 120, 250, 400, 600] {
        let mut child = start("killed");
        std::thread::sleep(Duration::from_millis(pause));
        let ended = child.try_wait().unwrap();
        // On Unix this is SIGKILL.
        child.kill().unwrap();
        child.wait().unwrap();
        if ended.is_some() {
            break;
        }
        killed += 1;
        // Killed between its name and the note that it is done, a shard is written again.
        let noted = fs::read_to_string(folder.path().join("killed/unfinished.json"));
        if written.is_none() && noted.is_ok_and(|noted| noted.contains("train-00000.shard")) {
            written = fs::metadata(&first).ok().map(|m| m.modified().unwrap());
        }
    }
    // Killed after it wrote dataset.json, it has unfinished.json still to take away.
    let there = |name: &str| folder.path().join("killed").join(name).exists();
    if !there("dataset.json") || there("unfinished.json") {
        assert!(start("killed").wait().unwrap().success());
    }
    assert!(killed > 0, "it was never in work");
    if let Some(written) = written {
        assert_eq!(fs::metadata(&first).unwrap().modified().unwrap(), written, "written again");
    }
    let names = |out: &str| contents(&folder.path().join(out));
    assert!(names("killed") == names("straight"));
}
