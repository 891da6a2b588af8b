//! A run that is gone on with on another data set.

use super::{copy, interrupted};
use crate::common::running::contents;
use crate::common::{World, stderr};
use std::fs;

#[test]
fn another_preparation_is_refused_and_nothing_touched() {
    let world = World::new();
    world.ok("prepare image-folder photos --out larger --size 24");
    world.ok("prepare image-folder photos --out unturned --size 16 --orientation ignore");
    world.ok("train --config linear.toml --run run");
    let before = contents(&world.path("run"));
    let resume = "train --resume --run run --set train.epochs=4 --data";
    let words = ["run/last.safetensors", "16×16×3", "24×24×3", "in the same size"];
    world.fails(&format!("{resume} larger"), 1, &words);
    let words = ["another way", "\"orientation\":\"apply\"", "\"orientation\":\"ignore\""];
    world.fails(&format!("{resume} unturned"), 1, &words);
    // As a change of the folder's config too.
    let text = world.text("run/config.toml");
    let set = fs::canonicalize(world.path("set")).unwrap().display().to_string();
    assert!(text.contains(&set), "{text}");
    world.write("run/config.toml", &text.replace(&set, &set.replace("set", "larger")));
    world.fails("train --resume --run run --set train.epochs=4", 1, &["24×24×3"]);
    world.write("run/config.toml", &text);
    assert!(contents(&world.path("run")) == before);
}

#[test]
fn the_same_data_set_elsewhere_is_the_same() {
    let world = World::new();
    world.ok("train --config linear.toml --run run");
    copy(&world.path("set"), &world.path("moved"));
    world.ok("prepare image-folder photos --out again --size 16 --workers 1");
    for (data, epochs) in [("moved", 4), ("again", 5)] {
        let set = format!("--data {data} --set train.epochs={epochs}");
        let output = world.run(&format!("train --resume --run run {set}"));
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(!stderr(&output).contains("warning"), "{}", stderr(&output));
        assert!(stderr(&output).contains("  data.path: "), "{}", stderr(&output));
    }
}

/// `other` holds more images to train on, `val` the same ones but others to validate on.
fn others(world: &World) {
    world.photos("other/train", ["down", "level", "slant"], 33);
    world.photos("other/val", ["down", "level", "slant"], 10);
    world.ok("prepare image-folder other --out more --size 16");
    world.photos("val/train", ["down", "level", "slant"], 30);
    world.photos("val/val", ["down", "level", "slant"], 30);
    for class in ["down", "level", "slant"] {
        for name in world.names(&format!("val/val/{class}")).iter().take(20) {
            fs::remove_file(world.path("val/val").join(class).join(name)).unwrap();
        }
    }
    world.ok("prepare image-folder val --out val-set --size 16");
}

#[test]
fn between_epochs_another_data_set_is_said_and_best_begun_anew() {
    let world = World::new();
    others(&world);
    world.ok("train --config linear.toml --run run");
    copy(&world.path("run"), &world.path("val-run"));
    // The best is no later than the third epoch; nothing is said of it while errors are comparable.
    let output = world.run("train --resume --run run --data more --set train.epochs=4");
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("warning: the data set is another one"), "{said}");
    assert!(said.contains("99 training images, not 90") && said.contains("mean image"), "{said}");
    assert!(!said.contains("cannot be compared"), "{said}");
    assert_eq!(world.names("run").len(), 5);

    let best = world.bytes("val-run/best.safetensors");
    let resume = "train --resume --run val-run --data val-set --set train.epochs=4";
    let output = world.run(resume);
    assert!(output.status.success(), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(said.contains("30 other images to validate on (val)"), "{said}");
    assert!(!said.contains("training images, not"), "{said}");
    assert!(said.contains("cannot be compared") && said.contains("chosen anew"), "{said}");
    let names = world.names("val-run");
    let kept = names.iter().find(|name| name.starts_with("best-")).expect("the former best");
    assert!(said.contains(&format!("val-run/{kept}")), "{said}");
    assert!(world.bytes(&format!("val-run/{kept}")) == best, "as it was");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(out.contains("after epoch 4"), "the only epoch on these images: {out}");
    // From now on that is the run's data set.
    let output = world.run("train --resume --run val-run --set train.epochs=5");
    assert!(!stderr(&output).contains("warning"), "{}", stderr(&output));
}

#[test]
fn inside_an_epoch_another_data_set_is_refused() {
    let world = World::new();
    others(&world);
    interrupted(&world, "cut");
    let before = contents(&world.path("cut"));
    for (data, word) in [("more", "99 training images"), ("val-set", "images to validate on")] {
        let resume = format!("train --resume --run cut --data {data}");
        world.fails(&resume, 1, &["cut/last.safetensors", "inside an epoch", word]);
        assert!(contents(&world.path("cut")) == before);
    }
    world.ok("train --resume --run cut --set train.epochs=2");
}
