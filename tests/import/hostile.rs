//! Files of every format cut anywhere and changed everywhere: a sentence and no panic, in bounded
//! memory.

use crate::common::{World, sentence};
use crate::{data, world};
use alexnet::errors;
use alexnet::weights::{Source, caffe, of};
use std::fs;
use std::process::{Command, Output};

const FILES: [&str; 7] = [
    "torch.pth",
    "torch-legacy.pth",
    "torch.safetensors",
    "torch.onnx",
    "zoo.onnx",
    "alexnet.caffemodel",
    "caffenet.caffemodel",
];

/// Runs `args` with at most 1 GiB of addresses: whoever takes what a file claims ends by an abort.
fn limited(world: &World, args: &str) -> Output {
    let line = format!("ulimit -v 1048576; {} --threads 1 {args}", env!("CARGO_BIN_EXE_alexnet"));
    Command::new("bash").current_dir(world.folder.path()).args(["-c", &line]).output().unwrap()
}

/// What becomes of `bytes` as `import` reads them, as far as their weights.
fn survives(bytes: Vec<u8>) -> bool {
    let read = of(&Source::memory(bytes), None);
    if let Err(error) = &read {
        let said = errors::sentence(error);
        assert!(!said.is_empty() && said.len() < 4000 && !said.contains('\n'), "{said}");
    }
    read.is_ok()
}

#[test]
fn files_cut_anywhere_are_refused() {
    let world = world();
    for file in FILES {
        let good = fs::read(data(file)).unwrap();
        // Every byte where the structure lies, then in strides.
        let ends =
            (0..1500).chain((1500..good.len()).step_by(397)).chain(good.len() - 300..good.len());
        for end in ends {
            let read = survives(good[..end].to_vec());
            // A message of protobuf may end where a field does; the network then lacks layers.
            assert!(
                !read || file.ends_with("onnx") || file.ends_with("caffemodel"),
                "{file} {end}"
            );
        }
        for share in [3, 7, 9] {
            fs::write(world.path("x"), &good[..good.len() * share / 10]).unwrap();
            let output = limited(&world, "import x --out y.safetensors");
            let said = sentence(&output);
            assert!(matches!(output.status.code(), Some(1 | 2)), "{file}: {said}");
            assert!(said.contains("x: "), "{file}: {said}");
            assert!(!world.path("y.safetensors").exists());
        }
    }
}

#[test]
fn every_changed_byte_is_survived() {
    for file in FILES {
        let good = fs::read(data(file)).unwrap();
        let tail = good.len().saturating_sub(2500);
        for at in (0..2500).chain(tail..good.len()).step_by(13) {
            for change in [0xff, 0x01] {
                let mut bad = good.clone();
                bad[at] ^= change;
                survives(bad);
            }
        }
    }
}

/// A field of a message: its number, and bytes.
fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut all = varint(u64::from(number) << 3 | 2);
    all.extend(varint(bytes.len() as u64));
    all.extend(bytes);
    all
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 127 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn number(field: u32, value: u64) -> Vec<u8> {
    [varint(u64::from(field) << 3), varint(value)].concat()
}

