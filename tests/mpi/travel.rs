//! Gradients that travel while others are computed: without `train.parts`, on a network so large
//! that they go in several pieces.

use super::launchers::{self, Running, send};
use super::{close, fails, ok};
use crate::common::World;

/// 2.3 million weights in fc3, twice a transfer of a million, 150 pieces that two exchange; biases
/// and convolutions travel together. Some steps at the end of an epoch have images for the first ranks only.
const WIDE: &str = "train --config net.toml --set train.batch=22 --set layer.fc3.outputs=9000 --set \
                    layer.fc3.weight_sigma=0.02 --set schedule.rate=0.002 --set train.epochs=1";

#[test]
fn many_processes_are_one_but_for_rounding() {
    let world = World::new();
    let lars = "--set train.optimizer=lars --set schedule.kind=polynomial --set \
                schedule.rate=0.5 --set schedule.bias_rate=0.002 --set schedule.warmup_epochs=0.5";
    let frozen = "--set train.freeze=[\"conv1\"]";
    for (name, more, numbers) in
        [("sgd", "", &[2, 4][..]), ("lars", lars, &[4]), ("frozen", frozen, &[4])]
    {
        world.ok(&format!("{WIDE} {more} --run {name}"));
        for launcher in launchers::all() {
            for &ranks in numbers {
                let run = format!("{name}-{}-{ranks}", launcher.name.replace(' ', "-"));
                ok(&world, &launcher, ranks, &format!("{WIDE} {more} --run {run}"));
                let last = |run: &str| world.path(&format!("{run}/last.safetensors"));
                close(&last(&run), &last(name));
            }
        }
    }
}

/// A rank that stands still is waited for with a bound, also by the thread that adds up.
#[test]
fn sums_are_waited_for_with_a_bound() {
    let Some(launcher) = launchers::any() else { return };
    let world = World::new();
    let args = format!("{} --run run", WIDE.replace("epochs=1", "epochs=500"));
    let variables = [("ALEXNET_MPI_WAIT", "2")];
    for round in 0..3 {
        let _ = std::fs::remove_dir_all(world.path("run"));
        let mut running = Running::start_with(&world, &launcher, 2, &args, &variables);
        running.wait_until("trains", |_| {
            std::fs::read_to_string(world.path("run/metrics.jsonl"))
                .is_ok_and(|text| text.lines().count() > 2 + round)
        });
        let said = running.said();
        let process = said.split("rank 1: process ").nth(1).unwrap().split(' ').next().unwrap();
        send(process.parse().unwrap(), libc::SIGSTOP);
        running.wait_until("gives up", |running| running.said().contains("has not answered for"));
        let said = running.kill();
        let line = said.lines().find(|line| line.contains("has not answered for")).unwrap();
        assert!(line.contains("error: ") && line.contains("rank 1 on "), "{line}");
    }
}

/// A loss that is no number is agreed on before any gradient is sent.
#[test]
fn training_that_diverges_ends_all() {
    let Some(launcher) = launchers::any() else { return };
    let world = World::new();
    let args = format!("{WIDE} --set schedule.rate=1e30 --run run");
    fails(&world, &launcher, 2, &args, &["diverged"]);
}

/// The profile says what was waited for.
#[test]
fn the_profile_has_the_wait_for_other_processes() {
    let Some(launcher) = launchers::any() else { return };
    let world = World::new();
    let said = ok(&world, &launcher, 2, &format!("{WIDE} --profile --run run"));
    assert!(said.contains("waited for the other processes' gradients: "), "{said}");
    let alone = world.run(&format!("{WIDE} --profile --run alone"));
    assert!(!String::from_utf8_lossy(&alone.stderr).contains("waited for the other"));
}
