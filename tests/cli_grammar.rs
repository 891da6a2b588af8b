//! What a newcomer types: a run's folder, its name or nothing in place of a checkpoint, folders of
//! pictures, short options, configs by name; and what is said to somebody who has it almost right.

mod common;

use common::{World, picture, sentence, stderr};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

/// A world with the finished run `runs/stripes` of two epochs.
fn trained() -> World {
    let world = World::new();
    world.ok("train --config net.toml --epochs 2");
    world
}

#[test]
fn a_run_goes_by_its_folder_its_name_or_nothing() {
    let world = trained();
    let best = "runs/stripes/best.safetensors";
    let expected = world.json(&format!("eval {best} --json"));
    for named in ["runs/stripes", "stripes", ""] {
        assert_eq!(world.json(&format!("eval {named} --json")), expected, "{named}");
    }
    let image = "photos/val/down/001.png";
    let expected = world.ok(&format!("predict {image} --checkpoint {best}"));
    for named in ["--checkpoint runs/stripes", "--checkpoint stripes", ""] {
        assert_eq!(world.ok(&format!("predict {image} {named}")), expected, "{named}");
    }
    for named in [best, "runs/stripes", "stripes", ""] {
        let text = world.ok(&format!("inspect {named}"));
        let words = [
            "after epoch ",
            " of 2",
            "top-1 error",
            "seed 3",
            "90 training",
            "3 classes: down, level",
        ];
        assert!(words.iter().all(|word| text.contains(word)), "{named}: {text}");
        let fits = |line: &str| line.chars().count() <= 80 || line.starts_with("  data: ");
        assert!(text.lines().all(fits), "{text}");
        world.ok(&format!("filters {named} --out filters.png"));
        world.ok(&format!("export {named} --out stripes.onnx"));
    }
    for command in ["maps", "saliency"] {
        let layer = if command == "maps" { "--layer conv1" } else { "" };
        world.ok(&format!("{command} {image} {layer} --out a.png --checkpoint stripes"));
    }
    world.ok("train --config net.toml --epochs 1 --name more --init stripes");

    // A folder with data sets is no run, and hides none.
    fs::create_dir_all(world.path("runs/data/set")).unwrap();
    fs::copy(world.path("set/dataset.json"), world.path("runs/data/set/dataset.json")).unwrap();
    world.ok("eval");
    for args in ["eval runs/data", "inspect runs/data", "filters runs/data --out f.png"] {
        world.fails(args, 1, &["runs/data is a folder without a run", "alexnet runs lists"]);
    }
    let run = world.fails("predict runs/stripes", 2, &["--checkpoint runs/stripes"]);
    assert!(run.contains("run's folder"), "{run}");
}

#[test]
fn folders_of_the_same_name_hide_neither_runs_nor_configs() {
    let world = trained();
    fs::rename(world.path("runs/stripes"), world.path("runs/mnist")).unwrap();
    let of_run = world.ok("inspect runs/mnist");
    // Of a config and a run of one name the run.
    assert_eq!(world.ok("inspect mnist"), of_run);
    fs::create_dir(world.path("mnist")).unwrap();
    assert_eq!(world.ok("inspect mnist"), of_run);
    world.ok("filters mnist --out f.png");
    fs::create_dir(world.path("cifar10")).unwrap();
    let text = world.ok("inspect cifar10");
    assert!(text.starts_with("cifar10"), "{text}");
    // What a config wants to be made from, and is not there.
    let words = ["runs/data/demo", "configs/demo", "--set data.prepare.source="];
    world.fails("train --config demo", 1, &words);
}

/// Two links to itself in a folder lead nowhere new.
#[cfg(unix)]
#[test]
fn links_in_circles_come_to_an_end() {
    let world = trained();
    let alone = world.ok("predict photos/val --csv");
    for name in ["a", "b"] {
        std::os::unix::fs::symlink(".", world.path("photos/val").join(name)).unwrap();
    }
    assert_eq!(world.ok("predict photos/val --csv"), alone);
}

#[test]
fn a_resume_with_a_config_takes_its_newest_run() {
    let world = trained();
    world.ok("train --config net.toml --epochs 2");
    world.ok("train --config linear.toml --epochs 1");
    let output = world.run("train --resume --config net.toml --epochs 3");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("going on with runs/stripes-2 from"), "{}", stderr(&output));
    let other = world.text("net.toml").replace("\"stripes\"", "\"other\"");
    world.write("other.toml", &other);
    let words = ["other.toml", "called other", "runs/stripes-2 is the newest"];
    world.fails("train --resume --config other.toml", 1, &words);
    // A file of a few keys belongs to no run.
    world.write("few.toml", "[train]\nmomentum = 0.5\n");
    let output = world.run("train --resume --config few.toml --set train.epochs=4");
    assert!(stderr(&output).contains("going on with runs/stripes-2 from"), "{}", stderr(&output));
}

