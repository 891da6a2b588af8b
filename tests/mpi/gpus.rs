//! Several processes, each on GPUs of its own, on the stand-in for them: gradients go through main
//! memory and MPI, so that they are one process but for rounding.

use super::launchers::{self, Running};
use super::{close, standin};
use crate::common::{NETWORK, World};

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
        variables.push(("STANDIN_DEVICES", gpus));
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
}
