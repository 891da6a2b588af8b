//! Every command that `train` prints works when it is typed as it stands, in a folder whose name a
//! shell would take apart.

use super::{LONG, shell, signal, start, wait_for};
use crate::common::{World, sentence, stderr};
use std::fs;
use std::process::Output;

/// A name with a space and a quote, as a shell takes it, and as it is.
const RUN: &str = "\"my it's run\"";
const FOLDER: &str = "my it's run";

/// The commands in what was said: from `alexnet` to the end of the line, or to what closes it.
fn commands(said: &str) -> Vec<String> {
    let starts = said.match_indices("alexnet ").map(|(at, _)| at);
    let command = |at: usize| {
        let rest = &said[at..];
        let end = rest.find(['\n', ';', ')']).unwrap_or(rest.len());
        rest[..end].trim_end().to_string()
    };
    starts.map(command).collect()
}

/// Runs `line`, which must fail with words of its own; the commands that it prints.
fn told(world: &World, line: &str, word: &str) -> Vec<String> {
    let output = shell(world, line);
    assert!(!output.status.success(), "{line}");
    let said = sentence(&output);
    assert!(said.contains(word), "{line}: {said}");
    let commands = commands(&said);
    assert!(!commands.is_empty(), "{said}");
    commands
}

/// Types a command.
fn typed(world: &World, command: &str) -> Output {
    let output = shell(world, command);
    assert!(output.status.success(), "{command}: {}", stderr(&output));
    output
}

