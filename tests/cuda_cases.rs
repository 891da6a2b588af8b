//! Every case of the table through the layers' launches, on the stand-in for GPU and NVRTC
//! or on a GPU (`tests/standin`), against the same layer on the CPU.
//!
//! The table is in `tests/cases`; a new layer kind is tested here without a change.

mod cases;
mod standin;

use alexnet::gpu::compile::Compiler;
use alexnet::gpu::device::Device;
use alexnet::gpu::format::{Format, of_bf16, to_bf16};
use alexnet::gpu::launch::Queue;
use alexnet::gpu::library::driver_version;
use alexnet::gpu::memory::Buffer;
use alexnet::gpu::precision::Precision;
use alexnet::layers::cuda::{Call, Factors, LaunchContext, Launches, Loss, ParameterBuffers};
use alexnet::layers::softmax::tally;
use alexnet::layers::{Layer, Role};
use cases::{Case, numbers};
use rayon::prelude::*;
use std::sync::Arc;

/// Differences allowed, as fractions of the largest value: both sides round.
const TOLERANCE: f32 = 2e-5;

/// What both sides compute for one batch; gradients of weights and biases in the outside world's
/// order.
#[derive(Default)]
struct Outcome {
    y: Vec<f32>,
    dx: Vec<f32>,
    dweight: Vec<f32>,
    dbias: Vec<f32>,
    /// Loss, top-1 and top-5 errors of softmax.
    totals: Vec<f32>,
}

/// What a case is fed: input, gradient at the output, weights and biases in the outside world's
/// order.
struct Feed {
    x: Vec<f32>,
    dy: Vec<f32>,
    parameters: [Vec<f32>; 2],
    labels: Vec<u32>,
}

fn feed(case: &Case, layer: &dyn Layer) -> Feed {
    let sizes: [usize; 2] =
        layer.parameters().map_or([0; 2], |p| [&p.weight, &p.bias].map(|d| d.iter().product()));
    Feed {
        x: case.images(),
        dy: numbers(4, case.batch * layer.output().len()),
        parameters: [numbers(2, sizes[0]), numbers(3, sizes[1])],
        labels: case.labels(layer.output().len()),
    }
}

fn on_cpu(case: &Case, layer: &dyn Layer, feed: &Feed) -> Outcome {
    let run = case.run();
    let mut out =
        Outcome { y: vec![0.0; feed.dy.len()], dx: vec![0.0; feed.x.len()], ..Outcome::default() };
    match layer.role() {
        Role::Map(map) => {
            map.forward(&run, &mut out.y, &feed.x);
            map.backward(&run, &mut out.dx, &feed.dy, &feed.x);
        }
        Role::Learn(learn) => {
            let ([mut weight, mut bias], [world, world_bias]) =
                (feed.parameters.clone(), &feed.parameters);
            learn.pack((&mut weight, &mut bias), (world, world_bias));
            let (weight, bias) = (&weight, &bias);
            learn.forward(&run, &mut out.y, &feed.x, weight, bias);
            learn.backward_input(&run, &mut out.dx, &feed.dy, weight);
            let [mut dweight, mut dbias] = feed.parameters.clone();
            let mut workspace = vec![0.0; learn.workspace(case.batch)];
            let gradients = (&mut dweight[..], &mut dbias[..]);
            learn.backward_weights(&run, gradients, &feed.dy, &feed.x, &mut workspace);
            (out.dweight, out.dbias) = (dweight.clone(), dbias.clone());
            learn.unpack((&mut out.dweight, &mut out.dbias), (&dweight, &dbias));
        }
        Role::Pointwise(pointwise) => {
            out.y.copy_from_slice(&feed.x);
            pointwise.forward(&run, &mut out.y);
            out.dx.copy_from_slice(&feed.dy);
            pointwise.backward(&run, &mut out.dx, &out.y);
        }
        Role::Loss(softmax) => {
            softmax.forward(&run, &mut out.y, &feed.x);
            softmax.backward(&run, &mut out.dx, &out.y, &feed.labels);
            let sums = tally(&out.y, &feed.x, &feed.labels);
            out.totals = vec![sums.loss as f32, sums.top1_wrong as f32, sums.top5_wrong as f32];
        }
        Role::Reconstruction(loss) => {
            loss.forward(&run, &mut out.y, &feed.x);
            loss.backward(&run, &mut out.dx, &out.y, &feed.dy);
            out.totals = vec![loss.tally(&run, &out.y, &feed.dy).loss as f32, 0.0, 0.0];
        }
    }
    out
}

