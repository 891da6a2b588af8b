//! `train.distribute = "hybrid"`: each process has its own images of a batch below the first fully
//! connected layer, and its own neurons for all images from there on. What comes of it is what one
//! process makes, but for rounding; checkpoints are whole, and go on in any way and number.

use super::deaths::{bad_record, kill_again_and_again};
use super::launchers::{self, Running, send};
use super::{fails, ok, one_error};
use crate::common::{NETWORK, World, tensors};
use std::path::Path;

/// 22 steps of eight images and one of four, which the first processes have.
pub const TRAIN: &str = "train --set train.batch=8 --set train.epochs=1 --set schedule.rate=0.005";
pub const HYBRID: &str = "--set train.distribute=hybrid";

/// Six classes; three fully connected layers, of 16, 13 and 6 neurons, with what lies between them:
/// `deep.toml` with two towers, `deep-1.toml` with one.
pub fn world() -> World {
    world_of(30, 10)
}

/// So many images of each class, to train with and to validate.
pub fn world_of(train: u32, validate: u32) -> World {
    let world = World::new();
    for (folder, n) in [("photos/train", train), ("photos/val", validate)] {
        world.photos(folder, ["rise", "still", "tilt"], n);
    }
    world.ok("prepare image-folder photos --out six --size 16");
    let more = "[[layer]]\nname = \"fc5\"\nkind = \"fc\"\noutputs = 13\nweight_sigma = 0.1\n\
                [[layer]]\nname = \"tanh5\"\nkind = \"tanh\"\n[[layer]]\nname = \"fc4\"";
    let deep = NETWORK.replace("[[layer]]\nname = \"fc4\"", more).replace("\"set\"", "\"six\"");
    // As in the paper's network, the scores are on one tower.
    let deep = deep.replace("\"classes\"", "\"classes\"\ntower = 0");
    world.write("deep.toml", &deep);
    world.write("deep-1.toml", &deep.replace("towers = 2", "towers = 1"));
    world
}

/// Whether all tensors of the last checkpoints are equal within 10⁻⁴ of their largest value.
#[track_caller]
pub fn close(world: &World, run: &str, whole: &str) {
    close_within(world, run, whole, 1e-4);
}

/// The same where rounding may turn a ReLU or a maximum over at the last: a momentum is then
/// another by what one image gives it.
#[track_caller]
pub fn close_but_for_turns(world: &World, run: &str, whole: &str) {
    close_within(world, run, whole, 1e-3);
}

#[track_caller]
fn close_within(world: &World, run: &str, whole: &str, of_momenta: f32) {
    let last = |run: &str| tensors(&world.path(&format!("{run}/last.safetensors")));
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    for ((name, shape, ours), (other, whole, theirs)) in last(run).into_iter().zip(last(whole)) {
        assert_eq!((&name, shape), (&other, whole));
        let (ours, theirs) = (floats(&ours), floats(&theirs));
        let most = theirs.iter().fold(1e-3f32, |most, v| most.max(v.abs()));
        let far = ours.iter().zip(&theirs).fold(0f32, |far, (a, b)| far.max((a - b).abs()));
        let within = if name.starts_with("momentum/") { of_momenta } else { 1e-4 };
        assert!(far <= within * most, "{run}: {name}: {far} of {most}");
    }
}

/// Whether the logs have the same losses and errors, in training and validation.
#[track_caller]
pub fn same_log(world: &World, run: &str, whole: &str) {
    let (ours, theirs) = (world.metrics(run), world.metrics(whole));
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        let near = |ours: &serde_json::Value, theirs: &serde_json::Value, key: &str| {
            let [ours, theirs] = [ours, theirs].map(|line| line[key].as_f64().unwrap());
            assert!((ours - theirs).abs() < 1e-4 * theirs, "{key}: {ours} and {theirs}");
        };
        near(ours, theirs, "loss");
        assert_eq!(ours["step"], theirs["step"]);
        if theirs["kind"] == "epoch" {
            near(ours, theirs, "val_loss");
            assert_eq!(ours["val_top1_error"], theirs["val_top1_error"]);
        }
    }
}

#[test]
fn hybrid_is_one_process_but_for_rounding() {
    let world = world();
    for config in ["deep-1", "deep"] {
        let train = format!("{TRAIN} --config {config}.toml");
        world.ok(&format!("{train} --run {config}-whole"));
        for launcher in launchers::all() {
            for ranks in [1, 2, 4] {
                let run = format!("{config}-{}-{ranks}", launcher.name.replace(' ', "-"));
                ok(&world, &launcher, ranks, &format!("{train} {HYBRID} --run {run}"));
                close_but_for_turns(&world, &run, &format!("{config}-whole"));
                same_log(&world, &run, &format!("{config}-whole"));
            }
        }
    }
}

