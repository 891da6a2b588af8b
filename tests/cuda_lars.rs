//! Layer-wise rates (LARS) on GPUs: against their formula in f64, against the CPU, and two GPUs
//! against one. On the stand-in for GPU and NVRTC (`tests/standin`) or, with ALEXNET_TEST_GPU=1, on
//! a GPU.

mod common;
mod standin;

use alexnet::config::Config;
use alexnet::data::form::CropView;
use alexnet::engine::cpu::Cpu;
use alexnet::engine::cuda::Cuda;
use alexnet::engine::cuda::account::{self, Purpose};
use alexnet::engine::cuda::layout::Layout;
use alexnet::engine::{Engine, Rates, Slot};
use alexnet::gpu::compile::Compiler;
use alexnet::gpu::device::Device;
use alexnet::gpu::library::driver_version;
use alexnet::layers::{Classes, Run};
use alexnet::network::{Mode, Plan};
use common::{World, stderr};
use std::sync::Arc;

/// Two towers that meet in fc2; weights of several blocks of sums, and of one with room to spare.
const NETWORK: &str = "towers = 2\n[data]\ncrop = 8\nclasses = 5\n[train]\noptimizer = 'lars'\n\
    [schedule]\nkind = 'steps'\n\
    [[layer]]\nname = 'conv1'\nkind = 'conv'\nkernels = 16\nsize = 3\n\
    [[layer]]\nname = 'relu1'\nkind = 'relu'\n\
    [[layer]]\nname = 'fc2'\nkind = 'fc'\noutputs = 24\ninput = 'all-towers'\n\
    [[layer]]\nname = 'relu2'\nkind = 'relu'\n\
    [[layer]]\nname = 'fc3'\nkind = 'fc'\noutputs = 'classes'\n\
    [[layer]]\nname = 'softmax'\nkind = 'softmax'\n";

const BATCH: usize = 10;
const MOMENTUM: f64 = 0.9;
const TRUST: f64 = 0.01;

/// Numbers around 0, others for each `of`.
fn numbers(of: usize, count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + of * 104_729) % 1009) as f32 / 504.5 - 1.0).collect()
}

fn plan(towers: &[usize], precision: &str) -> Plan {
    let precision = format!("gpu.precision={precision}");
    let config = Config::parse(NETWORK, &[precision], "test").unwrap();
    Plan::new(&config, BATCH, Mode::Training, towers, Classes::Any).unwrap()
}

fn begun<E: Engine>(mut engine: E) -> E {
    for (index, tensor) in engine.plan().tensors().iter().enumerate() {
        let values: Vec<f32> =
            numbers(index, tensor.len()).iter().map(|v| v * [0.1, 0.3][index % 2]).collect();
        engine.write(Slot::Value, index, &values).unwrap();
    }
    engine
}

/// Both towers on one GPU; one on each of two, which one GPU plays where there is but one.
fn on_one(precision: &str) -> Cuda {
    begun(Cuda::new(plan(&[0, 0], precision), &[standin::gpu(0)]).unwrap())
}

fn on_two(precision: &str) -> Cuda {
    begun(Cuda::new(plan(&[0, 1], precision), &[standin::gpu(0), standin::gpu(1)]).unwrap())
}

/// Rates of step `step`, and the same with which the formula is computed.
fn rates(engine: &dyn Engine, step: u32) -> (Vec<Option<Rates>>, f64) {
    let rate = 4.0 / f64::from(step);
    let rates = Rates {
        weight: rate as f32,
        weight_decay: (rate * 0.002) as f32,
        bias: 0.02,
        bias_decay: 0.02 * 0.001,
        trust: Some(TRUST as f32),
    };
    (engine.plan().layers.iter().map(|layer| layer.learns().then_some(rates)).collect(), rate)
}

fn step(engine: &mut dyn Engine, step: u32) {
    let images = numbers(100 + step as usize, BATCH * 8 * 8 * 3);
    let labels: Vec<u32> = (0..BATCH as u32).map(|image| image % 5).collect();
    let run = Run { batch: BATCH, training: true, seed: 1, step, first_image: 0 };
    let (rates, _) = rates(engine, step);
    engine.step(&run, CropView::Floats(&images), &labels, MOMENTUM as f32, &rates).unwrap();
}

