//! The built binary on the stand-in for GPU and NVRTC (`tests/standin`): training on one and on two
//! devices against the CPU, what crosses between them, and what the program asks of the machine
//! (`machine.rs`). What runs here are the kernels and the host code that a GPU would run; no GPU is
//! involved.

#[path = "../common/mod.rs"]
mod common;
mod machine;
#[path = "../standin/mod.rs"]
mod standin;

use common::{World, sentence, stderr, tensors};
use serde_json::Value;
use std::process::Output;

/// A world whose commands run on the stand-in; `None` where it cannot be built.
struct Gpus {
    world: World,
    environment: Vec<(String, String)>,
}

/// Runs of a few steps: 30 images of three classes, batches of 8 with a short last one.
const TRAIN: &str = "train --config net.toml --set train.batch=8 --set train.epochs=1";

impl Gpus {
    fn new() -> Option<Gpus> {
        let environment = standin::world()?;
        let world = World { folder: tempfile::tempdir().unwrap() };
        world.photos("photos/train", ["down", "level", "slant"], 10);
        world.photos("photos/val", ["down", "level", "slant"], 3);
        world.write("net.toml", common::NETWORK);
        world.ok("prepare image-folder photos --out set --size 16");
        Some(Gpus { world, environment })
    }

    /// For a test that asks more than a GPU can be asked.
    fn on_standin(test: &str) -> Option<Gpus> {
        if standin::skipped_on_gpu(test) { None } else { Gpus::new() }
    }

    /// Runs the program; where a machine has one GPU it plays both parts.
    fn run(&self, args: &str, switches: &[(&str, &str)]) -> Output {
        let mut args = args.to_string();
        if standin::on_gpu() && standin::gpu(1) == 0 {
            args = args.replace("cuda:0,1", "cuda:0,0").replace("cuda:1", "cuda:0");
        }
        let mut command = self.world.command(&args);
        command.envs(self.environment.iter().cloned()).envs(switches.iter().copied());
        command.output().unwrap()
    }

    #[track_caller]
    fn ok(&self, args: &str, switches: &[(&str, &str)]) -> Output {
        let output = self.run(args, switches);
        assert_eq!(output.status.code(), Some(0), "{args}: {}", stderr(&output));
        output
    }

    #[track_caller]
    fn fails(&self, args: &str, switches: &[(&str, &str)], code: i32, words: &[&str]) {
        let output = self.run(args, switches);
        assert_eq!(output.status.code(), Some(code), "{args}: {}", stderr(&output));
        let sentence = sentence(&output);
        for word in words {
            assert!(sentence.contains(word), "no {word:?} in: {sentence}");
        }
    }

    fn losses(&self, run: &str) -> Vec<f64> {
        let lines = self.world.metrics(run);
        let steps = lines.iter().filter(|line| line["kind"] == "step");
        steps.map(|line| line["loss"].as_f64().unwrap()).collect()
    }

    /// Everything in a run's checkpoint, as numbers.
    fn weights(&self, run: &str) -> Vec<(String, Vec<f32>)> {
        let all = tensors(&self.world.path(run).join("last.safetensors"));
        let floats = |bytes: Vec<u8>| {
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
        };
        all.into_iter().map(|(name, _, bytes)| (name, floats(bytes))).collect()
    }

    /// What the stand-in counted in a process: the copies between devices and their bytes.
    fn peer_copies(&self, name: &str) -> (u64, u64) {
        let text = self.world.text(name);
        let counters: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
        (counters["peer_copies"].as_u64().unwrap(), counters["peer_bytes"].as_u64().unwrap())
    }
}

#[track_caller]
fn assert_near(what: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{what}[{i}]: {a} and {b}");
    }
}