/// Layers that stay as they are on either side of the border, and a network that has none below it.
#[test]
fn frozen_layers_and_networks_without_convolutions() {
    let Some(launcher) = launchers::any() else { return };
    let world = world();
    let trained = |name: &str, args: &str| {
        let train = format!("{TRAIN} {args}");
        world.ok(&format!("{train} --run {name}-whole"));
        ok(&world, &launcher, 3, &format!("{train} {HYBRID} --run {name}"));
        close(&world, name, &format!("{name}-whole"));
    };
    let deep = "--config deep.toml --set train.freeze";
    trained("below", &format!("{deep}=[\"conv1\",\"conv2\"]"));
    trained("above", &format!("{deep}=[\"fc3\",\"fc5\",\"fc4\"]"));
    trained("middle", &format!("{deep}=[\"conv1\",\"conv2\",\"fc3\"]"));
    trained("pixels", "--config linear.toml --set schedule.rate=0.0001");
}

/// An epoch each: two processes hybrid, three with all of it each, four hybrid, one alone.
#[test]
fn a_run_goes_on_in_another_way_and_number() {
    let Some(launcher) = launchers::any() else { return };
    let world = world();
    let train = "train --config deep.toml --set train.batch=10 --set schedule.rate=0.002";
    world.ok(&format!("{train} --set train.epochs=4 --run whole"));
    ok(&world, &launcher, 2, &format!("{train} {HYBRID} --set train.epochs=1 --run cut"));
    world.ok("eval cut/last.safetensors");
    let go_on = |epochs: usize, way: &str| {
        format!("train --resume --run cut --set train.epochs={epochs} --set train.distribute={way}")
    };
    ok(&world, &launcher, 3, &go_on(2, "data"));
    ok(&world, &launcher, 4, &go_on(3, "hybrid"));
    world.ok(&go_on(4, "hybrid"));
    close(&world, "cut", "whole");
    same_log(&world, "cut", "whole");
}

/// What the link has counted is what was foretold, in both ways.
#[test]
fn the_bytes_that_inspect_foretells_are_sent() {
    let Some(launcher) = launchers::any() else { return };
    let world = world();
    // All ranks have as many neurons and images, and all batches are whole: 180 images.
    let even = "--set train.batch=12 --set train.epochs=1 --set layer.fc3.outputs=12 --set layer.fc5.outputs=12";
    for (ranks, layers) in [(2, ""), (3, ""), (3, "--set train.freeze=[\"conv1\",\"fc3\"]")] {
        let inspect = format!("inspect deep.toml --json --ranks {ranks} {even} {layers}");
        let rows = world.json(&inspect)["ranks"].clone();
        let row = rows.as_array().unwrap().last().unwrap().clone();
        let sent = |way: &str| -> u64 {
            let run = format!("{way}-{ranks}-{}", layers.len());
            let train = format!(
                "train --config deep.toml {even} {layers} --set train.distribute={way} --profile \
                 --run {run}"
            );
            let said = ok(&world, &launcher, ranks, &train);
            let line = said.lines().find(|line| line.contains("sent to the other")).unwrap();
            line.split(' ').rev().nth(3).unwrap().parse().unwrap()
        };
        assert_eq!(row["ranks"], ranks);
        assert_eq!(row["bytes_sent"], sent("data"), "{row}");
        assert_eq!(row["hybrid"]["bytes_sent"], sent("hybrid"), "{row}");
    }
}

