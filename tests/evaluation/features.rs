//! Features: put through the rest of the network here, in f64, they give the probabilities that
//! `predict` prints.

use super::*;
use std::process::Command;

/// `weight` [out, in] · `x` + `bias`.
fn fully_connected(weight: &[f64], bias: &[f64], x: &[f64]) -> Vec<f64> {
    let rows = weight.chunks_exact(x.len());
    rows.zip(bias).map(|(row, b)| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>() + b).collect()
}

fn softmax(x: &[f64]) -> Vec<f64> {
    let sum: f64 = x.iter().map(|x| x.exp()).sum();
    x.iter().map(|x| x.exp() / sum).collect()
}

#[track_caller]
fn close(a: &[f64], b: &[f64]) {
    let largest = b.iter().fold(1e-3f64, |most, b| most.max(b.abs()));
    let apart = a.iter().zip(b).fold(0.0f64, |most, (a, b)| most.max((a - b).abs()));
    assert!(a.len() == b.len() && apart < 1e-5 * largest, "{apart} of {largest}: {a:?}, {b:?}");
}

#[test]
fn the_rest_of_the_network_makes_the_probabilities_of_them() {
    let world = world();
    let said = world.ok("features --checkpoint a --split val --out val.safetensors");
    assert!(said.contains("16 values of layer relu3 for each of 70 images of "), "{said}");
    let (shape, features) = floats(&world, "val.safetensors", "features");
    assert_eq!(shape, [70, 16]);
    assert!(features.iter().all(|f| *f >= 0.0) && features.iter().any(|f| *f > 0.0));
    let of = |name: &str| floats(&world, "a/best.safetensors", name).1;
    let (weight, bias) = (of("fc4.weight"), of("fc4.bias"));
    let printed = probabilities(&world, "a", "val", "");
    for (features, printed) in features.chunks_exact(16).zip(&printed) {
        // Dropout halves them in evaluation.
        let halved: Vec<f64> = features.iter().map(|f| f / 2.0).collect();
        close(&softmax(&fully_connected(&weight, &bias, &halved)), printed);
    }
    let bytes = world.bytes("val.safetensors");
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let labels = file.tensor("labels").unwrap();
    assert_eq!((labels.dtype(), labels.shape()), (safetensors::Dtype::I64, &[70][..]));
    let wanted: Vec<u8> = (0..70).flat_map(|i| (label("val", i) as i64).to_le_bytes()).collect();
    assert_eq!(labels.data(), wanted);
    let entries = metadata(&world, "val.safetensors");
    let crc = format!("{:08x}", crc32fast::hash(&world.bytes("a/best.safetensors")));
    for (key, value) in [
        ("checkpoint", "a/best.safetensors"),
        ("crc32", &crc),
        ("layer", "relu3"),
        ("split", "val"),
    ] {
        assert_eq!(entries[key], value, "{key}");
    }
    // As the checkpoint has it, which is absolute.
    let folder = std::path::Path::new(&entries["data"]).canonicalize().unwrap();
    assert_eq!(folder, world.path("set").canonicalize().unwrap());
}

