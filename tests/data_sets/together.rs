//! Two processes and one data set.

use super::*;
use alexnet::files::lock::lock;
use common::running::start;
use common::stderr;
use std::io::{BufRead, BufReader};

#[test]
fn one_prepare_a_folder() {
    let world = world();
    two_classes(&world, "s");
    fs::create_dir(world.path("d")).unwrap();
    let held = lock(&world.path("d")).unwrap().expect("free");
    let prepare = "prepare image-folder s --out d --size 16";
    world.fails(prepare, 1, &["another process is preparing d", "name another folder"]);
    let entries = fs::read_dir(world.path("d")).unwrap();
    let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [".lock"]);
    drop(held);
    world.ok(prepare);
    assert!(!world.names("d").contains(&".lock".to_string()));
}

#[test]
fn of_two_that_start_together_the_data_set_is_sound() {
    let world = world();
    pictures(&world, "s/cat", 0, 60);
    pictures(&world, "s/dog", 1, 60);
    let prepare = "prepare image-folder s --out d --size 64 --shard-size 0.2";
    let both = [start(&world, prepare), start(&world, prepare)];
    let ends = both.map(|child| child.wait_with_output().unwrap());
    assert!(ends.iter().any(|end| end.status.success()));
    for end in ends.iter().filter(|end| !end.status.success()) {
        let text = stderr(end);
        assert!(text.contains("another process") || text.contains("finished data"), "{text}");
    }
    world.ok("data verify d");
    world.ok("prepare image-folder s --out straight --size 64 --shard-size 0.2");
    assert!(contents(&world, "d") == contents(&world, "straight"));
}

/// A world whose config says how its data set is made.
fn first_run() -> World {
    let world = world();
    world.grey(40, 10);
    fs::remove_dir_all(world.path("set")).unwrap();
    let network = common::GREY.replace(
        "[train]",
        "[data.prepare]\nkind = \"idx\"\nsource = \"idx\"\nval_fraction = 0.1\n[train]",
    );
    world.write("grey.toml", &network);
    world
}

#[test]
fn a_first_run_waits_for_another_that_prepares_its_data() {
    let world = first_run();
    fs::create_dir(world.path("set")).unwrap();
    let held = lock(&world.path("set")).unwrap().expect("free");
    let mut child = start(&world, "train --config grey.toml --run r --set train.epochs=1");
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let said = lines.by_ref().map(Result::unwrap).find(|line| line.contains("waiting for it"));
    assert!(said.unwrap().contains("another process is preparing set"));
    drop(held);
    lines.for_each(drop);
    assert!(child.wait().unwrap().success());
    world.ok("data verify set");
}

#[test]
fn two_first_runs_at_once_both_train() {
    let world = first_run();
    let both = ["a", "b"].map(|run| {
        start(&world, &format!("train --config grey.toml --run {run} --set train.epochs=1"))
    });
    for child in both {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
    world.ok("data verify set");
    assert_eq!(world.timeless("a"), world.timeless("b"));
}
