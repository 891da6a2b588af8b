//! How many tasks the passes of the paper's layers have, one tower's, batch 128, on up to 128
//! threads: counted while they run. `benches/README.md`, "Many cores", has the figures.

use super::small;
use crate::layers::{Role, Run};
use crate::machine::tasks::{Counts, counted};
use crate::network::{Mode, Part, Plan};
use crate::random::numbers;
use crate::vectors::{panel, scratch::LINE};
use rayon::ThreadPoolBuilder;

const BATCH: usize = 128;
const RUN: Run = Run { batch: BATCH, training: true, seed: 1, step: 1, first_image: 0 };

fn paper() -> Plan {
    small::plan(include_str!("../../../configs/ilsvrc2010.toml"), BATCH, Mode::Training)
}

/// The tasks of a part's passes by their kind: forward, of the gradients to the input, which the
/// first layer has not, and to the weights.
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

/// Of a convolution's tower: the size of its kernels, channels of its input and its output, as they
/// are once conv1's are folded, and the shapes of its tiles.
fn convolution(layer: &str) -> Option<[usize; 4]> {
    match layer {
        "conv1" => Some([3, 48, 48, 1]),
        "conv2" => Some([5, 48, 128, 1]),
        "conv3" => Some([3, 256, 192, 4]),
        "conv4" => Some([3, 192, 192, 4]),
        "conv5" => Some([3, 192, 128, 4]),
        _ => None,
    }
}

/// Tasks of a kind of work in the pass `pass` that there are at most, in a round on average, on so
/// many threads: the code cuts no further, since smaller ones would cost more than they give, as
/// `benches/README.md` says.
fn most(layer: &str, pass: usize, kind: &str, threads: usize) -> usize {
    let Some([size, inputs, outputs, shapes]) = convolution(layer) else {
        return match (layer, kind) {
            // A library's products: four threads are served by 1000 / 128; for many, 8 times 16
            // pieces of 128 columns and 8 images, 32 times 4 of 128 columns and 32 images, 128 of
            // 32 rows.
            ("fc8", "columns") if pass == 0 && threads == 4 => 8,
            ("fc8", _) => 128,
            _ => usize::MAX,
        };
    };
    let (from, to) = if pass == 1 { (outputs, inputs) } else { (inputs, outputs) };
    let (lines, wanted) = (from / LINE, 4 * threads);
    let of_shapes = |counts: [usize; 4], wanted: usize| -> usize {
        counts.iter().map(|&count| count.min(wanted)).sum()
    };
    match kind {
        // Eight tiles at least, as whole rows: four or eight of the shapes' 256, 256, 128 and 128,
        // each of which has a quarter of the tasks; two of conv2's seven an image.
        "tiles" if shapes == 4 => of_shapes([64, 32, 32, 16], wanted / 4),
        "tiles" if size == 5 => BATCH * 7 / 2,
        // A panel of outputs and a line of inputs; a spot and a line of outputs.
        "weights to points" => to.div_ceil(panel()) * lines * shapes,
        "weights from the last" => size * size * lines,
        // One of the inputs.
        "sums to weights" => inputs,
        // A row of the input or of the gradients, and a round a shape at least. conv1's 16 parts
        // have 22 stages of four rows each, of which 128 threads take four at a time and at last
        // two.
        "rows to points" if shapes == 4 => of_shapes([512, 512, 256, 256], wanted) / 4,
        "rows to points" if size == 3 => 2 * 16 * 22 * 4 / 6,
        // A line of the inputs of one of a shape's 36, 42, 42 and 49 points, a shape a round.
        "products of a point" if shapes == 4 => (36 + 42 + 42 + 49) * lines / 4,
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
            for (pass, kinds) in passes.iter().enumerate() {
                for (kind, [count, rounds]) in kinds {
                    // Few threads take whole blocks of 32 tiles, which cost less.
                    let blocks = [(4, "tiles"), (2, "rows to points")];
                    let few = blocks.iter().any(|&(few, of)| threads <= few && *kind == of);
                    let each = if few { 1 } else { 4 };
                    let wanted = (each * threads).min(most(&layer.name, pass, kind, threads));
                    let count = count / rounds;
                    assert!(count >= wanted, "{}, {kind}, {threads} threads: {count}", layer.name);
                }
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