/// Layers that are changed in place or computed in one pass with others, on two towers.
#[test]
fn any_layer_is_what_the_layer_makes() {
    let world = world();
    let of = |layer: &str| {
        let file = format!("{layer}.safetensors");
        world.ok(&format!("features --checkpoint a --split val --layer {layer} --out {file}"));
        floats(&world, &file, "features")
    };
    let (shape, linear) = of("fc3");
    assert_eq!(shape, [70, 16]);
    let (_, active) = of("relu3");
    let clipped: Vec<f64> = linear.iter().map(|x| x.max(0.0)).collect();
    assert!(linear.iter().any(|x| *x < 0.0));
    assert_eq!(active, clipped);
    let (_, dropped) = of("drop3");
    assert_eq!(dropped, active.iter().map(|x| x / 2.0).collect::<Vec<_>>());
    // A layer of maps is written channel, row, column, as the next one's weights lie in the file.
    let (shape, maps) = of("relu2");
    let parameter = |name: &str| floats(&world, "a/best.safetensors", name);
    let ((weight_shape, weight), (_, bias)) = (parameter("fc3.weight"), parameter("fc3.bias"));
    assert_eq!(shape[1], weight_shape[1]);
    for (maps, linear) in maps.chunks_exact(shape[1]).zip(linear.chunks_exact(16)) {
        close(&fully_connected(&weight, &bias, maps), linear);
    }
    // Normalisation and pooling go in one pass where nothing wants what is between.
    let (shape, normalised) = of("lrn1");
    let (pooled_shape, pooled) = of("pool1");
    assert_eq!((shape[1], pooled_shape[1]), (8 * 10 * 10, 8 * 5 * 5));
    let maps = normalised.chunks_exact(100).zip(pooled.chunks_exact(25));
    for (normalised, pooled) in maps {
        for (at, largest) in pooled.iter().enumerate() {
            let (top, left) = (at / 5 * 2, at % 5 * 2);
            let window = (top..(top + 3).min(10))
                .flat_map(|y| (left..(left + 3).min(10)).map(move |x| 10 * y + x));
            let found = window.map(|place| normalised[place]).fold(f64::MIN, f64::max);
            assert!((found - largest).abs() <= 1e-5 * largest.abs().max(1.0), "{found}, {largest}");
        }
    }
    let (_, last) = of("softmax");
    for (last, printed) in last.chunks_exact(7).zip(&probabilities(&world, "a", "val", "")) {
        close(last, printed);
    }
    let (shape, outputs) = of("fc4");
    assert_eq!(shape, [70, 7]);
    close(&softmax(&outputs[..7]), &last[..7]);
}

#[test]
fn numpy_reads_the_same_numbers() {
    let world = world();
    world.ok("features --checkpoint b --split test --out b.npy");
    world.ok("features --checkpoint b --split test --out b.safetensors");
    let (shape, features) = floats(&world, "b.safetensors", "features");
    // Version 1.0 of the format: magic, version, length of the text, the text, the numbers.
    let bytes = world.bytes("b.npy");
    assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
    let start = 10 + usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = std::str::from_utf8(&bytes[10..start]).unwrap();
    assert!(start % 64 == 0 && text.ends_with('\n'), "{text:?}");
    assert!(text.contains("'descr': '<f4'") && text.contains("'fortran_order': False"), "{text}");
    assert!(text.contains(&format!("'shape': ({}, {})", shape[0], shape[1])), "{text}");
    let (values, rest) = bytes[start..].as_chunks::<4>();
    let values: Vec<f64> = values.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect();
    assert!(rest.is_empty() && values == features);
    let program = "import numpy, sys; a = numpy.load(sys.argv[1]); print(a.dtype, a.shape, a.sum(dtype='f8'))";
    let python = Command::new("python3").arg("-c").arg(program).arg(world.path("b.npy")).output();
    let Some(python) = python.ok().filter(|output| output.status.success()) else {
        eprintln!("skipped: no python3 with numpy");
        return;
    };
    let said = String::from_utf8(python.stdout).unwrap();
    let sum: f64 = said.split_whitespace().last().unwrap().parse().unwrap();
    assert!(said.starts_with("float32 (70, 16)"), "{said}");
    assert!((sum - features.iter().sum::<f64>()).abs() < 1e-6 * sum.abs(), "{said}");
}

#[test]
fn what_cannot_be_written_is_said() {
    let world = world();
    world.fails("features --checkpoint a --out x.txt", 2, &["x.txt", ".safetensors", ".npy"]);
    world.fails(
        "features --checkpoint a --layer relu4 --out x.npy",
        2,
        &["--layer relu4", "nearest is \"relu", "conv1"],
    );
    world.fails("features --checkpoint a --split tset --out x.npy", 2, &["`tset`", "train"]);
    let own = "features --checkpoint a --out a/best.safetensors";
    world.fails(own, 2, &["a/best.safetensors", "reads"]);
    world.write("linear.toml", common::LINEAR);
    world.ok("train --config linear.toml --set train.epochs=1 --run linear");
    world.fails("features --checkpoint linear --out x.npy", 2, &["no hidden layer", "fc, softmax"]);
    assert!(!world.path("x.npy").exists() && !world.path("x.npy.tmp").exists());
}
