//! What is imported is a checkpoint like any other.

use crate::common::World;
use crate::{data, import, world};
use std::fs;

/// Seven classes with a picture each to train and to validate on, prepared as 256×256.
fn pictures(world: &World) -> String {
    let names: Vec<String> = (0..7).map(|class| format!("kind-{class}")).collect();
    for (split, name) in
        ["train", "val"].into_iter().flat_map(|s| names.iter().map(move |n| (s, n)))
    {
        let folder = world.path("photos").join(split).join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(data("photo.png"), folder.join("photo.png")).unwrap();
    }
    world.ok("prepare image-folder photos --out set --size 256");
    names.join("\n")
}

#[test]
fn every_command_takes_it() {
    let world = world();
    world.write("names.txt", &pictures(&world));
    import(&world, "torch.pth", "net.safetensors", "--classes names.txt");
    let plan = world.json("inspect net.safetensors --json");
    let widths: Vec<&str> =
        plan["layers"].as_array().unwrap().iter().map(|l| l["kind"].as_str().unwrap()).collect();
    assert_eq!(widths.iter().filter(|kind| **kind == "lrn").count(), 0);
    assert_eq!(widths.iter().filter(|kind| **kind == "dropout").count(), 2);
    // All pictures are one, which has one answer.
    let report = world.json("eval net.safetensors --data set --device cpu --json");
    assert_eq!(report["images"], 7);
    assert!((report["top1_error"].as_f64().unwrap() - 6.0 / 7.0).abs() < 1e-9, "{report}");
    world.ok("features --checkpoint net.safetensors --data set --split val --out features.npy --device cpu");
    world.ok("filters net.safetensors --out filters.png");
    let answer = world.json("predict photo.png --checkpoint net.safetensors --device cpu --json");
    assert!(answer[0]["top"][0]["label"].as_str().unwrap().starts_with("kind-"));
}

#[test]
fn training_goes_on_from_it() {
    let world = world();
    world.write("names.txt", &pictures(&world));
    import(&world, "torch.safetensors", "net.safetensors", "--classes names.txt");
    let bytes = world.bytes("net.safetensors");
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    world.write("net.toml", &header.metadata().as_ref().unwrap()["config"]);
    let output = world.run(
        "train --config net.toml --data set --init net.safetensors --run run --device cpu \
         --set train.epochs=1 --set train.batch=7 --set schedule.rate=0",
    );
    let said = crate::common::stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("taken: conv1, conv2, conv3, conv4, conv5, fc6, fc7, fc8"), "{said}");
}

#[test]
fn classes_come_with_the_program_or_from_a_file() {
    let world = world();
    let said = import(&world, "torch.pth", "x.safetensors", "");
    assert!(said["classes"].as_str().unwrap().starts_with("7 without names"), "{said}");
    world.write("synsets.txt", "n01440764 tench, Tinca tinca\nn01443537\nc\nd\ne\nf\ng\n");
    import(&world, "torch.pth", "x.safetensors", "--classes synsets.txt");
    let answer =
        world.json("predict photo.png --checkpoint x.safetensors --device cpu --top 7 --json");
    let labels: Vec<&str> =
        answer[0]["top"].as_array().unwrap().iter().map(|l| l["label"].as_str().unwrap()).collect();
    for label in ["tench, Tinca tinca", "goldfish, Carassius auratus", "c"] {
        assert!(labels.contains(&label), "{labels:?}");
    }
}

/// Shapes alone do not tell a network that normalises from one that does not.
#[test]
fn other_widths_without_a_graph_are_said() {
    let world = world();
    for (file, told) in [("torch.pth", true), ("torch.onnx", false), ("caffenet.caffemodel", false)]
    {
        let args = format!("import {} --out x.safetensors", data(file).display());
        let said = crate::common::stderr(&world.run(&args));
        assert_eq!(said.contains("says nothing of normalisation"), told, "{file}: {said}");
        assert_eq!(said.lines().count(), usize::from(told), "{said}");
    }
}

/// torchvision's 61,100,840 parameters, Caffe's 60,965,224.
#[test]
fn the_shipped_networks_have_the_published_sizes() {
    let world = world();
    for (name, parameters) in
        [("torchvision", 61_100_840), ("caffe-alexnet", 60_965_224), ("caffenet", 60_965_224)]
    {
        let config = format!("{}/configs/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let plan = world.json(&format!("inspect {config} --set data.classes=1000 --json"));
        assert_eq!(plan["parameters"], parameters, "{name}");
    }
}

/// What a Caffe file says of its layers is in the config: here dropout of another rate.
#[test]
fn what_the_graph_says_is_fitted() {
    let world = world();
    let mut bytes = fs::read(data("caffenet.caffemodel")).unwrap();
    // dropout_param { dropout_ratio: 0.5 }, field 108 of the layer.
    let at = bytes.windows(4).position(|w| w == [0xe2, 0x06, 5, 0x0d]).unwrap();
    bytes[at + 4..at + 8].copy_from_slice(&0.4f32.to_le_bytes());
    fs::write(world.path("x.caffemodel"), bytes).unwrap();
    let said = world.json("import x.caffemodel --out x.safetensors --json");
    let fitted: Vec<&str> =
        said["fitted"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    assert!(fitted.contains(&"layer.drop6.rate=0.4"), "{fitted:?}");
    assert!(!fitted.iter().any(|text| text.starts_with("layer.drop7")), "{fitted:?}");
}

/// The words of the table that a person reads.
#[test]
fn what_was_done_is_told() {
    let world = world();
    let said =
        world.ok(&format!("import {} --out x.safetensors", data("caffenet.caffemodel").display()));
    for words in [
        "a network of Caffe's; network: caffenet with",
        "conv1.weight",
        "4×3×11×11",
        "104.00699 (that of Caffe's mean image); blue, green, red in the file",
        "x.safetensors is a checkpoint: ",
        "alexnet predict IMAGE --checkpoint x.safetensors",
    ] {
        assert!(said.contains(words), "no {words:?} in\n{said}");
    }
    assert_eq!(world.names("."), ["photo.png", "x.safetensors"]);
}
