//! The CUDA engine under this watch: the built program trains and evaluates two towers on two
//! devices, every access of every kernel seen; and each wait of it is needed, or known not to be.

use crate::common::{NETWORK, World, stderr};
use crate::standin::{self, RACES};
use serde_json::Value;
use std::process::Output;

/// Two steps and an evaluation.
const TRAIN: &str = "train --config net.toml --set train.batch=15 --set train.epochs=1 --device";

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

/// Directly and through the host, in every precision, one device and two; evaluation and prediction.
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
    gpus.ok(&format!("{TRAIN} cuda:0 --run one"), &[]);
    gpus.ok("eval direct/best.safetensors --ten-crop --device cuda:0,1", &[]);
}

/// Without any one of the waits of one stream for another, and without all that come behind each
/// other, there is a race; but for those where the work comes after all the same.
#[test]
fn each_wait_is_needed() {
    let Some(gpus) = Gpus::new("engine::each_wait_is_needed") else { return };
    for (run, peer) in [("direct", "1"), ("host", "0")] {
        let file = gpus.world.path(&format!("{run}.json"));
        let switches = [("STANDIN_PEER", peer), ("STANDIN_WAITS", file.to_str().unwrap())];
        gpus.ok(&format!("{TRAIN} cuda:0,1 --run {run}"), &switches);
        let mut needed = 0;
        for line in gpus.world.text(&format!("{run}.json")).lines() {
            let wait: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            println!("{run}: {line}");
            let race = wait["race"].as_str().unwrap();
            assert!(race.starts_with("race: "), "{run}, not needed: {line}");
            needed += 1;
        }
        assert!(needed > 50, "{run}: {needed} waits");
    }
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
