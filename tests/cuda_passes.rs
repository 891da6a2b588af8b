//! How passes follow each other on a GPU: one that begins while what the one before came to is
//! still asked for, the lanes of two towers on one GPU, and passes that are queued as wholes. On
//! the stand-in for GPU and NVRTC (`tests/standin`) or, with ALEXNET_TEST_GPU=1, on a GPU.

mod common;
mod standin;

use alexnet::config::Config;
use alexnet::data::form::CropView;
use alexnet::engine::cuda::Cuda;
use alexnet::engine::cuda::account::{self, Purpose};
use alexnet::engine::cuda::layout::Layout;
use alexnet::engine::{Engine, Rates, Slot};
use alexnet::layers::{Classes, Run};
use alexnet::network::{Mode, Plan, PlannedLayer};
use alexnet::random::{self, Stream};

/// Images of 12 x 12 with three channels.
const VALUES: usize = 12 * 12 * 3;

/// The small network of two towers, both on one GPU.
fn engine(mode: Mode) -> Cuda {
    engine_in(mode, "f32")
}

fn engine_in(mode: Mode, precision: &str) -> Cuda {
    let precision = format!("gpu.precision={precision}");
    let config = Config::parse(common::NETWORK, &[precision], "net.toml").unwrap();
    let plan = Plan::new(&config, 10, mode, &[0, 0], Classes::Known(3)).unwrap();
    let mut engine = Cuda::new(plan, &[0]).unwrap();
    alexnet::train::initial::initialise(&mut engine).unwrap();
    engine
}

fn run(batch: usize, training: bool, step: u32) -> Run {
    Run { batch, training, seed: 3, step, first_image: 0 }
}