#[test]
fn what_is_told_at_the_end_of_a_run() {
    let world = World::new();
    fs::rename(world.path("linear.toml"), world.path("my net.toml")).unwrap();
    let text = world.text("my net.toml").replace("name = \"linear\"\n", "");
    world.write("my net.toml", &text);
    let output = typed(&world, "alexnet train --config 'my net.toml' --set train.epochs=1");
    let commands = commands(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(commands.len(), 3, "{commands:?}");
    for command in commands {
        typed(&world, &command.replace("IMAGE", "photos/val/down/001.png"));
    }
}

#[test]
fn more_epochs_on_a_finished_run() {
    let world = World::new();
    typed(&world, &format!("alexnet train --config linear.toml --run {RUN}"));
    let again = format!("alexnet train --resume --run {RUN}");
    // The other settings are not lost on the way; the data set may be named again too.
    let more = told(&world, &format!("{again} --data set --set train.momentum=0.5"), "finished");
    let output = typed(&world, &more[0]);
    assert!(stderr(&output).contains("train.momentum: 0.9 → 0.5"), "{}", stderr(&output));
    assert_eq!(world.metrics(FOLDER).len(), 60, "twice as many epochs");
    // Fewer than there have been: said, and the way on leads up.
    let more = told(&world, &format!("{again} --set train.epochs=2"), "trained 6 epochs");
    typed(&world, &more[0]);
    assert_eq!(world.metrics(FOLDER).len(), 120);
}

#[test]
fn inside_an_epoch_that_is_no_longer_wanted() {
    let world = World::new();
    let child = start(&world, &format!("{LONG} --run cut"));
    wait_for(&world, "cut", 91 + 20);
    signal(&child, "-INT");
    let output = child.wait_with_output().unwrap();
    let go_on = commands(&sentence(&output));
    assert_eq!(go_on, ["alexnet train --resume --run cut"]);
    if world.metrics("cut").last().unwrap()["kind"] == "epoch" {
        return; // The signal came while an epoch ended.
    }
    let at_hand = world.metrics("cut").last().unwrap()["epoch"].as_u64().unwrap();
    let ways = told(
        &world,
        "alexnet train --resume --run cut --set train.epochs=1 --set train.momentum=0.5",
        "inside epoch",
    );
    assert_eq!(ways.len(), 2, "{ways:?}");
    typed(&world, &ways[0]);
    let last = world.metrics("cut").last().unwrap().clone();
    assert_eq!((last["kind"].as_str(), last["epoch"].as_u64()), (Some("epoch"), Some(at_hand)));
    assert!(world.text("cut/config.toml").contains("momentum = 0.5"));
}

#[test]
fn a_smaller_rate_after_divergence_keeps_the_other_changes() {
    let world = World::new();
    typed(&world, &format!("alexnet train --config net.toml --set train.epochs=1 --run {RUN}"));
    let wild = "--set train.epochs=3 --set train.momentum=0.5 --set schedule.rate=1e6";
    let mut line = format!("alexnet train --resume --run {RUN} {wild}");
    // Each time a tenth, until it is small enough.
    for _ in 0..12 {
        let output = shell(&world, &line);
        if output.status.success() {
            assert_eq!(world.metrics(FOLDER).len(), 30);
            assert!(world.text("my it's run/config.toml").contains("momentum = 0.5"));
            return;
        }
        let said = sentence(&output);
        assert!(said.contains("diverged"), "{line}: {said}");
        line = commands(&said)[0].clone();
    }
    panic!("{line}");
}

#[test]
fn the_same_folder_again() {
    let world = World::new();
    let line = format!("alexnet train --config linear.toml --set 'data.flip = false' --run {RUN}");
    typed(&world, &line);
    let ways = told(&world, &line, "holds a run already");
    assert_eq!(ways.len(), 2, "{ways:?}");
    let more = told(&world, &ways[0], "finished");
    typed(&world, &more[0]);
    typed(&world, &ways[1]);
    assert_eq!(world.metrics("my it's run-2").len(), 30);
    assert!(world.text("my it's run-2/config.toml").contains("flip = false"));
    // The best network is something to go on from too.
    fs::remove_file(world.path(FOLDER).join("last.safetensors")).unwrap();
    let ways = told(&world, &line, "go on with it");
    let output = shell(&world, &ways[0]);
    assert!(!stderr(&output).contains("no last.safetensors"), "{}", stderr(&output));
    // A run that left nothing to go on from.
    for name in ["last.safetensors", "best.safetensors"] {
        let _ = fs::remove_file(world.path(FOLDER).join(name));
    }
    let ways = told(&world, &line, "no checkpoint to go on from");
    assert_eq!(ways.len(), 1, "{ways:?}");
    typed(&world, &ways[0]);
    assert_eq!(world.metrics("my it's run-3").len(), 30);
}

#[test]
fn a_rate_after_the_last_plateau() {
    let world = World::new();
    let set = "--set schedule.patience=1 --set schedule.drops=0 --set train.epochs=50 --set \
               schedule.rate=0";
    typed(&world, &format!("alexnet train --config linear.toml --run {RUN} {set}"));
    let lines = world.metrics(FOLDER).len();
    let again = format!("alexnet train --resume --run {RUN}");
    let ways = told(&world, &format!("{again} --set train.momentum=0.5"), "stopped improving");
    // The rate that it has had all along is a rate too.
    assert!(ways[0].ends_with("schedule.rate=0.0"), "{ways:?}");
    let output = typed(&world, &ways[0]);
    assert!(stderr(&output).contains("train.momentum: 0.9 → 0.5"), "{}", stderr(&output));
    assert!(world.metrics(FOLDER).len() > lines);
}

/// A rate that is given once more, after it has fallen, is no change, and that is said.
#[test]
fn a_rate_that_has_fallen_since() {
    let world = World::new();
    let set = "--set schedule.patience=1 --set schedule.rate=1e-9 --set train.epochs=3";
    world.ok(&format!("train --config linear.toml --run run {set}"));
    let rate = world.metrics("run").last().unwrap()["learning_rate"].as_f64().unwrap();
    let output =
        world.run("train --resume --run run --set schedule.rate=1e-9 --set train.epochs=4");
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("has been told already"), "rate {rate}: {said}");
}