fn read(device: &Device, buffer: &Buffer<f32>) -> Vec<f32> {
    let mut values = vec![0.0; buffer.len()];
    device.compute.read(buffer, &mut values).unwrap();
    values
}

/// Weights and biases on a device, in the order of its kernels, with room for their gradients.
fn parameters(layer: &dyn Layer, feed: &Feed, device: &Device) -> Option<ParameterBuffers> {
    let Role::Learn(learn) = layer.role() else { return None };
    let mut own = feed.parameters.clone();
    let [weight, bias] = &mut own;
    learn.pack_for_gpu((weight, bias), (&feed.parameters[0], &feed.parameters[1]));
    let nan = |v: &Vec<f32>| device.buffer_of(&vec![f32::NAN; v.len()]).unwrap();
    Some(ParameterBuffers {
        value: own.each_ref().map(|v| device.buffer_of(v).unwrap()),
        factors: None,
        gradient: Some(own.each_ref().map(nan)),
        momentum: None,
    })
}

/// The layer's kernels, compiled and loaded.
fn loaded(
    case: &Case,
    layer: &dyn Layer,
    device: &Device,
    precision: Precision,
) -> Box<dyn Launches> {
    let context = LaunchContext {
        precision,
        stored_channels: layer.stored_channels(precision),
        ..LaunchContext::new(case.batch, device.multiprocessors, case.training)
    };
    let launches: Box<dyn Launches> = layer.cuda(&context).unwrap();
    launches.launches().iter().try_for_each(|(_, work)| work.load(device)).unwrap();
    launches
}

/// The same through the launches. `in_place`: pointwise layers overwrite their input, as in a
/// network.
fn on_device(
    case: &Case,
    layer: &dyn Layer,
    feed: &Feed,
    device: &Device,
    (precision, in_place): (Precision, bool),
) -> Outcome {
    let launches = loaded(case, layer, device, precision);
    let store = Store { format: precision.format(), channels: layer.stored_channels(precision) };
    let (x, dy) = (store.input(&feed.x, case, device), store.upload(&feed.dy, device));
    let nan = |len: usize| vec![f32::NAN; len];
    let (y, dx) = match layer.role() {
        // Probabilities are f32 in any case.
        Role::Loss(_) | Role::Reconstruction(_) => (
            Store::FLOAT.upload(&nan(feed.dy.len()), device),
            store.upload(&nan(feed.x.len()), device),
        ),
        _ => (
            store.upload(&nan(feed.dy.len()), device),
            store.input(&nan(feed.x.len()), case, device),
        ),
    };
    let mut parameters = parameters(layer, feed, device);
    if let (Some(own), Some(factors)) = (&mut parameters, launches.factors()) {
        own.factors = Some(store.factors(&own.value[0], factors, device));
    }
    let labels: Vec<i32> = feed.labels.iter().map(|&l| l as i32).collect();
    let loss =
        Loss { labels: device.buffer_of(&labels).unwrap(), totals: device.buffer(3).unwrap() };
    let is_loss = matches!(layer.role(), Role::Loss(_) | Role::Reconstruction(_));
    let scratch = launches.scratch(false).max(launches.scratch(true));
    let (scratch, saved) =
        (device.buffer(scratch).unwrap(), device.buffer(launches.saved()).unwrap());
    let run = case.run();
    let call = Call {
        queue: Queue::of(&device.compute),
        run: &run,
        whole: run.batch,
        x: &x,
        y: if in_place { &x } else { &y },
        dy: Some(&dy),
        dx: Some(if in_place { &dy } else { &dx }),
        parameters: parameters.as_ref(),
        scratch: &scratch,
        saved: &saved,
        loss: is_loss.then_some(&loss),
        // The target of a loss that has one.
        input: &dy,
    };
    launches.forward(&call).unwrap();
    let stored_y = if is_loss { Store::FLOAT } else { store };
    let mut out = Outcome { y: stored_y.read(call.y, device), ..Outcome::default() };
    if case.training {
        launches.backward_weights(&call).unwrap();
        launches.backward_input(&call).unwrap();
        out.dx = store.read_input(call.dx.unwrap(), case, device);
    }
    let gradient = parameters.as_ref().and_then(|p| p.gradient.as_ref());
    if let (Role::Learn(learn), Some([weight, bias])) = (layer.role(), gradient) {
        let (dweight, dbias) = (read(device, weight), read(device, bias));
        (out.dweight, out.dbias) = (dweight.clone(), dbias.clone());
        learn.unpack_for_gpu((&mut out.dweight, &mut out.dbias), (&dweight, &dbias));
    }
    if is_loss {
        out.totals = read(device, &loss.totals);
    }
    out
}

