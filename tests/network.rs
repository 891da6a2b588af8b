//! Whole networks through the plan and the CPU: loss and every parameter's gradient against the f64
//! reference chained by hand, and the same bits for any number of threads.
//!
//! Each network stands here twice: as a config, and as a function of reference layers that says for
//! each tower what it reads and which channels it has. Dropout is left out of the chains, since its
//! random numbers depend on the layer's name; the table of cases has it.

mod cases;

use alexnet::config::Config;
use alexnet::data::form::CropView;
use alexnet::engine::cpu::Cpu;
use alexnet::engine::{Engine, Rates, Slot};
use alexnet::files::mapped::MappedFloats;
use alexnet::layers::{Classes, Run};
use alexnet::network::{Mode, Plan};
use cases::reference::{self, Maps};
use cases::{case, numbers};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Half the distance of central differences.
const H: f64 = 1e-5;

/// Differences allowed, as fractions of the largest value.
const GRADIENT: f64 = 1e-4;

const CROP: usize = 8;
const CHANNELS: usize = 3;

fn config(towers: usize, classes: usize, layers: &str) -> Config {
    let text = format!(
        "towers = {towers}\n[data]\ncrop = {CROP}\nchannels = {CHANNELS}\nclasses = {classes}\n\
         [schedule]\nkind = \"steps\"\n{layers}\n[[layer]]\nname = \"softmax\"\nkind = \"softmax\""
    );
    Config::parse(&text, &[], "test").unwrap_or_else(|e| panic!("{e:#}"))
}

/// A layer of a config: `keys` one a line.
fn layer(name: &str, kind: &str, keys: &str) -> String {
    let keys = keys.replace("; ", "\n");
    format!("[[layer]]\nname = \"{name}\"\nkind = \"{kind}\"\n{keys}\n")
}

