//! What a resume changes, and in which order settings count.

use super::{changes, copy, interrupted};
use crate::common::running::contents;
use crate::common::{World, stderr};

#[test]
fn every_key_that_a_resume_changes_is_said_with_its_old_and_new_value() {
    let world = World::new();
    world.ok("train --config linear.toml --run run");
    let sets = [
        ("data.color_noise", "0.1", "0.2"),
        ("data.flip", "true", "false"),
        ("layer.fc.weight_decay", "not set", "0.5"),
        ("schedule.bias_rate", "not set", "0.0002"),
        ("schedule.rate", "0.0001", "0.00005"),
        ("seed", "1", "9"),
        ("train.batch", "10", "9"),
        ("train.epochs", "3", "4"),
        ("train.momentum", "0.9", "0.5"),
    ];
    let typed: String = sets.iter().map(|(key, _, new)| format!(" --set {key}={new}")).collect();
    let output = world.run(&format!("train --resume --run run{typed}"));
    assert!(output.status.success(), "{}", stderr(&output));
    let expected = sets.map(|(key, old, new)| format!("{key}: {old} → {new}"));
    assert_eq!(changes(&output), expected);
    assert_eq!(world.metrics("run")[30]["learning_rate"], 0.00005);
    // Nothing changed, nothing said; a crop that the network stands is a change too.
    let output = world.run("train --resume --run run --set train.epochs=5");
    assert_eq!(changes(&output), ["train.epochs: 4 → 5"]);
    let output = world.run("train --resume --run run --set train.epochs=6 --set layer.fc.bias=1");
    let late = "layer.fc.bias: 0.0 → 1.0 (counts for new runs only)";
    assert_eq!(changes(&output), [late, "train.epochs: 5 → 6"]);
}

#[test]
fn the_command_line_counts_before_a_config_that_before_the_folders_that_before_the_checkpoint() {
    let world = World::new();
    world.ok("train --config linear.toml --run run --set train.momentum=0.5 --set seed=5");
    let edit = |from: &str, to: &str| {
        let text = world.text("run/config.toml");
        assert!(text.contains(from), "{text}");
        world.write("run/config.toml", &text.replace(from, to));
    };
    // By hand in the folder alone.
    edit("momentum = 0.5", "momentum = 0.25");
    edit("epochs = 3", "epochs = 4");
    let output = world.run("train --resume --run run");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(changes(&output), ["train.epochs: 3 → 4", "train.momentum: 0.5 → 0.25"]);
    let kept = world.text("run/config.toml");
    assert!(kept.contains("momentum = 0.25") && kept.contains("seed = 5"), "{kept}");
    // All four: the checkpoint has seed 5, …
    edit("seed = 5", "seed = 6");
    edit("momentum = 0.25", "momentum = 0.3");
    edit("epochs = 4", "epochs = 5");
    world.write("more.toml", "[train]\nmomentum = 0.4\nepochs = 6");
    let output = world.run("train --resume --run run --config more.toml --set train.epochs=7");
    assert!(output.status.success(), "{}", stderr(&output));
    let said = ["seed: 5 → 6", "train.epochs: 4 → 7", "train.momentum: 0.25 → 0.4"];
    assert_eq!(changes(&output), said);
    let kept = world.text("run/config.toml");
    assert!(kept.contains("momentum = 0.4") && kept.contains("seed = 6"), "{kept}");
    assert!(kept.contains("epochs = 7"), "{kept}");
    // A key taken out of the folder's config counts as the checkpoint says.
    edit("momentum = 0.4\n", "");
    let output = world.run("train --resume --run run --set train.epochs=8");
    assert_eq!(changes(&output), ["train.epochs: 7 → 8"]);
}

#[test]
fn a_config_in_the_folder_that_cannot_be_read_is_named_with_a_way_out() {
    let world = World::new();
    world.ok("train --config linear.toml --run run");
    let more = "train --resume --run run --set train.epochs=4";
    for (from, to, word) in [
        ("momentum", "momentun", "\"momentun\""),
        ("momentum = 0.9", "momentum = 9.0", "train.momentum = 9"),
        ("[train]", "[train", "line"),
        ("format = 1", "format = 2", "newer version"),
    ] {
        copy(&world.path("run"), &world.path("bad"));
        let text = world.text("bad/config.toml");
        assert!(text.contains(from), "{text}");
        world.write("bad/config.toml", &text.replacen(from, to, 1));
        let before = contents(&world.path("bad"));
        let more = more.replace("run run", "run bad");
        world.fails(&more, 2, &["bad/config.toml", word, "remove it"]);
        assert!(contents(&world.path("bad")) == before);
        std::fs::remove_file(world.path("bad/config.toml")).unwrap();
        world.ok(&more);
        std::fs::remove_dir_all(world.path("bad")).unwrap();
    }
}

#[test]
fn another_network_is_refused_and_nothing_touched() {
    let world = World::new();
    world.ok("train --config net.toml --run run --set train.epochs=1");
    let before = contents(&world.path("run"));
    let resume = "train --resume --run run --set train.epochs=2 --set";
    for (set, word) in [
        ("layer.relu1.kind=tanh", "layer.relu1.kind: \"relu\" → \"tanh\""),
        ("layer.pool1.kind=average-pool", "layer.pool1.kind"),
        ("layer.lrn1.alpha=0.5", "layer.lrn1.alpha: 0.0001 → 0.5"),
        ("towers=1", "towers: 2 → 1"),
    ] {
        world.fails(&format!("{resume} {set}"), 2, &["run/last.safetensors", word]);
    }
    for set in ["layer.fc3.outputs=8", "data.crop=10", "layer.conv1.size=5"] {
        world.fails(&format!("{resume} {set}"), 1, &["run/last.safetensors", "the shape"]);
    }
    assert!(contents(&world.path("run")) == before);
    let output = world.run(&format!("{resume} layer.drop3.rate=0.25"));
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(changes(&output)[0], "layer.drop3.rate: 0.5 → 0.25");
}

#[test]
fn inside_an_epoch_order_and_batches_stay() {
    let world = World::new();
    interrupted(&world, "cut");
    let before = contents(&world.path("cut"));
    for (set, words) in [
        ("train.batch=2", ["train.batch = 2", "between epochs"]),
        ("seed=9", ["seed = 9", "between epochs"]),
        ("data.shuffle=window", ["data.shuffle = window", "between epochs"]),
    ] {
        world.fails(&format!("train --resume --run cut --set {set}"), 2, &words);
    }
    assert!(contents(&world.path("cut")) == before);
    let output =
        world.run("train --resume --run cut --set train.momentum=0.5 --set train.epochs=2");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(changes(&output).contains(&"train.momentum: 0.9 → 0.5".to_string()));
}