fn read(engine: &dyn Engine, slot: Slot) -> Vec<Vec<f32>> {
    let tensors = 0..engine.plan().tensors().len();
    tensors.map(|tensor| engine.read(slot, tensor).unwrap().values).collect()
}

/// Algorithm 1 of You, Gitman and Ginsburg on weights of both towers, the paper's rule on biases.
fn formula(w: &mut [f64], v: &mut [f64], g: &[f32], is_bias: bool, rate: f64) {
    let g: Vec<f64> = g.iter().map(|&g| f64::from(g)).collect();
    let length = |all: &[f64]| all.iter().map(|x| x * x).sum::<f64>().sqrt();
    let (rate, decay) = match is_bias {
        true => (0.02, 0.001),
        false => (rate * TRUST * length(w) / (length(&g) + 0.002 * length(w)), 0.002),
    };
    for ((w, v), g) in w.iter_mut().zip(v).zip(&g) {
        *v = MOMENTUM * *v + rate * (g + decay * *w);
        *w -= *v;
    }
}

#[track_caller]
fn close(what: &str, ours: &[f32], theirs: &[f64], within: f64) {
    let most = theirs.iter().fold(0.0, |most: f64, w| most.max(w.abs()));
    for (ours, theirs) in ours.iter().zip(theirs) {
        let far = (f64::from(*ours) - theirs).abs();
        assert!(far <= within * most, "{what}: {ours} is not {theirs}");
    }
}

/// Ten steps, each from where the formula stands; and where the same ten steps have brought the
/// CPU.
fn is_its_formula(mut engine: Cuda, against_cpu: f64) {
    let wide = |all: Vec<Vec<f32>>| -> Vec<Vec<f64>> {
        all.into_iter().map(|one| one.into_iter().map(f64::from).collect()).collect()
    };
    let tensors = engine.plan().tensors();
    let mut w = wide(read(&engine, Slot::Value));
    let mut v: Vec<Vec<f64>> = w.iter().map(|w| vec![0.0; w.len()]).collect();
    let mut cpu = begun(Cpu::new(plan(&[0, 0], "f32")).unwrap());
    for number in 1..=10 {
        let (_, rate) = rates(&engine, number);
        step(&mut engine, number);
        step(&mut cpu, number);
        let (now, gradients) = (read(&engine, Slot::Value), read(&engine, Slot::Gradient));
        for (t, tensor) in tensors.iter().enumerate() {
            formula(&mut w[t], &mut v[t], &gradients[t], tensor.is_bias, rate);
            close(&format!("{}, step {number}", tensor.name), &now[t], &w[t], 1e-5);
        }
    }
    let (ours, theirs) = (read(&engine, Slot::Value), wide(read(&cpu, Slot::Value)));
    for (t, tensor) in tensors.iter().enumerate() {
        close(&format!("{} against the CPU", tensor.name), &ours[t], &theirs[t], against_cpu);
    }
}

#[test]
fn ten_steps_on_one_gpu_are_the_formula_and_the_cpu() {
    standin::run("ten_steps_on_one_gpu_are_the_formula_and_the_cpu", &[], || {
        is_its_formula(on_one("f32"), 1e-4);
    });
}

#[test]
fn ten_steps_on_two_gpus_are_the_formula_and_the_cpu() {
    standin::run("ten_steps_on_two_gpus_are_the_formula_and_the_cpu", &[], || {
        is_its_formula(on_two("f32"), 1e-4);
    });
}

/// Through the host, where there is no direct way; nothing races.
#[test]
fn two_gpus_agree_through_the_host_too() {
    let switches = [&standin::RACES[..], &[("STANDIN_PEER", "0")]].concat();
    standin::only("two_gpus_agree_through_the_host_too", &switches, || {
        agree(&mut on_one("f32"), &mut on_two("f32"));
    });
}

/// Directly, and in bfloat16, whose products read the weights once more.
#[test]
fn two_gpus_agree_with_one_in_every_bit() {
    standin::run("two_gpus_agree_with_one_in_every_bit", &[], || {
        agree(&mut on_one("bf16"), &mut on_two("bf16"));
    });
}