fn bits(values: Vec<f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

/// Of every parameter, as bits.
fn all_bits(engine: &Cpu, slot: Slot) -> Vec<Vec<u32>> {
    let tensors = 0..engine.plan().tensors().len();
    tensors.map(|tensor| bits(engine.read(slot, tensor).unwrap().values)).collect()
}

fn engine(config: &Config, batch: usize) -> Cpu {
    let devices = vec![0; config.towers];
    let plan = Plan::new(config, batch, Mode::Training, &devices, Classes::Any).unwrap();
    let tensors = plan.tensors();
    let mut engine = Cpu::new(plan).unwrap();
    for (index, tensor) in tensors.iter().enumerate() {
        // Of a size that keeps activations near 1.
        let fan_in: usize = tensor.shape[1..].iter().product();
        let scale = if tensor.is_bias { 0.3 } else { 1.5 / (fan_in as f32).sqrt() };
        let values = numbers(10 + index as u64, tensor.len());
        let values: Vec<f32> = values.into_iter().map(|v| scale * v).collect();
        engine.write(Slot::Value, index, &values).unwrap();
    }
    engine
}

fn images(batch: usize) -> Vec<f32> {
    numbers(1, batch * CROP * CROP * CHANNELS)
}

fn labels(batch: usize, classes: usize) -> Vec<u32> {
    (0..batch).map(|image| (image * 3 % classes) as u32).collect()
}

fn run(batch: usize) -> Run {
    Run { batch, training: true, seed: 1, step: 1, first_image: 0 }
}

/// Every parameter in f64, by its name, all towers joined.
struct Parameters(BTreeMap<String, Vec<f64>>);

impl Parameters {
    fn of(engine: &Cpu) -> Parameters {
        let tensors = engine.plan().tensors();
        let values = tensors.iter().enumerate().map(|(index, tensor)| {
            let values = engine.read(Slot::Value, index).unwrap().values;
            (tensor.name.clone(), values.into_iter().map(f64::from).collect())
        });
        Parameters(values.collect())
    }

    /// The share of channels `channels` of `all`.
    fn share(&self, name: &str, channels: &Range<usize>, all: usize) -> &[f64] {
        let values = &self.0[name];
        let each = values.len() / all;
        &values[channels.start * each..channels.end * each]
    }

    /// A layer that learns, on a tower that has `channels` of `all`.
    fn apply(
        &self,
        name: &str,
        kind: &'static str,
        keys: &str,
        x: &Maps,
        (channels, all): (Range<usize>, usize),
    ) -> Maps {
        let weight = self.share(&format!("{name}.weight"), &channels, all);
        let bias = self.share(&format!("{name}.bias"), &channels, all);
        let case = case(kind, keys, x.shape(), 1).tower(channels, all);
        reference::forward(&case, 0, x, weight, bias)
    }
}

/// A layer without parameters.
fn apply(kind: &'static str, keys: &str, x: &Maps) -> Maps {
    reference::forward(&case(kind, keys, x.shape(), 1), 0, x, &[], &[])
}

/// A network in the reference: one image to logits.
type Chain = fn(&Parameters, &Maps) -> Maps;

fn mean_loss(chain: Chain, parameters: &Parameters, images: &[Maps], labels: &[u32]) -> f64 {
    let loss = |(x, &label)| reference::log_loss(&chain(parameters, x).values, label);
    images.iter().zip(labels).map(loss).sum::<f64>() / images.len() as f64
}

/// Loss and gradients of a batch of 3, in memory for 5, against the chain.
fn check(config: &Config, chain: Chain) {
    let batch = 3;
    let mut engine = engine(config, batch + 2);
    let classes = engine.plan().classes;
    let (pixels, labels) = (images(batch), labels(batch, classes));

    // A full batch first, so that what it leaves behind must not show.
    let more = self::images(batch + 2);
    engine
        .gradients(&run(batch + 2), CropView::Floats(&more), &self::labels(batch + 2, classes))
        .unwrap();
    let tally = engine.gradients(&run(batch), CropView::Floats(&pixels), &labels).unwrap();

    let shape = [CROP, CROP, CHANNELS];
    let maps = pixels.chunks_exact(CROP * CROP * CHANNELS);
    let maps: Vec<Maps> =
        maps.map(|x| Maps::new(shape, x.iter().map(|&v| v.into()).collect())).collect();
    let mut parameters = Parameters::of(&engine);
    let loss = mean_loss(chain, &parameters, &maps, &labels);
    assert!((tally.mean_loss() - loss).abs() < 1e-5 * loss, "{} {loss}", tally.mean_loss());

    for (index, tensor) in engine.plan().tensors().iter().enumerate() {
        let ours = engine.read(Slot::Gradient, index).unwrap();
        assert_eq!(ours.shape, tensor.shape, "{}", tensor.name);
        let mut slope = |i: usize| {
            let at = parameters.0[&tensor.name][i];
            let mut side = |h: f64| {
                parameters.0.get_mut(&tensor.name).unwrap()[i] = at + h;
                mean_loss(chain, &parameters, &maps, &labels)
            };
            let slope = (side(H) - side(-H)) / (2.0 * H);
            side(0.0);
            slope
        };
        let truth: Vec<f64> = (0..tensor.len()).map(&mut slope).collect();
        let most = truth.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        assert!(most > 1e-3, "{}: gradients of {most} at most prove nothing", tensor.name);
        for (i, (&a, b)) in ours.values.iter().zip(&truth).enumerate() {
            let close = (f64::from(a) - b).abs() <= GRADIENT * most;
            assert!(close, "{}[{i}] is {a}, should be {b}, largest {most}", tensor.name);
        }
    }
}

/// As the paper's: two towers, a convolution that reads both, fully connected layers that read
/// both; and what is not in the paper: uneven shares, and a softmax over a layer that is split.
#[test]
fn two_towers_with_joins_and_uneven_shares() {
    let layers = [
        layer("conv1", "conv", "kernels = 5; size = 3; padding = [1, 0, 0, 1]"),
        layer("relu1", "relu", ""),
        layer("lrn1", "lrn", "alpha = 0.5; n = 3"),
        layer("pool1", "max-pool", "size = 3; stride = 2"),
        layer("conv2", "conv", "kernels = 7; size = 2; input = \"all-towers\""),
        layer("tanh2", "tanh", ""),
        layer("conv3", "conv", "kernels = 4; size = 2; input = \"all-towers\""),
        layer("relu3", "relu", ""),
        layer("fc4", "fc", "outputs = 9"),
        layer("relu4", "relu", ""),
        layer("fc5", "fc", "outputs = 5"),
    ];
    check(&config(2, 5, &layers.concat()), |p, image| {
        let bottom = |channels| {
            let keys = "kernels = 5, size = 3, padding = [1, 0, 0, 1]";
            let y = apply("relu", "", &p.apply("conv1", "conv", keys, image, (channels, 5)));
            apply("max-pool", "size = 3, stride = 2", &apply("lrn", "alpha = 0.5, n = 3", &y))
        };
        let joined = Maps::join(&[&bottom(0..2), &bottom(2..5)]);
        let middle = |channels| {
            let y = p.apply("conv2", "conv", "kernels = 7, size = 2", &joined, (channels, 7));
            apply("tanh", "", &y)
        };
        let joined = Maps::join(&[&middle(0..3), &middle(3..7)]);
        let top = |channels| {
            let y = p.apply("conv3", "conv", "kernels = 4, size = 2", &joined, (channels, 4));
            apply("relu", "", &y)
        };
        let joined = Maps::join(&[&top(0..2), &top(2..4)]);
        // A fully connected layer that reads everything does not depend on how it is split.
        let y = apply("relu", "", &p.apply("fc4", "fc", "outputs = 9", &joined, (0..9, 9)));
        p.apply("fc5", "fc", "outputs = 5", &y, (0..5, 5))
    });
}

/// Layers on one tower only, below and above layers on both; softmax reads from the second tower.
#[test]
fn layers_on_one_tower_of_two() {
    let layers = [
        layer("conv1", "conv", "kernels = 4; size = 3; stride = 2"),
        layer("tanh1", "tanh", ""),
        layer("conv2", "conv", "kernels = 3; size = 2; tower = 1; input = \"all-towers\""),
        layer("relu2", "relu", ""),
        layer("pool2", "average-pool", "size = 2; stride = 1"),
        layer("conv3", "conv", "kernels = 6; size = 1; input = \"all-towers\""),
        layer("tanh3", "tanh", ""),
        layer("fc4", "fc", "outputs = 6; input = \"same-tower\""),
        layer("relu4", "relu", ""),
        layer("fc5", "fc", "outputs = 4; tower = 1"),
    ];
    check(&config(2, 4, &layers.concat()), |p, image| {
        let bottom = |channels| {
            let keys = "kernels = 4, size = 3, stride = 2";
            apply("tanh", "", &p.apply("conv1", "conv", keys, image, (channels, 4)))
        };
        let joined = Maps::join(&[&bottom(0..2), &bottom(2..4)]);
        let y = p.apply("conv2", "conv", "kernels = 3, size = 2", &joined, (0..3, 3));
        let alone = apply("average-pool", "size = 2, stride = 1", &apply("relu", "", &y));
        let top = |of_conv3, of_fc4| {
            let y = p.apply("conv3", "conv", "kernels = 6, size = 1", &alone, (of_conv3, 6));
            let y = apply("tanh", "", &y);
            apply("relu", "", &p.apply("fc4", "fc", "outputs = 6", &y, (of_fc4, 6)))
        };
        let joined = Maps::join(&[&top(0..3, 0..3), &top(3..6, 3..6)]);
        p.apply("fc5", "fc", "outputs = 4", &joined, (0..4, 4))
    });
}

/// One tower; the first layer that learns is not the first layer, and activations follow each
/// other.
#[test]
fn one_tower_with_layers_below_the_first_that_learns() {
    let layers = [
        layer("tanh0", "tanh", ""),
        layer("pool0", "average-pool", "size = 2; stride = 2"),
        layer("conv1", "conv", "kernels = 4; size = 2; groups = 1"),
        layer("tanh1", "tanh", ""),
        layer("relu1", "relu", ""),
        layer("tanh1b", "tanh", ""),
        layer("local2", "local", "kernels = 4; size = 2; groups = 2; padding = [1, 0, 0, 1]"),
        layer("relu2", "relu", ""),
        layer("lrn2", "lrn", "alpha = 0.5; n = 3; region = \"within-map\""),
        layer("fc3", "fc", "outputs = 5"),
    ];
    check(&config(1, 5, &layers.concat()), |p, image| {
        let y = apply("average-pool", "size = 2, stride = 2", &apply("tanh", "", image));
        let y = p.apply("conv1", "conv", "kernels = 4, size = 2", &y, (0..4, 4));
        let y = apply("tanh", "", &apply("relu", "", &apply("tanh", "", &y)));
        let keys = "kernels = 4, size = 2, groups = 2, padding = [1, 0, 0, 1]";
        let y = apply("relu", "", &p.apply("local2", "local", keys, &y, (0..4, 4)));
        let y = apply("lrn", "alpha = 0.5, n = 3, region = \"within-map\"", &y);
        p.apply("fc3", "fc", "outputs = 5", &y, (0..5, 5))
    });
}

/// The towers' kernels would not have one size.
#[test]
fn a_layer_whose_towers_read_different_sizes_is_refused() {
    let layers = [
        layer("conv1", "conv", "kernels = 5; size = 3"),
        layer("conv2", "conv", "kernels = 4; size = 2"),
        layer("fc3", "fc", "outputs = 5"),
    ];
    let config = config(2, 5, &layers.concat());
    let error = Plan::new(&config, 1, Mode::Training, &[0, 0], Classes::Any).unwrap_err();
    let error = format!("{error:#}");
    assert!(error.starts_with("layer conv2: its towers read inputs of different sizes"), "{error}");
    assert!(error.contains("6×6×2 and 6×6×3") && error.contains("\"all-towers\""), "{error}");
}

/// Batches that are cut into parts unevenly, and layers wider than one task.
#[test]
fn the_number_of_threads_changes_no_bit_of_a_gradient() {
    let layers = [
        layer("conv1", "conv", "kernels = 12; size = 3; padding = [1, 1, 1, 1]"),
        layer("relu1", "relu", ""),
        layer("lrn1", "lrn", ""),
        layer("pool1", "max-pool", "size = 3; stride = 2"),
        layer("conv2", "conv", "kernels = 8; size = 3; groups = 2; input = \"all-towers\""),
        layer("tanh2", "tanh", ""),
        layer("pool2", "average-pool", "size = 2; stride = 1"),
        layer("local3", "local", "kernels = 6; size = 1"),
        layer("relu3", "relu", ""),
        layer("fc4", "fc", "outputs = 301"),
        layer("relu4", "relu", ""),
        layer("drop4", "dropout", ""),
        layer("fc5", "fc", "outputs = 10"),
    ];
    let config = config(2, 10, &layers.concat());
    for batch in [17, 33] {
        let gradients = |threads: usize| -> Vec<Vec<u32>> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let mut engine = engine(&config, batch);
                engine
                    .gradients(&run(batch), CropView::Floats(&images(batch)), &labels(batch, 10))
                    .unwrap();
                let mut all = all_bits(&engine, Slot::Gradient);
                all.push(bits(engine.probabilities().unwrap()));
                all
            })
        };
        let one = gradients(1);
        assert!(one.iter().all(|tensor| tensor.iter().any(|&bits| bits << 1 != 0)));
        for threads in [2, 3, 8] {
            assert!(gradients(threads) == one, "batch {batch}, {threads} threads");
        }
    }
}

