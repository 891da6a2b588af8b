//! Codes: the encoder and the search computed here in f64 from what the file holds, and the
//! auto-encoder's gradients against differences of its loss.

use super::*;
use alexnet::config::Config;
use alexnet::data::form::CropView;
use alexnet::engine::cpu::Cpu;
use alexnet::engine::{Engine, Slot};
use alexnet::layers::{Classes, Run};
use alexnet::network::{Mode, Plan};

/// The bits of a file's codes, [images][bits].
fn codes(world: &World, file: &str) -> Vec<Vec<bool>> {
    let bytes = world.bytes(file);
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let codes = tensors.tensor("codes").unwrap();
    assert_eq!(codes.dtype(), safetensors::Dtype::U8);
    let bits =
        |code: &[u8]| code.iter().flat_map(|b| (0..8).map(move |i| b >> i & 1 == 1)).collect();
    codes.data().chunks_exact(codes.shape()[1]).map(bits).collect()
}

/// What the middle layer makes of features, by the parameters of a file of codes.
fn middle(world: &World, file: &str, features: &[f64]) -> Vec<f64> {
    let of = |name: &str| floats(world, file, name).1;
    let scale: f64 = metadata(world, file)["scale"].parse().unwrap();
    let input: Vec<f64> = features.iter().zip(of("mean")).map(|(f, m)| (f - m) * scale).collect();
    let layer = |name: &str, x: &[f64]| -> Vec<f64> {
        let rows = of(&format!("{name}.weight"));
        let bias = of(&format!("{name}.bias"));
        let dot = |row: &[f64]| row.iter().zip(x).map(|(w, x)| w * x).sum::<f64>();
        rows.chunks_exact(x.len()).zip(bias).map(|(row, b)| dot(row) + b).collect()
    };
    let hidden: Vec<f64> = layer("encode1", &input).iter().map(|x| x.max(0.0)).collect();
    layer("code", &hidden)
}

#[test]
fn codes_are_the_signs_of_the_middle_layer_and_searched_by_their_bits() {
    let world = world();
    world.ok("features --checkpoint a --out coded.safetensors");
    world.ok("features --checkpoint a --split test --out coded-test.safetensors");
    let make = "codes coded.safetensors --bits 16 --hidden 32 --epochs 40 --out codes.safetensors";
    let said = world.json(&format!("{make} --json"));
    assert_eq!(
        (&said["images"], &said["bits"], &said["queries"]),
        (&140.into(), &16.into(), &7.into())
    );
    let explained = said["explained"].as_f64().unwrap();
    assert!(explained > 0.7 && explained < 1.0, "{said}: sixteen values through sixteen");
    let (_, features) = floats(&world, "coded.safetensors", "features");
    let codes = codes(&world, "codes.safetensors");
    assert_eq!((codes.len(), codes[0].len()), (140, 16));
    let rows: Vec<&[f64]> = features.chunks_exact(16).collect();
    for (row, code) in rows.iter().zip(&codes) {
        for (value, bit) in middle(&world, "codes.safetensors", row).iter().zip(code) {
            assert!(value.abs() < 1e-5 || (*value > 0.0) == *bit, "{value}, {bit}");
        }
    }
    // Recall, by hand: every twentieth image, the last of each twenty.
    let (mut found, mut found_of_100) = (0, 0);
    for query in (19..140).step_by(20) {
        let near = |distance: &dyn Fn(usize) -> f64| -> Vec<usize> {
            let mut order: Vec<usize> = (0..140).filter(|row| *row != query).collect();
            order.sort_by(|a, b| distance(*a).total_cmp(&distance(*b)).then(a.cmp(b)));
            order
        };
        let square =
            |row: usize| rows[row].iter().zip(rows[query]).map(|(a, b)| (a - b).powi(2)).sum();
        let exact = near(&square);
        let bits = |row: usize| {
            codes[row].iter().zip(&codes[query]).filter(|(a, b)| a != b).count() as f64
        };
        let by_code = near(&bits);
        found += exact[..10].iter().filter(|row| by_code[..10].contains(row)).count();
        found_of_100 += exact[..10].iter().filter(|row| by_code[..100].contains(row)).count();
    }
    assert!((said["recall_at_10"].as_f64().unwrap() - found as f64 / 70.0).abs() < 1e-12, "{said}");
    let of_100 = said["recall_at_10_of_100"].as_f64().unwrap();
    assert!((of_100 - found_of_100 as f64 / 70.0).abs() < 1e-12, "{said}");
    assert!(found * 139 > 10 * 70 * 2, "{found} of 70 are no more than chance");

    // The same command gives the same file; neighbours finds what differs in the fewest bits.
    world.ok(&make.replace("codes.safetensors", "again.safetensors"));
    assert_eq!(world.bytes("codes.safetensors"), world.bytes("again.safetensors"));
    let ask =
        format!("neighbours {} --codes codes.safetensors --count 9 --json", images("test")[5]);
    let answer = &world.json(&ask)[0]["neighbours"];
    let (_, test) = floats(&world, "coded-test.safetensors", "features");
    let own = middle(&world, "codes.safetensors", &test[5 * 16..6 * 16]);
    let mut all: Vec<(u64, u64)> = codes
        .iter()
        .enumerate()
        .map(|(row, code)| {
            let apart =
                code.iter().zip(&own).filter(|(bit, value)| **bit != (**value > 0.0)).count();
            (apart as u64, row as u64)
        })
        .collect();
    all.sort_unstable();
    let printed: Vec<(u64, u64)> = answer
        .as_array()
        .unwrap()
        .iter()
        .map(|n| (n["distance"].as_u64().unwrap(), n["index"].as_u64().unwrap()))
        .collect();
    assert_eq!(printed, all[..9]);
}

