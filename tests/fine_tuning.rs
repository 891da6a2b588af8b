//! Training that begins with another network's weights, layers that stay as they are, and configs
//! that change another one's layers, through the built program.

mod common;

use common::{World, stderr, tensors};
use std::collections::BTreeMap;

/// The tensors of a checkpoint by name: shape and bytes.
fn named(world: &World, file: &str) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    tensors(&world.path(file)).into_iter().map(|(name, s, b)| (name, (s, b))).collect()
}

/// Of two checkpoints, for each parameter (biases apart) whether its bytes are the same.
fn same(world: &World, a: &str, b: &str) -> BTreeMap<String, bool> {
    let (a, b) = (named(world, a), named(world, b));
    let weights = a.iter().filter(|(name, _)| name.ends_with(".weight") && !name.contains('/'));
    weights.map(|(name, value)| (name.clone(), b.get(name) == Some(value))).collect()
}

/// A trained network in `first`, and what trains on with rate 0 so that weights stay as they begin.
fn trained() -> (World, &'static str) {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=2 --run first");
    (world, "train --config net.toml --set train.epochs=1 --set schedule.rate=0")
}

fn all(changed: &BTreeMap<String, bool>, same: bool) -> Vec<&str> {
    changed.iter().filter(|(_, s)| **s == same).map(|(name, _)| name.as_str()).collect()
}

#[test]
fn layers_are_taken_by_name_and_listed() {
    let (world, still) = trained();
    let args = format!("{still} --set seed=9 --init first/last.safetensors --run second");
    let run = world.run(&args);
    let said = stderr(&run);
    assert!(run.status.success(), "{said}");
    assert!(said.contains("taken: conv1, conv2, fc3, fc4"), "{said}");
    assert_eq!(
        all(&same(&world, "first/last.safetensors", "second/last.safetensors"), false),
        [""; 0]
    );
    // The config says it as well as the option; a layer by name begins afresh.
    world.write(
        "tuned.toml",
        "extends = \"net.toml\"\nseed = 9\n[init]\nfrom = \"first/last.safetensors\"\nfresh = \
         [\"fc3\"]\n[layer.conv3]\nkind = \"conv\"\nkernels = 8\nsize = 1\nafter = \"relu2\"\n",
    );
    let still = still.replace("net.toml", "tuned.toml");
    let run = world.run(&format!("{still} --run third"));
    let said = stderr(&run);
    assert!(run.status.success(), "{said}");
    let words = "with random weights: conv3 (the checkpoint has no such layer), fc3 (as init.fresh \
                 says)";
    assert!(said.contains(words), "{said}");
    let kept = same(&world, "first/last.safetensors", "third/last.safetensors");
    assert_eq!(all(&kept, false), ["fc3.weight"]);
    assert!(world.text("third/config.toml").contains("first/last.safetensors"));
    // The checkpoint is not needed any more.
    std::fs::remove_dir_all(world.path("first")).unwrap();
    world.ok("train --resume --run third --set train.epochs=2");
}

#[test]
fn another_shape_is_refused_but_for_the_output_layer() {
    let (world, still) = trained();
    let init = "--init first/last.safetensors";
    let wider = format!("{still} {init} --set layer.fc3.outputs=20 --run wider");
    let said =
        world.fails(&wider, 2, &["layer fc3", "[16, 72]", "[20, 72]", "init.fresh = [\"fc3\"]"]);
    assert!(said.contains("first/last.safetensors"), "{said}");
    assert!(!world.path("wider").exists());
    // What reads it has another shape too, and is the output layer.
    let run = world.run(&format!("{wider} --set init.fresh=[\"fc3\"]"));
    let said = stderr(&run);
    assert!(run.status.success(), "{said}");
    assert!(said.contains("fc3 (as init.fresh says), fc4 (another shape)"), "{said}");
    let wrong = format!("{still} {init} --set init.fresh=[\"fc33\"] --run y");
    world.fails(&wrong, 2, &["init.fresh", "\"fc33\"", "the nearest is \"fc3\""]);
    world.fails("train --resume --run first --init first/last.safetensors", 2, &["--init"]);
    world.fails(&format!("{still} --init none.safetensors --run z"), 1, &["none.safetensors"]);
    let linear = format!("train --config linear.toml {init} --run l");
    world.fails(&linear, 2, &["none of its layers", "conv1"]);
}

#[test]
fn other_classes_of_the_same_number_begin_afresh() {
    let (world, still) = trained();
    world.photos("others", ["ash", "beech", "cedar"], 20);
    world.ok("prepare image-folder others --out others-set --size 16");
    let args = format!("{still} --init first/last.safetensors --data others-set --run second");
    let said = stderr(&world.run(&args));
    assert!(said.contains("fc4 (other classes)"), "{said}");
    let kept = same(&world, "first/last.safetensors", "second/last.safetensors");
    assert_eq!(all(&kept, false), ["fc4.weight"]);
    // The data set's own mean image, or the one that the first network knows.
    let mean = |file: &str| named(&world, file)["data.mean"].clone();
    let first = mean("first/last.safetensors");
    assert_ne!(mean("second/last.safetensors"), first);
    let args = args.replace("second", "third") + " --set init.mean=checkpoint";
    world.ok(&args);
    assert!(mean("third/last.safetensors") == first);
    world.ok("train --resume --run third --set train.epochs=2");
    assert!(mean("third/last.safetensors") == first);
}

