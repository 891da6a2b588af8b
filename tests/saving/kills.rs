//! What a SIGKILL leaves, in a run's first moments and between two checkpoints.

use super::{LONG, assert_same, start, step, wait_until};
use crate::common::World;

fn lines_of(world: &World, run: &str) -> usize {
    let log = std::fs::read(world.path(run).join("metrics.jsonl")).unwrap_or_default();
    log.iter().filter(|&&byte| byte == b'\n').count()
}

#[test]
fn killed_in_the_first_steps_a_run_goes_on_from_its_beginning() {
    let world = World::new();
    world.ok(&format!("{LONG} --run whole"));
    let mut child = start(&world, &format!("{LONG} --run cut"));
    wait_until("3 steps", || lines_of(&world, "cut") >= 3);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(step(&world.path("cut/last.safetensors")), 0);
    world.ok("train --resume --run cut");
    assert_same(&world, "cut", "whole");
}

#[test]
fn last_is_written_every_so_many_steps() {
    let world = World::new();
    let args = format!("{LONG} --set train.checkpoint_steps=7");
    world.ok(&format!("{args} --run whole"));
    let last = world.path("cut/last.safetensors");
    let mut child = start(&world, &format!("{args} --run cut"));
    wait_until("the first checkpoint", || last.exists());
    wait_until("a checkpoint inside an epoch", || step(&last) % 90 > 0);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(step(&last) >= 7, "step {}", step(&last));
    world.ok("train --resume --run cut");
    assert_same(&world, "cut", "whole");
    // A number of steps that is none.
    world.fails(&format!("{LONG} --set train.checkpoint_steps=-1"), 2, &["checkpoint_steps"]);
}

/// What has only begun is nothing to evaluate, unless it is named.
#[test]
fn eval_and_predict_take_runs_that_have_a_best() {
    let world = World::new();
    world.ok("train --config linear.toml --run runs/done");
    let mut child = start(&world, &format!("{LONG} --run runs/begun"));
    wait_until("a first step", || lines_of(&world, "runs/begun") >= 1);
    child.kill().unwrap();
    child.wait().unwrap();
    if world.path("runs/begun/best.safetensors").exists() {
        std::fs::remove_file(world.path("runs/begun/best.safetensors")).unwrap();
    }
    let json = world.json("eval --json");
    assert_eq!(json["checkpoints"][0], "runs/done/best.safetensors");
    world.ok("predict photos/val/down/001.png");
    std::fs::remove_dir_all(world.path("runs/done")).unwrap();
    world.fails("eval", 1, &["no run in runs/", "runs/begun/last.safetensors"]);
    world.ok("eval runs/begun/last.safetensors");
}
