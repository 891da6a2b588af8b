//! Grey images in the MNIST format through the built binary: prepare idx, train, eval, predict. What
//! the config leaves open, channels and classes, comes from the data set.

mod common;

use common::World;

/// Images [n, 12, 12]: class 0 has a bright left half, class 1 a bright upper half; and their labels.
fn idx(n: u32) -> (Vec<u8>, Vec<u8>) {
    let mut images = [2051, n, 12, 12].map(u32::to_be_bytes).concat();
    let mut labels = [2049, n].map(u32::to_be_bytes).concat();
    for i in 0..n {
        labels.push((i % 2) as u8);
        for pixel in 0..144 {
            let bright = if i % 2 == 0 { pixel % 12 < 6 } else { pixel < 72 };
            images.push(if bright { 200 } else { 30 } + (i * 7 % 50) as u8);
        }
    }
    (images, labels)
}

const CONFIG: &str = r#"
name = "grey"
towers = 2
[data]
path = "set"
crop = 10
[train]
batch = 8
epochs = 4
[schedule]
kind = "steps"
rate = 0.0005
[[layer]]
name = "conv1"
kind = "conv"
kernels = 4
size = 3
[[layer]]
name = "relu1"
kind = "relu"
[[layer]]
name = "fc2"
kind = "fc"
outputs = "classes"
tower = 0
[[layer]]
name = "softmax"
kind = "softmax"
"#;

#[test]
fn grey_images_from_idx_files_to_predictions() {
    let world = World { folder: tempfile::tempdir().unwrap() };
    std::fs::create_dir(world.path("idx")).unwrap();
    for (name, n) in [("train", 80), ("t10k", 20)] {
        let (images, labels) = idx(n);
        std::fs::write(world.path(&format!("idx/{name}-images-idx3-ubyte")), images).unwrap();
        std::fs::write(world.path(&format!("idx/{name}-labels-idx1-ubyte")), labels).unwrap();
    }
    world.write("idx/classes.txt", "left\nupper\n");
    world.write("grey.toml", CONFIG);
    world.ok("prepare idx idx --out set");
    world.ok("train --config grey.toml --run run");
    let resolved = world.text("run/config.toml");
    assert!(resolved.contains("channels = 1"), "{resolved}");

    let test = world.json("eval run/best.safetensors --split test --json");
    assert_eq!(test["images"], 20);
    assert_eq!(test["top1_error"], 0.0);
    // With two classes, the five most probable are all of them.
    assert_eq!(test["top5_error"], 0.0);

    let picture =
        image::GrayImage::from_fn(12, 12, |x, _| image::Luma([if x < 6 { 210 } else { 40 }]));
    picture.save(world.path("left.png")).unwrap();
    let answer = world.json("predict left.png --checkpoint run/best.safetensors --json");
    assert_eq!(answer[0]["top"][0]["label"], "left");
    assert_eq!(answer[0]["top"].as_array().unwrap().len(), 2);
    let network = world.json("inspect grey.toml --json");
    assert_eq!(network["layers"][0]["parameters"], 4 * 9 + 4);
}
