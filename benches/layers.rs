//! What each pass of a layer takes, one row a case of `tests/cases`: the table that the tests
//! check.
//!
//! `cargo bench --bench layers [-- [FILTER] [--all] [--batch N] [--device cpu|cuda:N]]`. The rows
//! are the paper's layers on one of two towers with a batch of 128; with `--all` those of the
//! tests, which are tiny on purpose. FILTER: only rows whose name or settings have this in them.
//!
//! For the forward pass, the gradient to the input and the gradient to the weights: the median time
//! in milliseconds; GFLOP/s, where a layer's multiply-adds are counted, two operations each,
//! windows over the edge in full; GB/s of the bytes that have to move at the least: forward the
//! input, the output, weights and biases, each once; back the same without the biases (to the
//! input), or input, output, weights and biases (to the weights). What a pass reads besides
//! (normalisation its input, ReLU its output) is not counted. The CPU takes the layer's own way,
//! Winograd's included, which needs fewer operations than are counted; a row alone has its data in
//! the caches, more than in a network.

#[path = "../tests/cases/mod.rs"]
mod cases;
mod common;

use alexnet::gpu::compile::{Compiler, default_cache};
use alexnet::gpu::device::Device;
use alexnet::gpu::format::Format;
use alexnet::gpu::launch::Queue;
use alexnet::gpu::library::driver_version;
use alexnet::gpu::memory::Buffer;
use alexnet::layers::cuda::{Call, LaunchContext, Loss, ParameterBuffers};
use alexnet::layers::{Layer, Role};
use anyhow::{Context, Result, bail, ensure};
use cases::{Case, numbers};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A pass is run for so long, and so often, whichever is more.
const AT_LEAST: Duration = Duration::from_millis(500);
const RUNS: usize = 5;
/// The paper's batch.
const BATCH: usize = 128;

/// What the command line says.
struct Options {
    filter: String,
    all: bool,
    batch: Option<usize>,
    /// Index of the GPU; `None`: the CPU.
    gpu: Option<usize>,
}

fn options() -> Result<Options> {
    let mut options = Options { filter: String::new(), all: false, batch: None, gpu: None };
    // Cargo adds --bench.
    let mut args = std::env::args().skip(1).filter(|a| a != "--bench");
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--all" => options.all = true,
            "--batch" => options.batch = Some(value()?.parse().context("--batch is a number")?),
            "--device" => {
                let device = value()?;
                options.gpu = match device.strip_prefix("cuda:") {
                    Some(index) => Some(index.parse().context("--device is cpu or cuda:N")?),
                    None if device == "cpu" => None,
                    None => bail!("--device {device}: it is cpu or cuda:N"),
                };
            }
            _ if arg.starts_with('-') || !options.filter.is_empty() => bail!(
                "{arg} is not known; usage: [FILTER] [--all] [--batch N] [--device cpu|cuda:N]"
            ),
            _ => options.filter = arg,
        }
    }
    Ok(options)
}

/// The rows: what they are called, and what is measured.
fn rows(options: &Options) -> Vec<(String, Case)> {
    let mut rows: Vec<(String, Case)> = if options.all {
        cases::all().into_iter().map(|case| (case.to_string(), case)).collect()
    } else {
        let named = cases::paper(BATCH).into_iter();
        named.map(|(name, case)| (name.to_string(), case)).collect()
    };
    for (_, case) in &mut rows {
        case.batch = options.batch.unwrap_or(case.batch);
    }
    rows.retain(|(name, case)| format!("{name} {case}").contains(&options.filter));
    rows
}

/// Medians in seconds of the passes that a layer has.
#[derive(Default)]
struct Times {
    forward: Option<f64>,
    input: Option<f64>,
    weights: Option<f64>,
}

/// The median of what `pass` says it took, over as many runs as it takes; the first is not counted.
fn median(mut pass: impl FnMut() -> Result<f64>) -> Result<Option<f64>> {
    pass()?;
    let (begin, mut all) = (Instant::now(), Vec::new());
    while all.len() < RUNS || begin.elapsed() < AT_LEAST {
        all.push(pass()?);
    }
    all.sort_by(f64::total_cmp);
    Ok(Some(all[all.len() / 2]))
}

