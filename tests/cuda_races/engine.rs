//! The CUDA engine under this watch: the built program trains and evaluates two towers on two
//! devices, every access of every kernel seen; and each wait of it is needed, or known not to be.

use crate::common::{NETWORK, World, stderr};
use crate::standin::{self, RACES};
use alexnet::config::Config;
use alexnet::data::form::CropView;
use alexnet::engine::Engine;
use alexnet::engine::cuda::Cuda;
use alexnet::layers::{Classes, Run};
use alexnet::network::{Mode, Plan};
use serde_json::Value;
use std::process::Output;

/// Two steps and an evaluation.
const TRAIN: &str = "train --config net.toml --set train.batch=15 --set train.epochs=1 --device";

/// As many in batches whose forward pass is made in portions.
const IN_PORTIONS: &str =
    "train --config net.toml --set train.batch=48 --set train.epochs=2 --device";
const PORTIONS: (&str, &str) = ("ALEXNET_TEST_PORTIONS", "3");

struct Gpus {
    world: World,
    environment: Vec<(String, String)>,
}

impl Gpus {
    fn new(test: &str) -> Option<Gpus> {
        if standin::skipped_on_gpu(test) {
            return None;
        }
        let environment = standin::world()?;
        let world = World { folder: tempfile::tempdir().unwrap() };
        world.photos("photos/train", ["down", "level", "slant"], 10);
        world.photos("photos/val", ["down", "level", "slant"], 3);
        world.write("net.toml", NETWORK);
        world.ok("prepare image-folder photos --out set --size 16");
        Some(Gpus { world, environment })
    }

    fn run(&self, args: &str, switches: &[(&str, &str)]) -> Output {
        let mut command = self.world.command(args);
        command.envs(self.environment.iter().cloned()).envs(RACES);
        command.envs(switches.iter().copied()).output().unwrap()
    }

    #[track_caller]
    fn ok(&self, args: &str, switches: &[(&str, &str)]) {
        let output = self.run(args, switches);
        let text = stderr(&output);
        assert!(output.status.success() && !text.contains("stand-in:"), "{args}: {text}");
    }
}

/// Directly and through the host, in every precision, one device and two; evaluation and
/// prediction.
#[test]
fn nothing_races() {
    let Some(gpus) = Gpus::new("engine::nothing_races") else { return };
    gpus.ok(&format!("{TRAIN} cuda:0,1 --run direct"), &[]);
    gpus.ok(
        &format!("{TRAIN} cuda:0,1 --run host"),
        &[("STANDIN_PEER", "0"), ("STANDIN_ORDER", "reverse")],
    );
    for precision in ["tf32", "bf16"] {
        gpus.ok(
            &format!("{TRAIN} cuda:0,1 --run {precision} --set gpu.precision={precision}"),
            &[],
        );
    }
    for (run, device) in [("one", "cuda:0"), ("rehearsal", "cuda:0,0")] {
        gpus.ok(&format!("{TRAIN} {device} --run {run}"), &[]);
    }
    for (run, device, peer, precision) in [
        ("portions", "cuda:0,1", "1", "bf16"),
        ("portions-host", "cuda:0,1", "0", "f32"),
        ("portions-rehearsal", "cuda:0,0", "1", "tf32"),
    ] {
        let args = format!("{IN_PORTIONS} {device} --run {run} --set gpu.precision={precision}");
        gpus.ok(&args, &[PORTIONS, ("STANDIN_PEER", peer), ("STANDIN_ORDER", "reverse")]);
    }
    gpus.ok("eval direct/best.safetensors --ten-crop --device cuda:0,1", &[]);
}

