//! Training in large batches: LARS against its formula in f64, rates that warm up, fall and follow
//! the batch, and what holds for every run: resumed to the same bits, in any number of parts,
//! refused where it cannot be. And what `inspect` foretells of many processes.

mod common;

use alexnet::config::Config;
use alexnet::data::form::CropView;
use alexnet::engine::cpu::Cpu;
use alexnet::engine::{Engine, Rates, Slot};
use alexnet::layers::{Classes, Run};
use alexnet::network::{Mode, Plan};
use common::World;

/// Two towers that meet in fc2; so large that fc2 is updated as its gradient comes into being where
/// the rule allows that.
const NETWORK: &str = "towers = 2\n[data]\ncrop = 8\nclasses = 5\n[schedule]\nkind = 'steps'\n\
    [[layer]]\nname = 'conv1'\nkind = 'conv'\nkernels = 16\nsize = 3\n\
    [[layer]]\nname = 'relu1'\nkind = 'relu'\n\
    [[layer]]\nname = 'fc2'\nkind = 'fc'\noutputs = 160\n\
    [[layer]]\nname = 'relu2'\nkind = 'relu'\n\
    [[layer]]\nname = 'fc3'\nkind = 'fc'\noutputs = 'classes'\n\
    [[layer]]\nname = 'softmax'\nkind = 'softmax'\n";

const BATCH: usize = 20;
const MOMENTUM: f64 = 0.9;

/// Numbers around 0, others for each `of`.
fn numbers(of: usize, count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + of * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
}

fn engine() -> Cpu {
    let config = Config::parse(NETWORK, &[], "test").unwrap();
    let plan = Plan::new(&config, BATCH, Mode::Training, &[0, 0], Classes::Any).unwrap();
    let mut engine = Cpu::new(plan).unwrap();
    for (index, tensor) in engine.plan().tensors().iter().enumerate() {
        let values: Vec<f32> =
            numbers(index, tensor.len()).iter().map(|v| v * [0.1, 0.3][index % 2]).collect();
        engine.write(Slot::Value, index, &values).unwrap();
    }
    engine
}

/// Rates as of a layer: weights and biases with a decay each.
fn rates(rate: f64, trust: f32) -> Rates {
    Rates {
        weight: rate as f32,
        weight_decay: (rate * 0.002) as f32,
        bias: 0.02,
        bias_decay: 0.02 * 0.001,
        trust: Some(trust),
    }
}

/// Algorithm 1 of You, Gitman and Ginsburg on one tensor of weights, the rule of the paper on
/// biases; w, v and g in f64.
fn lars(w: &mut [f64], v: &mut [f64], g: &[f64], is_bias: bool, rate: f64, trust: f64) {
    let length = |all: &[f64]| all.iter().map(|x| x * x).sum::<f64>().sqrt();
    let (rate, decay) = match is_bias {
        true => (0.02, 0.001),
        false => {
            let local = trust * length(w) / (length(g) + 0.002 * length(w));
            (rate * local, 0.002)
        }
    };
    for ((w, v), g) in w.iter_mut().zip(v).zip(g) {
        *v = MOMENTUM * *v + rate * (*g + decay * *w);
        *w -= *v;
    }
}

#[test]
fn lars_is_its_formula_over_five_steps() {
    let mut engine = engine();
    let tensors = engine.plan().tensors();
    let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<f64>>();
    let read = |engine: &Cpu, slot, tensor| wide(engine.read(slot, tensor).unwrap().values);
    let mut w: Vec<_> = (0..tensors.len()).map(|t| read(&engine, Slot::Value, t)).collect();
    let mut v: Vec<_> = w.iter().map(|w| vec![0.0; w.len()]).collect();
    let labels: Vec<u32> = (0..BATCH as u32).map(|image| image % 5).collect();
    for step in 1..=5 {
        // Each step has images and a rate of its own.
        let images = numbers(100 + step as usize, BATCH * 8 * 8 * 3);
        let (rate, trust) = (4.0 / f64::from(step), 0.01);
        let run = Run { batch: BATCH, training: true, seed: 1, step, first_image: 0 };
        let of_layer = Some(rates(rate, trust as f32));
        let rates = vec![of_layer; engine.plan().layers.len()];
        let momentum = MOMENTUM as f32;
        engine.step(&run, CropView::Floats(&images), &labels, momentum, &rates).unwrap();
        for (t, tensor) in tensors.iter().enumerate() {
            let g = read(&engine, Slot::Gradient, t);
            assert!(g.iter().any(|g| *g != 0.0), "{}: the whole gradient is there", tensor.name);
            lars(&mut w[t], &mut v[t], &g, tensor.is_bias, rate, trust);
            let ours = read(&engine, Slot::Value, t);
            let most = w[t].iter().fold(0.0, |most: f64, w| most.max(w.abs()));
            for (ours, w) in ours.iter().zip(&w[t]) {
                let far = (ours - w).abs();
                assert!(far < 1e-5 * most, "{}, step {step}: {ours} is not {w}", tensor.name);
            }
        }
    }
}

