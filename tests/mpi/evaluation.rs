//! `eval` shared among ranks: the same words and files as of one process.

use super::{PARTS, fails, launchers, ok};
use crate::common::World;

#[test]
fn what_ranks_evaluate_together_is_what_one_process_does() {
    let world = World::new();
    world.ok(&format!("{PARTS} --run one"));
    world.ok(&format!("{PARTS} --set seed=4 --run two"));
    let commands = [
        "eval one --json --split train",
        "eval one two --ten-crop --per-class --json --split train --weights auto",
    ];
    for args in commands {
        let args = format!("{args} --predictions rows.csv --confusion table.csv");
        let alone = world.ok(&args);
        let files = ["rows.csv", "table.csv"].map(|file| world.bytes(file));
        for launcher in launchers::all() {
            let said = ok(&world, &launcher, 3, &args);
            // Standard output and error are one here.
            assert!(said.contains(alone.trim()), "{}: {said}\n{alone}", launcher.name);
            assert!(["rows.csv", "table.csv"].map(|file| world.bytes(file)) == files);
        }
    }
}

#[test]
fn a_rank_that_cannot_read_an_image_ends_all_with_its_name() {
    let Some(launcher) = launchers::any() else { return };
    let world = World::new();
    world.ok(&format!("{PARTS} --run one"));
    let shard = world.path("set/val-00000.shard");
    let mut bytes = std::fs::read(&shard).unwrap();
    // The last image's pixels are the last of three ranks'.
    let place = bytes.len() / 2;
    bytes[place] ^= 1;
    std::fs::write(&shard, bytes).unwrap();
    fails(&world, &launcher, 3, "eval one --split val", &["val-00000.shard"]);
}