/// Of each wait of one stream for another, and of all that come behind each other, what the
/// stand-in wrote down: the race there would be without. Where the work behind it comes after all
/// the same, the wait is not among them. How many there are that keep races away.
///
/// Those that a pass begins with, for the copies of the pass before, are for nothing where what
/// arrives in this pass comes after them anyway: which ones, the network decides. And where towers
/// that share a GPU meet, both wait, also the one that reads what both have made long since. With
/// `portions`, what follows an exchange waits for what all of them give to it, which keeps nothing
/// but the order of precedence; and through the host, whose copies of two portions wait for each
/// other is needless if the worker of the other GPU has queued its own in time: which, changes from
/// run to run.
#[track_caller]
fn needed_waits(text: &str, portions: bool) -> usize {
    let is_needed = |line: &&str| {
        let wait: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        println!("{line}");
        let [before, behind, race] =
            ["before", "behind", "race"].map(|key| wait[key].as_str().unwrap());
        let begins = before.starts_with("kernel input") && behind.starts_with("a copy");
        let meets = [("kernel conv", "kernel join"), ("kernel conv", "kernel take")];
        let meets = meets.iter().any(|(a, b)| before.starts_with(a) && behind.starts_with(b));
        let gives = ["kernel lrn_pool_forward", "kernel conv_forward"];
        let yields = portions
            && before.starts_with("kernel join")
            && gives.iter().any(|name| behind.starts_with(name));
        let through_host = |name: &str| name.starts_with("a copy to the ");
        let crosses = portions && through_host(before) && through_host(behind);
        let needless = race.is_empty() && (begins || meets || yields || crosses);
        assert!(race.starts_with("race: ") || needless, "not needed: {line}");
        !race.is_empty()
    };
    text.lines().filter(is_needed).count()
}

#[test]
fn each_wait_is_needed() {
    let Some(gpus) = Gpus::new("engine::each_wait_is_needed") else { return };
    // Both towers on one GPU go one after the other in one lane, so fewer waits are needed there.
    for (run, device, peer, least) in
        [("direct", "cuda:0,1", "1", 50), ("host", "cuda:0,1", "0", 50), ("one", "cuda:0", "1", 25)]
    {
        let file = gpus.world.path(&format!("{run}.json"));
        let switches = [("STANDIN_PEER", peer), ("STANDIN_WAITS", file.to_str().unwrap())];
        gpus.ok(&format!("{TRAIN} {device} --run {run}"), &switches);
        assert!(needed_waits(&gpus.world.text(&format!("{run}.json")), false) > least);
    }
    let file = gpus.world.path("portions.json");
    let switches = [PORTIONS, ("STANDIN_WAITS", file.to_str().unwrap())];
    gpus.ok(&format!("{IN_PORTIONS} cuda:0,1 --run portions"), &switches);
    assert!(needed_waits(&gpus.world.text("portions.json"), true) > 60);
}

/// The network of the other tests, and one whose second tower gives to the first, at the end, and
/// takes nothing: nothing holds it back but waits.
fn networks() -> [String; 2] {
    let one_way = NETWORK.replace("input = \"all-towers\"\n", "");
    let [from, to] = ["fc3", "fc4"].map(|name| format!("[[layer]]\nname = {name:?}"));
    let (begin, end) = (one_way.find(&from).unwrap(), one_way.find(&to).unwrap());
    let last = one_way[end..].replace("kind = \"fc\"", "kind = \"fc\"\ninput = \"same-tower\"");
    [NETWORK.into(), [&one_way[..begin], &last].concat()]
}

/// Passes that the host queues without reading what they made: then buffers are written again while
/// the pass before may still be at work, which no wait of the host keeps apart.
#[test]
fn passes_follow_each_other() {
    for (which, peer) in [("0", "1"), ("0", "0"), ("1", "1"), ("1", "0")] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("waits.json");
        let switches =
            [("STANDIN_PEER", peer), ("STANDIN_WAITS", file.to_str().unwrap()), ("NETWORK", which)];
        let switches = [&RACES[..], &switches].concat();
        let output = standin::outcome("engine::passes_follow_each_other", &switches, || {
            let network = &networks()[std::env::var("NETWORK").unwrap().parse::<usize>().unwrap()];
            three_passes(network, 15);
        });
        let Some(output) = output else { return };
        assert!(output.status.success(), "{}", stderr(&output));
        let text = std::fs::read_to_string(&file).unwrap();
        let (stands, way) =
            (needed_waits(&text, false), if peer == "1" { "direct" } else { "host" });
        println!("network {which}, {way}: {stands} waits needed");
        let taken = text.lines().filter(|line| {
            line.contains("\"before\":\"a copy to the device (on stream 2")
                && line.contains("\"behind\":\"kernel input")
        });
        assert_eq!(taken.count(), 4, "two passes after the first, on two devices");
        if which == "0" {
            continue;
        }
        // Each needed for two passes: that outputs have been copied before they are written again,
        // and have been joined before others arrive.
        let (arrives, copy) = match way {
            "direct" => ("a copy between devices", "a copy between devices"),
            _ => ("a copy to the host", "a copy to the device (on stream 3"),
        };
        let arrives = format!("{arrives} (on stream 3 of device 1)");
        let ways = [("kernel input (on stream 1 of device 1)", copy), (&arrives, "kernel join")];
        for (before, behind) in ways {
            let start = format!("{{\"before\":\"{before}\",\"behind\":\"{behind}");
            let single = |line: &&str| {
                line.starts_with(&start) && line.contains("race: ") && !line.contains("and others")
            };
            assert_eq!(text.lines().filter(single).count(), 2, "{start}: {text}");
        }
    }
}

