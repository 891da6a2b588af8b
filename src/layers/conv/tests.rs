//! Winograd's way at the width of the paper's widest convolutions, 256 channels, where its rounding
//! errors are largest: tiles of four and five, and of four alone for few images, against f64.

use super::Conv;
use super::winograd::Winograd;
use crate::layers::window::{Kernels, Window};
use crate::layers::{Learn, Run, Shape};
use crate::random::numbers;

const SIDE: usize = 13;
const IMAGES: usize = 3;

/// The largest error of `ours`, as a share of the largest value.
fn worst(ours: &[f32], exact: &[f64]) -> f64 {
    assert_eq!(ours.len(), exact.len());
    let error = ours.iter().zip(exact).map(|(&a, b)| (f64::from(a) - b).abs()).fold(0.0, f64::max);
    error / exact.iter().fold(0.0f64, |most, value| most.max(value.abs()))
}

/// Calls `pair(x, weight, y)` with the places of each product of a forward pass.
fn each_product(w: &Window, mut pair: impl FnMut(usize, usize, usize)) {
    let (inputs, outputs) = (w.input.channels, w.output.channels);
    for image in 0..IMAGES {
        for at in 0..SIDE * SIDE * 9 {
            let (pixel, spot) = (at / 9, at % 9);
            let (row, column) = (pixel / SIDE + spot / 3, pixel % SIDE + spot % 3);
            if !(1..=SIDE).contains(&row) || !(1..=SIDE).contains(&column) {
                continue;
            }
            let under = (image * SIDE + row - 1) * SIDE + column - 1;
            let y = (image * SIDE * SIDE + pixel) * outputs;
            for i in 0..inputs {
                for o in 0..outputs {
                    pair(under * inputs + i, (spot * inputs + i) * outputs + o, y + o);
                }
            }
        }
    }
}

/// Worst errors forward, forward for few images, to the input, to the weights.
fn errors(inputs: usize, outputs: usize) -> [f64; 4] {
    let kernels = Kernels { kernels: outputs, size: 3, stride: 1, padding: [1; 4], groups: 1 };
    let window =
        kernels.fit(Shape { height: SIDE, width: SIDE, channels: inputs }, outputs).unwrap();
    let winograd = Winograd::for_window(&window);
    assert!(winograd.is_some());
    let conv = Conv { window, relu: false, winograd };
    let pixels = IMAGES * SIDE * SIDE;
    let (x, weight) = (numbers(pixels * inputs, 1), numbers(9 * inputs * outputs, 2));
    let dy = numbers(pixels * outputs, 3);
    let bias = vec![0.0; outputs];

    let mut y = vec![0.0f64; pixels * outputs];
    let (mut dx, mut dweight) = (vec![0.0f64; x.len()], vec![0.0f64; weight.len()]);
    each_product(&conv.window, |at_x, at_weight, at_y| {
        let [a, b, d] = [x[at_x], weight[at_weight], dy[at_y]].map(f64::from);
        y[at_y] += a * b;
        dx[at_x] += d * b;
        dweight[at_weight] += d * a;
    });

    let run = |training| Run { batch: IMAGES, training, seed: 1, step: 1, first_image: 0 };
    let forward = |training| {
        let mut ours = vec![f32::NAN; y.len()];
        conv.forward(&run(training), &mut ours, &x, &weight, &bias);
        worst(&ours, &y)
    };
    let mut to_input = vec![f32::NAN; x.len()];
    conv.backward_input(&run(true), &mut to_input, &dy, &weight);
    let (mut to_weights, mut to_biases) = (vec![f32::NAN; weight.len()], vec![f32::NAN; outputs]);
    let mut workspace = vec![f32::NAN; conv.workspace(IMAGES)];
    let gradients = (&mut to_weights[..], &mut to_biases[..]);
    conv.backward_weights(&run(true), gradients, &dy, &x, &mut workspace);
    [forward(true), forward(false), worst(&to_input, &dx), worst(&to_weights, &dweight)]
}

/// Bounds twice the worst that was seen.
#[test]
fn errors_at_256_channels() {
    for (inputs, outputs) in [(256, 16), (16, 256)] {
        let errors = errors(inputs, outputs);
        println!("{inputs} to {outputs} channels: {errors:?}");
        assert!(errors.iter().all(|&error| error < 3e-5), "{inputs} to {outputs}: {errors:?}");
        // Nothing but rounding tells the way from the direct one: it is there.
        assert!(errors.iter().all(|&error| error > 1e-8), "{inputs} to {outputs}: {errors:?}");
    }
}
