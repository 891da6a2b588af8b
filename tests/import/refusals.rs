//! What cannot be taken is named, with the way out.

use crate::{data, world};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A safetensors file of zeros of these shapes.
fn zeros(path: &Path, shapes: &[(&str, &[usize])]) {
    let bytes = vec![0; 4 * shapes.iter().map(|(_, s)| s.iter().product::<usize>()).max().unwrap()];
    let views: BTreeMap<&str, TensorView<'_>> = shapes
        .iter()
        .map(|(name, shape)| {
            let length = 4 * shape.iter().product::<usize>();
            (*name, TensorView::new(Dtype::F32, shape.to_vec(), &bytes[..length]).unwrap())
        })
        .collect();
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// torchvision's layers with few kernels, and what is to be other in them.
fn shapes<'a>(changes: &[(&'a str, &'a [usize])]) -> Vec<(&'a str, &'a [usize])> {
    let own: [(&str, &[usize]); 16] = [
        ("features.0.weight", &[2, 3, 11, 11]),
        ("features.0.bias", &[2]),
        ("features.3.weight", &[2, 2, 5, 5]),
        ("features.3.bias", &[2]),
        ("features.6.weight", &[2, 2, 3, 3]),
        ("features.6.bias", &[2]),
        ("features.8.weight", &[2, 2, 3, 3]),
        ("features.8.bias", &[2]),
        ("features.10.weight", &[2, 2, 3, 3]),
        ("features.10.bias", &[2]),
        ("classifier.1.weight", &[4, 72]),
        ("classifier.1.bias", &[4]),
        ("classifier.4.weight", &[4, 4]),
        ("classifier.4.bias", &[4]),
        ("classifier.6.weight", &[3, 4]),
        ("classifier.6.bias", &[3]),
    ];
    let mut all: BTreeMap<&str, &[usize]> = own.into_iter().collect();
    for (name, shape) in changes {
        all.insert(name, shape);
        if shape.is_empty() {
            all.remove(name);
        }
    }
    all.into_iter().collect()
}

#[test]
fn the_first_shape_that_differs_is_named_with_both() {
    let world = world();
    let path = world.path("x.safetensors");
    zeros(&path, &shapes(&[]));
    world.ok("import x.safetensors --out y.safetensors");
    for (changes, words) in [
        (
            &[("features.0.weight", &[2usize, 3, 7, 7][..])][..],
            &[
                "features.0.weight has the shape [2, 3, 7, 7]",
                "conv1.weight",
                "needs [2, 3, 11, 11]",
            ][..],
        ),
        (
            &[("classifier.1.weight", &[4, 50])],
            &["classifier.1.weight has the shape [4, 50]", "fc6.weight", "needs [4, 72]"],
        ),
        (&[("features.3.bias", &[5])], &["features.3.bias has the shape [5]", "conv2.bias", "[2]"]),
        (
            &[("classifier.6.weight", &[]), ("classifier.6.bias", &[])],
            &["7 layers with weights", "torchvision has 8"],
        ),
        (&[("classifier.6.weight", &[])], &["classifier.6.bias, but no classifier.6.weight"]),
        (
            &[("features.1.running_mean", &[2])],
            &["features.1.running_mean", "[2]", "neither weights nor biases"],
        ),
        (
            &[("features.3.weight", &[2, 1, 5, 5])],
            &["features.3 reads 1 of 2 maps", "--config caffe-alexnet"],
        ),
        (&[("classifier.6.weight", &[1, 4]), ("classifier.6.bias", &[1])], &["1 classes"]),
    ] {
        zeros(&path, &shapes(changes));
        let output = world.run("import x.safetensors --out z.safetensors");
        let said = crate::common::sentence(&output);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{said}");
        for word in words.iter().chain(&["x.safetensors"]) {
            assert!(said.contains(word), "no {word:?} in: {said}");
        }
        assert!(!world.path("z.safetensors").exists());
    }
}

