//! Grey images in the MNIST format through the built binary: prepare idx, train, eval, predict.
//! What the config leaves open, channels and classes, comes from the data set.

mod common;

use common::World;

#[test]
fn grey_images_from_idx_files_to_predictions() {
    let world = World { folder: tempfile::tempdir().unwrap() };
    world.grey(80, 20);
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
