//! An ONNX graph computed in f64, by the operators' definitions and nothing else.

use alexnet::files::onnx::{FLOAT, Graph, Node, Tensor};
use std::collections::BTreeMap;

/// Numbers of a shape.
#[derive(Clone, Debug)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

/// The values of a constant.
fn constant(tensor: &Tensor) -> Array {
    let shape = tensor.dims.iter().map(|&n| n as usize).collect();
    let values = match tensor.data_type {
        FLOAT => {
            let bytes = tensor.raw_data.as_chunks::<4>().0;
            bytes.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect()
        }
        _ => tensor.int64_data.iter().map(|&n| n as f64).collect(),
    };
    Array { shape, values }
}

/// Every named value of `graph`, for one image.
pub fn compute(graph: &Graph, image: Array) -> BTreeMap<String, Array> {
    let mut all: BTreeMap<String, Array> =
        graph.initializer.iter().map(|t| (t.name.clone(), constant(t))).collect();
    assert_eq!(all.len(), graph.initializer.len(), "names of constants are unique");
    assert_eq!(graph.input.len(), 1);
    all.insert(graph.input[0].name.clone(), image);
    for node in &graph.node {
        let inputs: Vec<Array> = node.input.iter().map(|name| all[name].clone()).collect();
        let outputs = operator(node, inputs);
        assert_eq!(outputs.len(), node.output.len(), "{}", node.name);
        for (name, output) in node.output.iter().zip(outputs) {
            assert!(all.insert(name.clone(), output).is_none(), "{name} is made twice");
        }
    }
    all
}