#[test]
fn what_does_not_suit_is_refused() {
    let world = world();
    world.ok("features --checkpoint b --split val --out refused.safetensors");
    world.fails("codes refused.safetensors --bits 12 --out x.safetensors", 2, &["--bits 12", "8"]);
    world.fails("codes refused.safetensors --out x.npy", 2, &["x.npy", ".safetensors"]);
    let own = "codes refused.safetensors --out refused.safetensors";
    world.fails(own, 2, &["refused.safetensors", "reads"]);
    let wild = "codes refused.safetensors --rate 1e20 --epochs 3 --out x.safetensors";
    world.fails(wild, 1, &["diverged", "--rate"]);
    assert!(!world.path("x.safetensors").exists());
    let image = &images("val")[0];
    world.fails(
        &format!("neighbours {image} --codes refused.safetensors"),
        1,
        &["refused", "codes"],
    );
    // An auto-encoder is no network to tell classes apart.
    world.write(
        "auto.toml",
        &common::LINEAR.replace("kind = \"softmax\"", "kind = \"squared-error\""),
    );
    world.fails("train --config auto.toml", 2, &["auto.toml", "squared-error", "alexnet codes"]);
}

/// Every parameter's gradient of a small auto-encoder on an engine against differences of its loss.
#[test]
fn an_auto_encoders_gradients_are_those_of_its_loss() {
    let fc = |name: &str, outputs: usize| {
        format!(
            "[[layer]]\nname = \"{name}\"\nkind = \"fc\"\noutputs = {outputs}\nweight_sigma = 0.4\n"
        )
    };
    let text = format!(
        "seed = 5\n[data]\ncrop = 2\n[train]\nbatch = 3\n[schedule]\nrate = 0.1\n{}[[layer]]\n\
         name = \"tanh1\"\nkind = \"tanh\"\n{}[[layer]]\nname = \"loss\"\nkind = \"squared-error\"\n",
        fc("fc1", 5),
        fc("fc2", 12)
    );
    let config = Config::parse(&text, &[], "test").unwrap();
    let plan = Plan::new(&config, 3, Mode::Training, &[0], Classes::Any).unwrap();
    let mut cpu = Cpu::new(plan).unwrap();
    alexnet::train::initial::initialise(&mut cpu).unwrap();
    let input: Vec<f32> = (0..36).map(|i| ((i * 29 + 7) % 32) as f32 / 16.0 - 1.0).collect();
    let run = Run { batch: 3, training: true, seed: 5, step: 1, first_image: 0 };
    let tally = cpu.gradients(&run, CropView::Floats(&input), &[0; 3]).unwrap();
    let output = cpu.probabilities().unwrap();
    let half = |(y, t): (&f32, &f32)| 0.5 * (f64::from(*y) - f64::from(*t)).powi(2);
    let wanted: f64 = output.iter().zip(&input).map(half).sum();
    assert!((tally.loss - wanted).abs() < 1e-9 && tally.top1_wrong == 0, "{tally:?}, {wanted}");
    let gradients: Vec<Vec<f32>> =
        (0..4).map(|tensor| cpu.read(Slot::Gradient, tensor).unwrap().values).collect();
    for (tensor, gradient) in gradients.iter().enumerate() {
        let values = cpu.read(Slot::Value, tensor).unwrap().values;
        for i in 0..values.len() {
            let mut loss = |by: f32| {
                let mut moved = values.clone();
                moved[i] += by;
                cpu.write(Slot::Value, tensor, &moved).unwrap();
                let loss = cpu.gradients(&run, CropView::Floats(&input), &[0; 3]).unwrap();
                cpu.write(Slot::Value, tensor, &values).unwrap();
                loss.mean_loss()
            };
            let difference = (loss(0.01) - loss(-0.01)) / 0.02;
            let apart = (f64::from(gradient[i]) - difference).abs();
            assert!(apart < 1e-3, "tensor {tensor}, value {i}: {}, {difference}", gradient[i]);
        }
    }
    let narrow = text.replace("outputs = 12", "outputs = 11");
    let config = Config::parse(&narrow, &[], "test").unwrap();
    let error = Plan::new(&config, 3, Mode::Training, &[0], Classes::Any).unwrap_err();
    assert!(format!("{error:#}").contains("11 values with the network's input of 12"), "{error:#}");
}