/// The gradients of the others do not depend on whether a layer's are computed.
#[test]
fn frozen_layers_stay_and_the_others_learn_as_before() {
    let world = World::new();
    // One step, so that what is not frozen sees the same network in both runs.
    let one = "train --config net.toml --set train.epochs=1 --set train.batch=600";
    world.ok(&format!("{one} --run free"));
    world.ok(&format!("{one} --set schedule.rate=0 --run start"));
    let weights = ["conv1.weight", "conv2.weight", "fc3.weight", "fc4.weight"];
    assert_eq!(
        all(&same(&world, "start/last.safetensors", "free/last.safetensors"), false),
        weights
    );
    for (frozen, which) in [("conv1", vec![0]), ("conv2", vec![1]), ("conv1\",\"fc3", vec![0, 2])] {
        let run = format!("f{which:?}").replace([' ', ',', '[', ']'], "");
        match which.len() {
            1 => world.ok(&format!("{one} --set train.freeze=[\"{frozen}\"] --run {run}")),
            _ => world.ok(&format!("{one} --freeze conv1,fc3 --run {run}")),
        };
        let file = format!("{run}/last.safetensors");
        let stayed: Vec<&str> = which.iter().map(|&i: &usize| weights[i]).collect();
        assert_eq!(all(&same(&world, "start/last.safetensors", &file), true), stayed);
        assert_eq!(all(&same(&world, "free/last.safetensors", &file), false), stayed);
        let (start, now) = (named(&world, "start/last.safetensors"), named(&world, &file));
        for layer in stayed.iter().map(|name| name.replace(".weight", ".bias")) {
            assert!(start[&layer] == now[&layer], "{layer}");
        }
    }
    let set = "--set train.freeze=[\"conv1\",\"conv2\",\"fc3\",\"fc4\"] --run none";
    world.fails(&format!("{one} {set}"), 2, &["train.freeze leaves no layer that learns"]);
    let set = "--freeze pool1 --run none";
    world.fails(&format!("{one} {set}"), 2, &["train.freeze", "\"pool1\""]);
}

/// Halves are exact: of half the pixels twice the weights make the same sums, in training's first
/// step and in evaluation.
#[test]
fn pixels_are_scaled_as_the_config_says() {
    let world = World::new();
    let one = "train --config net.toml --set train.epochs=1 --set schedule.rate=0";
    let both = [("plain", "0.01", ""), ("halved", "0.02", " --set data.scale=[0.5,0.5,0.5]")];
    let [plain, halved] = both.map(|(run, sigma, scale)| {
        world.ok(&format!("{one} --set layer.conv1.weight_sigma={sigma}{scale} --run {run}"));
        let eval = world.json(&format!("eval {run}/last.safetensors --ten-crop --json"));
        (world.timeless(run), eval["log_loss"].clone())
    });
    assert_eq!(plain, halved);
    let uneven = format!("{one} --set layer.conv1.weight_sigma=0.02 --set data.scale=[0.5,1,0.5]");
    world.ok(&format!("{uneven} --run uneven"));
    assert_ne!(world.timeless("uneven"), plain.0);
    let wrong = [("[0.5]", "3 channels"), ("[1,0,1]", "not 0"), ("[1,nan,1]", "factor")];
    for (scale, words) in wrong {
        let args = format!("{one} --set data.scale={scale} --run none");
        world.fails(&args, 2, &["data.scale", words]);
    }
}

#[test]
fn a_child_takes_layers_out_and_plain_pooling_has_the_same_dimensions() {
    let world = World::new();
    world.write(
        "plain.toml",
        "extends = \"net.toml\"\n[layer.lrn1]\nremove = true\n[layer.pool1]\nsize = 2\nrounding = \
         \"down\"\n",
    );
    let layer = |config: &str, name: &str| {
        let report = world.json(&format!("inspect {config} --json"));
        let layers = report["layers"].as_array().unwrap().clone();
        layers.into_iter().find(|layer| layer["name"] == name)
    };
    assert!(layer("plain.toml", "lrn1").is_none());
    // 10 positions: windows of 3 hang over the edge, windows of 2 end with it.
    let shape = |config: &str| layer(config, "pool1").unwrap()["output"].clone();
    assert_eq!(shape("plain.toml"), shape("net.toml"));
    world.ok("train --config plain.toml --set train.epochs=1 --run plain");
    assert!(world.text("plain/config.toml").contains("rounding = \"down\""));
    world.ok("train --config net.toml --set layer.drop3.remove=true --set train.epochs=1 --run d");
    assert!(!world.text("d/config.toml").contains("drop3"));
}
