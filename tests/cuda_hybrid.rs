//! `train.distribute = "hybrid"` on a GPU, in one process, which has all neurons and all images:
//! what it sends by NCCL it sends itself, and it has the same bits as a network that is not
//! divided. On the stand-ins for GPU, NVRTC and NCCL (`tests/standin`) or, with ALEXNET_TEST_GPU=1,
//! on a GPU with NVIDIA's own library, where there is one. What several processes do is in
//! `tests/mpi`.

mod alone;
mod common;
mod standin;

use alexnet::config::Config;
use alexnet::data::form::CropView;
use alexnet::engine::cuda::{Cuda, Hybrid};
use alexnet::engine::{Engine, Rates, Slot};
use alexnet::gpu::nccl::Nccl;
use alexnet::layers::softmax::Tally;
use alexnet::layers::{Classes, Run};
use alexnet::mpi::Team;
use alexnet::network::{Halves, Mode, Plan, Share};
use alexnet::random::{self, Stream};
use alone::{Alone, nccl, waits_are_needed, with_nccl};
use common::NETWORK;
use std::sync::Arc;

/// Images of 12 x 12 with three channels.
const VALUES: usize = 12 * 12 * 3;
const BATCH: usize = 10;
const STEPS: u32 = 3;

/// The network with one tower or two, three layers of neurons with dropout between them.
fn config(towers: usize, precision: &str) -> Config {
    let more = "[[layer]]\nname = \"fc5\"\nkind = \"fc\"\noutputs = 24\nweight_sigma = 0.1\n\
                [[layer]]\nname = \"relu5\"\nkind = \"relu\"\n[[layer]]\nname = \"fc4\"";
    let text = NETWORK.replace("[[layer]]\nname = \"fc4\"", more);
    let text = text.replace("towers = 2", &format!("towers = {towers}"));
    Config::parse(&text, &[format!("gpu.precision={precision}")], "net.toml").unwrap()
}

/// The network as it is, and divided among one process.
fn both(config: &Config, nccl: &Arc<Nccl>) -> (Cuda, Hybrid) {
    let (gpu, classes) = (standin::gpu(0), Classes::Known(3));
    let towers = vec![0; config.towers];
    let plan = || Plan::new(config, BATCH, Mode::Training, &towers, classes).unwrap();
    let share = Share { rank: 0, ranks: 1 };
    let halves = Halves::new(config, BATCH, share, classes).unwrap();
    let mut whole = Cuda::new(plan(), &[gpu]).unwrap();
    let mut divided = Hybrid::new(plan(), halves, Team::alone(), gpu).unwrap();
    divided.connect(nccl, &[nccl.id().unwrap()], (0, 1)).unwrap();
    assert!(divided.is_connected() && divided.gpus() == 1);
    alexnet::train::initial::initialise(&mut whole).unwrap();
    alexnet::train::initial::initialise(&mut divided).unwrap();
    divided.handed_out();
    (whole, divided)
}

fn images(number: u32) -> (Vec<f32>, Vec<u32>) {
    let mut stream = Stream::new(9, random::Purpose::Test, number, 0);
    let images = (0..BATCH * VALUES).map(|_| (stream.word() >> 24) as f32 / 128.0 - 1.0).collect();
    (images, (0..BATCH as u32).map(|image| (image + number) % 3).collect())
}

fn rates(plan: &Plan, rate: f32) -> Vec<Option<Rates>> {
    let rates = Rates { weight: rate, weight_decay: 1e-4, bias: 2.0 * rate, ..Rates::default() };
    plan.layers.iter().map(|layer| layer.learns().then_some(rates)).collect()
}

/// All parameters and momenta.
fn state(engine: &dyn Engine) -> Vec<Vec<f32>> {
    let tensors = 0..engine.plan().tensors().len();
    let read = |slot, tensor| engine.read(slot, tensor).unwrap().values;
    tensors.flat_map(|t| [read(Slot::Value, t), read(Slot::Momentum, t)]).collect()
}

fn run(batch: usize, step: u32, training: bool) -> Run {
    Run { batch, training, seed: 3, step, first_image: 0 }
}

/// The same steps by both, of full batches and of a smaller one.
fn steps(whole: &mut Cuda, divided: &mut Hybrid) -> Vec<[Tally; 2]> {
    let rates = rates(whole.plan(), 0.02);
    let step = |step: u32| {
        let (images, labels) = images(step);
        let batch = if step == 2 { BATCH - 3 } else { BATCH };
        let (labels, run) = (&labels[..batch], run(batch, step, true));
        let images = || CropView::Floats(&images[..batch * VALUES]);
        let one = whole.step(&run, images(), labels, 0.9, &rates).unwrap();
        let mut alone = Alone::default();
        let batch = (images(), labels, batch);
        let other = divided.exchanged_step(&run, batch, (0.9, &rates), &mut alone).unwrap();
        assert!(alone.agreed && alone.begun);
        [one, other]
    };
    (1..=STEPS).map(step).collect()
}