#[test]
fn weights_used_where_they_lie_in_a_file_give_the_same_probabilities() {
    let layers = [
        layer("conv1", "conv", "kernels = 6; size = 3"),
        layer("relu1", "relu", ""),
        layer("fc2", "fc", "outputs = 70; input = \"same-tower\""),
        layer("relu2", "relu", ""),
        layer("fc3", "fc", "outputs = 5; tower = 0"),
    ];
    let config = config(2, 5, &layers.concat());
    let trained = engine(&config, 3);
    // The file holds one value more in front: places need not begin at its head.
    let file = tempfile::NamedTempFile::new().unwrap();
    let tensors = trained.plan().tensors();
    let all: Vec<f32> =
        (0..tensors.len()).flat_map(|i| trained.read(Slot::Value, i).unwrap().values).collect();
    let bytes: Vec<u8> = [1f32].iter().chain(&all).flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(file.path(), bytes).unwrap();
    // SAFETY: nothing changes the file.
    let map = Arc::new(unsafe { memmap2::Mmap::map(file.as_file()) }.unwrap());
    let plan = || Plan::new(&config, 3, Mode::Evaluation, &[0, 0], Classes::Any).unwrap();
    let (mut adopting, mut copying) = (Cpu::new(plan()).unwrap(), Cpu::new(plan()).unwrap());
    let mut start = 4;
    for (index, tensor) in tensors.iter().enumerate() {
        let end = start + 4 * tensor.len();
        let values = MappedFloats::new(&map, start..end).unwrap();
        adopting.adopt(index, &values).unwrap();
        copying.write(Slot::Value, index, &values).unwrap();
        let read = |engine: &Cpu| engine.read(Slot::Value, index).unwrap();
        assert_eq!(read(&adopting), read(&copying));
        start = end;
    }
    assert!(MappedFloats::new(&map, 2..6).is_none(), "not aligned");
    assert!(MappedFloats::new(&map, 0..start + 4).is_none(), "not all there");
    // Also a batch smaller than the planned one.
    for batch in [3, 2] {
        let run = Run { training: false, ..run(batch) };
        adopting.forward(&run, CropView::Floats(&images(batch))).unwrap();
        copying.forward(&run, CropView::Floats(&images(batch))).unwrap();
        let (a, b) = (adopting.probabilities().unwrap(), copying.probabilities().unwrap());
        assert_eq!(a.len(), batch * 5);
        let far = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 1e-6, "{far}");
        let (least, most) =
            (b.iter().copied().fold(1.0, f32::min), b.iter().copied().fold(0.0, f32::max));
        assert!(most > 1.5 * least, "not all alike: {b:?}");
    }
}

