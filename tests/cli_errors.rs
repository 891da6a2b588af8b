//! What the program says to a wrong command line, a wrong config and a wrong file, and with which
//! exit code: 2 for a wrong command line or config, 1 for everything else.

mod common;

use common::{LINEAR, NETWORK, World, stderr};
use std::fs;

/// A world without a data set: errors of the network come before it is looked for.
fn bare() -> World {
    let world = World { folder: tempfile::tempdir().unwrap() };
    world.write("net.toml", NETWORK);
    world.write("linear.toml", LINEAR);
    world
}

#[test]
fn wrong_command_lines() {
    let world = bare();
    for (args, words) in [
        ("", vec!["Usage: alexnet"]),
        ("trian", vec!["'trian'", "'train'"]),
        ("train", vec!["--config <FILE>"]),
        ("train --config net.toml --device gpu", vec!["gpu", "cpu, auto, cuda:0"]),
        ("train --config net.toml --threads 0", vec!["--threads", "0"]),
        ("eval --crops 10", vec!["--crops"]),
        ("prepare image-folder photos", vec!["--out"]),
        ("prepare image-folder photos --out o --size 5000", vec!["--size", "8 to 4096"]),
    ] {
        let output = world.run(args);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{args}: {text}");
        assert!(words.iter().all(|word| text.contains(word)), "{args}: {text}");
    }
    let mut odd = world.command("inspect net.toml");
    let output = odd.env("ALEXNET_SIMD", "avx-2").output().unwrap();
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("ALEXNET_SIMD = \"avx-2\"") && text.contains("\"avx2\""), "{text}");
    world.fails("train --config net.toml --set rate", 2, &["--set rate", "key=value"]);
    world.fails("train --config net.toml --set =3", 2, &["--set =3", "key is empty"]);
    world.fails("train --config net.toml --set layer=3", 2, &["layer"]);
    world.fails("train --config net.toml --set layer.conv1=3", 2, &["layers go by name"]);
    let wrong = "train --config net.toml --set layer.cnov1.kernels=3";
    world.fails(wrong, 2, &["\"cnov1\"", "nearest is \"conv1\""]);
    world.fails("inspect net.toml --set extends=a.toml", 2, &["extends", "--set"]);
}

/// Names of layers are part of what random numbers are for: two that their checksums' 24 bits do
/// not tell apart would have the same dropout.
#[test]
fn names_that_collide_are_refused() {
    let world = bare();
    let net = |a: &str, b: &str| {
        let text = NETWORK.replace("\"drop3\"", &format!("{a:?}"));
        fs::write(world.path("names.toml"), text.replace("\"relu3\"", &format!("{b:?}"))).unwrap();
    };
    net("high-mid1", "block_back16");
    world.fails("inspect names.toml", 2, &["block_back16", "high-mid1", "random numbers"]);
    net("high-mid1", "high-mid1");
    world.fails("inspect names.toml", 2, &["two layers are called \"high-mid1\""]);
    net("high-mid1", "block_back17");
    world.ok("inspect names.toml");
}

#[test]
fn wrong_configs() {
    let world = bare();
    world.fails("train --config none.toml", 2, &["none.toml", "cannot be read"]);
    world.fails("inspect .", 1, &["is a folder without a run"]);
    for (change, words) in [
        ("train.bacth=3", vec!["net.toml", "[train]", "\"bacth\"", "nearest is \"batch\""]),
        ("shedule.rate=3", vec!["net.toml", "\"shedule\"", "nearest is \"schedule\""]),
        ("layer.conv1.krenels=3", vec!["layer conv1", "\"krenels\"", "nearest is \"kernels\""]),
        ("layer.relu1.weight_sigma=3", vec!["layer relu1", "\"weight_sigma\""]),
        ("layer.conv1.kind=konv", vec!["layer conv1", "\"konv\"", "nearest is \"conv\""]),
        ("layer.conv1.kind=5", vec!["layer conv1", "kind = 5", "a string"]),
        ("layer.pool1.size=99", vec!["layer pool1", "size = 99", "larger than its input"]),
        ("towers=3", vec!["towers = 3", "1 or 2"]),
        ("towers=two", vec!["towers = \"two\"", "a whole number"]),
        ("train.momentum=1", vec!["train.momentum = 1", "from 0 to below 1"]),
        ("train.batch=0", vec!["train.batch = 0", "from 1"]),
        ("train.batch=-1", vec!["batch = -1", "a whole number from 0 up"]),
        ("train.epochs=many", vec!["[train]", "epochs = \"many\"", "a whole number"]),
        ("schedule.rate=-0.1", vec!["schedule.rate = -0.1", "from 0 up"]),
        ("schedule.rate=nan", vec!["schedule.rate", "from 0 up"]),
        (
            "schedule.kind=stairs",
            vec!["[schedule]", "kind = \"stairs\"", "it must be", "plateau", "steps"],
        ),
        (
            "schedule.kind=steps --set schedule.steps=[{epoch=1,rte=1}]",
            vec!["\"rte\"", "nearest is \"rate\""],
        ),
        (
            "schedule.kind=steps --set schedule.steps=[{epoch=1,layers={cnv1=0.0}}]",
            vec!["\"cnv1\"", "\"conv1\""],
        ),
        (
            "schedule.steps=[{epoch=1,rate=0.1}]",
            vec!["schedule.steps is a key of kind \"steps\"", "this schedule is \"plateau\""],
        ),
        // In any order: what is set by hand is meant.
        (
            "schedule.patience=3 --set schedule.kind=steps",
            vec!["schedule.patience is a key of kind \"plateau\"", "this schedule is \"steps\""],
        ),
        ("name=../up", vec!["name", "../up"]),
        ("data.channels=2", vec!["data.channels = 2", "1 (grey) or 3 (RGB)"]),
        ("data.color_noise=some", vec!["color_noise = \"some\"", "true, false or a number"]),
        ("data.color_noise=-1", vec!["data.color_noise", "from 0 up"]),
        ("seed=-1", vec!["seed = -1"]),
    ] {
        let sentence = world.fails(&format!("train --config net.toml --set {change}"), 2, &words);
        assert!(!sentence.trim().contains('\n'), "{change}: one sentence: {sentence}");
    }
    world.write("torn.toml", "name = \"x\"\n[data\ncrop = 3");
    world.fails("train --config torn.toml", 2, &["torn.toml", "line 2"]);
    world.write("empty.toml", "[data]\ncrop = 8");
    world.fails("train --config empty.toml", 2, &["empty.toml", "no layers", "[[layer]]"]);
    fs::write(world.path("binary.toml"), [0xff, 0xfe, 0, 1]).unwrap();
    world.fails("train --config binary.toml", 2, &["binary.toml", "cannot be read"]);
}