/// By hand, for the paper's network, 128 images and two processes: labels; fc6's input of 64
/// images; 2,048 neurons of fc6 and fc7 and 500 scores of 128; the same back but for the scores and
/// labels; and the gradients of the convolutions, as without.
#[test]
fn fully_connected_layers_send_activations_only() {
    let world = World::new();
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/ilsvrc2012.toml");
    let plan = world.json(&format!("inspect {config} --json --ranks 2 --set data.classes=1000"));
    let row = &plan["ranks"][1];
    let parameters = plan["parameters"].as_u64().unwrap();
    let connected = 9217 * 4096 + 4097 * 4096 + 4097 * 1000;
    assert_eq!(row["bytes_sent"], 4 * parameters);
    let activations = 64 + 2 * 64 * 9216 + 128 * (4 * 2048 + 500);
    assert_eq!(row["hybrid"]["bytes_sent"], 4 * (parameters - connected + activations));
    // Half of the weights, gradients and momenta, less what all images take there.
    let memory = |row: &serde_json::Value| row["memory_bytes"].as_u64().unwrap();
    assert!(memory(row) - memory(&row["hybrid"]) > 5 * connected, "{row}");
    // On GPUs, too; packs and copies for products are counted there.
    let gpus =
        world.json(&format!("inspect {config} --json --gpu --ranks 2 --set data.classes=1000"));
    let on_gpus = &gpus["ranks"][1];
    assert!(memory(on_gpus) - memory(&on_gpus["hybrid"]) > 5 * connected, "{on_gpus}");
    assert_ne!(memory(on_gpus), memory(row));
    assert_eq!(on_gpus["hybrid"]["bytes_sent"], row["hybrid"]["bytes_sent"]);
    let table = world
        .ok(&format!("inspect {config} --ranks 2000 --images-per-rank 4 --set data.classes=1000"));
    assert!(table.contains("not with 1024 ranks: layer fc8: its 1000 neurons"), "{table}");
}

/// Saved every four steps, or later where the last is still being written; a killed process ends
/// the other, and what is there goes on.
#[test]
fn a_killed_rank_leaves_a_whole_checkpoint() {
    let world = world();
    for (number, launcher) in launchers::all().iter().enumerate().take(2) {
        let run = format!("cut-{number}");
        let args = format!(
            "{TRAIN} --config deep.toml {HYBRID} --set train.epochs=1000 --set \
             train.checkpoint_steps=4 --set schedule.patience=2000 --run {run}"
        );
        let mut running = Running::start(&world, launcher, 2, &args);
        running.wait_until("saves", |running| {
            step(&world.path(&format!("{run}/last.safetensors"))) >= 4 && running.ranks().len() > 1
        });
        send(running.ranks()[number % 2], libc::SIGKILL);
        running.ranks_end();
        running.kill();
        let saved = step(&world.path(&format!("{run}/last.safetensors")));
        let epochs = format!("--set train.epochs={}", saved / 23 + 1);
        ok(&world, launcher, 3, &format!("train --resume --run {run} {epochs}"));
        let whole = format!("{TRAIN} --config deep.toml {epochs} --run {run}-whole");
        world.ok(&whole);
        if saved < 60 {
            close_but_for_turns(&world, &run, &format!("{run}-whole"));
        }
    }
}

/// At any moment, the first milliseconds and those of a save among them: what is there goes on in
/// as many processes to the bits of a run that nobody has killed.
#[test]
fn a_killed_rank_ends_all_and_the_run_goes_on_with_the_same_bits() {
    let Some(launcher) = launchers::any() else { return };
    let world = world();
    let train = format!(
        "{TRAIN} --config deep.toml {HYBRID} --set train.epochs=4 --set train.checkpoint_steps=4"
    );
    ok(&world, &launcher, 2, &format!("{train} --run whole"));
    kill_again_and_again(&world, &train);
}

/// The step of a checkpoint that is there; 0: none is.
pub fn step(file: &Path) -> u64 {
    let Ok(bytes) = std::fs::read(file) else { return 0 };
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    header.metadata().as_ref().unwrap()["step"].parse().unwrap()
}

/// One process is told to end: all finish the step, and its checkpoint is of all.
#[test]
fn a_signal_to_one_rank_saves_the_shares_of_all() {
    let Some(launcher) = launchers::any() else { return };
    let (launcher, world) = (launcher.patient(), world());
    let args = format!(
        "{TRAIN} --config deep.toml {HYBRID} --set train.epochs=1000 --set \
         schedule.patience=2000 --run cut"
    );
    let running = Running::start(&world, &launcher, 2, &args);
    running.wait_until("trains", |running| {
        let log = std::fs::read_to_string(world.path("cut/metrics.jsonl")).unwrap_or_default();
        log.lines().count() >= 5 && running.ranks().len() == 2
    });
    send(running.ranks()[1], libc::SIGTERM);
    let (_, said) = running.end();
    one_error(&said, &["interrupted; all is kept", "train --resume"]);
    let saved = step(&world.path("cut/last.safetensors"));
    assert_eq!(world.metrics("cut").last().unwrap()["step"], saved);
    let epochs = format!("--set train.epochs={}", saved / 23 + 1);
    ok(&world, &launcher, 2, &format!("train --resume --run cut {epochs}"));
    world.ok(&format!("{TRAIN} --config deep.toml {epochs} --run whole"));
    if saved < 60 {
        close(&world, "cut", "whole");
    }
}

