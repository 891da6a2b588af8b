//! Gradients added up by NCCL on GPUs, by one process alone: the same bits as without it, since
//! there is nobody to add. On the stand-ins for GPU, NVRTC and NCCL (`tests/standin`) or, with
//! ALEXNET_TEST_GPU=1, on a GPU with NVIDIA's own library, where there is one. What several
//! processes do is in `tests/mpi`.

mod alone;
mod common;
mod standin;

use alexnet::config::Config;
use alexnet::data::form::CropView;
use alexnet::engine::cuda::Cuda;
use alexnet::engine::{Engine, Rates, Slot};
use alexnet::gpu::nccl::Nccl;
use alexnet::layers::softmax::Tally;
use alexnet::layers::{Classes, Run};
use alexnet::network::{Mode, Plan};
use alexnet::random::{self, Stream};
use alone::{Alone, nccl, switches, waits_are_needed, with_nccl};
use common::{NETWORK, World, stderr};

/// Images of 12 x 12 with three channels.
const VALUES: usize = 12 * 12 * 3;
const BATCH: usize = 10;
const STEPS: u32 = 3;

fn engine(towers: &[usize], gpus: &[usize], precision: &str) -> Cuda {
    let precision = format!("gpu.precision={precision}");
    let config = Config::parse(NETWORK, &[precision], "net.toml").unwrap();
    let plan = Plan::new(&config, BATCH, Mode::Training, towers, Classes::Known(3)).unwrap();
    let mut engine = Cuda::new(plan, gpus).unwrap();
    alexnet::train::initial::initialise(&mut engine).unwrap();
    engine
}

fn images(number: u32) -> (Vec<f32>, Vec<u32>) {
    let mut stream = Stream::new(9, random::Purpose::Test, number, 0);
    let images = (0..BATCH * VALUES).map(|_| (stream.word() >> 24) as f32 / 128.0 - 1.0).collect();
    (images, (0..BATCH as u32).map(|image| (image + number) % 3).collect())
}

fn rates(engine: &Cuda) -> Vec<Option<Rates>> {
    let rates = Rates { weight: 0.02, weight_decay: 1e-4, bias: 0.04, ..Rates::default() };
    engine.plan().layers.iter().map(|layer| layer.learns().then_some(rates)).collect()
}

/// All parameters and momenta, bit by bit.
fn state(engine: &Cuda) -> Vec<Vec<u32>> {
    let tensors = 0..engine.plan().tensors().len();
    let read = |slot, tensor| engine.read(slot, tensor).unwrap().values;
    let both = tensors.flat_map(|t| [read(Slot::Value, t), read(Slot::Momentum, t)]);
    both.map(|values| values.iter().map(|value| value.to_bits()).collect()).collect()
}

fn run(batch: usize, step: u32) -> Run {
    Run { batch, training: true, seed: 3, step, first_image: 0 }
}

/// Some steps of one engine; `connected`: through NCCL.
fn steps(engine: &mut Cuda, connected: bool) -> Vec<Tally> {
    let rates = rates(engine);
    let step = |step: u32| {
        let (images, labels) = images(step);
        let (run, images) = (run(BATCH, step), CropView::Floats(&images));
        if !connected {
            return engine.step(&run, images, &labels, 0.9, &rates).unwrap();
        }
        let mut alone = Alone::default();
        let batch = (images, &labels[..], BATCH);
        let tally = engine.exchanged_step(&run, batch, (0.9, &rates), &mut alone).unwrap();
        assert!(alone.begun);
        tally
    };
    (1..=STEPS).map(step).collect()
}

fn connect(engine: &mut Cuda, nccl: &std::sync::Arc<Nccl>) {
    let ids: Vec<_> = (0..engine.gpus()).map(|_| nccl.id().unwrap()).collect();
    engine.connect(nccl, &ids, (0, 1)).unwrap();
    assert!(engine.is_connected());
}

/// Both towers on one GPU, and one on each of two; where there is one GPU it plays both.
fn the_same_bits(precision: &str) {
    let Some(nccl) = nccl() else { return };
    let [first, second] = [0, 1].map(standin::gpu);
    for (towers, gpus) in [([0, 0], &[first][..]), ([0, 1], &[first, second])] {
        let mut without = engine(&towers, gpus, precision);
        let mut by_nccl = engine(&towers, gpus, precision);
        connect(&mut by_nccl, &nccl);
        assert_eq!(steps(&mut without, false), steps(&mut by_nccl, true));
        assert!(state(&without) == state(&by_nccl), "on GPUs {gpus:?}");
        if gpus.len() == 1 {
            others_count(&mut by_nccl);
        }
    }
}