#[test]
fn impossible_networks_are_refused_before_the_data_is_looked_for() {
    let world = bare();
    for (change, words) in [
        // 3×3 after conv2 and pool1.
        ("layer.conv2.size=6", vec!["net.toml", "layer conv2", "5×5×8", "6×6"]),
        ("data.crop=2", vec!["layer conv1", "2×2×3", "3×3"]),
        (
            "layer.fc4.outputs=3.5",
            vec!["layer fc4", "outputs = 3.5", "a whole number or \"classes\""],
        ),
        ("layer.fc4.tower=2", vec!["layer fc4", "tower = 2"]),
        ("layer.softmax.kind=relu", vec!["softmax", "end"]),
        ("layer.conv1.groups=5", vec!["layer conv1", "groups"]),
        (
            "layer.conv1.padding=[1,1]",
            vec!["layer conv1", "padding = [1, 1]", "an array of length 4"],
        ),
        ("layer.conv1.stride=0", vec!["layer conv1", "stride"]),
        ("layer.drop3.rate=1.5", vec!["layer drop3", "rate"]),
    ] {
        world.fails(&format!("train --config net.toml --set {change}"), 2, &words);
    }
    assert!(!world.path("runs").exists(), "nothing is left behind");
}

#[test]
fn a_config_says_only_what_differs_from_its_parent() {
    let world = World::new();
    fs::create_dir_all(world.path("deep/er")).unwrap();
    world.write(
        "deep/child.toml",
        "extends = \"../net.toml\"\n[layer.conv1]\nkernels = 16\n[train]\nbatch = 30\n",
    );
    world.write(
        "deep/er/grandchild.toml",
        "extends = \"../child.toml\"\nname = \"small\"\n[layer.conv1]\nkernels = 4\n",
    );
    let layers = |args: &str| world.json(args)["layers"][0]["output"][2].clone();
    assert_eq!(layers("inspect deep/child.toml --json"), 16);
    assert_eq!(layers("inspect deep/er/grandchild.toml --json"), 4);
    assert_eq!(layers("inspect deep/er/grandchild.toml --json --set layer.conv1.kernels=12"), 12);
    world.ok("train --config deep/er/grandchild.toml --set train.epochs=1");
    let resolved = world.text("runs/small/config.toml");
    assert!(resolved.contains("batch = 30") && !resolved.contains("extends"), "{resolved}");
    // The parent's name is not the child's.
    world.ok("train --config deep/child.toml --set train.epochs=1");
    assert_eq!(world.names("runs"), ["child", "small"]);

    // The parent's patience is a plateau's; a child with another kind leaves it behind, but not its
    // own.
    let other = "extends = \"net.toml\"\n[schedule]\nkind = \"steps\"\n";
    world.write("other.toml", other);
    world.ok("train --config other.toml --set train.epochs=1");
    let resolved = world.text("runs/other/config.toml");
    assert!(resolved.contains("steps = []") && !resolved.contains("patience"), "{resolved}");
    assert!(resolved.contains("rate = 0.02"), "what all kinds have is the parent's: {resolved}");
    world.write("foreign.toml", &format!("{other}patience = 3"));
    let words = ["foreign.toml", "schedule.patience", "kind \"plateau\"", "\"steps\""];
    world.fails("train --config foreign.toml", 2, &words);

    world.write("a.toml", "extends = \"b.toml\"");
    world.write("b.toml", "extends = \"a.toml\"");
    let circle = world.fails("inspect a.toml", 2, &["a.toml", "b.toml", "circle"]);
    assert!(circle.len() < 200, "{circle}");
    world.write("self.toml", "extends = \"self.toml\"");
    world.fails("inspect self.toml", 2, &["self.toml", "circle"]);
    world.write("orphan.toml", "extends = \"gone.toml\"");
    world.fails("inspect orphan.toml", 2, &["orphan.toml", "gone.toml", "cannot be read"]);
    world.write("typo.toml", "extends = \"net.toml\"\n[layer.conv7]\nkernels = 4");
    world.fails("inspect typo.toml", 2, &["typo.toml", "\"conv7\"", "there are conv1"]);
    world.write("alone.toml", "[layer.conv1]\nkernels = 4\n[data]\ncrop = 4");
    world.fails("inspect alone.toml", 2, &["[layer.conv1]", "extends"]);
}