/// As [`median`], of the time that `work` takes on the CPU after `prepare`, which is not counted.
fn timed<T>(state: &mut T, prepare: impl Fn(&mut T), work: impl Fn(&mut T)) -> Result<Option<f64>> {
    median(|| {
        prepare(state);
        let begin = Instant::now();
        work(state);
        Ok(begin.elapsed().as_secs_f64())
    })
}

/// What a row is fed, and room for what it gives.
struct Data {
    x: Vec<f32>,
    y: Vec<f32>,
    dy: Vec<f32>,
    dx: Vec<f32>,
    /// Weights and biases in the layer's order on this device, and their gradients.
    parameters: [Vec<f32>; 2],
    gradients: [Vec<f32>; 2],
    labels: Vec<u32>,
}

impl Data {
    fn new(case: &Case, layer: &dyn Layer) -> Data {
        let sizes: [usize; 2] = layer
            .parameters()
            .map_or([0; 2], |p| [&p.weight, &p.bias].map(|sizes| sizes.iter().product()));
        let (x, outputs) = (case.images(), case.batch * layer.output().len());
        Data {
            y: vec![0.0; outputs],
            dy: numbers(4, outputs),
            dx: vec![0.0; x.len()],
            x,
            // In which order random numbers lie does not matter.
            parameters: [numbers(2, sizes[0]), numbers(3, sizes[1])],
            gradients: sizes.map(|n| vec![0.0; n]),
            labels: case.labels(layer.output().len()),
        }
    }
}

fn on_cpu(case: &Case, layer: &dyn Layer, data: Data) -> Result<Times> {
    let (run, d, none) = (case.run(), &mut { data }, |_: &mut Data| {});
    let mut times = Times::default();
    match layer.role() {
        Role::Map(map) => {
            times.forward = timed(d, none, |d| map.forward(&run, &mut d.y, &d.x))?;
            times.input = timed(d, none, |d| map.backward(&run, &mut d.dx, &d.dy, &d.x))?;
        }
        Role::Learn(learn) => {
            times.forward = timed(d, none, |d| {
                learn.forward(&run, &mut d.y, &d.x, &d.parameters[0], &d.parameters[1]);
            })?;
            times.input = timed(d, none, |d| {
                learn.backward_input(&run, &mut d.dx, &d.dy, &d.parameters[0]);
            })?;
            let mut workspace = vec![0.0; learn.workspace(case.batch)];
            times.weights = median(|| {
                let [weights, biases] = &mut d.gradients;
                let begin = Instant::now();
                let gradients = (&mut weights[..], &mut biases[..]);
                learn.backward_weights(&run, gradients, &d.dy, &d.x, &mut workspace);
                Ok(begin.elapsed().as_secs_f64())
            })?;
        }
        Role::Pointwise(pointwise) => {
            let input = |d: &mut Data| d.y.copy_from_slice(&d.x);
            times.forward = timed(d, input, |d| pointwise.forward(&run, &mut d.y))?;
            let gradient = |d: &mut Data| d.dx.copy_from_slice(&d.dy);
            times.input = timed(d, gradient, |d| pointwise.backward(&run, &mut d.dx, &d.y))?;
        }
        Role::Loss(softmax) => {
            times.forward = timed(d, none, |d| softmax.forward(&run, &mut d.y, &d.x))?;
            times.input = timed(d, none, |d| softmax.backward(&run, &mut d.dx, &d.y, &d.labels))?;
        }
        Role::Reconstruction(loss) => {
            times.forward = timed(d, none, |d| loss.forward(&run, &mut d.y, &d.x))?;
            times.input = timed(d, none, |d| loss.backward(&run, &mut d.dx, &d.y, &d.dy))?;
        }
    }
    Ok(times)
}

