//! Several processes, each on GPUs of its own, on the stand-in for them: gradients go through main
//! memory and MPI (`nccl.rs`: by NCCL), so that they are one process but for rounding.

use super::launchers::{self, Running};
use super::{close, standin};
use crate::common::{NETWORK, World};
use alexnet::engine::Choice;

/// 30 images in steps of 29, and of one, which leaves the second process none.
const TRAIN: &str = "train --config net.toml --set train.batch=29 --set train.epochs=1 --set \
                     schedule.rate=0.005";

/// Two processes on one GPU each, and on two each, whose towers meet by copies between them.
#[test]
fn processes_on_gpus_are_one_but_for_rounding() {
    if standin::on_gpu() {
        return eprintln!("skipped: two processes would share this machine's GPU");
    }
    let (Some(launcher), Some(environment)) = (launchers::any(), standin::world()) else { return };
    let world = World { folder: tempfile::tempdir().unwrap() };
    world.photos("photos/train", ["down", "level", "slant"], 10);
    world.photos("photos/val", ["down", "level", "slant"], 1);
    world.write("net.toml", NETWORK);
    world.ok("prepare image-folder photos --out set --size 16");
    world.ok(&format!("{TRAIN} --run whole"));
    for gpus in ["2", "4"] {
        let mut variables: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        variables.extend([("STANDIN_DEVICES", gpus), ("ALEXNET_NCCL", "0")]);
        let run = format!("on-{gpus}");
        let args = format!("{TRAIN} --run {run}");
        let (code, said) = Running::start_with(&world, &launcher, 2, &args, &variables).end();
        assert_eq!(code, Some(0), "{said}");
        let words = if gpus == "2" { "on GPU 0 (" } else { "GPU 1 (" };
        assert!(said.contains(words), "{said}");
        let last = |run: &str| world.path(&format!("{run}/last.safetensors"));
        close(&last(&run), &last("whole"));
    }
    let mut variables: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    variables.push(("STANDIN_DEVICES", "1"));
    let args = format!("{TRAIN} --run few");
    let (code, said) = Running::start_with(&world, &launcher, 2, &args, &variables).end();
    assert_ne!(code, Some(0), "{said}");
    super::one_error(&said, &["2 processes on ", "1 GPU", "--device cpu"]);
    // Evaluation, too, has a GPU a process.
    let args = "eval whole --split train --json";
    let (code, said) = Running::start_with(&world, &launcher, 2, args, &variables).end();
    assert_ne!(code, Some(0), "{said}");
    super::one_error(&said, &["2 processes on ", "1 GPU", "--device cpu"]);
    variables.pop();
    variables.push(("STANDIN_DEVICES", "2"));
    let (code, said) = Running::start_with(&world, &launcher, 2, args, &variables).end();
    assert!(code == Some(0) && said.contains("computing on GPU 0 ("), "{said}");
    // Standard output and error are one here.
    let alone: serde_json::Value = serde_json::from_str(&world.ok(args)).unwrap();
    let (begin, end) = (said.find('{').unwrap(), said.rfind('}').unwrap());
    let among: serde_json::Value = serde_json::from_str(&said[begin..=end]).unwrap();
    assert_eq!(among["top1_error"], alone["top1_error"], "{said}");
}

/// Of four GPUs each of two processes has two, if the network has two towers, else the one of its
/// place.
#[test]
fn processes_of_a_machine_have_gpus_of_their_own() {
    let test = "gpus::processes_of_a_machine_have_gpus_of_their_own";
    standin::only(test, &[("STANDIN_DEVICES", "4")], || {
        for (place, of, towers, gpus) in
            [(0, 2, 2, &[0, 1][..]), (1, 2, 2, &[2, 3]), (1, 2, 1, &[1]), (2, 3, 2, &[2])]
        {
            let placement = Choice::Share { place, of }.resolve(towers).unwrap();
            assert_eq!(placement.gpus, gpus, "{placement:?}");
        }
    });
}