/// `cpu.winograd = false` computes the same another way: equal up to rounding, but not bit by bit.
#[test]
fn both_ways_of_convolution_agree() {
    let conv = "kernels = 32; size = 3; padding = [1, 1, 1, 1]; weight_sigma = 0.1";
    let layers = layer("conv1", "conv", conv)
        + &layer("relu1", "relu", "")
        + &layer("conv2", "conv", conv)
        + &layer("fc", "fc", "outputs = 4");
    let gradients = |cpu: &str| {
        let config = config(1, 4, &format!("[cpu]\n{cpu}\n{layers}"));
        let mut engine = engine(&config, 3);
        engine.gradients(&run(3), CropView::Floats(&images(3)), &labels(3, 4)).unwrap();
        let tensors = 0..engine.plan().tensors().len();
        tensors.map(|t| engine.read(Slot::Gradient, t).unwrap().values).collect::<Vec<_>>()
    };
    let (ours, direct) = (gradients(""), gradients("winograd = false"));
    assert_ne!(ours, direct, "the switch changes nothing");
    for (ours, direct) in ours.iter().zip(&direct) {
        let most = direct.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        for (a, b) in ours.iter().zip(direct) {
            assert!((a - b).abs() <= 1e-5 * most, "{a} and {b}, largest {most}");
        }
    }
}