/// `count` images, other ones for each `number`.
fn images(count: usize, number: u32) -> Vec<f32> {
    let mut stream = Stream::new(9, random::Purpose::Test, number, 0);
    (0..count * VALUES).map(|_| (stream.word() >> 24) as f32 / 128.0 - 1.0).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn a_pass_goes_on_while_the_one_before_is_read() {
    standin::run("a_pass_goes_on_while_the_one_before_is_read", &[], || {
        let mut engine = engine(Mode::Evaluation);
        assert_eq!(engine.ahead(), 1);
        let both = [engine.plan().probabilities(), engine.plan().logits()];
        let batches = [images(10, 1), images(6, 2), images(10, 3)];
        let counts = [10, 6, 10];
        let mut alone = Vec::new();
        for (images, count) in batches.iter().zip(counts) {
            engine.forward(&run(count, false, 0), CropView::Floats(images)).unwrap();
            alone.push(both.map(|buffer| bits(&engine.left_in(buffer).unwrap())));
        }
        assert!(alone[0] != alone[2]);
        for (number, (images, count)) in batches.iter().zip(counts).enumerate() {
            engine.forward(&run(count, false, 0), CropView::Floats(images)).unwrap();
            if number > 0 {
                let before = both.map(|buffer| bits(&engine.left_by(1, buffer).unwrap()));
                assert!(before == alone[number - 1], "pass {number}");
            }
        }
        let last = both.map(|buffer| bits(&engine.left_by(0, buffer).unwrap()));
        assert!(last == alone[2]);
        let error = engine.left_by(2, both[0]).unwrap_err().to_string();
        assert!(error.contains("a pass that is over"), "{error}");
        let error = engine.left_by(0, engine.plan().data[0]).unwrap_err().to_string();
        assert!(error.contains("keeps no such buffer"), "{error}");
    });
}

#[test]
fn asking_for_the_pass_before_does_not_wait_for_the_last() {
    standin::only("asking_for_the_pass_before_does_not_wait_for_the_last", &[], || {
        let mut engine = engine(Mode::Evaluation);
        let a = alexnet::data::augment::Augmentation {
            geometry: alexnet::data::augment::Geometry {
                height: 12,
                width: 12,
                channels: 3,
                crop: 12,
            },
            flip: false,
            noise: None,
            random_crops: true,
            shared_crops: 1,
            mean: vec![100.0; VALUES],
            scale: [1.0; 4],
        };
        let form = engine.form(&a.mean).unwrap();
        let mut crops = alexnet::data::form::CropBuffer::new(&form, &a.geometry, 10).unwrap();
        crops.resize(10);
        for crop in 0..10 {
            crops.view_mut().write(crop, &vec![crop as u8; VALUES], &a.centre(), &a);
        }
        let mut forward = || engine.forward(&run(10, false, 0), crops.view()).unwrap();
        forward();
        forward();
        let buffer = engine.plan().probabilities();
        engine.left_by(1, buffer).unwrap();
        let of_one = standin::counters().launches;
        engine.left_by(0, buffer).unwrap();
        let of_both = standin::counters().launches;
        // The second pass's input kernel had to run before its crops' memory was given back.
        assert_eq!(of_both, 2 * of_one, "launches");
    });
}

/// The parameters after four steps of training, the last of a smaller batch.
fn trained() -> Vec<Vec<u32>> {
    trained_in("f32")
}

fn trained_in(precision: &str) -> Vec<Vec<u32>> {
    let mut engine = engine_in(Mode::Training, precision);
    for step in 1..5 {
        let count = if step == 4 { 7 } else { 10 };
        let labels: Vec<u32> = (0..count).map(|i| (i + step) % 3).collect();
        let (count, images) = (count as usize, images(count as usize, step));
        engine.gradients(&run(count, true, step), CropView::Floats(&images), &labels).unwrap();
        let rate = 0.01 / step as f32;
        let rates = Rates { weight: rate, weight_decay: 5e-6, bias: rate, ..Rates::default() };
        let layers = &engine.plan().layers;
        let rates: Vec<_> = layers.iter().map(|l| l.weights.as_ref().map(|_| rates)).collect();
        engine.update(0.9, &rates).unwrap();
    }
    let tensors = 0..engine.plan().tensors().len();
    tensors.map(|t| bits(&engine.read(Slot::Value, t).unwrap().values)).collect()
}

/// FNV-1a, to print.
fn digest(bits: &[u32]) -> u64 {
    let mix = |hash: u64, &word: &u32| (hash ^ u64::from(word)).wrapping_mul(0x100000001b3);
    bits.iter().fold(0xcbf29ce484222325, mix)
}

/// One launch for both towers comes to the bits of one for each, in every precision, with some more
/// than half of the launches.
#[test]
fn towers_together_are_as_apart() {
    let name = "towers_together_are_as_apart";
    let print = || {
        for precision in ["f32", "tf32", "bf16"] {
            let digest: Vec<u64> = trained_in(precision).iter().map(|bits| digest(bits)).collect();
            println!("trained {digest:?}");
        }
        println!("launches {}", standin::counters().launches);
    };
    let Some(together) = standin::outcome(name, &[], print) else { return };
    let apart = standin::outcome(name, &[("ALEXNET_TEST_TOWERS", "apart")], || ()).unwrap();
    let [together, apart] = [together, apart].map(|output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}{errors}");
        let after = |what: &str| {
            let found = text.lines().filter_map(|line| Some(line.split_once(what)?.1.to_string()));
            found.collect::<Vec<_>>()
        };
        let launches: u64 = after("launches ")[0].parse().unwrap();
        (after("trained "), launches)
    });
    assert_eq!(together.0.len(), 3);
    assert!(together.0 == apart.0, "{together:?} {apart:?}");
    assert!(10 * together.1 < 7 * apart.1, "{} launches, {}", together.1, apart.1);
}

/// Where a driver captures passes, they come to the same bits as launch by launch, and what was
/// captured first takes the arguments of what comes after it.
#[test]
fn a_pass_queued_as_a_whole_is_the_same() {
    let name = "a_pass_queued_as_a_whole_is_the_same";
    let print = |whole: bool| {
        let trained = trained();
        let counters = standin::counters();
        let digest: Vec<u64> = trained.iter().map(|bits| digest(bits)).collect();
        println!("trained {digest:?}");
        // Forward, backward, update.
        let expected = if whole { (3, 12) } else { (0, 0) };
        assert_eq!((counters.graphs, counters.graph_launches), expected);
    };
    let Some(whole) = standin::outcome(name, &[], || {
        let refused = ["STANDIN_CAPTURE", "STANDIN_GRAPHS"].map(std::env::var);
        print(refused.iter().all(Result::is_err));
    }) else {
        return;
    };
    let result = |output: std::process::Output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}{errors}");
        let line = text.lines().find(|line| line.contains("trained [")).unwrap();
        line.split_once("trained").unwrap().1.to_string()
    };
    let whole = result(whole);
    for switch in ["STANDIN_CAPTURE", "STANDIN_GRAPHS"] {
        let plain = standin::outcome(name, &[(switch, "0")], || ()).unwrap();
        assert!(whole == result(plain), "{switch}");
    }
}