/// A record that is damaged is in one rank's share: what is done is kept, and its name is told.
#[test]
fn a_bad_record_ends_all_and_what_was_done_is_kept() {
    if launchers::any().is_none() {
        return;
    }
    let world = world();
    world.ok(&format!("{TRAIN} --config deep.toml --run whole"));
    let train = format!("{TRAIN} --config deep.toml {HYBRID}");
    let every_step_is_kept = |run: &str| {
        let saved = step(&world.path(&format!("{run}/last.safetensors")));
        let done = world.metrics(run).last().map_or(0, |line| line["step"].as_u64().unwrap());
        assert_eq!(saved, done);
    };
    bad_record(&world, "six", &train, every_step_is_kept, |run| close(&world, run, "whole"));
}

#[test]
fn training_that_diverges_is_told_once() {
    let Some(launcher) = launchers::any() else { return };
    let world = world();
    let args = format!("{TRAIN} --config deep.toml {HYBRID} --set schedule.rate=1e30 --run wild");
    fails(&world, &launcher, 2, &args, &["train", "diverged", "1e30"]);
    assert!(world.text("wild/diverged.txt").contains("diverged"));
}

/// A rank that is stopped is waited for with a bound, by name, whatever all are at.
#[test]
fn a_wait_has_a_bound() {
    let Some(launcher) = launchers::any() else { return };
    let world = world();
    let args = format!("{TRAIN} --config deep.toml {HYBRID} --set train.epochs=1000 --run bound");
    for round in 0..3 {
        let _ = std::fs::remove_dir_all(world.path("bound"));
        let variables = [("ALEXNET_MPI_WAIT", "2")];
        let mut running = Running::start_with(&world, &launcher, 2, &args, &variables);
        running.wait_until("trains", |_| {
            std::fs::read_to_string(world.path("bound/metrics.jsonl"))
                .is_ok_and(|text| text.lines().count() > 3 + round)
        });
        let said = running.said();
        let process = said.split("rank 1: process ").nth(1).unwrap().split(' ').next().unwrap();
        send(process.parse().unwrap(), libc::SIGSTOP);
        running.wait_until("gives up", |running| running.said().contains("has not answered for"));
        running.wait_until("ends", |running| running.ranks().len() < 2);
        let said = running.kill();
        let line = said.lines().find(|line| line.contains("has not answered for")).unwrap();
        assert!(line.contains("error: ") && line.contains("rank 1 on "), "{said}");
        world.ok("inspect bound/last.safetensors");
    }
}

/// What cannot be divided so is refused in one sentence, before anything is written.
#[test]
fn refusals() {
    let Some(launcher) = launchers::any() else { return };
    let world = world();
    let train = format!("{TRAIN} --config deep.toml {HYBRID} --run none");
    let refused = |ranks: usize, more: &str, words: &[&str]| {
        fails(&world, &launcher, ranks, &format!("{train} {more}"), words);
        assert!(!world.path("none").exists());
    };
    refused(2, "--set train.parts=4", &["train.parts = 4", "hybrid"]);
    refused(2, "--set train.optimizer=lars", &["lars", "hybrid"]);
    refused(7, "", &["layer fc4", "6 neurons", "7 processes"]);
    refused(2, "--device cuda:0,1", &["--device cuda:0,1", "hybrid", "one GPU"]);
    refused(2, "--set layer.fc3.input=same-tower", &["layer fc3", "input", "hybrid"]);
    refused(2, "--set train.distribute=model", &["distribute", "hybrid"]);
    let other = |text: String, words: &[&str]| {
        world.write("other.toml", &text);
        fails(&world, &launcher, 2, &train.replace("deep.toml", "other.toml"), words);
    };
    let deep = world.text("deep.toml");
    let lrn = deep.replace("kind = \"tanh\"", "kind = \"lrn\"");
    other(lrn, &["layer tanh5", "fc3", "\"lrn\"", "hybrid"]);
    let (below, above) = deep.split_once("[[layer]]\nname = \"fc3\"").unwrap();
    let softmax = &above[above.rfind("[[layer]]").unwrap()..];
    other(format!("{below}{softmax}"), &["no layer of kind \"fc\"", "hybrid"]);
    // One process has all of it, whatever is said.
    world.fails(&format!("{train} --set train.parts=4"), 2, &["train.parts = 4", "hybrid"]);
}