/// How activations are stored; of the input as how many channels.
#[derive(Clone, Copy)]
struct Store {
    format: Format,
    channels: Option<usize>,
}

impl Store {
    const FLOAT: Store = Store { format: Format::Float, channels: None };

    fn upload(self, values: &[f32], device: &Device) -> Buffer<u8> {
        device.buffer_of(&self.format.encode(values)).unwrap()
    }

    fn read(self, buffer: &Buffer<u8>, device: &Device) -> Vec<f32> {
        let mut bytes = vec![0; buffer.len()];
        device.compute.read(buffer, &mut bytes).unwrap();
        self.format.decode(&bytes)
    }

    /// An input with its channels and those that are 0.
    fn input(self, values: &[f32], case: &Case, device: &Device) -> Buffer<u8> {
        let channels = case.input[2];
        let zeros = vec![0.0; self.channels.unwrap_or(channels) - channels];
        let pixel = |pixel: &[f32]| [pixel, &zeros].concat();
        self.upload(&values.chunks(channels).flat_map(pixel).collect::<Vec<_>>(), device)
    }

    /// The same back, without those.
    fn read_input(self, buffer: &Buffer<u8>, case: &Case, device: &Device) -> Vec<f32> {
        let (all, channels) = (self.read(buffer, device), case.input[2]);
        let pixels = all.chunks(self.channels.unwrap_or(channels));
        pixels.flat_map(|pixel| pixel[..channels].to_vec()).collect()
    }

    /// Weights [taps][channels][kernels] as the products read them.
    fn factors(self, weights: &Buffer<f32>, of: Factors, device: &Device) -> Buffer<u8> {
        let own = read(device, weights);
        let zeros = vec![0.0; (of.stored - of.channels) * of.columns];
        let tap = |tap: &[f32]| [tap, &zeros].concat();
        let taps = own.chunks(of.channels * of.columns);
        self.upload(&taps.flat_map(tap).collect::<Vec<_>>(), device)
    }
}

fn compare(what: &str, ours: &[f32], theirs: &[f32], tolerance: f32) -> Result<(), String> {
    let most = theirs.iter().fold(0f32, |m, v| m.max(v.abs()));
    let allowed = tolerance * most;
    let wrong = |(a, b): (&f32, &f32)| (a - b).abs() > allowed || a.is_nan() != b.is_nan();
    if ours.len() != theirs.len() {
        return Err(format!("{what}: {} values, not {}", ours.len(), theirs.len()));
    }
    match ours.iter().zip(theirs).position(wrong) {
        None => Ok(()),
        Some(i) => Err(format!("{what}[{i}] is {}, on the CPU {}", ours[i], theirs[i])),
    }
}

