//! What ranks refuse at the start, with one sentence of all.

use super::launchers::{self, Running};
use super::{PARTS, fails, one_error};
use crate::common::World;

#[test]
fn numbers_of_processes_that_cannot_share_a_batch() {
    let Some(launcher) = launchers::any() else { return };
    let world = World::new();
    let words = ["train.parts = 4", "3 processes"];
    fails(&world, &launcher, 3, &format!("{PARTS} --run none"), &words);
    let small = "train --config net.toml --set train.batch=2 --run none";
    fails(&world, &launcher, 3, small, &["train.batch = 2", "there are 3"]);
    let gpu = "train --config net.toml --set train.parts=2 --device cuda:0 --run none";
    fails(&world, &launcher, 2, gpu, &["--device cuda:0", "CPUs"]);
    assert!(!world.path("none").exists());
    // Of one process too.
    world.fails("train --config net.toml --set train.parts=3", 2, &["train.parts = 3", "= 10"]);
    world.fails("train --config net.toml --set train.parts=0", 2, &["train.parts = 0", "from 1"]);
}

#[test]
fn other_configs_arguments_and_data() {
    let Some(launcher) = launchers::any() else { return };
    let world = World::new();
    let two = |first: &str, second: &str, words: &[&str]| {
        let groups = [(1, first), (1, second)];
        let (code, said) = Running::start_groups(&world, &launcher, &groups).end();
        assert_ne!(code, Some(0), "{said}");
        let error = one_error(&said, words);
        assert!(error.contains("rank 0 on ") && error.contains("rank 1 on "), "{error}");
        assert!(!world.path("none").exists(), "{said}");
    };
    world.write("other.toml", &world.text("net.toml").replace("batch = 10", "batch = 12"));
    let train = "train --config net.toml --run none";
    two(train, "train --config other.toml --run none", &["train.batch is 12 there and 10 here"]);
    two(train, &format!("{train} --set train.momentum=0.5"), &["--set train.momentum=0.5"]);
    // The same images under other labels, and one image more.
    std::fs::rename(
        world.path("photos/train/down/000.jpg"),
        world.path("photos/train/level/x.jpg"),
    )
    .unwrap();
    world.ok("prepare image-folder photos --out labels --size 16");
    two(train, &format!("{train} --data labels"), &["the data sets differ", "labels", "checksum"]);
    std::fs::rename(world.path("photos/train/slant"), world.path("photos/train/steep")).unwrap();
    std::fs::rename(world.path("photos/val/slant"), world.path("photos/val/steep")).unwrap();
    world.ok("prepare image-folder photos --out classes --size 16");
    two(train, &format!("{train} --data classes"), &["the class tables differ", "steep"]);
    let nowhere = format!("{train} --data nowhere");
    let (_, said) = Running::start_groups(&world, &launcher, &[(1, train), (1, &nowhere)]).end();
    one_error(&said, &["rank 1 on ", "there is no data set in nowhere"]);
}

/// A copy of the data set is the same, wherever it lies.
#[test]
fn each_rank_may_have_its_own_copy_of_the_data() {
    let Some(launcher) = launchers::any() else { return };
    let world = World::new();
    world.ok(&format!("{PARTS} --run whole"));
    world.ok("prepare image-folder photos --out copy --size 16");
    let first = format!("{PARTS} --run copies");
    let groups = [(1, first.as_str()), (1, &format!("{first} --data copy"))];
    let (code, said) = Running::start_groups(&world, &launcher, &groups).end();
    assert_eq!(code, Some(0), "{said}");
    assert!(world.bytes("copies/last.safetensors") == world.bytes("whole/last.safetensors"));
}

#[test]
fn another_build() {
    let Some(launcher) = launchers::any() else { return };
    let world = World::new();
    let other = world.path("alexnet");
    let mut bytes = std::fs::read(env!("CARGO_BIN_EXE_alexnet")).unwrap();
    bytes.push(0);
    std::fs::write(&other, bytes).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&other, mode).unwrap();
    let args = format!("{PARTS} --run none");
    let (code, said) = Running::start_two(&world, &launcher, &args, &other).end();
    assert_ne!(code, Some(0), "{said}");
    one_error(&said, &["different builds", "rank 0 on ", "rank 1 on "]);
}

/// Commands of one process; a folder that is taken; a config that is not there.
#[test]
fn what_one_process_refuses_is_refused_once() {
    let world = World::new();
    world.ok("train --config linear.toml --run taken");
    for launcher in launchers::all() {
        let words = ["alexnet predict is the work of one process", "has started 2"];
        fails(&world, &launcher, 2, "predict photos/val/down/001.png", &words);
        let taken = "train --config linear.toml --run taken";
        fails(&world, &launcher, 2, taken, &["holds a run already", "--run taken-2"]);
        fails(&world, &launcher, 2, "train --config nowhere.toml", &["nowhere.toml"]);
        fails(&world, &launcher, 2, "eval nowhere", &["nowhere"]);
    }
}
