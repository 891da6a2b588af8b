//! Every case of the table on the CPU: outputs against the f64 reference, gradients against finite
//! differences of the reference, the same bits on any number of threads.
//!
//! The table and the reference are in `tests/cases`; a new layer kind is tested here without a
//! change.

mod cases;

use alexnet::layers::softmax::tally;
use alexnet::layers::{KINDS, Learn, Role};
use alexnet::vectors::levels;
use cases::reference::{self, Maps};
use cases::{Case, numbers};
use rayon::prelude::*;

/// Differences allowed, as fractions of the largest value.
const FORWARD: f64 = 1e-5;
const GRADIENT: f64 = 1e-4;

/// Half the distance of central differences: in f64 the cut-off is about h² and rounding 10⁻¹⁶ / h,
/// both far below 10⁻⁷.
const H: f64 = 1e-5;

/// Multiply-adds that the differences of one tensor may cost. Small cases stay below with all their
/// elements; of others a sample is taken.
const BUDGET: usize = 100_000_000;

/// What a layer computed for one batch; parameters in the outside world's order.
#[derive(Default)]
struct Outcome {
    y: Vec<f32>,
    dx: Vec<f32>,
    dweight: Vec<f32>,
    dbias: Vec<f32>,
    /// Of a loss.
    loss: f64,
}

/// What a case is fed beside its images.
struct Feed {
    images: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
    /// Gradient at the output: r in the scalar Σ r·y whose gradients are compared.
    r: Vec<f32>,
    labels: Vec<u32>,
}

fn feed(case: &Case) -> Feed {
    let layer = case.layer();
    let sizes =
        layer.parameters().map_or([0; 2], |p| [&p.weight, &p.bias].map(|d| d.iter().product()));
    let outputs = layer.output().len();
    Feed {
        images: case.images(),
        weight: numbers(2, sizes[0]),
        bias: numbers(3, sizes[1]),
        r: numbers(4, case.batch * outputs),
        labels: case.labels(outputs),
    }
}

/// `values` with room for more images than the batch has, filled with NaN: who reads there shows
/// it.
fn with_room(values: &[f32], room: usize) -> Vec<f32> {
    let mut all = values.to_vec();
    all.resize(values.len() + room, f32::NAN);
    all
}

/// Cuts the room off again, after a look that nobody wrote there.
fn without_room(case: &Case, mut values: Vec<f32>, room: usize) -> Vec<f32> {
    let rest = values.split_off(values.len() - room);
    assert!(rest.iter().all(|v| v.is_nan()), "{case}: writes beyond its batch");
    values
}

/// Forward and backward of one batch in memory for two images more; all that is to be written is
/// NaN before.
fn compute(case: &Case, feed: &Feed) -> Outcome {
    let (layer, run) = (case.layer(), case.run());
    let (inputs, outputs) = (case.input.iter().product::<usize>(), layer.output().len());
    let (x_room, y_room) = (2 * inputs, 2 * outputs);
    let x = with_room(&feed.images, x_room);
    let dy = with_room(&feed.r, y_room);
    let mut y = vec![f32::NAN; dy.len()];
    let mut dx = vec![f32::NAN; x.len()];
    let mut outcome = Outcome::default();
    match layer.role() {
        Role::Map(map) => {
            map.forward(&run, &mut y, &x);
            map.backward(&run, &mut dx, &dy, &x);
        }
        Role::Learn(learn) => {
            let mut own = (vec![f32::NAN; feed.weight.len()], vec![f32::NAN; feed.bias.len()]);
            learn.pack((&mut own.0, &mut own.1), (&feed.weight, &feed.bias));
            learn.forward(&run, &mut y, &x, &own.0, &own.1);
            learn.backward_input(&run, &mut dx, &dy, &own.0);
            (outcome.dweight, outcome.dbias) = weight_gradients(case, learn, feed, &dy, &x);
        }
        Role::Pointwise(pointwise) => {
            y.copy_from_slice(&x);
            pointwise.forward(&run, &mut y);
            dx.copy_from_slice(&dy);
            pointwise.backward(&run, &mut dx, &y);
        }
        Role::Loss(softmax) => {
            softmax.forward(&run, &mut y, &x);
            softmax.backward(&run, &mut dx, &y, &feed.labels);
            let values = case.batch * outputs;
            outcome.loss = tally(&y[..values], &x[..values], &feed.labels).mean_loss();
        }
        Role::Reconstruction(loss) => {
            loss.forward(&run, &mut y, &x);
            loss.backward(&run, &mut dx, &y, &dy);
            outcome.loss = loss.tally(&run, &y, &dy).mean_loss();
        }
    }
    assert_eq!(bits(&x[..feed.images.len()]), bits(&feed.images), "{case}: changes its input");
    outcome.y = without_room(case, y, y_room);
    outcome.dx = without_room(case, dx, x_room);
    outcome
}

