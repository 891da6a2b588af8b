//! How many tasks the passes of the paper's layers have, one tower's, batch 128, on up to 128 threads:
//! counted while they run. `benches/README.md`, "Many cores", has the figures.

use crate::config::Config;
use crate::layers::{Classes, Role, Run};
use crate::machine::tasks::{Counts, counted};
use crate::network::{Mode, Part, Plan};
use crate::random::numbers;
use rayon::ThreadPoolBuilder;

const BATCH: usize = 128;
const RUN: Run = Run { batch: BATCH, training: true, seed: 1, step: 1, first_image: 0 };

fn paper() -> Plan {
    let config = Config::parse(include_str!("../../../configs/ilsvrc2010.toml"), &[], "paper");
    Plan::new(&config.unwrap(), BATCH, Mode::Training, &[0, 0], Classes::Any).unwrap()
}

/// The tasks of a part's passes by their kind: forward, of the gradients to the input, which the first
/// layer has not, and to the weights.
fn tasks(part: &Part, threads: usize) -> [Counts; 3] {
    let Role::Learn(learn) = part.layer.role() else { panic!("only layers that learn are asked") };
    let [weights, biases] = part.layer.parameters().unwrap().sizes();
    let values = |count: usize| vec![0.01f32; count];
    let mut x = values(BATCH * part.input.len());
    let mut y = values(BATCH * part.layer.output().len());
    let (mut weight, mut bias) = (values(weights), values(biases));
    let mut workspace = values(learn.workspace(BATCH));
    let forward = counted(threads, || learn.forward(&RUN, &mut y, &x, &weight, &bias));
    let input = match part.dx {
        Some(_) => counted(threads, || learn.backward_input(&RUN, &mut x, &y, &weight)),
        None => Counts::new(),
    };
    let gradients = (&mut weight[..], &mut bias[..]);
    let weights =
        counted(threads, || learn.backward_weights(&RUN, gradients, &y, &x, &mut workspace));
    [forward, input, weights]
}

/// The tasks of a kind of work that there are at most, in a round on average; divided further they
/// would cost more than they give, as `benches/README.md` says.
fn most(layer: &str, kind: &str) -> usize {
    match (layer, kind) {
        // Eight tiles read all weights; all four shapes together.
        ("conv2", "tiles") => 448,
        ("conv3" | "conv4" | "conv5", "tiles") => 144,
        // A panel and sixteen inputs.
        ("conv1", "weights to points") => 3,
        ("conv2", "weights to points") => 8,
        (_, "weights to points") => 128,
        (_, "weights from the last") => 72,
        // One of the inputs each: a few per cent of the work.
        ("conv1" | "conv2", "sums to weights") => 48,
        ("conv3", "sums to weights") => 256,
        ("conv4" | "conv5", "sums to weights") => 192,
        // A row of tiles; the last stages are fewer, and of two shapes there are half as many.
        ("conv1", "rows to points") => 460,
        ("conv3" | "conv4" | "conv5", "rows to points") => 384,
        // Sixteen inputs of a point with 36 points.
        ("conv4" | "conv5", "products of a point") => 36 * 12,
        // A library's products.
        ("fc8", "columns" | "inputs' weights") => 128,
        _ => usize::MAX,
    }
}

/// Four tasks a thread, or as many as there can be.
#[test]
fn tasks_of_the_papers_layers() {
    for layer in paper().layers.iter().filter(|layer| layer.weights.is_some()) {
        for threads in [2, 4, 8, 16, 32, 64, 128] {
            let passes = tasks(&layer.parts[0], threads);
            println!("{} on {threads} threads: {passes:?}", layer.name);
            for (kind, [count, rounds]) in passes.iter().flatten() {
                // Few threads take whole blocks of 32 tiles, which cost less.
                let blocks = [(4, "tiles"), (2, "rows to points")];
                let few = blocks.iter().any(|&(few, of)| threads <= few && *kind == of);
                let each = if few { 1 } else { 4 };
                let wanted = (each * threads).min(most(&layer.name, kind));
                let count = count / rounds;
                assert!(count >= wanted, "{}, {kind}, {threads} threads: {count}", layer.name);
            }
        }
    }
}

/// What a part's passes make of numbers from −1 to 1, and `images` of them, on so many threads.
fn passes(part: &Part, images: usize, threads: usize) -> Vec<Vec<f32>> {
    let Role::Learn(learn) = part.layer.role() else { panic!("only layers that learn are asked") };
    let run = Run { batch: images, ..RUN };
    let [weights, biases] = part.layer.parameters().unwrap().sizes();
    let (weight, bias) = (numbers(weights, 1), numbers(biases, 2));
    let x = numbers(images * part.input.len(), 3);
    let dy = numbers(images * part.layer.output().len(), 4);
    let (mut y, mut dx) = (vec![0.0; dy.len()], vec![0.0; x.len()]);
    let (mut dweight, mut dbias) = (vec![0.0; weights], vec![0.0; biases]);
    let mut workspace = vec![0.0; learn.workspace(images)];
    ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
        learn.forward(&run, &mut y, &x, &weight, &bias);
        if part.dx.is_some() {
            learn.backward_input(&run, &mut dx, &dy, &weight);
        }
        learn.backward_weights(&run, (&mut dweight, &mut dbias), &dy, &x, &mut workspace);
    });
    vec![y, dx, dweight, dbias]
}

/// Divided in every way: one task after the other, shapes side by side, points in pieces.
#[test]
fn threads_change_no_bit_of_the_papers_layers() {
    for layer in paper().layers.iter().filter(|layer| layer.weights.is_some()) {
        let part = &layer.parts[0];
        let one = passes(part, 20, 1);
        for threads in [2, 5, 24, 128] {
            let other = passes(part, 20, threads);
            let bits = |all: &[Vec<f32>]| -> Vec<u32> {
                all.iter().flatten().map(|value| value.to_bits()).collect()
            };
            assert!(bits(&one) == bits(&other), "{} on {threads} threads", layer.name);
        }
    }
}