#[test]
fn predict_takes_folders_and_standard_input_and_writes_tables() {
    let world = trained();
    world.write("photos/val/down/notes.txt", "no picture");
    let list = world.json("predict photos/val --json");
    let images: Vec<&str> =
        list.as_array().unwrap().iter().map(|a| a["image"].as_str().unwrap()).collect();
    assert_eq!(images.len(), 30);
    assert!(images.is_sorted() && images[0] == "photos/val/down/000.jpg", "{images:?}");
    fs::create_dir(world.path("empty")).unwrap();
    world.fails("predict empty", 2, &["empty", "no pictures", ".jpg"]);
    world.fails("predict - -", 2, &["standard input", "once"]);

    let table = world.ok("predict photos/val/down --csv --top 2");
    let mut rows = csv::Reader::from_reader(table.as_bytes());
    let head: Vec<String> = rows.headers().unwrap().iter().map(String::from).collect();
    assert_eq!(head, ["image", "rank", "id", "name", "probability"]);
    let rows: Vec<csv::StringRecord> = rows.records().collect::<Result<_, _>>().unwrap();
    assert_eq!(rows.len(), 20);
    for (row, answer) in rows.chunks(2).zip(list.as_array().unwrap()) {
        for (rank, row) in row.iter().enumerate() {
            let top = &answer["top"][rank];
            assert_eq!(&row[0], answer["image"].as_str().unwrap());
            assert_eq!((row[1].parse(), &row[3]), (Ok(rank + 1), top["label"].as_str().unwrap()));
            assert_eq!(row[4].parse::<f64>().unwrap(), top["probability"].as_f64().unwrap());
        }
    }

    let file = world.bytes("photos/val/down/000.jpg");
    let mut child = Command::new(env!("CARGO_BIN_EXE_alexnet"))
        .args(["predict", "-", "--json"])
        .current_dir(world.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&file).unwrap();
    let output = child.wait_with_output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer[0]["image"], "-");
    assert_eq!(answer[0]["top"], list[0]["top"]);
}

/// A photograph on a network of small grey pictures is answered, and what that means is said once.
#[test]
fn a_picture_of_another_size_is_spoken_of_once() {
    let world = World { folder: tempfile::tempdir().unwrap() };
    world.grey(24, 4);
    world.ok("train --config grey.toml");
    for name in ["a.png", "b.png"] {
        picture(1, 1, 50, 37).save(world.path(name)).unwrap();
    }
    let said = stderr(&world.run("predict a.png b.png"));
    assert!(said.contains("a.png has 50×37 pixels") && said.contains("12×12 in grey"), "{said}");
    assert!(!said.contains("b.png"), "{said}");
    picture(1, 1, 12, 12).save(world.path("c.png")).unwrap();
    assert!(!stderr(&world.run("predict c.png")).contains("pixels"));
    // Advice that leads somewhere: pictures that came in one size are not prepared in another.
    let error = world.fails("train --config own-images --data set", 2, &["112", "--config mnist"]);
    assert!(!error.contains("--size"), "{error}");
}

#[test]
fn keys_are_named_as_they_are_to_be_typed() {
    let world = World::new();
    for (set, meant) in [
        ("epochs=3", "--set train.epochs=3"),
        ("lr=0.5", "--set schedule.rate=0.5"),
        ("batch=7", "--set train.batch=7"),
        ("patience=2", "--set schedule.patience=2"),
        ("crop=9", "--set data.crop=9"),
        #[cfg(unix)]
        ("lr=[1,2]", "--set schedule.rate='[1, 2]'"),
    ] {
        world.fails(&format!("train --config net.toml --set {set}"), 2, &["no key", meant]);
    }
    world.fails(
        "train --config demo --data set --set data.crop=12",
        2,
        &["data.channels", "--set data.channels=3"],
    );
    world.fails("train --config own-images --data set", 2, &["--size 112", "--set data.crop="]);
    world.fails("inspect torchvison", 2, &["torchvison", "the nearest is \"torchvision\""]);
    world.fails("inspect configs/ilsvrc2010.toml", 2, &["--config ilsvrc2010"]);
}

