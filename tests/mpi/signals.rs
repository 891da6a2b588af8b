//! Ctrl-C and its relatives: all ranks finish the same step, rank 0 saves.

use super::launchers::{self, Launcher, Running, send};
use super::{assert_same, ok, one_error};
use crate::common::World;

/// 6 epochs of 90 steps.
const LONG: &str = "train --config net.toml --set train.batch=2 --set train.parts=2 --set \
                    train.checkpoint_minutes=0 --set train.epochs=6";

fn lines(world: &World, run: &str) -> usize {
    let log = std::fs::read(world.path(run).join("metrics.jsonl")).unwrap_or_default();
    log.iter().filter(|&&byte| byte == b'\n').count()
}

fn trains(world: &World, launcher: &Launcher, run: &str) -> Running {
    let running = Running::start(world, launcher, 2, &format!("{LONG} --run {run}"));
    running.wait_until("trains", |_| lines(world, run) >= 20);
    running
}

/// The launcher hands it on, as SIGTERM or SIGINT.
#[test]
fn ctrl_c_finishes_the_step_of_all_ranks() {
    let world = World::new();
    world.ok(&format!("{LONG} --run whole"));
    for (number, launcher) in launchers::all().iter().enumerate() {
        let run = format!("cut-{number}");
        let mut running = trains(&world, launcher, &run);
        running.signal(libc::SIGINT);
        running.ranks_end();
        let said = running.kill();
        one_error(&said, &["interrupted; all is kept", "train --resume"]);
        assert!(lines(&world, &run) < 546, "{said}");
        ok(&world, launcher, 2, &format!("train --resume --run {run}"));
        assert_same(&world, &run, "whole");
    }
}

/// A batch system's warning may reach one process only.
#[test]
fn a_signal_to_one_rank_is_one_to_all() {
    let Some(launcher) = launchers::any() else { return };
    let world = World::new();
    world.ok(&format!("{LONG} --run whole"));
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
    ok(&world, &launcher, 2, "train --resume --run cut");
    assert_same(&world, "cut", "whole");
}