fn ints(node: &Node, name: &str, default: &[usize]) -> Vec<usize> {
    let found = node.attribute.iter().find(|a| a.name == name);
    found.map_or(default.to_vec(), |a| {
        assert_eq!(a.r#type, 7, "{name} is a list");
        a.ints.iter().map(|&n| n as usize).collect()
    })
}

fn int(node: &Node, name: &str, default: usize) -> usize {
    node.attribute.iter().find(|a| a.name == name).map_or(default, |a| {
        assert_eq!(a.r#type, 2, "{name} is a whole number");
        a.i as usize
    })
}

fn float(node: &Node, name: &str) -> f64 {
    let found = node.attribute.iter().find(|a| a.name == name).unwrap();
    assert_eq!(found.r#type, 1, "{name} is a number");
    f64::from(found.f)
}

fn operator(node: &Node, mut inputs: Vec<Array>) -> Vec<Array> {
    let mut x = inputs.remove(0);
    let each = |mut x: Array, f: fn(f64) -> f64| {
        x.values.iter_mut().for_each(|v| *v = f(*v));
        x
    };
    vec![match node.op_type.as_str() {
        "Sub" => with(x, &inputs[0], |a, b| a - b),
        "Mul" => with(x, &inputs[0], |a, b| a * b),
        "Relu" => each(x, |v| v.max(0.0)),
        "Tanh" => each(x, f64::tanh),
        "Flatten" => {
            x.shape = vec![1, x.values.len()];
            x
        }
        "Unsqueeze" => {
            assert_eq!(inputs[0].values, [2.0, 3.0]);
            x.shape.extend([1, 1]);
            x
        }
        "Concat" => {
            for more in inputs {
                assert_eq!(x.shape[2..], more.shape[2..]);
                x.shape[1] += more.shape[1];
                x.values.extend(more.values);
            }
            x
        }
        "Split" => {
            let places: usize = x.shape[2..].iter().product();
            let mut at = 0;
            let parts = inputs[0].values.iter().map(|&maps| {
                let mut shape = x.shape.clone();
                shape[1] = maps as usize;
                let from = at * places;
                at += shape[1];
                Array { shape, values: x.values[from..at * places].to_vec() }
            });
            let parts: Vec<Array> = parts.collect();
            assert_eq!(at, x.shape[1], "a split takes all");
            return parts;
        }
        "Gemm" => {
            assert_eq!(int(node, "transB", 0), 1);
            let [out, n] = inputs[0].shape[..] else { panic!() };
            assert_eq!(x.shape, [1, n]);
            let row = |o: usize| inputs[0].values[o * n..][..n].iter().zip(&x.values);
            let sum = |o: usize| row(o).map(|(w, x)| w * x).sum::<f64>() + inputs[1].values[o];
            Array { shape: vec![1, out], values: (0..out).map(sum).collect() }
        }
        "Softmax" => {
            let largest = x.values.iter().copied().fold(f64::MIN, f64::max);
            x.values.iter_mut().for_each(|v| *v = (*v - largest).exp());
            let sum: f64 = x.values.iter().sum();
            x.values.iter_mut().for_each(|v| *v /= sum);
            x
        }
        "Conv" => convolution(node, &x, &inputs[0], &inputs[1]),
        "MaxPool" | "AveragePool" => pooling(node, &x),
        "LRN" => normalisation(node, &x),
        other => panic!("operator {other}"),
    }]
}

/// Value by value; what `b` has one of is the same for all.
fn with(mut a: Array, b: &Array, f: fn(f64, f64) -> f64) -> Array {
    let maps = a.shape[1];
    let places = a.values.len() / maps;
    for (i, value) in a.values.iter_mut().enumerate() {
        let other = match b.values.len() {
            1 => b.values[0],
            n if n == maps => b.values[i / places],
            n => b.values[i % n],
        };
        *value = f(*value, other);
    }
    a
}

fn convolution(node: &Node, x: &Array, weight: &Array, bias: &Array) -> Array {
    let (&[_, _, high, wide], &[out, under, size, _]) = (&x.shape[..], &weight.shape[..]) else {
        panic!()
    };
    let [top, left, bottom, right] = ints(node, "pads", &[0; 4])[..] else { panic!() };
    let (stride, group) = (ints(node, "strides", &[1; 2])[0], int(node, "group", 1));
    let made = |n: usize, around: usize| (n + around - size) / stride + 1;
    let (rows, columns) = (made(high, top + bottom), made(wide, left + right));
    let mut values = Vec::new();
    for o in 0..out {
        let first = o / (out / group) * under;
        for (row, column) in (0..rows).flat_map(|row| (0..columns).map(move |c| (row, c))) {
            let mut sum = bias.values[o];
            for (c, ky, kx) in places(under, size, size) {
                let (y, x0) = ((row * stride + ky).wrapping_sub(top), column * stride + kx);
                let x0 = x0.wrapping_sub(left);
                if y < high && x0 < wide {
                    sum += weight.values[((o * under + c) * size + ky) * size + kx]
                        * x.values[((first + c) * high + y) * wide + x0];
                }
            }
            values.push(sum);
        }
    }
    Array { shape: vec![1, out, rows, columns], values }
}

fn places(a: usize, b: usize, c: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..a * b * c).map(move |i| (i / (b * c), i / c % b, i % c))
}

fn pooling(node: &Node, x: &Array) -> Array {
    let [_, maps, high, wide] = x.shape[..] else { panic!() };
    let size = ints(node, "kernel_shape", &[])[0];
    let stride = ints(node, "strides", &[1; 2])[0];
    let [top, left, bottom, right] = ints(node, "pads", &[0; 4])[..] else { panic!() };
    assert_eq!((top, left), (0, 0));
    let made = |n: usize, end: usize| match int(node, "ceil_mode", 0) {
        0 => (n + end - size) / stride + 1,
        _ => (n + end - size).div_ceil(stride) + 1,
    };
    let (rows, columns) = (made(high, bottom), made(wide, right));
    let pooled = places(maps, rows, columns).map(|(map, row, column)| {
        let ys = row * stride..(row * stride + size).min(high);
        let xs = column * stride..(column * stride + size).min(wide);
        let seen = ys.flat_map(|y| xs.clone().map(move |x0| (map * high + y) * wide + x0));
        let seen: Vec<f64> = seen.map(|at| x.values[at]).collect();
        assert!(!seen.is_empty(), "{}: a window sees nothing", node.name);
        match node.op_type.as_str() {
            "MaxPool" => seen.into_iter().fold(f64::MIN, f64::max),
            _ => seen.iter().sum::<f64>() / seen.len() as f64,
        }
    });
    Array { shape: vec![1, maps, rows, columns], values: pooled.collect() }
}

fn normalisation(node: &Node, x: &Array) -> Array {
    let (size, maps) = (int(node, "size", 0), x.shape[1]);
    let [alpha, beta, bias] = ["alpha", "beta", "bias"].map(|name| float(node, name));
    let area = x.values.len() / maps;
    let value = |i: usize| {
        let (map, place) = (i / area, i % area);
        let near = map.saturating_sub((size - 1) / 2)..=(map + size / 2).min(maps - 1);
        let squares: f64 = near.map(|m| x.values[m * area + place].powi(2)).sum();
        x.values[i] / (bias + alpha / size as f64 * squares).powf(beta)
    };
    Array { shape: x.shape.clone(), values: (0..x.values.len()).map(value).collect() }
}
