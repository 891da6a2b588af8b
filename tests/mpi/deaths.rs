//! A rank that dies, or cannot go on, ends all; what was saved is whole, and the run goes on with
//! the bits that it would have had.

use super::launchers::{self, Launcher, Running, send};
use super::{assert_same, fails};
use crate::common::World;
use std::thread::sleep;
use std::time::Duration;

/// 8 epochs of 9 steps, saved within each.
const LONG: &str = "train --config net.toml --set train.parts=2 --set train.epochs=8 --set \
                    train.checkpoint_steps=4";

/// What is said of a run that has nothing left to do.
const FINISHED: &str = "the run is finished";

/// How long others may live on: the README says seconds, and a busy machine is given more of them.
const BOUND: Duration = Duration::from_secs(40);

/// `ALEXNET_TEST_KILLS` says how often; each launcher has its share.
fn kills() -> u64 {
    std::env::var("ALEXNET_TEST_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(6)
}

/// Kills a rank of a run again and again, each time at another moment, from the first
/// milliseconds on, and goes on with what is there.
#[test]
fn a_killed_rank_ends_all_and_the_run_goes_on_with_the_same_bits() {
    let world = World::new();
    world.ok(&format!("{LONG} --run whole"));
    kill_again_and_again(&world, LONG);
}

/// Kills a rank of two that train by `train` at [`kills()`] moments, and goes on each time. In the
/// end all is as in the run `whole`, which nobody has interrupted.
pub fn kill_again_and_again(world: &World, train: &str) {
    let launchers: Vec<_> = launchers::all().into_iter().take(2).map(Launcher::patient).collect();
    for (number, launcher) in launchers.iter().enumerate() {
        let run = format!("cut-{number}");
        for round in 0..kills().div_ceil(launchers.len() as u64) {
            // Multiples of the golden section fall everywhere between 0 and 1.
            let moment = (round + 1) as f64 * 0.618_034 % 1.0;
            let after = Duration::from_secs_f64(2.0 * moment);
            kill_once(world, launcher, (train, &run), after, round);
        }
        let (code, said) = Running::start(world, launcher, 2, &go_on(world, train, &run)).end();
        // The last one may have been killed when all was saved.
        assert!(code == Some(0) || said.contains(FINISHED), "{}: {said}", launcher.name);
        assert_same(world, &run, "whole");
    }
}

/// The command that goes on with `run`, or begins it by `train`.
fn go_on(world: &World, train: &str, run: &str) -> String {
    if world.path(&format!("{run}/last.safetensors")).exists() {
        return format!("train --resume --run {run}");
    }
    let _ = std::fs::remove_dir_all(world.path(run));
    format!("{train} --run {run}")
}

fn kill_once(
    world: &World,
    launcher: &Launcher,
    (train, run): (&str, &str),
    after: Duration,
    round: u64,
) {
    let mut running = Running::start(world, launcher, 2, &go_on(world, train, run));
    sleep(after);
    let steps = lines(world, run);
    let victim = running.ranks().get(round as usize % 2).copied();
    if let Some(rank) = victim {
        send(rank, libc::SIGKILL);
    }
    let took = running.ranks_end();
    // Open MPI leaves the other one the time to say who has died, if both know of each other and
    // are not at their ends: the start lists them.
    let trained = lines(world, "whole") > steps + 5;
    let listed = |process: &u32| running.said().contains(&format!(": process {process} "));
    if let Some(process) = victim.filter(listed).filter(|_| trained && launcher.is_open_mpi()) {
        let told = format!("(process {process}) has ended without a word");
        eprintln!("{}, {after:?}: told at line {steps} of the log", launcher.name);
        running.wait_until("told", |running| {
            let said = running.said();
            said.lines().any(|line| line.contains("error: rank ") && line.contains(&told))
        });
    }
    let said = running.kill();
    assert!(took < BOUND, "{took:?}: {said}");
    let last = world.path(&format!("{run}/last.safetensors"));
    if last.exists() {
        world.ok(&format!("inspect {run}/last.safetensors"));
        // A run that has nothing left to do begins anew.
        if said.contains(FINISHED) {
            assert_same(world, run, "whole");
            std::fs::remove_dir_all(world.path(run)).unwrap();
        }
    }
}

/// Of the log of `run`; 0: there is none yet.
fn lines(world: &World, run: &str) -> usize {
    let log = std::fs::read_to_string(world.path(&format!("{run}/metrics.jsonl")));
    log.map_or(0, |log| log.lines().count())
}

/// The survivors say who has died; Open MPI leaves them the time for it.
#[test]
fn a_death_is_told_with_rank_and_machine() {
    let Some(launcher) = launchers::all().into_iter().find(Launcher::is_open_mpi) else { return };
    let world = World::new();
    let args = format!("{LONG} --set train.epochs=1000 --run told");
    let mut running = Running::start(&world, &launcher, 3, &args.replace("parts=2", "parts=1"));
    running.wait_until("trains", |_| {
        std::fs::read_to_string(world.path("told/metrics.jsonl"))
            .is_ok_and(|t| t.lines().count() > 5)
    });
    let said = running.said();
    let process = said.split("rank 1: process ").nth(1).unwrap().split(' ').next().unwrap();
    send(process.parse().unwrap(), libc::SIGKILL);
    let took = running.ranks_end();
    running.wait_until("told", |running| running.said().contains("has ended without a word"));
    let said = running.kill();
    assert!(took < BOUND, "{took:?}: {said}");
    let line = said.lines().find(|line| line.contains("has ended without a word")).unwrap();
    assert!(line.contains(&format!("(process {process})")), "{line}");
    assert!(line.contains("error: rank 1 on "), "{line}");
}

/// A record that is damaged is in one rank's share: what is done is kept, and its name is told.
#[test]
fn a_bad_record_ends_all_and_what_was_done_is_kept() {
    let world = World::new();
    world.ok(&format!("{LONG} --run whole"));
    bad_record(&world, "set", LONG, |_| (), |run| assert_same(&world, run, "whole"));
}

/// Training by `train` in two processes, with each launcher, on the data set in `folder` of whose
/// images one is damaged: it ends, and goes on when the image is whole again. `ended` and `done`
/// look at the run's folder, then and at the end.
pub fn bad_record(
    world: &World,
    folder: &str,
    train: &str,
    ended: impl Fn(&str),
    done: impl Fn(&str),
) {
    let shard = world.path(&format!("{folder}/train-00000.shard"));
    let sound = std::fs::read(&shard).unwrap();
    let mut bad = sound.clone();
    let place = bad.len() / 2;
    bad[place] ^= 1;
    for (number, launcher) in launchers::all().iter().enumerate() {
        std::fs::write(&shard, &bad).unwrap();
        let run = format!("bad-{number}");
        let args = format!("{train} --run {run}");
        let said = fails(world, launcher, 2, &args, &["cannot load image", "train-00000.shard"]);
        assert!(said.contains("error: "), "{said}");
        ended(&run);
        std::fs::write(&shard, &sound).unwrap();
        super::ok(world, launcher, 2, &format!("train --resume --run {run}"));
        done(&run);
    }
}

/// All ranks see the same loss, and one of them says it.
#[test]
fn training_that_diverges_is_told_once() {
    let Some(launcher) = launchers::any() else { return };
    let world = World::new();
    let args = "train --config net.toml --set schedule.rate=1e30 --run wild";
    fails(&world, &launcher, 2, args, &["train", "diverged", "1e30"]);
    assert!(world.text("wild/diverged.txt").contains("diverged"));
}

/// A rank that is stopped answers nothing: it is waited for as long as is said, by name.
#[test]
fn a_wait_has_a_bound() {
    let Some(launcher) = launchers::any() else { return };
    let world = World::new();
    let args = "train --config net.toml --set train.epochs=1000 --run bound";
    let variables = [("ALEXNET_MPI_WAIT", "2")];
    let mut running = Running::start_with(&world, &launcher, 2, args, &variables);
    running.wait_until("trains", |_| {
        std::fs::read_to_string(world.path("bound/metrics.jsonl"))
            .is_ok_and(|t| t.lines().count() > 5)
    });
    let said = running.said();
    let process = said.split("rank 1: process ").nth(1).unwrap().split(' ').next().unwrap();
    let process = process.parse().unwrap();
    send(process, libc::SIGSTOP);
    running.wait_until("gives up", |running| running.said().contains("has not answered for"));
    let said = running.kill();
    let line = said.lines().find(|line| line.contains("has not answered for")).unwrap();
    assert!(line.contains("error: ") && line.contains("rank 1 on "), "{line}");
    assert!(line.contains("ALEXNET_MPI_WAIT"), "{line}");
    world.ok("inspect bound/last.safetensors");
}