#[test]
fn two_devices_train_as_one_does_and_as_the_cpu() {
    let Some(gpus) = Gpus::new() else { return };
    gpus.ok(&format!("{TRAIN} --device cpu --run cpu"), &[]);
    let output = gpus.ok(&format!("{TRAIN} --device cuda:0,1 --run two"), &[]);
    assert!(stderr(&output).contains("on GPU 0 ("), "{}", stderr(&output));
    gpus.ok(&format!("{TRAIN} --device cuda:1 --run one"), &[("STANDIN_ORDER", "random")]);

    let (cpu, two, one) = (gpus.losses("cpu"), gpus.losses("two"), gpus.losses("one"));
    assert_eq!(cpu.len(), 4, "three batches of 8 and one of 6");
    assert_eq!(one, two);
    for (a, b) in cpu.iter().zip(&two) {
        assert!((a - b).abs() < 1e-4, "losses {cpu:?} and {two:?}");
    }
    let rehearsal = gpus.ok(&format!("{TRAIN} --device cuda:0,0 --run both"), &[]);
    assert!(stderr(&rehearsal).contains("a rehearsal of two"), "{}", stderr(&rehearsal));
    assert_eq!(gpus.losses("both"), one);
    assert_eq!(gpus.weights("both"), gpus.weights("one"), "two workers on one device");
    let (cpu, two, one) = (gpus.weights("cpu"), gpus.weights("two"), gpus.weights("one"));
    for ((theirs, ours), single) in cpu.iter().zip(&two).zip(&one) {
        assert_near(&theirs.0, &ours.1, &theirs.1);
        assert_eq!(ours, single, "one device and two");
    }
    let values = |run: &str| {
        let lines = gpus.world.metrics(run);
        lines.last().unwrap()["val_loss"].as_f64().unwrap()
    };
    assert!((values("cpu") - values("two")).abs() < 1e-4);
}

/// A forward pass in portions of the batch: the same bytes in more copies, and the same bits as on
/// one device, which takes the batch as a whole; the last batch leaves half of a portion unused.
#[test]
fn in_portions_two_devices_train_as_one_does() {
    let Some(gpus) = Gpus::on_standin("in_portions_two_devices_train_as_one_does") else { return };
    let args = format!("{TRAIN} --set train.batch=48 --set train.epochs=2");
    for precision in ["f32", "tf32", "bf16"] {
        let args = format!("{args} --set gpu.precision={precision}");
        let run = |run: &str, portions: &str, peer: &str| {
            let file = gpus.world.path("counters.json");
            let switches = [
                ("ALEXNET_TEST_PORTIONS", portions),
                ("STANDIN_PEER", peer),
                ("STANDIN_ORDER", "random"),
                ("STANDIN_COUNTERS", file.to_str().unwrap()),
            ];
            gpus.ok(&format!("{args} --device cuda:0,1 --run {precision}-{run}"), &switches);
            gpus.peer_copies("counters.json")
        };
        gpus.ok(&format!("{args} --device cuda:0 --run {precision}-one"), &[]);
        let (whole, in_three) = (run("whole", "1", "1"), run("three", "3", "1"));
        run("host", "3", "0");
        assert_eq!(whole.1, in_three.1, "bytes between devices");
        // At conv2 and at fc3, both ways: in training and in validation of both epochs.
        assert_eq!(in_three.0 - whole.0, 2 * 2 * 2 * (3 - 1) * 2);
        for other in ["whole", "three", "host"].map(|other| format!("{precision}-{other}")) {
            let one = format!("{precision}-one");
            assert_eq!(gpus.losses(&one), gpus.losses(&other), "{other}");
            assert_eq!(gpus.weights(&one), gpus.weights(&other), "{other}");
        }
    }
}

