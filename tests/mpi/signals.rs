//! Ctrl-C and its relatives: all ranks finish the same step, rank 0 saves.

use super::launchers::{self, Launcher, Running, send};
use super::{ok, one_error};
use crate::common::World;
use std::path::Path;

/// More epochs of 45 steps than there is time for, saved by signals only.
const LONG: &str = "train --config net.toml --set train.batch=2 --set train.parts=2 --set \
                    train.checkpoint_minutes=0 --set schedule.patience=1000";

/// The step that a checkpoint holds.
fn step(file: &Path) -> u64 {
    let bytes = std::fs::read(file).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    header.metadata().as_ref().unwrap()["step"].parse().unwrap()
}

/// A run that has come some way.
fn trains(world: &World, launcher: &Launcher, run: &str) -> Running {
    let args = format!("{LONG} --set train.epochs=1000 --run {run}");
    let running = Running::start(world, launcher, 2, &args);
    running.wait_until("trains", |_| {
        let log = std::fs::read(world.path(run).join("metrics.jsonl")).unwrap_or_default();
        log.iter().filter(|&&byte| byte == b'\n').count() >= 20
    });
    running
}

/// Whether `run`, which was ended by a signal, has kept its last step, and goes on to the end of the
/// next epoch with the bits of one that nobody has ended.
#[track_caller]
fn goes_on(world: &World, launcher: &Launcher, run: &str) {
    let last = world.metrics(run).pop().unwrap();
    let of_step = step(&world.path(&format!("{run}/last.safetensors")));
    assert_eq!(Some(of_step), last["step"].as_u64());
    let epochs = format!("--set train.epochs={}", last["epoch"].as_u64().unwrap() + 1);
    ok(world, launcher, 2, &format!("train --resume --run {run} {epochs}"));
    world.ok(&format!("{LONG} {epochs} --run {run}-whole"));
    let bits = |run: &str| world.bytes(&format!("{run}/last.safetensors"));
    assert!(bits(run) == bits(&format!("{run}-whole")), "{}: other bits", launcher.name);
    assert_eq!(world.timeless(run), world.timeless(&format!("{run}-whole")));
}

/// The launcher hands it on, as SIGTERM or SIGINT.
#[test]
fn ctrl_c_finishes_the_step_of_all_ranks() {
    let world = World::new();
    for (number, launcher) in launchers::all().into_iter().enumerate() {
        let (launcher, run) = (launcher.patient(), format!("cut-{number}"));
        let running = trains(&world, &launcher, &run);
        running.signal(libc::SIGINT);
        let (_, said) = running.end();
        one_error(&said, &["interrupted; all is kept", "train --resume"]);
        goes_on(&world, &launcher, &run);
    }
}

/// A batch system's warning may reach one process only.
#[test]
fn a_signal_to_one_rank_is_one_to_all() {
    let Some(launcher) = launchers::any().map(Launcher::patient) else { return };
    let world = World::new();
    let mut running = trains(&world, &launcher, "cut");
    let said = running.said();
    let process = said.split("rank 1: process ").nth(1).unwrap().split(' ').next().unwrap();
    let process = process.parse().unwrap();
    send(process, libc::SIGUSR1);
    running.wait_until("saves", |running| running.said().contains("saved as asked"));
    send(process, libc::SIGTERM);
    running.ranks_end();
    let said = running.kill();
    one_error(&said, &["interrupted; all is kept"]);
    assert!(said.contains("another rank was told to end"), "{said}");
    goes_on(&world, &launcher, "cut");
}
