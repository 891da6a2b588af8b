//! Damaged files, full disks, closed pipes, and training that goes wrong, through the built binary.

mod common;

use common::{World, sentence, stderr};
use std::fs;
use std::process::{Command, Output};

/// Runs a line of shell in the world's folder, `alexnet` being the program.
fn shell(world: &World, line: &str) -> Output {
    let line = line.replace("alexnet", env!("CARGO_BIN_EXE_alexnet"));
    Command::new("bash").current_dir(world.folder.path()).args(["-c", &line]).output().unwrap()
}

#[test]
fn damaged_checkpoints_are_refused_by_every_command() {
    let world = World::new();
    world.ok("train --config linear.toml --run good");
    let good = world.bytes("good/last.safetensors");
    fs::create_dir(world.path("bad")).unwrap();
    let mut changes: Vec<(String, Vec<u8>)> = vec![
        ("empty".into(), Vec::new()),
        ("cut".into(), good[..good.len() / 2].to_vec()),
        ("one short".into(), good[..good.len() - 1].to_vec()),
        ("one more".into(), [&good[..], &[0]].concat()),
    ];
    // In the length, the header, a weight (the first tensor) and the mean image (nearly the last).
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    for place in [0, 6, 8, 40, header / 2, header + 5, good.len() - 60] {
        let mut bytes = good.clone();
        bytes[place] ^= 0x10;
        changes.push((format!("bit at {place}"), bytes));
    }
    for (what, bytes) in changes {
        fs::write(world.path("bad/last.safetensors"), bytes).unwrap();
        for args in [
            "eval bad/last.safetensors",
            "predict photos/val/down/001.png --checkpoint bad/last.safetensors",
            "train --resume --run bad --set train.epochs=9",
        ] {
            let output = world.run(args);
            assert_eq!(output.status.code(), Some(1), "{what}, {args}: {}", stderr(&output));
            let sentence = sentence(&output);
            assert!(sentence.contains("bad/last.safetensors"), "{what}, {args}: {sentence}");
        }
    }
    assert_eq!(world.names("bad"), ["last.safetensors"]);
}

#[test]
fn damaged_data_sets_are_named() {
    let world = World::new();
    let files: Vec<String> = world.names("set");
    let shard = files.iter().find(|name| name.starts_with("train-") && name.ends_with(".shard"));
    let shard = format!("set/{}", shard.unwrap());
    let good = world.bytes(&shard);
    for place in [3, 20, 64 + 1000, good.len() - 100] {
        let mut bytes = good.clone();
        bytes[place] ^= 4;
        fs::write(world.path(&shard), bytes).unwrap();
        let args = "train --config linear.toml --run broken";
        let output = world.run(args);
        assert_eq!(output.status.code(), Some(1), "{place}: {}", stderr(&output));
        assert!(sentence(&output).contains(&shard), "{place}: {}", stderr(&output));
        let _ = fs::remove_dir_all(world.path("broken"));
    }
    fs::write(world.path(&shard), &good[..good.len() - 10]).unwrap();
    world.fails("train --config linear.toml", 1, &[&shard]);
    fs::remove_file(world.path(&shard)).unwrap();
    world.fails("train --config linear.toml", 1, &[&shard]);
    fs::write(world.path(&shard), &good).unwrap();
    world.write("set/dataset.json", "{\"format\": 1");
    world.fails("train --config linear.toml", 1, &["set/dataset.json"]);
}

/// A disk that is full, as a limit on the size of files: the old checkpoint stays whole.
#[test]
fn a_full_disk_leaves_the_old_checkpoint() {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=2 --run run");
    let before = world.bytes("run/last.safetensors");
    // Blocks of 1024 bytes: less than a checkpoint, more than the log.
    let blocks = before.len() / 1024 - 2;
    assert!(blocks > 10, "{blocks}");
    let output = shell(
        &world,
        &format!(
            "trap '' XFSZ; ulimit -f {blocks}; alexnet train --resume --run run --set \
             train.epochs=4"
        ),
    );
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let said = sentence(&output);
    assert!(
        said.contains("run/best.safetensors") || said.contains("run/last.safetensors"),
        "{said}"
    );
    assert!(world.bytes("run/last.safetensors") == before);
    assert!(world.names("run").iter().all(|name| !name.ends_with(".tmp")), "no rest");
    // With room again the run goes on.
    world.ok("train --resume --run run --set train.epochs=4");
    assert_eq!(world.metrics("run").len(), 4 * 10);

    let output =
        shell(&world, "trap '' XFSZ; ulimit -f 1; alexnet train --config net.toml --run small");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(sentence(&output).contains("small/"), "{}", stderr(&output));
    let output =
        shell(&world, "trap '' XFSZ; ulimit -f 1; alexnet prepare image-folder photos --out tight");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(sentence(&output).contains("tight"), "{}", stderr(&output));
    assert!(!world.path("tight/dataset.json").exists());
}

