//! Every byte of a data set is under a checksum, which is compared before anything uses it.

use super::*;
use alexnet::data::area::Area;
use alexnet::data::dataset::Dataset;
use common::stderr;

/// A data set of a few kilobytes with several shards, in `d`.
fn small() -> World {
    let world = world();
    two_classes(&world, "s");
    world.write("s/cat/bad.jpg", "no picture");
    let settings = "--size 8 --shard-size 0.0004 --max-bad 1";
    world.ok(&format!("prepare image-folder s --out d {settings}"));
    world
}

/// Whether all of `d` can be opened and read, as `alexnet data verify` does, in this process.
fn is_sound(world: &World) -> bool {
    let read = || -> anyhow::Result<()> {
        let dataset = Dataset::open(&world.path("d"))?;
        dataset.check_files()?;
        for name in dataset.header.splits.keys() {
            let split = dataset.split(name)?;
            for image in 0..split.len() {
                split.read(image, &Area::all(8, 8), &mut [0; 192])?;
            }
        }
        Ok(())
    };
    read().is_ok()
}

#[test]
fn any_other_byte_is_found() {
    let world = small();
    assert!(is_sound(&world));
    for (name, good) in contents(&world, "d") {
        let path = world.path("d").join(&name);
        // One bit of every byte of the header, which `seal` tries all bits of; of every third byte
        // elsewhere.
        let step = if name == "dataset.json" { 1 } else { 3 };
        for at in (0..good.len()).step_by(step) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at / step % 8);
            fs::write(&path, &bad).unwrap();
            assert!(!is_sound(&world), "byte {at} of {name}");
        }
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        fs::write(&path, &bad).unwrap();
        world.fails("data verify d", 1, &["d"]);
        for length in [0, good.len() / 2, good.len() - 1] {
            fs::write(&path, &good[..length]).unwrap();
            assert!(!is_sound(&world), "{name} cut to {length} bytes");
        }
        fs::remove_file(&path).unwrap();
        assert!(!is_sound(&world), "without {name}");
        fs::write(&path, &good).unwrap();
    }
    assert!(is_sound(&world));
}

#[test]
fn another_name_of_a_class_is_found_by_all_who_open_it() {
    let world = small();
    world.write("net.toml", &common::LINEAR.replace("\"set\"", "\"d\"").replace("12", "8"));
    let text = world.text("d/dataset.json");
    world.write("d/dataset.json", &text.replacen("\"cat\"", "\"ca$\"", 1));
    for command in ["data verify d", "data show d --out sheet.png", "train --config net.toml"] {
        world.fails(command, 1, &["d/dataset.json", "checksum is wrong", "take out its line"]);
    }
    // Changed on purpose, and the line taken out.
    let end = text.rfind(",\n  \"checksum\"").unwrap();
    world.write("d/dataset.json", &format!("{}\n}}\n", &text[..end]).replace("\"cat\"", "\"Cat\""));
    world.ok("data verify d");
}

#[test]
fn files_of_another_data_set_are_found() {
    let world = small();
    let all = contents(&world, "d");
    // Of the same length and number of records, and sound in themselves.
    fs::write(world.path("d/train-00000.shard"), &all["train-00001.shard"]).unwrap();
    world.fails("data verify d", 1, &["train-00000.shard has another checksum"]);
    fs::write(world.path("d/train-00000.shard"), &all["train-00000.shard"]).unwrap();
    world.ok("prepare image-folder s --out e --size 8 --max-bad 1 --seed 9");
    let other = fs::read(world.path("e/statistics.safetensors")).unwrap();
    fs::write(world.path("d/statistics.safetensors"), other).unwrap();
    world.fails("data verify d", 1, &["statistics.safetensors is damaged, or not the one"]);
}

/// As versions wrote it that kept no checksums of dataset.json and what stands beside.
#[test]
fn data_sets_without_checksums_go_on_working() {
    let world = small();
    let mut header = header(&world, "d");
    let object = header.as_object_mut().unwrap();
    object.remove("checksum").unwrap();
    object.remove("files").unwrap();
    for split in object["splits"].as_object_mut().unwrap().values_mut() {
        for shard in split["shards"].as_array_mut().unwrap() {
            shard.as_object_mut().unwrap().remove("checksum").unwrap();
        }
    }
    world.write("d/dataset.json", &header.to_string());
    world.write("net.toml", &common::LINEAR.replace("\"set\"", "\"d\"").replace("12", "8"));
    let output = world.run("data verify d");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output).matches("has no checksums").count(), 1);
    world.ok("train --config net.toml --run r --set train.epochs=1");
}

/// More shards than files may be open, whether the limit may be raised or not.
#[cfg(unix)]
#[test]
fn more_shards_than_files_may_be_open() {
    let world = world();
    pictures(&world, "s/cat", 0, 50);
    pictures(&world, "s/dog", 1, 50);
    world.write("net.toml", &common::LINEAR.replace("\"set\"", "\"d\"").replace("12", "8"));
    let program = env!("CARGO_BIN_EXE_alexnet");
    let limited = |limit: &str, args: &str| {
        let mut shell = std::process::Command::new("sh");
        shell.current_dir(world.folder.path());
        shell.args(["-c", &format!("ulimit {limit} && exec {program} {args}")]);
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{limit}, {args}: {}", stderr(&output));
    };
    limited("-n 40", "prepare image-folder s --out d --size 8 --shard-size 0.0002");
    assert_eq!(header(&world, "d")["splits"]["train"]["shards"].as_array().unwrap().len(), 90);
    for limit in ["-Sn 40", "-n 40"] {
        limited(limit, "data verify d");
        limited(limit, "data show d --out sheet.png");
        let run = if limit == "-n 40" { "a" } else { "b" };
        limited(limit, &format!("train --config net.toml --run {run} --set train.epochs=2"));
    }
    assert_eq!(world.timeless("a"), world.timeless("b"));
}