/// In bfloat16 two devices are one to the bit, and the first update is the CPU's but for the
/// rounding of what it was made of; below a pooling layer by more, since of values that are rounded
/// to the same another one may be the largest.
#[test]
fn in_bfloat16_training_is_the_cpus_but_for_rounding() {
    let Some(gpus) = Gpus::new() else { return };
    let half = format!("{TRAIN} --set gpu.precision=bf16");
    gpus.ok(&format!("{half} --device cuda:0,1 --run two"), &[("STANDIN_ORDER", "random")]);
    gpus.ok(&format!("{half} --device cuda:0 --run one"), &[]);
    assert_eq!(gpus.losses("one"), gpus.losses("two"));
    assert_eq!(gpus.weights("one"), gpus.weights("two"));

    let step = "--set train.batch=30";
    gpus.ok(&format!("{TRAIN} {step} --device cpu --run cpu"), &[]);
    gpus.ok(&format!("{half} {step} --device cuda:0 --run half"), &[]);
    let (cpu, gpu) = (gpus.losses("cpu"), gpus.losses("half"));
    assert!(cpu.len() == 1 && (cpu[0] - gpu[0]).abs() < 0.005 * cpu[0], "{cpu:?} and {gpu:?}");
    let length = |values: &mut dyn Iterator<Item = f32>| {
        values.map(|v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
    };
    let (cpu, gpu) = (gpus.weights("cpu"), gpus.weights("half"));
    let updates = cpu.iter().zip(&gpu).filter(|((name, _), _)| name.starts_with("momentum/"));
    let mut seen = 0;
    for ((name, theirs), (_, ours)) in updates {
        let apart = length(&mut theirs.iter().zip(ours).map(|(a, b)| a - b));
        let share = apart / length(&mut theirs.iter().copied());
        println!("{name}: {share}");
        assert!(share > 0.0 && share < 0.15, "{name}: {share} of the update");
        seen += 1;
    }
    assert!(seen > 4, "no momenta in the checkpoint");
}

#[test]
fn auto_takes_a_gpu_for_each_tower() {
    let Some(gpus) = Gpus::on_standin("auto_takes_a_gpu_for_each_tower") else { return };
    let said = |switches: &[(&str, &str)]| {
        let output = gpus.ok(&format!("{TRAIN} --set train.epochs=1"), switches);
        stderr(&output)
    };
    let two = said(&[]);
    assert!(
        two.contains("GPU 0") && two.contains("GPU 1") && two.contains("a tower each"),
        "{two}"
    );
    let one = said(&[("STANDIN_DEVICES", "1")]);
    assert!(one.contains("GPU 0") && one.contains("the only one"), "{one}");
    let none = said(&[("STANDIN_DEVICES", "0")]);
    assert!(none.contains("on the CPU") && none.contains("finds no GPU"), "{none}");
    let old = said(&[("STANDIN_CAPABILITY", "5.2")]);
    assert!(old.contains("on the CPU") && old.contains("too old"), "{old}");
}

#[test]
fn what_crosses_is_what_inspect_says() {
    let Some(gpus) = Gpus::on_standin("what_crosses_is_what_inspect_says") else { return };
    // Three full batches an epoch, and one of validation.
    let settings = "--set train.batch=10 --set schedule.kind=\"steps\"";
    let args = format!("train --config net.toml {settings} --device cuda:0,1");
    let count = |run: &str, epochs: u32| {
        let file = gpus.world.path(&format!("{run}.json"));
        let switches = [("STANDIN_COUNTERS", file.to_str().unwrap())];
        gpus.ok(&format!("{args} --set train.epochs={epochs} --run {run}"), &switches);
        gpus.peer_copies(&format!("{run}.json"))
    };
    // The difference of two runs: what opens the links is the same in both.
    let (one, two) = (count("one", 1), count("two", 2));
    let plan = gpus.world.json("inspect net.toml --json");
    let crossings = plan["crossings"].as_array().unwrap();
    let names: Vec<_> = crossings.iter().map(|c| c["layer"].as_str().unwrap()).collect();
    assert_eq!(names, ["conv2", "fc3", "fc4", "softmax"]);
    let sum = |key: &str| crossings.iter().map(|c| c[key].as_u64().unwrap()).sum::<u64>();
    let (forward, backward) = (sum("bytes_forward"), sum("bytes_backward"));
    assert_eq!(two.1 - one.1, 3 * (forward + backward) + forward);
    // Two towers exchange in each of three layers, and one gives its classes to the other.
    let copies = 3 * 2 + 1;
    assert_eq!(two.0 - one.0, 3 * (2 * copies) + copies);
}

#[test]
fn without_peer_access_the_result_is_the_same() {
    let Some(gpus) = Gpus::on_standin("without_peer_access_the_result_is_the_same") else { return };
    gpus.ok(&format!("{TRAIN} --device cuda:0,1 --run direct"), &[]);
    let file = gpus.world.path("counters.json");
    let switches = [("STANDIN_PEER", "0"), ("STANDIN_COUNTERS", file.to_str().unwrap())];
    let output = gpus.ok(&format!("{TRAIN} --device cuda:0,1 --run host"), &switches);
    let text = stderr(&output);
    let warnings = text.lines().filter(|line| line.contains("through the host")).count();
    assert_eq!(warnings, 1, "{text}");
    assert_eq!(gpus.peer_copies("counters.json"), (0, 0));
    assert_eq!(gpus.losses("direct"), gpus.losses("host"));
    assert_eq!(gpus.weights("direct"), gpus.weights("host"));
}

/// The harness would see it: without the waits between streams the numbers are wrong.
#[test]
fn without_waits_between_streams_training_goes_wrong() {
    let Some(gpus) = Gpus::on_standin("without_waits_between_streams_training_goes_wrong") else {
        return;
    };
    gpus.ok(&format!("{TRAIN} --device cuda:0,1 --run right"), &[]);
    let switches = [("STANDIN_DROP_WAITS", "1")];
    let output = gpus.run(&format!("{TRAIN} --device cuda:0,1 --run wrong"), &switches);
    assert!(!output.status.success() || gpus.losses("right") != gpus.losses("wrong"));
}

#[test]
fn evaluation_prediction_and_resumption() {
    let Some(gpus) = Gpus::new() else { return };
    gpus.ok(&format!("{TRAIN} --device cpu --run cpu"), &[]);
    let json = |args: &str, switches: &[(&str, &str)]| -> Value {
        serde_json::from_slice(&gpus.ok(args, switches).stdout).unwrap()
    };
    for crops in ["", "--ten-crop"] {
        let args = format!("eval cpu/best.safetensors --json {crops} --device");
        let (cpu, two) =
            (json(&format!("{args} cpu"), &[]), json(&format!("{args} cuda:0,1"), &[]));
        for key in ["images", "top1_error", "top5_error", "crops"] {
            assert_eq!(cpu[key], two[key], "{key} of {args}");
        }
        let loss = |v: &Value| v["log_loss"].as_f64().unwrap();
        assert!((loss(&cpu) - loss(&two)).abs() < 1e-5);
    }
    let image = "photos/val/down/000.jpg photos/val/slant/001.png";
    let args =
        format!("predict {image} --checkpoint cpu/best.safetensors --ten-crop --json --device");
    let (cpu, one) = (json(&format!("{args} cpu"), &[]), json(&format!("{args} cuda:0"), &[]));
    for (a, b) in cpu.as_array().unwrap().iter().zip(one.as_array().unwrap()) {
        for (a, b) in a["top"].as_array().unwrap().iter().zip(b["top"].as_array().unwrap()) {
            assert_eq!(a["label"], b["label"]);
            let p = |v: &Value| v["probability"].as_f64().unwrap();
            assert!((p(a) - p(b)).abs() < 1e-5);
        }
    }
    // Two epochs at once, and one on two devices that one device goes on with.
    let two = "--set train.epochs=2";
    gpus.ok(&format!("{TRAIN} {two} --device cuda:0 --run whole"), &[]);
    gpus.ok(&format!("{TRAIN} --device cuda:0,1 --run parts"), &[]);
    gpus.ok(&format!("train --resume --run parts {two} --device cuda:1"), &[]);
    assert_eq!(gpus.weights("whole"), gpus.weights("parts"));
}