fn check(case: &Case, device: &Device, precision: Precision) -> Result<(), String> {
    let layer = case.layer();
    let mut feed = feed(case, layer.as_ref());
    // What the kernels round is round already, so that the same comparison holds.
    let round = |value: f32| match precision {
        Precision::F32 => value,
        Precision::Tf32 => standin::to_tf32(value),
        Precision::Bf16 => of_bf16(to_bf16(value)),
    };
    let Feed { x, dy, parameters: [weights, _], .. } = &mut feed;
    [x, dy, weights].into_iter().flatten().for_each(|value| *value = round(*value));
    let theirs = on_cpu(case, layer.as_ref(), &feed);
    let pointwise = matches!(layer.role(), Role::Pointwise(_));
    for in_place in [false, true] {
        if in_place && !pointwise {
            continue;
        }
        let ours = on_device(case, layer.as_ref(), &feed, device, (precision, in_place));
        // What is stored in bfloat16 has 8 bits, where it is not one of the inputs.
        let stored = if precision == Precision::Bf16 { 4e-3 } else { TOLERANCE };
        let exact = |kinds: &[&str]| if kinds.contains(&case.kind) { 0.0 } else { stored };
        let (y, dx) = match precision {
            // tanh's gradient is made of its output, rounded already.
            Precision::Bf16 if case.kind == "tanh" => (stored, 3.0 * stored),
            Precision::Bf16 => (exact(&["relu", "max-pool"]), exact(&["relu"])),
            _ => (exact(&["relu", "dropout", "max-pool"]), exact(&["relu", "dropout"])),
        };
        compare("y", &ours.y, &theirs.y, y)?;
        if case.training {
            compare("dx", &ours.dx, &theirs.dx, dx)?;
            compare("dweight", &ours.dweight, &theirs.dweight, TOLERANCE)?;
            compare("dbias", &ours.dbias, &theirs.dbias, TOLERANCE)?;
        }
        compare("totals", &ours.totals, &theirs.totals, TOLERANCE)?;
    }
    Ok(())
}

/// Runs the cases of these kinds and reports every one that fails.
fn each(test: &str, kinds: &[&str], order: &str, precision: Precision) {
    standin::run(test, &[("STANDIN_ORDER", order)], || {
        let compiler = Arc::new(Compiler::new(driver_version().unwrap(), None).unwrap());
        let device = Device::open(0, compiler).unwrap();
        let cases: Vec<Case> =
            cases::all().into_iter().filter(|c| kinds.contains(&c.kind)).collect();
        if standin::on_gpu() {
            // Compiling takes longer than everything else.
            cases
                .par_iter()
                .for_each(|case| drop(loaded(case, case.layer().as_ref(), &device, precision)));
        }
        let results =
            cases.iter().map(|case| check(case, &device, precision).map_err(|e| (case, e)));
        let wrong: Vec<String> =
            results.filter_map(|r| r.err().map(|(case, e)| format!("{case}: {e}"))).collect();
        let (bad, all) = (wrong.len(), cases.len());
        assert!(all > 0 && bad == 0, "{bad} of {all} cases:\n{}", wrong.join("\n"));
    });
}

/// Kinds that are checked in tests of their own.
const LARGE: [&str; 3] = ["conv", "local", "fc"];

fn others() -> Vec<&'static str> {
    let kinds = alexnet::layers::KINDS.iter().map(|kind| kind.name);
    kinds.filter(|kind| !LARGE.contains(kind)).collect()
}

#[test]
fn convolutions() {
    each("convolutions", &["conv"], "forward", Precision::F32);
}

#[test]
fn locally_and_fully_connected_layers() {
    each("locally_and_fully_connected_layers", &["local", "fc"], "random", Precision::F32);
}

#[test]
fn products_on_tensor_cores() {
    each("products_on_tensor_cores", &LARGE, "random", Precision::Tf32);
}

#[test]
fn products_in_bfloat16() {
    each("products_in_bfloat16", &LARGE, "random", Precision::Bf16);
}

#[test]
fn all_other_kinds_in_bfloat16() {
    each("all_other_kinds_in_bfloat16", &others(), "reverse", Precision::Bf16);
}

#[test]
fn all_other_kinds() {
    each("all_other_kinds", &others(), "reverse", Precision::F32);
}
