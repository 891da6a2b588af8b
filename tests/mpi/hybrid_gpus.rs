//! `train.distribute = "hybrid"` on GPUs, one a process, on the stand-ins for driver and NCCL: what
//! comes of it is what one process makes, and what the same makes on CPUs, but for rounding.

use super::hybrid::{HYBRID, TRAIN, close_but_for_turns as close, same_log, step, world, world_of};
use super::nccl::Ranks;
use super::{one_error, standin};

/// Two processes, and three, whose shares of neurons and images are not alike; each takes one GPU,
/// however many there are. As one process, and as the data way on GPUs.
#[test]
fn hybrid_on_gpus_is_one_process_but_for_rounding() {
    let Some(ranks) = Ranks::over(world) else { return };
    let world = &ranks.world;
    for config in ["deep-1", "deep"] {
        let train = format!("{TRAIN} --config {config}.toml");
        world.ok(&format!("{train} --run {config}-whole"));
        for (count, gpus) in [(2, "4"), (3, "3")] {
            let run = format!("{config}-{count}");
            let args = format!("{train} {HYBRID} --run {run}");
            let (code, said) = ranks.start_of(count, &args, gpus, &[]).end();
            assert_eq!(code, Some(0), "{said}");
            let words = "gradients are added up by NCCL 2.21.5, GPU to GPU (";
            assert!(said.contains(words) && said.contains("activations go the same way"), "{said}");
            assert!(said.contains("on GPU 0 (") && !said.contains("and GPU 1"), "{said}");
            close(world, &run, &format!("{config}-whole"));
            same_log(world, &run, &format!("{config}-whole"));
        }
        ranks.ok(&format!("{train} --run {config}-data"), "2", &[]);
        close(world, &format!("{config}-2"), &format!("{config}-data"));
    }
}

/// Layers that stay as they are on either side of the border, and a network that has none below it.
#[test]
fn frozen_layers_and_networks_without_convolutions_on_gpus() {
    let Some(ranks) = Ranks::over(world) else { return };
    let trained = |name: &str, args: &str| {
        let train = format!("{TRAIN} {args}");
        ranks.world.ok(&format!("{train} --run {name}-whole"));
        ranks.ok(&format!("{train} {HYBRID} --run {name}"), "2", &[]);
        close(&ranks.world, name, &format!("{name}-whole"));
    };
    let deep = "--config deep.toml --set train.freeze";
    trained("below", &format!("{deep}=[\"conv1\",\"conv2\"]"));
    trained("middle", &format!("{deep}=[\"conv1\",\"conv2\",\"fc3\"]"));
    trained("above", &format!("{deep}=[\"fc3\",\"fc5\",\"fc4\"]"));
    trained("pixels", "--config linear.toml --set schedule.rate=0.0001");
}

/// An epoch each: hybrid on two GPUs, each with all of it, hybrid on CPUs, on GPUs again, one
/// process alone. The checkpoint is whole, whatever wrote it.
#[test]
fn a_run_goes_on_between_gpus_and_cpus() {
    let Some(ranks) = Ranks::over(world) else { return };
    let world = &ranks.world;
    let train = "train --config deep.toml --set train.batch=10 --set schedule.rate=0.002";
    world.ok(&format!("{train} --set train.epochs=5 --run whole"));
    ranks.ok(&format!("{train} {HYBRID} --set train.epochs=1 --run cut"), "2", &[]);
    world.ok("eval cut/last.safetensors");
    let go_on = |epochs: usize, way: &str| {
        format!("train --resume --run cut --set train.epochs={epochs} --set train.distribute={way}")
    };
    ranks.ok(&go_on(2, "data"), "2", &[]);
    ranks.ok(&format!("{} --device cpu", go_on(3, "hybrid")), "2", &[]);
    ranks.ok(&go_on(4, "hybrid"), "2", &[]);
    world.ok(&go_on(5, "hybrid"));
    close(world, "cut", "whole");
    same_log(world, "cut", "whole");
}