fn weight_gradients(
    case: &Case,
    learn: &dyn Learn,
    feed: &Feed,
    dy: &[f32],
    x: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let nan = || (vec![f32::NAN; feed.weight.len()], vec![f32::NAN; feed.bias.len()]);
    let (mut own, mut world) = (nan(), nan());
    let mut workspace = vec![f32::NAN; learn.workspace(case.batch + 2)];
    learn.backward_weights(&case.run(), (&mut own.0, &mut own.1), dy, x, &mut workspace);
    learn.unpack((&mut world.0, &mut world.1), (&own.0, &own.1));
    world
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| v.into()).collect()
}

/// The reference's view of a case.
struct Truth<'a> {
    case: &'a Case,
    feed: &'a Feed,
    images: Vec<Maps>,
    weight: Vec<f64>,
    bias: Vec<f64>,
}

impl<'a> Truth<'a> {
    fn new(case: &'a Case, feed: &'a Feed) -> Truth<'a> {
        let images = feed.images.chunks_exact(case.input.iter().product());
        let images = images.map(|x| Maps::new(case.input, doubles(x))).collect();
        let (weight, bias) = (doubles(&feed.weight), doubles(&feed.bias));
        Truth { case, feed, images, weight, bias }
    }

    fn output(&self, image: usize) -> Maps {
        reference::forward(self.case, image, &self.images[image], &self.weight, &self.bias)
    }

    /// The scalar that is differentiated, as far as it depends on this image: Σ r·y, for softmax
    /// its share of the batch's mean log-loss, for a squared error of that against the target r.
    fn scalar(&self, image: usize) -> f64 {
        if self.case.kind == "softmax" {
            let logits = &self.images[image].values;
            let loss = reference::log_loss(logits, self.feed.labels[image]);
            return loss / self.case.batch as f64;
        }
        let y = self.output(image).values;
        let r = &self.feed.r[image * y.len()..];
        if self.case.kind == "squared-error" {
            let squares = y.iter().zip(r).map(|(y, &r)| (y - f64::from(r)).powi(2));
            return squares.sum::<f64>() / 2.0 / self.case.batch as f64;
        }
        y.iter().zip(r).map(|(y, &r)| y * f64::from(r)).sum()
    }

    fn scalars(&self) -> f64 {
        (0..self.case.batch).map(|image| self.scalar(image)).sum()
    }

    /// Lets the input fall a little from value to value: of equal ones the first is now the
    /// largest, and a zero is below zero.
    fn break_ties(&mut self) {
        for (i, x) in self.images.iter_mut().flat_map(|m| m.values.iter_mut().enumerate()) {
            *x -= 10.0 * H * (i + 1) as f64;
        }
    }

    /// ∂scalar / ∂value, where `value` finds it and `scalar` is evaluated on both sides of it.
    fn difference(
        &mut self,
        value: impl Fn(&mut Self) -> &mut f64,
        scalar: impl Fn(&Self) -> f64,
    ) -> f64 {
        let at = *value(self);
        let mut side = |h: f64| {
            *value(self) = at + h;
            scalar(self)
        };
        let slope = (side(H) - side(-H)) / (2.0 * H);
        *value(self) = at;
        slope
    }
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m, v| m.max(v.abs()))
}