/// Weights that are all zero could never leave it by a step in proportion to their length.
#[test]
fn weights_of_zero_learn_under_lars_too() {
    let mut engine = engine();
    let last = engine.plan().tensors().len() - 2;
    let zeros = vec![0.0; engine.plan().tensors()[last].len()];
    engine.write(Slot::Value, last, &zeros).unwrap();
    let images = numbers(1, BATCH * 8 * 8 * 3);
    let run = Run { batch: BATCH, training: true, seed: 1, step: 1, first_image: 0 };
    let rates = vec![Some(rates(0.5, 0.01)); engine.plan().layers.len()];
    engine.step(&run, CropView::Floats(&images), &[1; BATCH], 0.9, &rates).unwrap();
    let [w, g] = [Slot::Value, Slot::Gradient].map(|slot| engine.read(slot, last).unwrap().values);
    assert!(w.iter().zip(&g).all(|(w, g)| *w == -0.5 * g), "a rate without a ratio");
}

const TRAIN: &str = "train --config net.toml --set train.batch=20 --set train.optimizer=lars --set \
    train.trust_coefficient=0.02 --set schedule.kind=polynomial --set schedule.rate=0.3 --set \
    schedule.bias_rate=0.002 --set schedule.rate_batch=10 --set schedule.warmup_epochs=1";

/// 90 images in batches of 20: five steps an epoch, the first of which rise from the batch of 10's
/// rate to twice that.
#[test]
fn the_log_has_the_rate_of_every_step() {
    let world = World::new();
    world.ok(&format!("{} --set train.epochs=3 --run run", TRAIN.replace(" \\\n    ", " ")));
    let mut expected = Vec::new();
    for epoch in 0..3 {
        for step in 0..5 {
            let done = f64::from(5 * epoch + step);
            expected.push(match epoch {
                0 => 0.3 + 0.3 * (done + 1.0) / 5.0,
                _ => 0.6 * (1.0 - (done - 5.0) / 10.0).powi(2),
            });
        }
        expected.push(expected[expected.len() - 1]);
    }
    let rates: Vec<f64> =
        world.metrics("run").iter().map(|line| line["learning_rate"].as_f64().unwrap()).collect();
    assert_eq!(rates.len(), expected.len());
    for (rate, expected) in rates.iter().zip(&expected) {
        assert!((rate - expected).abs() < 1e-12, "{rates:?} is not {expected:?}");
    }
    // Which was worth it: the last epoch's loss is far below the first one's.
    let metrics = world.metrics("run");
    let loss = |line: usize| metrics[line]["loss"].as_f64().unwrap();
    assert!(loss(17) < 0.8 * loss(5), "{} and {}", loss(5), loss(17));
    let kept = world.text("run/config.toml");
    for key in ["optimizer = \"lars\"", "power = 2.0", "rate_batch = 10", "warmup_epochs = 1.0"] {
        assert!(kept.contains(key), "no {key} in {kept}");
    }
}

#[test]
fn a_run_that_is_cut_anywhere_goes_on_to_the_same_bits() {
    let world = World::new();
    world.ok(&format!("{TRAIN} --set train.epochs=4 --run whole"));
    world.ok(&format!("{TRAIN} --set train.epochs=4 --set train.parts=4 --run parts"));
    // Inside the warm-up, at its end, and in the fall after it.
    for steps in [2, 5, 13] {
        let run = format!("cut-{steps}");
        cut(&world, &run, steps);
        world.ok(&format!("train --resume --run {run}"));
        let last = |run: &str| world.bytes(&format!("{run}/last.safetensors"));
        assert!(last(&run) == last("whole"), "cut after {steps} steps");
        assert_eq!(world.timeless(&run), world.timeless("whole"));
    }
    let [whole, parts] = ["whole", "parts"].map(|run| world.metrics(run));
    let loss = |lines: &[serde_json::Value]| lines[lines.len() - 1]["loss"].as_f64().unwrap();
    let (whole, parts) = (loss(&whole), loss(&parts));
    assert!((whole - parts).abs() < 1e-3 * whole, "parts change roundings only: {whole}, {parts}");
}

/// A run that a signal has ended after at least so many steps.
fn cut(world: &World, run: &str, steps: usize) {
    use std::process::Stdio;
    let args = format!("{TRAIN} --set train.epochs=4 --run {run}");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_alexnet"));
    command.current_dir(world.folder.path()).args(args.split_whitespace());
    let mut child = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let log = world.path(&format!("{run}/metrics.jsonl"));
    let lines = || std::fs::read_to_string(&log).map_or(0, |text| text.lines().count());
    while lines() < steps && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    // SAFETY: the process is this one's child and has not been waited for, or the call does
    // nothing.
    unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGTERM) };
    child.wait().unwrap();
}

