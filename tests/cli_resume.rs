//! Runs that are interrupted, killed, continued and changed by hand, through the built binary.

mod common;

use common::running::{LONG, lines_of, reseal, signal, start, wait_for};
use common::{World, sentence, stderr};
use std::fs::{self, File};
use std::path::Path;
use std::process::Output;
use std::thread::sleep;
use std::time::Duration;

fn stop(world: &World, args: &str, run: &str, lines: usize, name: &str) -> Output {
    let child = start(world, args);
    wait_for(world, run, lines);
    signal(&child, name);
    child.wait_with_output().unwrap()
}

#[test]
fn interrupted_inside_an_epoch_and_continued_it_is_the_same_run() {
    let world = World::new();
    world.ok(&format!("{LONG} --run whole"));
    let output = stop(&world, &format!("{LONG} --run cut"), "cut", 130, "-INT");
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let said = sentence(&output);
    assert!(said.contains("alexnet train --resume --run cut"), "{said}");
    assert!(said.contains("cut/last.safetensors"), "{said}");
    // The second time in another epoch, and by the other signal; --threads does not matter.
    let lines = lines_of(&world.path("cut/metrics.jsonl")) + 120;
    let output = stop(&world, "train --resume --run cut --threads 1", "cut", lines, "-TERM");
    assert_eq!(output.status.code(), Some(143), "{}", stderr(&output));
    assert!(stderr(&output).contains("going on with cut from step"), "{}", stderr(&output));
    world.ok("train --resume --run cut");
    for file in ["last.safetensors", "best.safetensors", "config.toml"] {
        let file = |run: &str| world.bytes(&format!("{run}/{file}"));
        assert!(file("cut") == file("whole"));
    }
    assert_eq!(world.timeless("cut"), world.timeless("whole"));
}

#[test]
fn interrupted_in_validation_a_run_ends_at_once_and_repeats_only_the_validation() {
    let world = World { folder: tempfile::tempdir().unwrap() };
    world.grey(8, 60_000);
    world.ok("prepare idx idx --out all --val-fraction 0");
    let args = "train --config grey.toml --data all --set train.epochs=2";
    world.ok(&format!("{args} --run whole"));
    // The epoch's only step is done: what comes then is the validation.
    let output = stop(&world, &format!("{args} --run cut"), "cut", 1, "-INT");
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert_eq!(world.metrics("cut").len(), 1, "the epoch's line comes after its validation");
    let output = world.run("train --resume --run cut");
    assert!(output.status.success(), "{}", stderr(&output));
    for file in ["last.safetensors", "best.safetensors"] {
        let file = |run: &str| world.bytes(&format!("{run}/{file}"));
        assert!(file("cut") == file("whole"));
    }
    assert_eq!(world.timeless("cut"), world.timeless("whole"));
}

#[test]
fn two_processes_do_not_train_in_one_folder() {
    let world = World::new();
    let mut first = start(&world, &format!("{LONG} --run cut"));
    // A checkpoint that a second process could go on from.
    wait_for(&world, "cut", 92);
    world.fails("train --resume --run cut", 1, &["cut", "another process is training"]);
    signal(&first, "-INT");
    first.wait().unwrap();
    let output = world.run("train --resume --run cut --set train.epochs=1");
    assert!(!stderr(&output).contains("another process"), "{}", stderr(&output));
}

#[test]
fn killed_at_any_moment_nothing_is_torn() {
    let world = World::new();
    let few = "train --config net.toml --set train.batch=3 --set train.epochs=8";
    world.ok(&format!("{few} --run whole"));
    let mut args = format!("{few} --run cut");
    for round in 0..12u64 {
        let mut child = start(&world, &args);
        wait_for(&world, "cut", 1);
        sleep(Duration::from_millis(7 + 13 * (round * 5 % 12)));
        child.kill().unwrap();
        child.wait().unwrap();
        let run = world.path("cut");
        for name in ["last", "best"] {
            let file = run.join(format!("{name}.safetensors"));
            if file.exists() {
                world.ok(&format!("inspect cut/{name}.safetensors"));
            }
        }
        args = "train --resume --run cut".into();
        world.ok("eval cut/last.safetensors");
    }
    // A torn last line of the log is what a kill may leave.
    let path = world.path("cut/metrics.jsonl");
    let mut text = fs::read_to_string(&path).unwrap();
    text += "{\"kind\":\"step\",\"st";
    fs::write(&path, text).unwrap();
    fs::write(world.path("cut/last.safetensors.tmp"), "half").unwrap();
    let output = world.run(&args);
    let finished = stderr(&output).contains("the run is finished");
    assert!(output.status.success() || finished, "{}", stderr(&output));
    for file in ["last.safetensors", "best.safetensors"] {
        let file = |run: &str| world.bytes(&format!("{run}/{file}"));
        assert!(file("cut") == file("whole"));
    }
    if !finished {
        assert_eq!(world.timeless("cut"), world.timeless("whole"));
        assert!(world.names("cut").iter().all(|name| !name.ends_with(".tmp")));
    }
}