/// timm writes the fully connected layers of such networks as convolutions over the whole map, and
/// lists them by other names.
#[test]
fn other_names_are_taken_by_their_order() {
    let world = world();
    let path = world.path("x.safetensors");
    let names = [
        ("classifier.1", "pre_logits.fc1"),
        ("classifier.4", "pre_logits.fc2"),
        ("classifier.6", "head.fc"),
    ];
    let shapes =
        shapes(&[("classifier.1.weight", &[4, 2, 6, 6]), ("classifier.4.weight", &[4, 4, 1, 1])]);
    let renamed: Vec<(String, &[usize])> = shapes
        .into_iter()
        .map(|(name, shape)| {
            let new = names
                .iter()
                .find_map(|(old, new)| Some(format!("{new}{}", name.strip_prefix(old)?)));
            (new.unwrap_or(name.to_string()), shape)
        })
        .collect();
    zeros(&path, &renamed.iter().map(|(name, shape)| (name.as_str(), *shape)).collect::<Vec<_>>());
    let said = world.json("import x.safetensors --out y.safetensors --json");
    let way = |at: usize| {
        [&said["tensors"][at]["from"], &said["tensors"][at]["to"]].map(|n| n.as_str().unwrap())
    };
    assert_eq!(way(10), ["pre_logits.fc1.weight", "fc6.weight"]);
    assert_eq!(way(14), ["head.fc.weight", "fc8.weight"]);
}

#[test]
fn values_that_are_no_numbers_are_refused() {
    let world = world();
    let path = world.path("x.safetensors");
    zeros(&path, &shapes(&[]));
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    world.fails("import x.safetensors --out y.safetensors", 1, &["NaN", "conv4.weight"]);
    assert_eq!(world.names("."), ["photo.png", "x.safetensors"]);
}

#[test]
fn files_of_other_kinds_are_named() {
    let world = world();
    for (bytes, words) in [
        (&b""[..], &["is empty"][..]),
        (b"\x89HDF\r\n\x1a\n", &["HDF5", "safetensors"]),
        (b"<html>", &["download it again"]),
        (b"name: \"AlexNet\"\nlayer {", &["PyTorch", "ONNX", "Caffe"]),
        (b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", &["none that torch.save has written"]),
        (b"\x80\x02}q\0.", &["none that torch.save has written", "state_dict"]),
        (b"\x08\x07", &["no graph"]),
        (b"\x0a\x03net", &["no weights"]),
    ] {
        fs::write(world.path("x.bin"), bytes).unwrap();
        world.fails("import x.bin --out y.safetensors", 1, &[&["x.bin"], words].concat());
    }
    world.fails("import . --out y.safetensors", 1, &["folder"]);
    world.fails("import none.pth --out y.safetensors", 1, &["none.pth"]);
}

#[test]
fn options_that_do_not_fit_are_named() {
    let world = world();
    fs::copy(data("torch.pth"), world.path("x.pth")).unwrap();
    world.write("two.txt", "a\nb\n");
    world.write("twice.txt", "a\nb\nc\nd\ne\nf\na\n");
    for (options, words) in [
        ("--mean 1,2", &["--mean 1,2", "R,G,B"][..]),
        ("--mean nothing.binaryproto", &["nothing.binaryproto"]),
        ("--mean 1,2,inf", &["--mean"]),
        ("--classes two.txt", &["two.txt", "2 lines", "7 outputs"]),
        ("--classes twice.txt", &["\"a\" is there twice"]),
        ("--classes none.txt", &["none.txt"]),
        ("--config none.toml", &["none.toml"]),
    ] {
        world.fails(&format!("import x.pth --out y.safetensors {options}"), 2, words);
        assert!(!world.path("y.safetensors").exists(), "{options}");
    }
    let before = world.bytes("x.pth");
    world.fails("import x.pth --out x.pth", 2, &["--out x.pth", "name another file"]);
    assert_eq!(world.bytes("x.pth"), before);
}

/// A network that none of the known is, by a config of the user's own.
#[test]
fn a_config_names_any_network() {
    let world = world();
    world.write(
        "own.toml",
        "[data]\ncrop = 8\n[[layer]]\nname = 'a'\nkind = 'fc'\noutputs = 5\n[[layer]]\n\
         name = 'b'\nkind = 'fc'\noutputs = 'classes'\n[[layer]]\nname = 'end'\nkind = 'softmax'\n",
    );
    zeros(
        &world.path("x.safetensors"),
        &[("one.weight", &[5, 192]), ("two.weight", &[4, 5]), ("two.bias", &[4])],
    );
    let said = world.json("import x.safetensors --out y.safetensors --config own.toml --json");
    assert_eq!(said["network"], "own.toml");
    assert_eq!(said["tensors"][1]["from"], "no a.bias: 0");
    world.ok("predict photo.png --checkpoint y.safetensors --device cpu");
}