/// A loss that is no number elsewhere changes nothing here; nor do zeros of a process without an
/// image, but for what decays.
fn others_count(engine: &mut Cuda) {
    let (before, rates, (images, labels)) = (state(engine), rates(engine), images(7));
    let mut alone = Alone { loss: Some(f64::NAN), ..Alone::default() };
    let batch = (CropView::Floats(&images), &labels[..], BATCH);
    let update = (0.9, &rates[..]);
    engine.exchanged_step(&run(BATCH, 7), batch, update, &mut alone).unwrap();
    assert!(!alone.begun && state(engine) == before);
    let batch = (CropView::Floats(&[][..]), &[][..], BATCH);
    let mut alone = Alone::default();
    engine.exchanged_step(&run(0, 8), batch, update, &mut alone).unwrap();
    for tensor in 0..engine.plan().tensors().len() {
        let gradient = engine.read(Slot::Gradient, tensor).unwrap().values;
        assert!(gradient.iter().all(|&value| value == 0.0));
    }
    assert!(alone.begun && state(engine) != before, "momenta and decay go on");
}

#[test]
fn one_process_has_the_same_bits_by_nccl() {
    with_nccl("one_process_has_the_same_bits_by_nccl", &[], || the_same_bits("f32"));
}

#[test]
fn one_process_has_the_same_bits_by_nccl_in_bf16() {
    with_nccl("one_process_has_the_same_bits_by_nccl_in_bf16", &[], || the_same_bits("bf16"));
}

/// Sums are seen by the stand-in's watch, and nothing races with them.
#[test]
fn nothing_races_with_sums() {
    let test = "nothing_races_with_sums";
    if !standin::skipped_on_gpu(test) {
        with_nccl(test, &standin::RACES, || the_same_bits("f32"));
    }
}

/// Gradients are handed over behind the kernels that make them, and updates wait for their sums:
/// without these waits the watch would see a race.
#[test]
fn sums_are_waited_for_and_wait() {
    let pairs = [("handing over a sum", "kernel "), ("kernel update", "a sum of all ranks")];
    // Four layers with weights, whose towers may be launched together, and three steps.
    let least = 4 * STEPS as usize;
    waits_are_needed("sums_are_waited_for_and_wait", &pairs, least, || {
        let mut engine = engine(&[0, 0], &[0], "f32");
        connect(&mut engine, &nccl().unwrap());
        steps(&mut engine, true);
    });
}

/// The built program, which asks for it by a variable.
#[test]
fn the_program_trains_by_nccl_alone() {
    let (folder, Some(mut environment)) = (tempfile::tempdir().unwrap(), standin::world()) else {
        return;
    };
    if !standin::on_gpu() {
        let Some(own) = switches(folder.path()) else { return };
        environment.extend(own.map(|(name, value)| (name.to_string(), value)));
    }
    let world = World { folder: tempfile::tempdir().unwrap() };
    world.photos("photos/train", ["down", "level", "slant"], 10);
    world.photos("photos/val", ["down", "level", "slant"], 3);
    world.write("net.toml", NETWORK);
    world.ok("prepare image-folder photos --out set --size 16");
    for (run, asked) in [("without", "0"), ("by-nccl", "1"), ("by-nccl --profile", "1")] {
        let train = format!(
            "train --config net.toml --set train.batch=15 --set train.epochs=2 --device cuda:0 \
             --run {}",
            run.replace("nccl --", "nccl-timed --")
        );
        let mut command = world.command(&train);
        let output = command.envs(environment.clone()).env("ALEXNET_NCCL", asked).output().unwrap();
        let said = stderr(&output);
        if asked == "1" && said.contains("libnccl.so.2; looked in") && standin::on_gpu() {
            return eprintln!("skipped: {said}");
        }
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(said.contains("added up by NCCL"), asked == "1", "{said}");
    }
    let last = |run: &str| world.bytes(&format!("{run}/last.safetensors"));
    assert!(last("by-nccl") == last("without"));
    assert!(last("by-nccl-timed") == last("without"));
}