/// Ours within `tolerance` of the truth's largest value; 0 wants equal values.
fn compare(what: &str, ours: &[f32], truth: &[f64], tolerance: f64) -> Result<(), String> {
    if ours.len() != truth.len() {
        return Err(format!("{what}: {} values, not {}", ours.len(), truth.len()));
    }
    let most = largest(truth);
    // NaN is as far away as can be.
    let distance = |(&a, &b): (&f32, &f64)| {
        let distance = (f64::from(a) - b).abs();
        if distance.is_nan() { f64::INFINITY } else { distance }
    };
    match ours.iter().zip(truth).position(|pair| distance(pair) > tolerance * most) {
        None => Ok(()),
        Some(i) => {
            Err(format!("{what}[{i}] is {}, should be {}, largest {most}", ours[i], truth[i]))
        }
    }
}

/// Which of `n` elements are differentiated: all, or every so many with a step that shares no
/// factor with `n`, so that it comes by every channel, row and column.
fn sample(n: usize, cost: usize) -> Vec<usize> {
    fn gcd(a: usize, b: usize) -> usize {
        if b == 0 { a } else { gcd(b, a % b) }
    }
    let most = (BUDGET / (2 * cost)).max(100);
    let mut step = n.div_ceil(most).max(1);
    while step > 1 && gcd(step, n) > 1 {
        step += 1;
    }
    (0..n).step_by(step).collect()
}

fn check_forward(case: &Case) -> Result<(), String> {
    let feed = feed(case);
    let ours = compute(case, &feed);
    let truth = Truth::new(case, &feed);
    let outputs: Vec<f64> = (0..case.batch).flat_map(|i| truth.output(i).values).collect();
    let selects = ["max-pool", "relu"].contains(&case.kind);
    let scales = case.training == case.settings.contains_key("scale");
    let exact = selects || (case.kind == "dropout" && !scales);
    compare("y", &ours.y, &outputs, if exact { 0.0 } else { FORWARD })?;
    if ["softmax", "squared-error"].contains(&case.kind) {
        compare("loss", &[ours.loss as f32], &[truth.scalars()], FORWARD)?;
    }
    Ok(())
}

fn check_gradients(case: &Case) -> Result<(), String> {
    let feed = feed(case);
    let ours = compute(case, &feed);
    let mut truth = Truth::new(case, &feed);
    if case.values == cases::Values::Steps {
        truth.break_ties();
    }
    let layer = case.layer();
    let cost = (layer.multiply_adds() as usize)
        .max(layer.output().len())
        .max(truth.images[0].values.len());
    // Elements, how the reference finds one, how it evaluates the scalar around it, our gradients.
    let inputs = truth.images[0].values.len();
    let picked = sample(feed.images.len(), cost);
    let slopes: Vec<f64> = picked
        .iter()
        .map(|&i| {
            let image = i / inputs;
            truth.difference(|t| &mut t.images[image].values[i % inputs], |t| t.scalar(image))
        })
        .collect();
    let ours_at = |values: &[f32], picked: &[usize]| -> Vec<f32> {
        picked.iter().map(|&i| values[i]).collect()
    };
    compare("dx", &ours_at(&ours.dx, &picked), &slopes, GRADIENT)?;

    let picked = sample(feed.weight.len(), cost * case.batch);
    let slopes: Vec<f64> =
        picked.iter().map(|&i| truth.difference(|t| &mut t.weight[i], Truth::scalars)).collect();
    compare("dweight", &ours_at(&ours.dweight, &picked), &slopes, GRADIENT)?;

    let picked = sample(feed.bias.len(), cost * case.batch);
    let slopes: Vec<f64> =
        picked.iter().map(|&i| truth.difference(|t| &mut t.bias[i], Truth::scalars)).collect();
    compare("dbias", &ours_at(&ours.dbias, &picked), &slopes, GRADIENT)
}