#[test]
fn messages_that_claim_much_take_little() {
    let world = world();
    // A graph within a graph within …, of which none is opened.
    let mut nested = Vec::new();
    for _ in 0..3000 {
        nested = field(6, &field(1, &field(5, &nested)));
        if nested.len() > 1 << 20 {
            break;
        }
    }
    let model = |graph: &[u8]| [number(1, 8), field(7, graph)].concat();
    let node = |parts: &[Vec<u8>]| field(1, &parts.concat());
    let tensor = |parts: &[Vec<u8>]| field(5, &[parts.concat(), field(8, b"w")].concat());
    let output = field(12, b"");
    let huge = [number(1, 1 << 62), number(1, 1 << 62), number(2, 1), field(9, &[0; 16])];
    let negative = [number(1, u64::MAX), number(2, 1), field(9, &[0; 16])];
    let outside = |name: &[u8]| {
        let entry = field(13, &[field(1, b"location"), field(2, name)].concat());
        tensor(&[number(1, 4), number(2, 1), entry, number(14, 1)])
    };
    let twice = tensor(&[number(1, 4), number(2, 1), field(9, &[0; 16])]);
    let one = node(&[field(4, b"Relu")]);
    let blob = |parts: &[Vec<u8>]| {
        field(100, &[field(1, b"a"), field(2, b"InnerProduct"), field(7, &parts.concat())].concat())
    };
    for (bytes, words) in [
        (model(&[node(&[field(5, &nested)]), output.clone()].concat()), "a graph within"),
        (model(&[one.clone(), tensor(&huge), output.clone()].concat()), "beyond counting"),
        (model(&[one.clone(), tensor(&negative), output.clone()].concat()), "below 0"),
        (
            model(&[one.clone(), outside(b"../../etc/passwd"), output.clone()].concat()),
            "no name of a file",
        ),
        (model(&[one.clone(), outside(b"none.data"), output.clone()].concat()), "none.data"),
        (model(&[one.clone(), twice.clone(), twice, output.clone()].concat()), "w is there twice"),
        (model(&field(1, b"").repeat(3_000_000)), "more than 4096 nodes"),
        (model(&field(5, b"").repeat(3_000_000)), "more than 16384 tensors"),
        (field(100, b"").repeat(3_000_000), "more than 4096 layers"),
        (field(100, &field(7, b"").repeat(3_000_000)), "more than 16 blobs"),
        (blob(&[field(7, &number(1, 1).repeat(99)), field(5, &[0; 4])]), "more than 16 sizes"),
        (blob(&[number(1, 1 << 62), number(2, 1 << 62), field(5, &[0; 4])]), "beyond counting"),
        (blob(&[field(5, &[0; 4])]), "no shape"),
        (blob(&[field(7, &number(1, 1)), field(5, &[0; 3])]), "its shape"),
        ([&[0x0a][..], &varint(1 << 60)].concat(), "cut short"),
        ([&[0x0a][..], &[0xff; 11]].concat(), "more than ten bytes"),
    ] {
        fs::write(world.path("x"), &bytes).unwrap();
        let output = limited(&world, "import x --out y.safetensors");
        let said = sentence(&output);
        assert_eq!(output.status.code(), Some(1), "{words}: {said}");
        assert!(said.contains(words) && said.contains("x: "), "no {words:?} in: {said}");
    }
}

#[test]
fn layers_that_these_networks_do_not_have_are_named() {
    let world = world();
    let caffe = |kind: &[u8]| {
        let blob = [field(7, &number(1, 1)), field(5, &[0; 4])].concat();
        field(100, &[field(1, b"odd"), field(2, kind), field(7, &blob)].concat())
    };
    fs::write(world.path("x"), caffe(b"Deconvolution")).unwrap();
    world.fails("import x --out y.safetensors", 1, &["layer odd", "\"Deconvolution\""]);
    let mut onnx = fs::read(data("zoo.onnx")).unwrap();
    let at = onnx.windows(4).position(|w| w == b"Relu").unwrap();
    onnx[at..at + 4].copy_from_slice(b"Selu");
    fs::write(world.path("x"), onnx).unwrap();
    world.fails("import x --out y.safetensors", 1, &["Selu", "do not have this operator"]);
}

#[test]
fn mean_images_cut_or_changed_are_refused() {
    let good =
        [number(1, 1), number(2, 3), number(3, 2), number(4, 2), field(5, &[0; 48])].concat();
    assert_eq!(caffe::mean(&Source::memory(good.clone())).unwrap().shape(), [3, 2, 2]);
    for end in 0..good.len() {
        assert!(caffe::mean(&Source::memory(good[..end].to_vec())).is_err(), "{end}");
    }
    let two = [number(1, 2), number(2, 3), number(3, 1), number(4, 2), field(5, &[0; 48])].concat();
    assert!(caffe::mean(&Source::memory(two)).is_err());
}
