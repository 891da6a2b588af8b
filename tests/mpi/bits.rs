//! How many processes compute changes no bit with `train.parts`, and only roundings without.

use super::{PARTS, assert_same, close, launchers, ok};
use crate::common::World;

/// A run of one process, without MPI, against runs of all numbers of processes with every library.
#[test]
fn parts_give_the_same_bits_in_any_number_of_processes() {
    let world = World::new();
    world.ok(&format!("{PARTS} --run whole"));
    for launcher in launchers::all() {
        for ranks in [1, 2, 4] {
            let run = format!("{}-{ranks}", launcher.name.replace(' ', "-"));
            ok(&world, &launcher, ranks, &format!("{PARTS} --run {run}"));
            assert_same(&world, &run, "whole");
        }
    }
}

/// Three processes for six parts do not have whole branches of the tree.
#[test]
fn a_tree_that_ranks_cut_across_too() {
    let Some(launcher) = launchers::any() else { return };
    let world = World::new();
    let six = "train --config net.toml --set train.batch=24 --set train.parts=6 --set \
               train.epochs=2";
    world.ok(&format!("{six} --run whole"));
    for ranks in [2, 3, 6] {
        ok(&world, &launcher, ranks, &format!("{six} --run six-{ranks}"));
        assert_same(&world, &format!("six-{ranks}"), "whole");
    }
}

/// An epoch in two processes, one in four, one in one.
#[test]
fn a_run_goes_on_in_another_number_of_processes() {
    let Some(launcher) = launchers::any() else { return };
    let world = World::new();
    world.ok(&format!("{PARTS} --run whole"));
    let first = PARTS.replace("train.epochs=3", "train.epochs=1");
    ok(&world, &launcher, 2, &format!("{first} --run cut"));
    ok(&world, &launcher, 4, "train --resume --run cut --set train.epochs=2");
    world.ok("train --resume --run cut --set train.epochs=3");
    let last = |run: &str| world.bytes(&format!("{run}/last.safetensors"));
    assert!(last("cut") == last("whole"));
    assert_eq!(world.timeless("cut"), world.timeless("whole"));
}

/// The library adds up in an order of its own; batches that processes do not divide evenly, and a
/// last batch in which some have nothing.
#[test]
fn without_parts_processes_are_one_but_for_rounding() {
    let world = World::new();
    let plain = "train --config net.toml --set train.batch=22 --set train.epochs=1 --set \
                 schedule.rate=0.005";
    world.ok(&format!("{plain} --run whole"));
    for launcher in launchers::all() {
        for ranks in [2, 4] {
            let run = format!("plain-{}-{ranks}", launcher.name.replace(' ', "-"));
            ok(&world, &launcher, ranks, &format!("{plain} --run {run}"));
            close(
                &world.path(&format!("{run}/last.safetensors")),
                &world.path("whole/last.safetensors"),
            );
        }
    }
}

/// The gradient of a batch in parts is that of the batch: one process, with and without parts.
#[test]
fn parts_change_roundings_only() {
    let world = World::new();
    let plain = "train --config net.toml --set train.batch=20 --set train.epochs=1 --set \
                 schedule.rate=0.005";
    world.ok(&format!("{plain} --run whole"));
    world.ok(&format!("{plain} --set train.parts=5 --run parts"));
    close(&world.path("parts/last.safetensors"), &world.path("whole/last.safetensors"));
}