#[test]
fn short_options_are_the_keys() {
    let world = World::new();
    world.ok("train --config net.toml --epochs 1 --batch 9 --rate 0.25e-1 --seed 8 --name 7");
    let config = world.text("runs/7/config.toml");
    for line in ["epochs = 1\n", "batch = 9\n", "rate = 0.025\n", "seed = 8\n", "name = \"7\"\n"] {
        assert!(config.contains(line), "{line}: {config}");
    }
    let output = world.run("train --resume --rate 0.01 --epochs 2");
    assert!(stderr(&output).contains("schedule.rate: 0.025 → 0.01"), "{}", stderr(&output));
    world.fails("train --config net.toml --epochs none", 2, &["train", "epochs"]);
}

/// Configs that the program carries need no file, and a file may build on one.
#[test]
fn configs_go_by_name_anywhere() {
    let world = World::new();
    let document = world.json("inspect ilsvrc2010 --json");
    assert_eq!(document["parameters"], 60_965_224);
    assert_eq!(world.json("inspect ilsvrc2010.toml --json"), document);
    for name in ["ilsvrc2010", "cifar10", "cifar100", "mnist", "own-images", "demo"] {
        let table = world.ok(&format!("inspect {name}"));
        assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
    }
    // A file of that name comes first, and one that is carried builds on what is carried.
    world.write("ilsvrc2010.toml", "extends = 'torchvision.toml'\nname = 'mine'\n");
    assert!(world.ok("inspect ilsvrc2010.toml").starts_with("mine:"));
    assert!(world.ok("inspect ilsvrc2010-no-lrn").starts_with("ilsvrc2010-no-lrn: 2 towers"));
}

#[test]
fn more_or_less_is_said_and_kept() {
    let world = World::new();
    let quiet = world.run("train --config net.toml --epochs 1 -q --log log.txt");
    assert_eq!(stderr(&quiet), "");
    assert!(String::from_utf8_lossy(&quiet.stdout).contains("best top-1 error"));
    let log = world.text("log.txt");
    for words in ["90 training images", "epoch 1/1: loss", "best top-1 error"] {
        assert!(log.contains(words), "{words}: {log}");
    }
    let dated = |line: &str| line.len() > 20 && line.as_bytes()[4] == b'-' && line.starts_with("2");
    assert!(log.lines().all(dated), "{log}");
    let verbose = world.run("train --config net.toml --epochs 1 --verbose --log log.txt");
    assert!(stderr(&verbose).contains("images/s"), "{}", stderr(&verbose));
    assert!(world.text("log.txt").starts_with(&log), "lines are added");
    world.fails("train --config none.toml -q", 2, &["none.toml"]);
    world.fails("train --config net.toml --log none/log.txt", 2, &["--log none/log.txt"]);
    assert_eq!(world.run("eval -q -v").status.code(), Some(2));
}

#[test]
fn shells_and_manuals_know_every_command() {
    let world = World { folder: tempfile::tempdir().unwrap() };
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = world.ok(&format!("completions {shell}"));
        for word in ["train", "predict", "ten-crop"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert!(world.ok("man").starts_with(".ie") && world.ok("man train").contains("\\-\\-resume"));
    world.ok("man --out pages");
    let pages = world.names("pages");
    for page in ["alexnet.1", "alexnet-train.1", "alexnet-prepare-cifar.1"] {
        assert!(pages.iter().any(|name| name == page), "{page}: {pages:?}");
    }
    world.fails("man trian", 2, &["trian"]);
    // Each command has an example.
    for page in pages.iter().filter(|page| page.matches('-').count() == 1) {
        let command = page.trim_start_matches("alexnet-").trim_end_matches(".1");
        if command != "help" {
            let help = world.ok(&format!("{command} --help"));
            assert!(help.contains("Example"), "{command}: {help}");
        }
    }
}

#[test]
fn what_is_written_is_what_its_name_says() {
    let world = World::new();
    assert!(!world.path("set/skipped.jsonl").exists(), "nothing was skipped");
    world.fails("data show set --out sheet.jpg", 2, &["sheet.jpg", ".png"]);
    assert!(!world.path("sheet.jpg").exists());
    world.write("photos/train/down/bad.png", "no picture");
    let said = world.ok("prepare image-folder photos --out other --size 16 --max-bad 1");
    assert!(said.contains("1 shard ") && !said.contains("1 shards"), "{said}");
    assert!(said.contains("1 image was skipped; skipped.jsonl says why"), "{said}");
    assert!(world.text("other/skipped.jsonl").contains("bad.png"));
    let output = world.run("prepare image-folder photos --out third --size 16 --max-bad 0");
    assert!(sentence(&output).contains("skipped.jsonl"));
    fs::remove_file(world.path("photos/train/down/bad.png")).unwrap();
    world.ok("prepare image-folder photos --out third --size 16 --max-bad 0");
    assert!(!world.path("third/skipped.jsonl").exists(), "what was mended is not named");
    world.ok("data verify third");
}