/// Two steps in one go and in two parts, on layers that are updated as their gradient comes into
/// being and others: the same weights and momentum, to the bit.
#[test]
fn a_step_in_one_go_gives_the_same_bits() {
    let layers = [
        layer("conv1", "conv", "kernels = 16; size = 3"),
        layer("relu1", "relu", ""),
        layer("fc2", "fc", "outputs = 160"),
        layer("relu2", "relu", ""),
        layer("fc3", "fc", "outputs = 48"),
        layer("fc4", "fc", "outputs = 10"),
    ];
    let config = config(1, 10, &layers.concat());
    let after = |at_once: bool, frozen: bool| -> Vec<Vec<u32>> {
        let mut engine = engine(&config, 20);
        let rates = |layer: usize| {
            let weight = if frozen && layer == 2 { 0.0 } else { 0.1 };
            Some(Rates {
                weight,
                weight_decay: 0.01 * weight,
                bias: 0.2,
                bias_decay: 0.001,
                trust: None,
            })
        };
        let rates: Vec<_> = (0..engine.plan().layers.len()).map(rates).collect();
        for step in 1..=2 {
            let run = Run { step, ..run(20) };
            let (images, labels) = (images(20), labels(20, 10));
            if at_once {
                engine.step(&run, CropView::Floats(&images), &labels, 0.9, &rates).unwrap();
            } else {
                engine.gradients(&run, CropView::Floats(&images), &labels).unwrap();
                engine.update(0.9, &rates).unwrap();
            }
        }
        [Slot::Value, Slot::Momentum].map(|which| all_bits(&engine, which)).concat()
    };
    for frozen in [false, true] {
        assert!(after(true, frozen) == after(false, frozen), "frozen: {frozen}");
    }
    assert!(after(true, false) != after(true, true));
}
