//! Small networks in every format give the answers that their own programs give.

use crate::common::tensors;
use crate::{agrees, data, expected, import, numbers, world};
use safetensors::SafeTensors;
use std::fs;

#[test]
fn torchvisions_network_in_every_format_has_pytorchs_answers() {
    let (world, expected) = (world(), expected());
    let files = ["torch.pth", "torch-legacy.pth", "torch.safetensors", "torch.onnx"];
    for (at, file) in files.into_iter().enumerate() {
        let to = format!("{at}.safetensors");
        let said = import(&world, file, &to, "");
        assert_eq!(said["network"], "torchvision", "{file}");
        assert_eq!(said["colors"], "rgb");
        assert_eq!(said["mean"], "123.675, 116.28, 103.53 (ImageNet's)");
        agrees(&world, &to, "photo.png", &expected["torch"]);
        // The same weights, bit for bit, whatever the file.
        if at > 0 {
            assert_eq!(tensors(&world.path(&to)), tensors(&world.path("0.safetensors")), "{file}");
        }
    }
    agrees(&world, "3.safetensors", "photo.png", &expected["torch.onnx"]);
}

#[test]
fn weights_keep_their_bits() {
    let world = world();
    let bytes = fs::read(data("torch.safetensors")).unwrap();
    let theirs = SafeTensors::deserialize(&bytes).unwrap();
    let said = import(&world, "torch.pth", "x.safetensors", "");
    let ours = tensors(&world.path("x.safetensors"));
    let ways = said["tensors"].as_array().unwrap();
    assert_eq!(ways.len(), theirs.names().len());
    for way in ways {
        let view = theirs.tensor(way["from"].as_str().unwrap()).unwrap();
        let own = ours.iter().find(|(name, ..)| *name == way["to"].as_str().unwrap()).unwrap();
        assert_eq!((&own.1[..], &own.2[..]), (view.shape(), view.data()), "{way}");
        assert_eq!(numbers(&way["shape"]).len(), view.shape().len());
    }
    let names = ["features.0", "features.3", "features.6", "features.8", "features.10"];
    let names = names.into_iter().chain(["classifier.1", "classifier.4", "classifier.6"]);
    let layers = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"];
    for (at, (theirs, ours)) in names.zip(layers).enumerate() {
        assert_eq!(ways[2 * at]["from"], format!("{theirs}.weight"));
        assert_eq!(ways[2 * at]["to"], format!("{ours}.weight"));
        assert_eq!(ways[2 * at + 1]["from"], format!("{theirs}.bias"));
    }
}

/// A training script's file: the state dict among other things, behind a prefix, in halves.
#[test]
fn a_state_dict_is_found_within_a_training_scripts_file() {
    let (world, expected) = (world(), expected());
    let said = import(&world, "torch-nested.pth", "x.safetensors", "");
    assert_eq!(said["tensors"][0]["from"], "features.0.weight");
    agrees(&world, "x.safetensors", "photo.png", &expected["torch-nested"]);
}

#[test]
fn caffes_networks_have_the_answers_of_their_layers() {
    let (world, expected) = (world(), expected());
    for (file, network, answers) in [
        ("alexnet.caffemodel", "caffe-alexnet", "alexnet"),
        ("caffenet.caffemodel", "caffenet", "caffenet"),
        ("zoo.onnx", "caffe-alexnet", "zoo"),
    ] {
        let said = import(&world, file, "x.safetensors", "--mean 120,110,100");
        assert_eq!(said["network"], network, "{file}");
        assert_eq!(said["colors"], "bgr", "{file}");
        // As Caffe's usual preparation does it, and torchvision's does not.
        let bytes = world.bytes("x.safetensors");
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let preparation = &header.metadata().as_ref().unwrap()["preparation"];
        assert!(preparation.contains("\"resize\":\"warp\""), "{preparation}");
        assert_eq!(said["crop"], if file == "zoo.onnx" { 224 } else { 227 }, "{file}");
        agrees(&world, "x.safetensors", "photo.png", &expected[answers]);
    }
}

/// Caffe's first layer reads blue first: here red comes first, and the bits stay.
#[test]
fn the_first_layers_colours_are_turned_round() {
    let world = world();
    import(&world, "alexnet.caffemodel", "bgr.safetensors", "");
    import(&world, "alexnet.caffemodel", "rgb.safetensors", "--colors rgb");
    let [turned, plain] =
        ["bgr", "rgb"].map(|name| tensors(&world.path(&format!("{name}.safetensors"))));
    for ((name, shape, turned), (_, _, plain)) in turned.iter().zip(&plain) {
        if name != "conv1.weight" {
            assert_eq!(turned, plain, "{name}");
            continue;
        }
        let (map, maps) = (4 * shape[2] * shape[3], shape[1]);
        for (at, part) in turned.chunks_exact(map).enumerate() {
            let other = at / maps * maps + (maps - 1 - at % maps);
            assert_eq!(part, &plain[other * map..(other + 1) * map]);
        }
    }
}

/// A `.binaryproto` as Caffe's tools write it: one image, blue first.
#[test]
fn a_mean_image_of_caffes_is_subtracted() {
    let world = world();
    let mut planes = Vec::new();
    for c in [2u32, 1, 0] {
        for (y, x) in (0..256).flat_map(|y| (0..256).map(move |x| (y, x))) {
            planes.extend(
                (100 + 10 * c + (x + 2 * y) % 17).to_string().parse::<f32>().unwrap().to_le_bytes(),
            );
        }
    }
    // num = 1, channels = 3, height = width = 256, then the floats side by side.
    let mut file = vec![0x08, 1, 0x10, 3, 0x18, 0x80, 2, 0x20, 0x80, 2, 0x2a];
    let mut length = planes.len();
    while length > 127 {
        file.push(length as u8 | 0x80);
        length >>= 7;
    }
    file.push(length as u8);
    file.extend(planes);
    fs::write(world.path("mean.binaryproto"), &file).unwrap();
    import(&world, "alexnet.caffemodel", "x.safetensors", "--mean mean.binaryproto");
    // Ten crops: there the mean's own centre is subtracted, as in the 2012 code; Caffe has no ten.
    agrees(&world, "x.safetensors", "photo.png", &expected()["alexnet with an image"]);
    let sentence = world.fails(
        &format!("import {} --out y.safetensors --mean x.safetensors", data("torch.pth").display()),
        1,
        &["--mean x.safetensors"],
    );
    assert!(sentence.contains("binaryproto"), "{sentence}");
}
