//! Every case of the table through the layers' launches, on the stand-in for GPU and NVRTC
//! or on a GPU (`tests/standin`), against the same layer on the CPU.
//!
//! The table is in `tests/cases`; a new layer kind is tested here without a change.

mod cases;
mod standin;

use alexnet::gpu::compile::Compiler;
use alexnet::gpu::device::Device;
use alexnet::gpu::library::driver_version;
use alexnet::gpu::memory::Buffer;
use alexnet::gpu::product::Precision;
use alexnet::layers::cuda::{Call, LaunchContext, Launches, Loss, ParameterBuffers};
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
        images: case.batch,
        multiprocessors: device.multiprocessors,
        training: case.training,
        precision,
        relu: false,
    };
    let launches: Box<dyn Launches> = layer.cuda(&context).unwrap();
    launches.launches().iter().try_for_each(|work| work.load(device)).unwrap();
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
    let upload = |values: &[f32]| device.buffer_of(values).unwrap();
    let (x, dy) = (upload(&feed.x), upload(&feed.dy));
    let (y, dx) = (upload(&vec![f32::NAN; feed.dy.len()]), upload(&vec![f32::NAN; feed.x.len()]));
    let parameters = parameters(layer, feed, device);
    let labels: Vec<i32> = feed.labels.iter().map(|&l| l as i32).collect();
    let loss =
        Loss { labels: device.buffer_of(&labels).unwrap(), totals: device.buffer(3).unwrap() };
    let is_loss = matches!(layer.role(), Role::Loss(_) | Role::Reconstruction(_));
    let (scratch, saved) =
        (device.buffer(launches.scratch()).unwrap(), device.buffer(launches.saved()).unwrap());
    let run = case.run();
    let call = Call {
        stream: &device.compute,
        run: &run,
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
    let mut out = Outcome { y: read(device, call.y), ..Outcome::default() };
    if case.training {
        launches.backward_weights(&call).unwrap();
        launches.backward_input(&call).unwrap();
        out.dx = read(device, call.dx.unwrap());
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

fn compare(what: &str, ours: &[f32], theirs: &[f32], exact: bool) -> Result<(), String> {
    let most = theirs.iter().fold(0f32, |m, v| m.max(v.abs()));
    let allowed = if exact { 0.0 } else { TOLERANCE * most };
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
    if precision == Precision::Tf32 {
        // What the kernels round is round already, so that the same comparison holds.
        let [weights, _] = &mut feed.parameters;
        let all = [&mut feed.x, &mut feed.dy, weights].into_iter().flatten();
        all.for_each(|value| *value = standin::to_tf32(*value));
    }
    let theirs = on_cpu(case, layer.as_ref(), &feed);
    let pointwise = matches!(layer.role(), Role::Pointwise(_));
    for in_place in [false, true] {
        if in_place && !pointwise {
            continue;
        }
        let ours = on_device(case, layer.as_ref(), &feed, device, (precision, in_place));
        let exact = ["relu", "dropout"].contains(&case.kind);
        compare("y", &ours.y, &theirs.y, exact || case.kind == "max-pool")?;
        if case.training {
            compare("dx", &ours.dx, &theirs.dx, exact)?;
        }
        compare("dweight", &ours.dweight, &theirs.dweight, false)?;
        compare("dbias", &ours.dbias, &theirs.dbias, false)?;
        compare("totals", &ours.totals, &theirs.totals, false)?;
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
fn all_other_kinds() {
    let kinds: Vec<&str> = alexnet::layers::KINDS.iter().map(|k| k.name).collect();
    let others: Vec<&str> = kinds.into_iter().filter(|k| !LARGE.contains(k)).collect();
    each("all_other_kinds", &others, "reverse", Precision::F32);
}
