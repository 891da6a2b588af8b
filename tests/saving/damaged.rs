//! A damaged checkpoint: the run's newest sound one takes its place.

use super::{SHORT, assert_same_end, start, wait_until};
use crate::common::{World, stderr};
use std::fs;

/// `good` cut at 0, 1, 50 and 99 %, and with one bit flipped in the length, the header, a weight
/// and a momentum.
fn damages(good: &[u8]) -> Vec<(String, Vec<u8>)> {
    let cuts = [0, 1, 50, 99].map(|percent| {
        (format!("cut at {percent} %"), good[..good.len() * percent / 100].to_vec())
    });
    let header = 8 + u64::from_le_bytes(*good.first_chunk().unwrap()) as usize;
    let middle = (header + good.len()) / 2;
    let flips = [1, 100, header + 3, middle].map(|place| {
        let mut bytes = good.to_vec();
        bytes[place] ^= 2;
        (format!("bit of byte {place}"), bytes)
    });
    cuts.into_iter().chain(flips).collect()
}

fn copy_run(world: &World, from: &str, to: &str) {
    let _ = fs::remove_dir_all(world.path(to));
    fs::create_dir(world.path(to)).unwrap();
    for name in world.names(from) {
        fs::copy(world.path(from).join(&name), world.path(to).join(&name)).unwrap();
    }
}

#[test]
fn a_damaged_newest_checkpoint_falls_back_to_the_newest_sound_one() {
    let world = World::new();
    let keep = "train --config net.toml --set train.keep=1 --set train.epochs";
    world.ok(&format!("{keep}=4 --run whole"));
    world.ok(&format!("{keep}=3 --run old"));
    let good = world.bytes("old/last.safetensors");
    for (what, bytes) in damages(&good) {
        copy_run(&world, "old", "cut");
        world.write("cut/best.safetensors", "nothing at all");
        fs::remove_file(world.path("cut/epoch-0003.safetensors")).unwrap();
        fs::write(world.path("cut/last.safetensors"), bytes).unwrap();
        let output = world.run("train --resume --run cut --set train.epochs=4");
        let said = stderr(&output);
        assert!(output.status.success(), "{what}: {said}");
        let line = said.lines().find(|line| line.contains("in its place")).expect(&what);
        assert!(line.contains("cut/last.safetensors"), "{what}: {line}");
        assert!(line.contains("cut/epoch-0002.safetensors, after step 18"), "{what}: {line}");
        assert_same_end(&world, "cut", "whole");
    }
    // Nor does it need to be there; the best may be all there is.
    copy_run(&world, "old", "cut");
    for name in world.names("cut") {
        if name.starts_with("epoch") || name.starts_with("last") {
            fs::remove_file(world.path("cut").join(name)).unwrap();
        }
    }
    let output = world.run("train --resume --run cut --set train.epochs=4");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("in its place: cut/best.safetensors"));
    assert_same_end(&world, "cut", "whole");
}

/// `last` and `best` of one epoch are two files: what happens to one leaves the other alone.
#[test]
fn the_last_and_the_best_of_an_epoch_are_damaged_apart() {
    let world = World::new();
    world.ok(&format!("{SHORT} --run whole"));
    // An epoch that is surely the best: the first.
    world.ok("train --config net.toml --set train.epochs=1 --run cut");
    let best = world.bytes("cut/best.safetensors");
    assert!(world.bytes("cut/last.safetensors") == best);
    fs::write(world.path("cut/last.safetensors"), "damage").unwrap();
    assert!(world.bytes("cut/best.safetensors") == best);
    world.ok("train --resume --run cut --set train.epochs=3");
    assert_same_end(&world, "cut", "whole");
}

/// What was fallen back to becomes `last` before the next step.
#[test]
fn a_damaged_last_is_replaced_at_once() {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=1 --run cut");
    fs::write(world.path("cut/last.safetensors"), "damage").unwrap();
    let mut child = start(&world, "train --resume --run cut --set train.epochs=200");
    wait_until("a new last", || world.bytes("cut/last.safetensors") != b"damage");
    child.kill().unwrap();
    child.wait().unwrap();
    world.ok("eval cut/last.safetensors");
}

#[test]
fn a_damaged_best_is_replaced_by_the_newest_sound_one_where_none_is_named() {
    let world = World::new();
    world.ok("train --config linear.toml");
    let good = world.bytes("runs/linear/best.safetensors");
    let photo = "predict photos/val/down/001.png";
    let (eval, predict) = (world.ok("eval --json runs/linear/last.safetensors"), world.ok(photo));
    // Evaluation does not read momenta, where the last of them is.
    let damages = damages(&good);
    for (what, bytes) in &damages[..damages.len() - 1] {
        fs::write(world.path("runs/linear/best.safetensors"), bytes).unwrap();
        for command in ["eval --json", photo] {
            let output = world.run(command);
            let said = stderr(&output);
            assert!(output.status.success(), "{what}: {said}");
            let names = ["runs/linear/best.safetensors", "runs/linear/last.safetensors"];
            let warned = said.lines().any(|line| {
                line.contains("in its place") && names.iter().all(|name| line.contains(name))
            });
            assert!(warned, "{what}, {command}: {said}");
        }
        // Named, it is refused.
        world.fails("eval runs/linear/best.safetensors", 1, &["runs/linear/best.safetensors"]);
    }
    fs::write(world.path("runs/linear/best.safetensors"), &good).unwrap();
    assert!(world.ok("eval --json").contains("best.safetensors"));
    assert!(eval.contains("last.safetensors") && world.ok(photo) == predict);
}