#[test]
fn a_source_beside_a_parent_config_is_found_from_anywhere() {
    let world = World { folder: tempfile::tempdir().unwrap() };
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/demo.toml");
    world.write(
        "mine.toml",
        &format!(
            "extends = \"{demo}\"\n[data]\npath = \"clothes\"\n[data.prepare]\nsource = \"nowhere\""
        ),
    );
    // Its own source is looked for beside itself, and a data set named by hand is not made.
    let words = ["nowhere", "does not exist", "--set data.prepare.source=FOLDER"];
    world.fails("train --config mine.toml", 1, &words);
    let given = format!("train --config {demo} --data nothing");
    world.fails(&given, 1, &["no data set in nothing", "alexnet prepare"]);
    assert!(!world.path("nothing").exists());
}

#[test]
fn missing_and_unfitting_data() {
    let world = World::new();
    let train = "train --config linear.toml";
    world.fails(&format!("{train} --data none"), 1, &["none", "does not exist", "alexnet prepare"]);
    world.fails(&format!("{train} --data photos"), 1, &["photos", "dataset.json"]);
    world.fails(
        &format!("{train} --set data.crop=20"),
        2,
        &["data.crop = 20", "16×16", "--size 20"],
    );
    world.fails(
        &format!("{train} --set data.channels=1"),
        2,
        &["linear.toml", "data.channels = 1", "3 (RGB)"],
    );
    world.write("no-crop.toml", &LINEAR.replace("crop = 12", ""));
    world.fails("train --config no-crop.toml", 2, &["[data]", "there is no `crop`"]);
    world.fails(
        &format!("{train} --set layer.fc.outputs=7"),
        2,
        &["7", "3 classes", "\"classes\""],
    );
    world.ok("prepare image-folder photos/train --out all --size 16 --val-fraction 0");
    world.fails(
        &format!("{train} --data all"),
        2,
        &["\"plateau\"", "--val-fraction", "--set schedule.kind=steps"],
    );
    assert!(!world.path("runs").exists(), "nothing is left behind");
    // Without validation `best` is the last.
    world.ok(&format!("{train} --data all --set schedule.kind=steps --run all-of-them"));
    assert!(
        world.bytes("all-of-them/best.safetensors") == world.bytes("all-of-them/last.safetensors")
    );

    world.ok(train);
    world.fails("eval none.safetensors", 1, &["none.safetensors", "cannot be opened"]);
    world.fails("eval set", 1, &["set", "folder"]);
    world.fails("eval linear.toml", 1, &["linear.toml", "no checkpoint"]);
    world.fails("eval --data none", 1, &["--data none", "does not exist"]);
    world.fails("eval --split tset", 2, &["`tset`", "train, val"]);
    world.fails("eval --split test", 2, &["`test`", "train, val"]);
    world.fails("predict x.png --checkpoint linear.toml", 1, &["linear.toml", "no checkpoint"]);
    world.fails("inspect none.safetensors", 1, &["none.safetensors", "cannot be opened"]);

    world.photos("other/train", ["down", "level", "upward"], 4);
    world.photos("other/val", ["down", "level", "upward"], 4);
    world.ok("prepare image-folder other --out other-set --size 16");
    world.fails("eval --data other-set", 1, &["class 2", "\"slant\"", "\"upward\"", "other-set"]);
    world.ok("prepare image-folder photos --out larger --size 20");
    world.fails("eval --data larger", 1, &["16×16×3", "20×20×3", "larger"]);
    fs::rename(world.path("set"), world.path("moved")).unwrap();
    world.fails("eval", 1, &["runs/linear/best.safetensors", "--data DIR", "set"]);
    world.ok("eval --data moved");
}