/// In bfloat16, with times of each layer, and with the stand-in's watch for races: the gathers and
/// sums between layers of neurons, too.
#[test]
fn nothing_races_with_what_goes_between_processes() {
    let Some(ranks) = Ranks::over(|| world_of(3, 1)) else { return };
    let train = format!("{TRAIN} --config deep.toml {HYBRID}");
    for (run, more) in [("f32", ""), ("bf16", "--set gpu.precision=bf16")] {
        ranks.ok(&format!("{train} {more} --run {run}"), "2", &standin::RACES);
    }
    let said = ranks.ok(&format!("{train} --profile --run timed"), "2", &[]);
    assert!(said.contains("fc5") && said.contains("conv1"), "{said}");
    let last = |run: &str| ranks.world.bytes(&format!("{run}/last.safetensors"));
    ranks.ok(&format!("{train} --run again"), "2", &[]);
    assert!(last("timed") == last("again"), "sums are added up in one order");
}

#[test]
fn training_on_gpus_that_diverges_is_told_once() {
    let Some(ranks) = Ranks::over(world) else { return };
    let train = "--config deep.toml --set schedule.rate=1e30 --run wild";
    ranks.fails(&format!("{TRAIN} {train} {HYBRID}"), &[], &["train", "diverged", "1e30"]);
    assert!(ranks.world.text("wild/diverged.txt").contains("diverged"));
}

/// What the library refuses to send ends all with its sentence.
#[test]
fn a_piece_that_fails_is_told() {
    let Some(ranks) = Ranks::over(world) else { return };
    let train = format!("{TRAIN} --config deep.toml {HYBRID} --run failed");
    let words = ["on GPU ", "layer fc", "exchanging activations by NCCL: unhandled cuda error"];
    ranks.fails(&train, &[("STANDIN_NCCL_SUM", "31")], &words);
}

/// A process is killed while the other one's GPU waits for what it has; what was saved goes on.
#[test]
fn a_process_that_dies_ends_those_that_wait_for_its_neurons() {
    let Some(ranks) = Ranks::over(world) else { return };
    let args =
        format!("{TRAIN} --config deep.toml {HYBRID} --set train.checkpoint_steps=2 --run died");
    let file = ranks.world.path("died/last.safetensors");
    ranks.a_death_ends_both(&args, "80", || step(&file) >= 2);
    assert!(step(&file) >= 2);
    ranks.ok("train --resume --run died", "2", &[]);
    ranks.world.ok(&format!("{TRAIN} --config deep.toml --run whole"));
    close(&ranks.world, "died", "whole");
}

/// Where nobody has chosen and not all have what is needed, all compute on the CPU, and it is said
/// why; what was chosen and cannot be is an error.
#[test]
fn without_nccl_or_a_gpu_each_on_cpus() {
    let Some(ranks) = Ranks::over(world) else { return };
    let train = format!("{TRAIN} --config deep.toml {HYBRID}");
    let no_nccl = [("ALEXNET_NCCL", "0")];
    let said = ranks.ok(&format!("{train} --run without"), "2", &no_nccl);
    let line = "\"hybrid\" is computed on the CPU (rank 0 on ";
    assert!(said.contains(line) && said.contains("ALEXNET_NCCL=0"), "{said}");
    let said = ranks.ok(&format!("{train} --run few"), "1", &[]);
    assert!(said.contains(line) && said.contains("1 GPU"), "{said}");
    let named = format!("{train} --device cuda:0 --run named");
    let words = ["--device cuda:0", "2 processes", "share that GPU", "leave the option out"];
    ranks.fails(&named, &[], &words);
    let both = format!("{train} --device cuda:0,1 --run both");
    let (code, said) = ranks.start(&both, "4", &[]).end();
    assert_ne!(code, Some(0), "{said}");
    one_error(&said, &["--device cuda:0,1", "hybrid", "one GPU"]);
}