fn on_gpu(case: &Case, layer: &dyn Layer, data: &Data, device: &Device) -> Result<Times> {
    let context = LaunchContext::new(case.batch, device.multiprocessors, case.training);
    let launches = layer.cuda(&context)?;
    launches.launches().iter().try_for_each(|(_, launch)| launch.load(device))?;
    let upload = |values: &Vec<f32>| device.buffer_of(values);
    let both = |[weights, biases]: &[Vec<f32>; 2]| -> Result<[Buffer<f32>; 2]> {
        Ok([upload(weights)?, upload(biases)?])
    };
    let real = |values: &Vec<f32>| device.buffer_of(&Format::Float.encode(values));
    let (x, y, dy, dx) = (real(&data.x)?, real(&data.y)?, real(&data.dy)?, real(&data.dx)?);
    let parameters = match layer.role() {
        Role::Learn(_) => Some(ParameterBuffers {
            value: both(&data.parameters)?,
            factors: None,
            gradient: Some(both(&data.gradients)?),
            momentum: None,
        }),
        _ => None,
    };
    let labels: Vec<i32> = data.labels.iter().map(|&label| label as i32).collect();
    let loss = Loss { labels: device.buffer_of(&labels)?, totals: device.buffer(3)? };
    let scratch = launches.scratch(false).max(launches.scratch(true));
    let scratch = device.buffer(scratch)?;
    let saved = device.buffer(launches.saved())?;
    let call = Call {
        queue: Queue::of(&device.compute),
        run: &case.run(),
        whole: case.run().batch,
        x: &x,
        y: &y,
        dy: Some(&dy),
        dx: Some(&dx),
        parameters: parameters.as_ref(),
        scratch: &scratch,
        saved: &saved,
        loss: matches!(layer.role(), Role::Loss(_) | Role::Reconstruction(_)).then_some(&loss),
        // The target of a loss that has one.
        input: &dy,
    };
    let pass = |pass: &dyn Fn() -> Result<()>| gpu_time(device, pass);
    let mut times = Times { forward: pass(&|| launches.forward(&call))?, ..Times::default() };
    // Softmax makes its gradient in the forward pass.
    if case.training && call.loss.is_none() {
        times.input = pass(&|| launches.backward_input(&call))?;
    }
    if case.training && parameters.is_some() {
        times.weights = pass(&|| launches.backward_weights(&call))?;
    }
    Ok(times)
}

/// As [`median`], of the GPU's own time between two events around what `pass` queues.
fn gpu_time(device: &Device, pass: &dyn Fn() -> Result<()>) -> Result<Option<f64>> {
    let (begin, end) = (device.event(true)?, device.event(true)?);
    median(|| {
        device.compute.record(&begin)?;
        pass()?;
        device.compute.record(&end)?;
        Ok(f64::from(begin.milliseconds_until(&end)?) / 1e3)
    })
}

/// A pass as a cell of the table, from its time, multiply-adds and least bytes.
fn cell(seconds: Option<f64>, multiply_adds: f64, values: usize) -> String {
    let Some(seconds) = seconds else { return " - | - | - ".to_string() };
    let flops = match multiply_adds {
        0.0 => "-".to_string(),
        n => format!("{:.1}", 2.0 * n / seconds / 1e9),
    };
    let bytes = (values * size_of::<f32>()) as f64;
    format!(" {:.4} | {flops} | {:.1} ", seconds * 1e3, bytes / seconds / 1e9)
}

fn main() -> Result<()> {
    let options = options()?;
    let device = match options.gpu {
        Some(index) => {
            let compiler = Compiler::new(driver_version()?, default_cache())?;
            Some(Device::open(index, Arc::new(compiler))?)
        }
        None => None,
    };
    let rows = rows(&options);
    ensure!(!rows.is_empty(), "no row has {:?} in its name or settings", options.filter);
    match &device {
        Some(device) => println!("GPU {}, {}\n", device.index, device.name),
        None => println!("{}, {} threads\n", common::cpu(), rayon::current_num_threads()),
    }
    let pass = "ms | GFLOP/s | GB/s";
    println!("| layer | batch | forward, {pass} | to the input, {pass} | to the weights, {pass} |");
    println!("| --- {}", "| ---: ".repeat(10) + "|");
    for (name, case) in rows {
        let layer = case.layer();
        let data = Data::new(&case, layer.as_ref());
        let (x, y) = (data.x.len(), data.y.len());
        let [weights, biases] = data.parameters.each_ref().map(Vec::len);
        let sums = layer.multiply_adds() as f64 * case.batch as f64;
        let times = match &device {
            Some(device) => on_gpu(&case, layer.as_ref(), &data, device)?,
            None => on_cpu(&case, layer.as_ref(), data)?,
        };
        println!(
            "| {name} | {} |{}|{}|{}|",
            case.batch,
            cell(times.forward, sums, x + y + weights + biases),
            cell(times.input, sums, x + y + weights),
            cell(times.weights, sums, x + y + weights + biases)
        );
    }
    Ok(())
}