#[test]
fn what_cannot_be_is_refused_with_the_key() {
    let world = World::new();
    let fails = |set: &str, words: &[&str]| {
        world.fails(&format!("train --config net.toml --run no {set}"), 2, words);
        assert!(!world.path("no").exists());
    };
    fails("--set train.optimizer=adam", &["optimizer = \"adam\"", "`sgd` or `lars`"]);
    fails("--set train.trust_coefficient=0", &["train.trust_coefficient = 0", "above 0"]);
    fails("--set schedule.warmup_epochs=-1", &["schedule.warmup_epochs = -1"]);
    fails("--set schedule.rate_batch=0", &["schedule.rate_batch = 0"]);
    fails("--set schedule.power=1", &["schedule.power", "\"polynomial\""]);
    let gpu = "--set train.parts=2 --set train.optimizer=lars --device cuda:0";
    fails(gpu, &["--device cuda:0", "train.parts above 1", "CPU"]);
}

/// The paper's own rule has no new keys in what a run keeps.
#[test]
fn a_config_without_the_keys_is_written_as_before() {
    let world = World::new();
    world.ok("train --config linear.toml --set train.epochs=1 --run run");
    let kept = world.text("run/config.toml");
    for key in ["optimizer", "trust_coefficient", "warmup", "rate_batch"] {
        assert!(!kept.contains(key), "{key} in {kept}");
    }
}

#[test]
fn the_shipped_config_is_a_network_that_can_be_trained() {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/ilsvrc2012-large-batch.toml");
    let world = World::new();
    let plan = world.json(&format!("inspect {config} --json"));
    assert_eq!(plan["parameters"], 60_965_224);
}

/// The network's parameters are all that is sent: each of N ranks 2·(N − 1)/N of their bytes.
#[test]
fn inspect_foretells_many_processes() {
    let world = World::new();
    let rows = |args: &str| world.json(&format!("inspect net.toml --json {args}"))["ranks"].clone();
    let bytes = 4 * world.json("inspect net.toml --json")["parameters"].as_u64().unwrap();
    let of = |rows: &serde_json::Value, key: &str| -> Vec<f64> {
        rows.as_array().unwrap().iter().map(|row| row[key].as_f64().unwrap()).collect()
    };
    let plain = rows("--ranks 10");
    assert_eq!(of(&plain, "ranks"), [1.0, 2.0, 4.0, 8.0, 10.0]);
    assert_eq!(of(&plain, "images_per_rank"), [10.0, 5.0, 3.0, 2.0, 1.0]);
    let sent = [0, bytes, bytes * 3 / 2, bytes * 7 / 4, bytes * 9 / 5].map(|n| n as f64);
    assert_eq!(of(&plain, "bytes_sent"), sent);
    assert!(plain[0].get("step_seconds").is_none(), "no speed was stated");
    // A wire so slow that it is all: every byte at 1 Mbit/s, and a thousand images a second.
    let slow = rows("--ranks 2 --gbit-per-second 0.001 --images-per-second 1000");
    let expected = bytes as f64 / 125_000.0;
    let step = of(&slow, "step_seconds");
    assert_eq!(step[0], 0.01);
    assert!((step[1] / (expected + 0.005) - 1.0).abs() < 0.01, "{step:?} and {expected}");
    // One so fast that it is nothing.
    let fast = "--ranks 8 --images-per-rank 4 --gbit-per-second 1e9 --images-per-second 10";
    let fast = rows(fast);
    assert!(of(&fast, "scaling").iter().all(|s| (s - 1.0).abs() < 1e-6), "{fast}");
    assert_eq!(of(&fast, "images_per_rank"), [4.0; 4]);
    // Latency counts at least there and back, twice.
    let late = rows("--ranks 2 --gbit-per-second 1e9 --images-per-second 1e9 --latency-us 1000");
    assert!((of(&late, "exposed_seconds")[1] - 0.004).abs() < 1e-5, "{late}");
    let table = world.ok("inspect net.toml --ranks 4 --gbit-per-second 10 --images-per-second 50");
    for word in ["ranks", "exposed, ms", "scaling", "predicted for 10 Gbit/s"] {
        assert!(table.contains(word), "no {word} in {table}");
    }
    for (args, words) in [
        ("--ranks 11", ["train.batch = 10", "11"]),
        ("--ranks 3 --set train.parts=2", ["train.parts = 2", "3"]),
        ("--ranks 2 --gbit-per-second 0 --images-per-second 1", ["--gbit-per-second 0", "above 0"]),
        ("--ranks 2 --gbit-per-second 1", ["--images-per-second", "required"]),
    ] {
        let output = world.run(&format!("inspect net.toml {args}"));
        let said = common::stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{args}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{args}: {said}");
    }
}
