//! Several processes, each on GPUs of its own, whose gradients are added up by NCCL, on the
//! stand-ins for both: one process but for rounding, and what can go wrong.

use super::launchers::{self, Launcher, Running, send};
use super::{close, one_error, standin};
use crate::common::{NETWORK, World};
use alexnet::gpu::nccl::Nccl;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// 30 images in steps of 29, and of one, which leaves the second process none.
const TRAIN: &str = "train --config net.toml --set train.batch=29 --set train.epochs=1 --set \
                     schedule.rate=0.005";

pub struct Ranks {
    pub world: World,
    launcher: Launcher,
    /// Of a machine with NCCL.
    environment: Vec<(String, String)>,
}

impl Ranks {
    /// Runs two with `args`, of whose pieces the one of number `lost` never comes; kills one of them
    /// while it is waited for, once both are connected and it is `ready`. The other one is to end.
    #[track_caller]
    pub fn a_death_ends_both(&self, args: &str, lost: &str, ready: impl Fn() -> bool) {
        let mut running = self.start(args, "2", &[("STANDIN_NCCL_LOST", lost)]);
        let begun = Instant::now();
        while !running.said().contains("added up by NCCL") || !ready() {
            assert!(begun.elapsed() < Duration::from_secs(120), "{}", running.said());
            sleep(Duration::from_millis(100));
        }
        sleep(Duration::from_secs(3));
        let all = running.ranks();
        assert_eq!(all.len(), 2, "{}", running.said());
        send(all[1], libc::SIGKILL);
        let took = running.ranks_end();
        let said = running.kill();
        // src/mpi/README.md says 10 seconds; a busy machine is given more.
        assert!(took < Duration::from_secs(40), "{took:?}: {said}");
    }

    /// None: something is missing, or this machine's own GPU would be shared.
    fn new(images: u32) -> Option<Ranks> {
        Ranks::over(|| {
            let world = World { folder: tempfile::tempdir().unwrap() };
            world.photos("photos/train", ["down", "level", "slant"], images);
            world.photos("photos/val", ["down", "level", "slant"], 1);
            world.write("net.toml", NETWORK);
            world.ok("prepare image-folder photos --out set --size 16");
            world
        })
    }

    /// As [`Ranks::new`], in a world of this kind.
    pub fn over(world: impl FnOnce() -> World) -> Option<Ranks> {
        if standin::on_gpu() {
            eprintln!("skipped: two processes would share this machine's GPU");
            return None;
        }
        let (launcher, mut environment) = (launchers::any()?, standin::world()?);
        let world = world();
        std::fs::create_dir(world.path("nccl")).unwrap();
        environment.push(("LD_LIBRARY_PATH".into(), standin::path_with_nccl()?));
        environment.push(("STANDIN_NCCL".into(), world.path("nccl").display().to_string()));
        Some(Ranks { world, launcher, environment })
    }

    /// Two processes, on so many GPUs together.
    pub fn start(&self, args: &str, gpus: &str, more: &[(&str, &str)]) -> Running {
        self.start_of(2, args, gpus, more)
    }

    /// So many processes.
    pub fn start_of(&self, ranks: usize, args: &str, gpus: &str, more: &[(&str, &str)]) -> Running {
        let own = self.environment.iter().map(|(name, value)| (&name[..], &value[..]));
        let mut variables: Vec<(&str, &str)> = own.collect();
        variables.push(("STANDIN_DEVICES", gpus));
        variables.extend(more);
        Running::start_with(&self.world, &self.launcher, ranks, args, &variables)
    }

    #[track_caller]
    pub fn ok(&self, args: &str, gpus: &str, more: &[(&str, &str)]) -> String {
        let (code, said) = self.start(args, gpus, more).end();
        assert_eq!(code, Some(0), "{args}: {said}");
        said
    }

    #[track_caller]
    pub fn fails(&self, args: &str, more: &[(&str, &str)], words: &[&str]) {
        let (code, said) = self.start(args, "2", more).end();
        assert_ne!(code, Some(0), "{args}: {said}");
        one_error(&said, words);
    }
}