/// The same in portions of the batch.
#[test]
fn passes_in_portions_follow_each_other() {
    for peer in ["1", "0"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("waits.json");
        let switches =
            [("STANDIN_PEER", peer), ("STANDIN_WAITS", file.to_str().unwrap()), PORTIONS];
        let switches = [&RACES[..], &switches].concat();
        let test = "engine::passes_in_portions_follow_each_other";
        let output = standin::outcome(test, &switches, || three_passes(NETWORK, 48));
        let Some(output) = output else { return };
        assert!(output.status.success(), "{}", stderr(&output));
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(needed_waits(&text, true) > 20);
    }
}

fn three_passes(network: &str, batch: usize) {
    let config = Config::parse(network, &[], "net.toml").unwrap();
    let known = Classes::Known(3);
    let plan = Plan::new(&config, batch, Mode::Evaluation, &[0, 1], known).unwrap();
    let (values, channels) = (plan.input.len(), plan.input.channels);
    let mut engine = Cuda::new(plan, &[0, 1]).unwrap();
    let run = Run { batch, training: false, seed: 1, step: 1, first_image: 0 };
    let colours = vec![1.0; batch * 2 * channels];
    for pass in 0..3 {
        let pixels = vec![pass; batch * values];
        let images = CropView::Bytes { pixels: &pixels, colours: &colours };
        engine.forward(&run, images).unwrap();
    }
    assert_eq!(engine.probabilities().unwrap().len(), batch * 3);
}

/// Planted: the program runs without one of its waits.
#[test]
fn a_wait_left_out_is_an_error() {
    let Some(gpus) = Gpus::new("engine::a_wait_left_out_is_an_error") else { return };
    for which in ["3", "11", "26"] {
        let args = format!("{TRAIN} cuda:0,1 --run without{which}");
        let output = gpus.run(&args, &[("STANDIN_DROP_WAIT", which)]);
        let text = stderr(&output);
        assert!(!output.status.success() && text.contains("stand-in: race: "), "{which}: {text}");
    }
}

/// A GPU that stops answering ends the program with its message; without these seconds it would
/// wait a minute for the first pass.
#[test]
fn a_gpu_that_stops_answering() {
    let Some(gpus) = Gpus::new("engine::a_gpu_that_stops_answering") else { return };
    for (run, device) in [("one", "cuda:0"), ("two", "cuda:0,1")] {
        let args = format!("{TRAIN} {device} --run {run}");
        let switches =
            [("STANDIN_HANG", "softmax"), ("STANDIN_HANG_AT", "2"), ("ALEXNET_GPU_WAIT", "2")];
        let output = gpus.run(&args, &switches);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        for words in ["error: GPU 0 has not answered for 2 seconds", "--resume", "dmesg"] {
            assert!(text.contains(words), "no {words:?} in: {text}");
        }
    }
}

/// One GPU has failed, and the other one stops answering while the program is on its way out.
#[test]
fn an_error_is_told_though_another_gpu_stops_answering() {
    let test = "engine::an_error_is_told_though_another_gpu_stops_answering";
    let Some(gpus) = Gpus::new(test) else { return };
    let switches = [
        ("STANDIN_FAIL_LAUNCH", "lrn_pool_backward"),
        ("STANDIN_HANG", "input"),
        ("ALEXNET_GPU_WAIT", "600"),
    ];
    let output = gpus.run(&format!("{TRAIN} cuda:0,1 --run two"), &switches);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("layer lrn1") && text.contains("LAUNCH_FAILED"), "{text}");
}
