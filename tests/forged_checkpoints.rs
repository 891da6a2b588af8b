//! Checkpoints whose checksums are right and whose words are not: what they claim is held against
//! the tensors that they have before any memory is taken for it.

mod common;

use alexnet::files::tensors::{self, Description, Values};
use common::{World, sentence, stderr};
use safetensors::SafeTensors;
use std::fs;
use std::process::{Command, Output};

/// The checkpoint `from` written again as `to`, its metadata changed by `change`.
fn forge(world: &World, from: &str, to: &str, change: impl Fn(&str, &str) -> String) {
    let bytes = world.bytes(from);
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let old = header.metadata().clone().unwrap();
    let keys = ["format", "config", "classes", "seed", "step", "preparation", "state"];
    let metadata = keys.map(|key| (key, change(key, &old[key])));
    let all = SafeTensors::deserialize(&bytes).unwrap();
    let names = header.offset_keys();
    let described: Vec<Description> = names
        .iter()
        .map(|name| Description::floats(name, all.tensor(name).unwrap().shape()))
        .collect();
    tensors::write(&world.path(to), &metadata, &described, |index| {
        let data = all.tensor(&names[index]).unwrap().data();
        Ok(Values::F32(data.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()))
    })
    .unwrap();
}

/// Runs `args` with at most 3 GiB of addresses: whoever takes what a forged file claims ends by an
/// abort.
fn limited(world: &World, args: &str) -> Output {
    let line = format!("ulimit -v 3145728; {} {args}", env!("CARGO_BIN_EXE_alexnet"));
    Command::new("bash").current_dir(world.folder.path()).args(["-c", &line]).output().unwrap()
}

const COMMANDS: [&str; 4] = [
    "inspect forged.safetensors",
    "predict photos/val/down/001.png --device cpu --checkpoint forged.safetensors",
    "predict photos/val/down/001.png --device cpu --ten-crop --checkpoint forged.safetensors",
    "eval forged.safetensors --device cpu",
];

#[test]
fn sizes_that_the_tensors_have_not_are_refused() {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=1 --run run --device cpu");
    let last = "run/last.safetensors";
    for args in COMMANDS {
        forge(&world, last, "forged.safetensors", |_, value| value.to_string());
        world.ok(args);
    }
    let claims: [(&str, &str, &str, &str); 8] = [
        ("config", "kernels = 8", "kernels = 1048576", "conv1.weight has the shape [8, 3, 3, 3]"),
        ("config", "crop = 12", "crop = 16384", "fc3.weight has the shape"),
        ("config", "outputs = 16", "outputs = 16777216", "fc3.weight has the shape"),
        ("config", "outputs = \"classes\"", "outputs = 16777216", "16777216 outputs"),
        ("config", "size = 3\n", "size = 1\n", "has the shape"),
        ("config", "[data]", "[data]\nclasses = 1000000", "fc4.weight has the shape"),
        ("config", "name = \"conv2\"", "name = \"conv9\"", "it has no conv9.weight"),
        ("classes", "}]", "},{\"id\":\"x\",\"name\":\"x\"}]", "has the shape"),
    ];
    for (key, old, new, words) in claims {
        forge(&world, last, "forged.safetensors", |name, value| {
            let changed = if name == key { value.replacen(old, new, 1) } else { value.to_string() };
            assert!(name != key || changed != value, "{old:?} is in\n{value}");
            changed
        });
        for args in COMMANDS {
            let output = limited(&world, args);
            let said = sentence(&output);
            assert!(matches!(output.status.code(), Some(1 | 2)), "{new}, {args}: {said}");
            assert!(said.contains("forged.safetensors") && said.contains(words), "{new}: {said}");
        }
    }
}

/// Sizes that no machine can count are refused as such, in a checkpoint as in a config.
#[test]
fn sizes_beyond_counting_are_refused() {
    let world = World::new();
    let sizes = "--set layer.conv1.kernels=1048576 --set layer.conv1.size=4096 \
                 --set data.crop=16384";
    let words = ["layer conv1", "would be more than"];
    world.fails(&format!("inspect net.toml {sizes}"), 2, &words);
    world.fails(&format!("train --config net.toml --device cpu {sizes}"), 2, &words);
    let padded = "--set layer.conv1.size=1048576 --set layer.conv1.padding=[1048575,1048575,0,0] \
                  --set data.crop=16384";
    world.fails(&format!("inspect net.toml {padded}"), 2, &["layer conv1"]);
    // Each number can be counted here, but not their product.
    let many = "--set layer.conv1.kernels=4096 --set layer.conv1.size=8192 --set data.crop=16384";
    assert!(matches!(world.run(&format!("inspect net.toml {many}")).status.code(), Some(0 | 2)));
    let wide = "--set layer.fc3.outputs=16777216 --set data.crop=16384";
    world.fails(&format!("inspect net.toml {wide}"), 2, &["layer fc3", "would be more than"]);
}

#[test]
fn headers_and_texts_have_a_bound() {
    let world = World::new();
    world.ok("train --config linear.toml --set train.epochs=1 --run run --device cpu");
    let last = "run/last.safetensors";
    // A config of more than a megabyte; so much TOML would take many times that.
    forge(&world, last, "forged.safetensors", |key, value| match key {
        "config" => format!("{value}\n{}", "#\n".repeat(600_000)),
        _ => value.to_string(),
    });
    for args in COMMANDS {
        let output = limited(&world, args);
        let said = sentence(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("forged.safetensors: its config has"), "{said}");
    }
    let entry = |i: usize| format!("\"{i}\":\"\"");
    let many: Vec<String> = (0..100_000).map(entry).collect();
    let headers = [
        (format!("{{\"__metadata__\":{{{}}}}}", many.join(",")), "more than 1024 entries"),
        (format!("{{\"a\":{{\"shape\":[{}0]}}}}", "1,".repeat(100_000)), "more than 16 dimensions"),
        (
            format!("{{\"__metadata__\":{{\"a\":\"{}\"}}}}", " ".repeat(80 << 20)),
            "its header has 80 MiB",
        ),
        ("[".repeat(1 << 20), "the header is no safetensors header"),
    ];
    for (header, words) in headers {
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
        fs::write(world.path("forged.safetensors"), bytes).unwrap();
        for args in COMMANDS {
            let output = limited(&world, args);
            assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
            let said = sentence(&output);
            assert!(said.contains("forged.safetensors") && said.contains(words), "{said}");
        }
    }
}