#[test]
fn a_run_is_changed_by_hand() {
    let world = World::new();
    world.ok("train --config linear.toml");
    let before = world.bytes("runs/linear/last.safetensors");
    world.fails("train --resume", 1, &["runs/linear", "finished", "train.epochs="]);
    assert_eq!(world.bytes("runs/linear/last.safetensors"), before);

    let output = world.run("train --resume --set train.epochs=4 --set schedule.rate=0.00002");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("going on with runs/linear from step 27, epoch 4"));
    let lines = world.metrics("runs/linear");
    assert_eq!(lines.len(), 4 * 10, "no line twice, none missing");
    assert_eq!(lines[29]["learning_rate"], 0.0001);
    assert_eq!(lines[30]["learning_rate"], 0.00002);
    assert!(world.text("runs/linear/config.toml").contains("rate = 0.00002"));

    // Of several runs the newest, and it is said.
    world.ok("train --config linear.toml --set train.epochs=1");
    let output = world.run("train --resume --set train.epochs=2");
    assert!(stderr(&output).contains("going on with runs/linear-2 "), "{}", stderr(&output));
    // Another config file may take over.
    world.write("child.toml", "extends = \"linear.toml\"\n[train]\nepochs = 3\nmomentum = 0.5");
    world.ok("train --resume --run runs/linear-2 --config child.toml");
    assert!(world.text("runs/linear-2/config.toml").contains("momentum = 0.5"));
}

/// Puts `keys` and `state` into the config's `[schedule]` and the schedule's state of a checkpoint.
fn add_to_schedule(path: &Path, keys: &str, state: &str) {
    reseal(path, |header| {
        // Both are texts inside of a JSON text: what is escaped there is so here.
        for (mark, more) in [(r"[schedule]\n", keys), (r#"\"layers\":{}"#, state)] {
            let at = header.find(mark).unwrap() + mark.len();
            header.insert_str(at, more);
        }
    });
}

fn copy_run(world: &World, from: &str, to: &str) {
    fs::create_dir(world.path(to)).unwrap();
    for name in world.names(from) {
        fs::copy(world.path(from).join(&name), world.path(to).join(&name)).unwrap();
    }
}

/// Checkpoints from before each kind of schedule had its own keys hold those of both kinds, and in
/// the state what the plateau keeps, whatever the kind.
#[test]
fn a_checkpoint_with_the_keys_of_all_schedules_goes_on_as_any() {
    let world = World::new();
    let plateau = r#",\"drops\":0,\"best\":0.5,\"waited\":1"#;
    for (kind, keys, state) in [
        ("plateau", r"steps = []\n", ""),
        ("steps", r"drops = 3\nfactor = 10.0\npatience = 1\n", plateau),
    ] {
        let set = format!("--set schedule.kind={kind} --set train.epochs=2");
        world.ok(&format!("train --config linear.toml {set} --run {kind}"));
        let old = format!("old-{kind}");
        copy_run(&world, kind, &old);
        add_to_schedule(&world.path(&old).join("last.safetensors"), keys, state);
        for run in [kind, &old] {
            world.ok(&format!("train --resume --run {run} --set train.epochs=4"));
        }
        for file in ["last.safetensors", "best.safetensors", "config.toml"] {
            let file = |run: &str| world.bytes(&format!("{run}/{file}"));
            assert!(file(kind) == file(&old), "{kind}");
        }
        assert_eq!(world.timeless(kind), world.timeless(&old));
    }
    // A plateau that followed a list of steps too: of use, but which of the two shall go on?
    copy_run(&world, "plateau", "mixed");
    let mixed = world.path("mixed/last.safetensors");
    add_to_schedule(&mixed, r"steps = [{ epoch = 5, rate = 0.00002 }]\n", "");
    world.ok("eval mixed/last.safetensors");
    let go_on = "train --resume --run mixed --set train.epochs=5";
    world.fails(go_on, 2, &["schedule.steps", "\"plateau\"", "--set schedule.kind=steps"]);
    world.ok(&format!("{go_on} --set schedule.kind=steps"));
    assert_eq!(world.metrics("mixed").last().unwrap()["learning_rate"], 0.00002);
}

#[test]
fn what_cannot_be_continued_is_refused_and_left_alone() {
    let world = World::new();
    // Inside an epoch; a signal that comes while one ends does not serve.
    for _ in 0..20 {
        let output = stop(&world, &format!("{LONG} --run cut"), "cut", 20, "-INT");
        assert_eq!(output.status.code(), Some(130));
        if world.metrics("cut").last().unwrap()["kind"] == "step" {
            break;
        }
        fs::remove_dir_all(world.path("cut")).unwrap();
    }
    let files = || {
        let names = ["last.safetensors", "config.toml", "metrics.jsonl"];
        names.map(|name| world.bytes(&format!("cut/{name}")))
    };
    let before = files();
    let resume = "train --resume --run cut --set";
    world.fails(
        &format!("{resume} train.batch=2"),
        2,
        &["train.batch = 2", "between epochs", "= 1"],
    );
    world.fails(&format!("{resume} seed=9"), 2, &["seed = 9", "between epochs", "= 3"]);
    let kernels = format!("{resume} layer.conv1.kernels=4");
    world.fails(
        &kernels,
        1,
        &["cut/last.safetensors", "conv1.weight", "[8, 3, 3, 3]", "[4, 3, 3, 3]"],
    );
    world.fails("train --resume --run none", 1, &["none", "no last.safetensors"]);
    world.fails("train --run none", 2, &["--config"]);
    assert!(files() == before, "a refusal changes nothing");

    // Another class table: the first difference is named.
    world.photos("other/train", ["down", "round", "slant"], 4);
    world.ok("prepare image-folder other --out other-set --size 16");
    let other = "train --resume --run cut --data other-set";
    world.fails(other, 1, &["class 1", "\"level\"", "\"round\""]);
    assert!(files() == before);
}

#[test]
fn without_a_run_there_is_nothing_to_go_on_with() {
    let world = World { folder: tempfile::tempdir().unwrap() };
    for command in ["train --resume", "eval", "predict x.png"] {
        world.fails(command, 1, &["no run with a checkpoint in runs/", "alexnet train --config"]);
    }
    File::create(world.path("runs")).unwrap();
    world.fails("eval", 1, &["no run with a checkpoint in runs/"]);
}