/// Runs `check` on each case and reports every one that fails.
fn each(cases: Vec<Case>, check: fn(&Case) -> Result<(), String>) {
    let wrong: Vec<String> = cases
        .par_iter()
        .filter_map(|case| check(case).err().map(|e| format!("{case}: {e}")))
        .collect();
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

/// The rows that are measured are the paper's network: each layer reads what the one below gives
/// it, of both towers where the paper says so, and ends in the shapes and weights of its sections
/// 3.5 and 4.2.
#[test]
fn the_papers_layers_follow_each_other() {
    let layers = cases::paper(1);
    let outputs: Vec<[usize; 3]> = layers
        .iter()
        .map(|(_, case)| case.layer().output())
        .map(|shape| [shape.height, shape.width, shape.channels])
        .collect();
    for (i, below) in outputs[..outputs.len() - 1].iter().enumerate() {
        let (name, above) = &layers[i + 1];
        let towers = if ["conv3", "fc6", "fc7", "fc8"].contains(name) { 2 } else { 1 };
        assert_eq!(above.input, [below[0], below[1], towers * below[2]], "{name}");
    }
    let weights = |case: &Case| case.layer().parameters().map(|p| p.weight.iter().product());
    let learned: Vec<(&str, [usize; 3], usize)> = (layers.iter().zip(&outputs))
        .filter_map(|((name, case), output)| Some((*name, *output, weights(case)?)))
        .collect();
    // On one tower: kernels × their size, or neurons × what they are connected to.
    assert_eq!(
        learned,
        [
            ("conv1", [55, 55, 48], 48 * 11 * 11 * 3),
            ("conv2", [27, 27, 128], 128 * 5 * 5 * 48),
            ("conv3", [13, 13, 192], 192 * 3 * 3 * 256),
            ("conv4", [13, 13, 192], 192 * 3 * 3 * 192),
            ("conv5", [13, 13, 128], 128 * 3 * 3 * 192),
            ("fc6", [1, 1, 2048], 2048 * 6 * 6 * 256),
            ("fc7", [1, 1, 2048], 2048 * 4096),
            ("fc8", [1, 1, 1000], 1000 * 4096),
        ]
    );
}

#[test]
fn every_kind_has_cases() {
    let cases = cases::all();
    for kind in KINDS {
        assert!(cases.iter().any(|case| case.kind == kind.name), "{} has no case", kind.name);
    }
}

#[test]
fn outputs_are_the_references() {
    each(cases::all(), check_forward);
}

#[test]
fn gradients_are_the_references_differences() {
    // In evaluation nothing flows back.
    let cases = cases::all().into_iter().filter(|case| case.training).collect();
    each(cases, check_gradients);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let pools =
        [1, 2, 3, 8, 64].map(|n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap());
    for case in cases::all() {
        let feed = feed(&case);
        let [one, others @ ..] =
            pools.each_ref().map(|pool| pool.install(|| compute(&case, &feed)));
        for other in others {
            assert_eq!(bits(&one.y), bits(&other.y), "{case}: y");
            assert_eq!(bits(&one.dx), bits(&other.dx), "{case}: dx");
            assert_eq!(bits(&one.dweight), bits(&other.dweight), "{case}: dweight");
            assert_eq!(bits(&one.dbias), bits(&other.dbias), "{case}: dbias");
        }
    }
}

/// The levels of `vectors` that this machine has, in processes of their own.
#[test]
fn older_processors_compute_the_same() {
    for level in levels().iter().map(|level| level.name()) {
        let tests = std::env::current_exe().unwrap();
        let run = std::process::Command::new(tests)
            .args(["outputs_are_the_references", "gradients_are_the_references_differences"])
            .env("ALEXNET_SIMD", level)
            .output()
            .unwrap();
        assert!(run.status.success(), "{level}: {}", String::from_utf8_lossy(&run.stdout));
        assert!(String::from_utf8_lossy(&run.stdout).contains("2 passed"), "{level}");
    }
}
