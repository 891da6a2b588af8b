//! ReLU as part of a convolution against the convolution and then ReLU, bit by bit: in training,
//! for few images, with weights that are kept, and towers at once.

use super::Conv;
use super::winograd::Winograd;
use crate::layers::activation::{Activation, Function};
use crate::layers::window::{Kernels, Window};
use crate::layers::{Layer, Learn, Pointwise, Role, Run, Shape};
use crate::random::numbers;

/// More than are few.
const IMAGES: usize = 18;

fn run(batch: usize, training: bool) -> Run {
    Run { batch, training, seed: 1, step: 1, first_image: 0 }
}

/// A layer that goes by Winograd's way if `winograd`.
fn conv((side, channels): (usize, usize), kernels: Kernels, winograd: bool) -> Conv {
    let outputs = kernels.kernels;
    let image = Shape { height: side, width: side, channels };
    let window: Window = kernels.fit(image, outputs).unwrap();
    let way = winograd.then(|| Winograd::for_window(&window).expect("it goes this way"));
    Conv { window, relu: false, winograd: way }
}

/// Layers of one, two and four shapes of tiles, strided, in groups, and computed directly.
fn layers() -> Vec<Conv> {
    let kernels = |kernels, size, stride, groups| {
        let padding = [if stride > 1 { 0 } else { size / 2 }; 4];
        Kernels { kernels, size, stride, padding, groups }
    };
    vec![
        conv((13, 32), kernels(48, 3, 1, 1), true),
        conv((8, 16), kernels(16, 3, 1, 1), true),
        conv((14, 16), kernels(32, 5, 1, 1), true),
        conv((13, 32), kernels(32, 3, 1, 2), true),
        conv((47, 3), kernels(16, 11, 4, 1), true),
        conv((9, 5), kernels(7, 3, 1, 1), false),
        conv((10, 6), kernels(4, 2, 2, 2), false),
    ]
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn relu(conv: &Conv) -> Activation {
    Activation { function: Function::Relu, shape: conv.window.output }
}

#[test]
fn forward_with_relu_is_one_after_the_other() {
    for conv in layers() {
        let [weights, biases] = conv.parameters().unwrap().sizes();
        let (weight, bias) = (numbers(weights, 1), numbers(biases, 2));
        let with = conv.with_relu().unwrap();
        let Role::Learn(learn) = with.role() else { panic!("it learns") };
        for run in [run(IMAGES, true), run(IMAGES, false), run(3, false)] {
            let what = format!("{:?}, {run:?}", conv.window);
            let x = numbers(run.batch * conv.window.input.len(), 3);
            let mut y = vec![0.0; run.batch * conv.window.output.len()];
            conv.forward(&run, &mut y, &x, &weight, &bias);
            assert!(y.iter().any(|&y| y < 0.0) && y.iter().any(|&y| y > 0.0), "{what}");
            relu(&conv).forward(&run, &mut y);
            let mut one = vec![f32::NAN; y.len()];
            learn.forward(&run, &mut one, &x, &weight, &bias);
            assert!(bits(&one) == bits(&y), "{what}");
            if let Some(keeps) = learn.keeps() {
                let mut kept = vec![0.0; keeps.len(run.batch)];
                keeps.keep(run.batch, &mut kept, &weight);
                one.fill(f32::NAN);
                keeps.forward(&run, &mut one, &x, &kept, &bias);
                assert!(bits(&one) == bits(&y), "weights kept, {what}");
            }
            if let Some(together) = learn.together() {
                let mut both = [vec![f32::NAN; y.len()], vec![f32::NAN; y.len()]];
                let mut ys: Vec<&mut [f32]> = both.iter_mut().map(|y| &mut y[..]).collect();
                together.forward(&run, &mut ys, &x, &[[&weight[..], &bias[..]]; 2]);
                assert!(both.iter().all(|one| bits(one) == bits(&y)), "towers at once, {what}");
            }
        }
    }
}