#[test]
fn results_that_nobody_can_take() {
    let world = World::new();
    world.ok("train --config linear.toml");
    for args in ["eval --json", "predict photos/val/down/001.png", "inspect linear.toml"] {
        let output = shell(&world, &format!("alexnet {args} > /dev/full"));
        assert_eq!(output.status.code(), Some(1), "{args}");
        assert!(sentence(&output).contains("standard output cannot be written"), "{args}");
        // A reader that has gone away is no error.
        let output = shell(
            &world,
            &format!("sleep 0.2 | true; set -o pipefail; (sleep 0.2; alexnet {args}) | true"),
        );
        assert_eq!(output.status.code(), Some(0), "{args}: {}", stderr(&output));
        assert!(!stderr(&output).contains("error"), "{args}: {}", stderr(&output));
    }
    // Neither is one of the log: training goes on without it.
    let line =
        "set -o pipefail; (sleep 0.2; alexnet train --config linear.toml --run quiet 2>&1) | true";
    assert_eq!(shell(&world, line).status.code(), Some(0));
    assert!(world.path("quiet/best.safetensors").exists());
    let line =
        "set -o pipefail; (sleep 0.2; alexnet prepare image-folder photos --out new 2>&1) | true";
    assert_eq!(shell(&world, line).status.code(), Some(0));
    assert!(world.path("new/dataset.json").exists());
}

#[test]
fn folders_that_cannot_be_written() {
    let world = World::new();
    world.write("file", "x");
    // A file where a folder should be refuses even the system's administrator.
    let train = "train --config linear.toml --run file/run";
    world.fails(train, 1, &["file/run", "cannot be made"]);
    world.fails("prepare image-folder photos --out file/set", 1, &["file/set"]);
    fs::create_dir_all(world.path("run/metrics.jsonl")).unwrap();
    fs::remove_dir(world.path("run/metrics.jsonl")).unwrap();
    fs::create_dir_all(world.path("run/last.safetensors.tmp")).unwrap();
    world.fails("train --config linear.toml --run run", 1, &["run/last.safetensors"]);
}

#[test]
fn diverging_training_ends_and_keeps_the_last_good_checkpoint() {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=2 --run run");
    let files = || ["last", "best"].map(|name| world.bytes(&format!("run/{name}.safetensors")));
    let before = files();
    let resume = "train --resume --run run --set train.epochs=9 --set schedule.rate";
    let words = ["diverged", "rate 1000000", "--resume --run run --set schedule.rate=100000"];
    world.fails(&format!("{resume}=1e6"), 1, &words);
    assert!(files() == before);
    // One step an epoch: the weights are lost in the last step before a checkpoint.
    let once = "train --config net.toml --set train.batch=90 --set train.epochs=3 --set schedule.rate=1e30";
    let words = ["diverged", "--resume --run new --set schedule.rate=1e29"];
    world.fails(&format!("{once} --run new"), 1, &words);
    let names = ["config.toml", "diverged.txt", "last.safetensors", "metrics.jsonl"];
    assert_eq!(world.names("new"), names);
    let last = world.bytes("new/last.safetensors");
    let (_, header) = safetensors::SafeTensors::read_metadata(&last).unwrap();
    let step = &header.metadata().as_ref().unwrap()["step"];
    assert_eq!(step, "0", "what was written before the first step");
    // With a smaller rate it goes on.
    world.ok(&format!("{resume}=0.001"));
}

#[test]
fn a_loss_that_does_not_move_is_said_once() {
    let world = World::new();
    let args =
        "train --config linear.toml --set schedule.rate=0 --set train.batch=1 --set train.epochs";
    let output = world.run(&format!("{args}=10"));
    assert!(output.status.success());
    let said = stderr(&output);
    assert_eq!(said.matches("has not left ln(3) = 1.10").count(), 1, "{said}");
    assert!(said.contains("weight_sigma") && said.contains("configs/ilsvrc2012.toml"), "{said}");
    let output = world.run(&format!("{args}=10 --set schedule.rate=0.0001"));
    assert!(!stderr(&output).contains("has not left"), "{}", stderr(&output));
}