/// Updates that follow each layer's gradients give the bits of one after all of them, and none
/// follows a loss that is no number.
#[test]
fn a_step_is_gradients_and_update() {
    standin::run("a_step_is_gradients_and_update", &[("STANDIN_ORDER", "random")], || {
        let images: Vec<Vec<f32>> = (1..5).map(|step| images(10, step)).collect();
        let labels: Vec<u32> = (0..10).map(|i| i % 3).collect();
        let outcome = |precision: &str, at_once: bool, spoilt: bool| {
            let mut engine = engine_in(Mode::Training, precision);
            let rates = Rates {
                weight: 0.01,
                weight_decay: 5e-6,
                bias: 0.02,
                bias_decay: 1e-6,
                trust: None,
            };
            let layers = &engine.plan().layers;
            let mut rates: Vec<_> =
                layers.iter().map(|l| l.weights.as_ref().map(|_| rates)).collect();
            // One layer whose weights stay.
            let second = layers.iter().position(|l| l.name == "conv2").unwrap();
            rates[second].as_mut().unwrap().weight = 0.0;
            for (step, images) in images.iter().enumerate() {
                let run = run(10, true, step as u32 + 1);
                let mut images = images.clone();
                if spoilt && step == 3 {
                    images[7] = f32::NAN;
                }
                let view = CropView::Floats(&images);
                if at_once {
                    let tally = engine.step(&run, view, &labels, 0.9, &rates).unwrap();
                    assert_eq!(tally.loss.is_finite(), !(spoilt && step == 3));
                } else if !spoilt || step < 3 {
                    engine.gradients(&run, view, &labels).unwrap();
                    engine.update(0.9, &rates).unwrap();
                }
            }
            let of = |slot| {
                let tensors = 0..engine.plan().tensors().len();
                tensors.map(|t| bits(&engine.read(slot, t).unwrap().values)).collect::<Vec<_>>()
            };
            [of(Slot::Value), of(Slot::Momentum)]
        };
        for precision in ["f32", "tf32", "bf16"] {
            let outcome = |at_once, spoilt| outcome(precision, at_once, spoilt);
            assert!(outcome(true, false) == outcome(false, false), "{precision}: four steps");
            assert!(outcome(true, true) == outcome(false, true), "{precision}: three that count");
        }
    });
}

/// What `inspect --gpu` counts is what is launched, in training and in evaluation, on one device
/// and on two.
#[test]
fn the_account_is_what_runs() {
    let switches = [("STANDIN_CAPTURE", "0"), ("ALEXNET_TEST_PORTIONS", "2")];
    standin::only("the_account_is_what_runs", &switches, || {
        // The last one's forward pass in portions.
        for (towers, devices, precision, batch) in [
            ([0, 0], vec![0], "f32", 10),
            ([0, 0], vec![0], "bf16", 10),
            ([0, 1], vec![0, 1], "f32", 10),
            ([0, 1], vec![0, 1], "f32", 32),
        ] {
            for mode in [Mode::Training, Mode::Evaluation] {
                let set = format!("gpu.precision={precision}");
                let config = Config::parse(common::NETWORK, &[set], "net.toml").unwrap();
                let plan = Plan::new(&config, batch, mode, &towers, Classes::Known(3)).unwrap();
                let mut engine = Cuda::new(plan, &devices).unwrap();
                alexnet::train::initial::initialise(&mut engine).unwrap();
                let plan = engine.plan();
                let layout = Layout::new(plan, batch, &vec![108; devices.len()]).unwrap();
                assert_eq!(layout.portions.count, if batch == 32 { 2 } else { 1 });
                let work = account::step(plan, &layout);
                // The input comes as floats here, so no kernel makes it.
                let expected = work.iter().filter(|w| w.purpose != Purpose::Batch).count();
                let rates: Vec<_> = plan.layers.iter().map(rates).collect();
                let (run, images) = (run(10, mode == Mode::Training, 1), images(10, 1));
                let view = CropView::Floats(&images);
                let before = launches(&engine);
                if mode == Mode::Training {
                    let labels: Vec<u32> = (0..10).map(|i| i % 3).collect();
                    engine.step(&run, view, &labels, 0.9, &rates).unwrap();
                } else {
                    engine.forward(&run, view).unwrap();
                }
                let launched = launches(&engine) - before;
                assert_eq!(launched, expected as u64, "{mode:?}, {towers:?}, {precision}");
            }
        }
    });
}

fn rates(layer: &PlannedLayer) -> Option<Rates> {
    let rates = Rates { weight: 0.01, weight_decay: 5e-6, bias: 0.02, ..Rates::default() };
    layer.weights.as_ref().map(|_| rates)
}

/// Launches so far, all of them done.
fn launches(engine: &Cuda) -> u64 {
    for tensor in 0..engine.plan().tensors().len() {
        engine.read(Slot::Value, tensor).unwrap();
    }
    standin::counters().launches
}