/// With one tower the layers are the same launches, but for those that the border lies between.
fn the_same_bits(precision: &str) {
    let Some(nccl) = nccl() else { return };
    let (mut whole, mut divided) = both(&config(1, precision), &nccl);
    for [one, other] in steps(&mut whole, &mut divided) {
        assert_eq!(one, other);
    }
    assert!(state(&whole) == state(&divided));
    let (images, _) = images(9);
    let (evaluate, few) = (run(4, 0, false), CropView::Floats(&images[..4 * VALUES]));
    whole.forward(&evaluate, few).unwrap();
    divided.forward(&evaluate, few).unwrap();
    assert_eq!(whole.probabilities().unwrap(), divided.probabilities().unwrap());
    for layer in ["pool1", "conv2", "fc3", "fc4"] {
        let y = whole.plan().layer(layer).unwrap().parts[0].y;
        assert_eq!(whole.left_in(y).unwrap(), divided.left_in(y).unwrap(), "{layer}");
    }
    a_loss_that_is_no_number(&mut divided);
}

/// It changes nothing, on either side of the border.
fn a_loss_that_is_no_number(divided: &mut Hybrid) {
    let (before, rates, (mut images, labels)) =
        (state(divided), rates(divided.plan(), 0.02), images(7));
    images[5] = f32::NAN;
    let batch = (CropView::Floats(&images), &labels[..], BATCH);
    let run = run(BATCH, 7, true);
    let tally = divided.exchanged_step(&run, batch, (0.9, &rates), &mut Alone::default()).unwrap();
    assert!(tally.loss.is_nan() && state(divided) == before);
}

#[test]
fn one_process_has_the_same_bits() {
    with_nccl("one_process_has_the_same_bits", &[], || the_same_bits("f32"));
}

#[test]
fn one_process_has_the_same_bits_in_bf16() {
    with_nccl("one_process_has_the_same_bits_in_bf16", &[], || the_same_bits("bf16"));
}

/// Of two towers the upper half has one, which adds up in another order.
#[test]
fn two_towers_are_the_same_but_for_rounding() {
    with_nccl("two_towers_are_the_same_but_for_rounding", &[], || {
        let Some(nccl) = nccl() else { return };
        let (mut whole, mut divided) = both(&config(2, "f32"), &nccl);
        steps(&mut whole, &mut divided);
        for (one, other) in state(&whole).iter().zip(state(&divided)) {
            let most = one.iter().fold(1e-3f32, |most, v| most.max(v.abs()));
            let far = one.iter().zip(&other).fold(0f32, |far, (a, b)| far.max((a - b).abs()));
            assert!(far <= 1e-5 * most, "{far} of {most}");
        }
    });
}

/// What travels is seen by the stand-in's watch, and nothing races with it.
#[test]
fn nothing_races_with_what_travels() {
    let test = "nothing_races_with_what_travels";
    if !standin::skipped_on_gpu(test) {
        with_nccl(test, &standin::RACES, || the_same_bits("f32"));
    }
}

/// What is sent waits for the kernels that make it, and kernels for what they receive: without
/// these waits there would be a race.
#[test]
fn what_travels_is_waited_for_and_waits() {
    let pairs = [
        ("handing over a piece", "kernel join"),
        ("kernel conv_forward", "a piece of another rank"),
        ("kernel sum_parts", "a piece of another rank"),
    ];
    let least = STEPS as usize - 1;
    waits_are_needed("what_travels_is_waited_for_and_waits", &pairs, least, || {
        let (mut whole, mut divided) = both(&config(2, "f32"), &nccl().unwrap());
        steps(&mut whole, &mut divided);
    });
}

/// A GPU with too little memory for both halves says how large a batch would fit.
#[test]
fn too_little_memory_is_told_before_any_is_taken() {
    let test = "too_little_memory_is_told_before_any_is_taken";
    standin::only(test, &[("STANDIN_MEMORY", "3000000")], || {
        let (config, classes) = (config(1, "f32"), Classes::Known(3));
        let plan = Plan::new(&config, 5000, Mode::Training, &[0], classes).unwrap();
        let halves = Halves::new(&config, 10_000, Share { rank: 1, ranks: 2 }, classes).unwrap();
        let error = Hybrid::new(plan, halves, Team::alone(), 0).err().unwrap().to_string();
        assert!(error.contains("GPU 0 needs ") && error.contains("10000"), "{error}");
    });
}