/// One GPU a process, and two each; and the same as through main memory.
#[test]
fn sums_by_nccl_are_one_process_but_for_rounding() {
    let Some(ranks) = Ranks::new(10) else { return };
    let (world, last) = (&ranks.world, |run: &str| format!("{run}/last.safetensors"));
    world.ok(&format!("{TRAIN} --run whole"));
    for gpus in ["2", "4"] {
        let said = ranks.ok(&format!("{TRAIN} --run on-{gpus}"), gpus, &[]);
        assert!(said.contains("gradients are added up by NCCL 2.21.5, GPU to GPU ("), "{said}");
        assert_eq!(said.matches("added up by NCCL").count(), 1, "rank 0 speaks: {said}");
        close(&world.path(&last(&format!("on-{gpus}"))), &world.path(&last("whole")));
    }
    let said = ranks.ok(&format!("{TRAIN} --run through"), "2", &[("ALEXNET_NCCL", "0")]);
    assert!(said.contains("gradients go through main memory and MPI: rank 0 on "), "{said}");
    assert!(said.contains("ALEXNET_NCCL=0"), "{said}");
    close(&world.path(&last("on-2")), &world.path(&last("through")));
}

/// Layer-wise rates are made of the whole batch's gradient, on one GPU a process and on two.
#[test]
fn layerwise_rates_are_those_of_the_whole_batch() {
    let Some(ranks) = Ranks::new(5) else { return };
    let train = "train --config net.toml --set train.batch=15 --set train.epochs=2 --set \
                 train.optimizer=lars --set schedule.rate=0.5 --set schedule.bias_rate=0.005";
    ranks.world.ok(&format!("{train} --run whole"));
    for gpus in ["2", "4"] {
        let said = ranks.ok(&format!("{train} --run on-{gpus}"), gpus, &[]);
        assert!(said.contains("added up by NCCL"), "{said}");
        let last = |run: &str| ranks.world.path(&format!("{run}/last.safetensors"));
        close(&last(&format!("on-{gpus}")), &last("whole"));
    }
}

/// Without NCCL, or where it does not connect them, all go through main memory, with its
/// bits; where it is demanded, that is an error.
#[test]
fn without_nccl_the_way_through_main_memory() {
    let Some(ranks) = Ranks::new(5) else { return };
    let train = "train --config net.toml --set train.batch=15 --set train.epochs=1";
    ranks.ok(&format!("{train} --run through"), "2", &[("ALEXNET_NCCL", "0")]);
    let own = |name: &str| ranks.environment.iter().find(|(n, _)| n == name).unwrap().1.clone();
    let path = own("LD_LIBRARY_PATH");
    let none = [("LD_LIBRARY_PATH", path.split(':').next().unwrap()), ("HOME", "/none")];
    let connects_not = [("STANDIN_NCCL_INIT", "2")];
    let missing = ["NCCL", "was not found", "pip install nvidia-nccl-cu12"];
    let refused =
        ["rank 0 on ", "connecting GPUs by NCCL: unhandled system error", ": a planted fault"];
    for (run, more, words) in
        [("missing", &none[..], &missing[..]), ("refused", &connects_not, &refused)]
    {
        // Where this machine has it, it is found.
        if run == "missing" && Nccl::open().is_ok() {
            eprintln!("skipped: this machine has NCCL");
            continue;
        }
        let said = ranks.ok(&format!("{train} --run {run}"), "2", more);
        let line = said.lines().find(|line| line.contains("through main memory")).unwrap();
        words.iter().for_each(|word| assert!(line.contains(word), "no {word:?} in: {line}"));
        let last = |run: &str| ranks.world.bytes(&format!("{run}/last.safetensors"));
        assert!(last(run) == last("through"), "{run}");
    }
    let demanded = [&connects_not[..], &[("ALEXNET_NCCL", "1")]].concat();
    let train = format!("{train} --run demanded");
    ranks.fails(&train, &demanded, &["ALEXNET_NCCL=1: rank 0 on ", "unhandled system error"]);
    ranks.fails(&train, &[("ALEXNET_NCCL", "yes")], &["ALEXNET_NCCL=yes: it is 0 ", " or 1 "]);
    let on_cpus = format!("{train} --device cpu");
    ranks.fails(&on_cpus, &[("ALEXNET_NCCL", "1")], &["ALEXNET_NCCL=1: ", "computes on the CPU"]);
}

/// A sum that the library refuses ends all with its sentence.
#[test]
fn a_sum_that_fails_is_told() {
    let Some(ranks) = Ranks::new(5) else { return };
    let train = "train --config net.toml --set train.batch=5 --set train.epochs=1 --run failed";
    let words = ["on GPU ", "layer ", "adding up gradients by NCCL: unhandled cuda error"];
    ranks.fails(train, &[("STANDIN_NCCL_SUM", "30")], &words);
}

/// A rank is killed while the other one's GPU waits for its numbers.
#[test]
fn a_rank_that_dies_ends_those_that_wait_for_its_sums() {
    let Some(ranks) = Ranks::new(5) else { return };
    let train = "train --config net.toml --set train.batch=5 --set train.epochs=1 --run died";
    ranks.a_death_ends_both(train, "30", || true);
}
