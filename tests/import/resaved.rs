//! Checkpoints of ours that another program saved again. The safetensors library writes them here,
//! as it does for Python: tensors in its own order, texts where it is given some.

use crate::common::{World, stderr, tensors};
use safetensors::SafeTensors;
use std::collections::HashMap;
use std::fs;

/// Saves `from` again as `to`, with its texts or without.
fn save_again(world: &World, from: &str, to: &str, texts: bool) {
    let bytes = world.bytes(from);
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata: Option<HashMap<String, String>> =
        header.metadata().clone().filter(|_| texts).map(|all| all.into_iter().collect());
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let written = safetensors::serialize(file.tensors(), metadata).unwrap();
    fs::write(world.path(to), written).unwrap();
}

fn trained() -> World {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=1 --run run --device cpu");
    world
}

#[test]
fn one_with_its_texts_is_the_checkpoint_again() {
    let world = trained();
    save_again(&world, "run/last.safetensors", "again.safetensors", true);
    // Nothing is damaged, and the way out is named.
    let said = world.fails(
        "predict photos/val/down/001.png --checkpoint again.safetensors",
        1,
        &["alexnet import"],
    );
    assert!(!said.contains("damaged"), "{said}");
    let output = world.run("import again.safetensors --out back.safetensors");
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("checksums").count(), 1, "{said}");
    assert!(!said.contains("damaged"), "{said}");
    assert_eq!(
        tensors(&world.path("back.safetensors")),
        tensors(&world.path("run/last.safetensors"))
    );
    // Written as we write it, it is the same file.
    assert!(world.bytes("back.safetensors") == world.bytes("run/last.safetensors"));
}

#[test]
fn one_without_texts_needs_its_config() {
    let world = trained();
    save_again(&world, "run/last.safetensors", "again.safetensors", false);
    let said = world.fails(
        "eval again.safetensors --device cpu --data set",
        1,
        &["no checksums", "alexnet import"],
    );
    assert!(!said.contains("damaged"), "{said}");
    world.fails(
        "import again.safetensors --out back.safetensors",
        2,
        &["again.safetensors", "--config"],
    );
    world.write("classes.txt", "down\nlevel\nslant\n");
    let args = "import again.safetensors --out back.safetensors --config run/config.toml \
                --classes classes.txt";
    let output = world.run(args);
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("checksums").count(), 1, "{said}");
    let [ours, before] = ["back.safetensors", "run/last.safetensors"]
        .map(|file| world.json(&format!("eval {file} --device cpu --data set --json")));
    assert_eq!(ours["top1_error"], before["top1_error"]);
    assert_eq!(ours["log_loss"], before["log_loss"]);
}

#[test]
fn one_that_is_damaged_is_called_so() {
    let world = trained();
    let mut bytes = world.bytes("run/last.safetensors");
    let at = bytes.len() - 100;
    bytes[at] ^= 1;
    fs::write(world.path("bad.safetensors"), bytes).unwrap();
    world.fails(
        "import bad.safetensors --out back.safetensors",
        1,
        &["bad.safetensors", "damaged"],
    );
    assert!(!world.path("back.safetensors").exists());
}

#[test]
fn a_tensor_of_another_shape_is_named() {
    let world = trained();
    save_again(&world, "run/last.safetensors", "again.safetensors", true);
    world.write("other.toml", &world.text("net.toml").replacen("kernels = 8", "kernels = 6", 1));
    world.fails(
        "import again.safetensors --out back.safetensors --config other.toml",
        1,
        &["conv1.weight", "[8, 3, 3, 3]", "[6, 3, 3, 3]"],
    );
}