/// Given the same gradients, one GPU and two make the same of them.
fn agree(one: &mut Cuda, two: &mut Cuda) {
    let bits = |engine: &Cuda| -> Vec<Vec<u32>> {
        let all = read(engine, Slot::Value).into_iter().chain(read(engine, Slot::Momentum));
        all.map(|values| values.iter().map(|v| v.to_bits()).collect()).collect()
    };
    let mut before = bits(one);
    for number in 1..=3 {
        step(one, number);
        step(two, number);
        for engine in [&mut *one, &mut *two] {
            for slot in [Slot::Value, Slot::Momentum, Slot::Gradient] {
                for (index, tensor) in engine.plan().tensors().iter().enumerate() {
                    let values = numbers(index + 50 * number as usize, tensor.len());
                    engine.write(slot, index, &values).unwrap();
                }
            }
            let (rates, _) = rates(engine, number);
            engine.update(MOMENTUM as f32, &rates).unwrap();
        }
        let after = bits(one);
        assert!(after == bits(two) && after != before, "step {number}");
        before = after;
    }
}

/// What it adds to a step, and to the memory, is what was planned.
#[test]
fn launches_and_memory_are_those_planned() {
    standin::only("launches_and_memory_are_those_planned", &[("STANDIN_CAPTURE", "0")], || {
        let compiler = Arc::new(Compiler::new(driver_version().unwrap(), None).unwrap());
        let devices = [0, 1].map(|gpu| Device::open(gpu, compiler.clone()).unwrap());
        let free = || devices.each_ref().map(|device| device.memory().unwrap().0);
        for towers in [[0, 0], [0, 1]] {
            let plan = plan(&towers, "f32");
            let gpus = &[0, 1][..plan.data.len()];
            let layout = Layout::new(&plan, BATCH, &vec![108; gpus.len()]).unwrap();
            let before = free();
            let mut engine = begun(Cuda::new(plan, gpus).unwrap());
            let after = free();
            for (d, planned) in layout.bytes(engine.plan()).into_iter().enumerate() {
                // A byte for each buffer that is empty.
                let taken = before[d] - after[d];
                assert!((planned..planned + 50).contains(&taken), "{taken}, planned {planned}");
            }
            let work = account::step(engine.plan(), &layout);
            // The input comes as floats here, so no kernel makes it.
            let planned = work.iter().filter(|work| work.purpose != Purpose::Batch).count();
            let launches = |engine: &Cuda| {
                // All of them are done.
                read(engine, Slot::Gradient);
                standin::counters().launches
            };
            let before = launches(&engine);
            step(&mut engine, 1);
            assert_eq!(launches(&engine) - before, planned as u64, "{towers:?}");
        }
    });
}

/// Weights that are all zero could never leave it by a step in proportion to their length.
#[test]
fn weights_of_zero_learn_on_gpus_too() {
    standin::run("weights_of_zero_learn_on_gpus_too", &[], || {
        let mut engine = on_one("f32");
        let last = engine.plan().tensors().len() - 2;
        let zeros = vec![0.0; engine.plan().tensors()[last].len()];
        engine.write(Slot::Value, last, &zeros).unwrap();
        step(&mut engine, 1);
        assert!(engine.read(Slot::Value, last).unwrap().values.iter().any(|&w| w != 0.0));
    });
}

/// The built program trains so on a GPU, near what the CPU comes to.
#[test]
fn the_program_trains_by_lars_on_a_gpu() {
    let Some(environment) = standin::world() else { return };
    let world = World { folder: tempfile::tempdir().unwrap() };
    world.photos("photos/train", ["down", "level", "slant"], 10);
    world.photos("photos/val", ["down", "level", "slant"], 3);
    world.write("net.toml", common::NETWORK);
    world.ok("prepare image-folder photos --out set --size 16");
    let train = "train --config net.toml --set train.batch=15 --set train.epochs=2 --set \
                 train.optimizer=lars --set schedule.rate=2 --set schedule.bias_rate=0.02";
    world.ok(&format!("{train} --run on-cpu --device cpu"));
    let mut command = world.command(&format!("{train} --run on-gpu --device cuda:0"));
    let output = command.envs(environment).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let losses = |run: &str| -> Vec<f64> {
        let steps = world.metrics(run).into_iter().filter(|line| line["kind"] == "step");
        steps.map(|line| line["loss"].as_f64().unwrap()).collect()
    };
    let (ours, theirs) = (losses("on-gpu"), losses("on-cpu"));
    assert_eq!(ours.len(), 4);
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert!((ours - theirs).abs() < 1e-3 * theirs, "{ours} {theirs}");
    }
}
