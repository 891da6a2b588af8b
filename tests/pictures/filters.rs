//! `filters`: each pixel against the weights in the checkpoint.

use crate::common::World;
use crate::{Picture, checkpoint, largest, shade};
use serde_json::Value;

/// The upper left corner of tile `tile` of tower `tower`, as the program says it.
fn corner(said: &Value, tower: usize, tile: usize, sides: (usize, usize)) -> (usize, usize) {
    let number = |value: &Value| value.as_u64().unwrap() as usize;
    let (columns, zoom) = (number(&said["columns"]), number(&said["zoom"]));
    let (gap, place) = (number(&said["gap"]), &said["towers"][tower]);
    let across = sides.1 * zoom + gap;
    let down = sides.0 * zoom + gap;
    (number(&place["x"]) + tile % columns * across, number(&place["y"]) + tile / columns * down)
}

/// Asserts that every weight of `layer` is the pixel it should be; `color`: of RGB kernels.
fn check(world: &World, said: &Value, picture: &str, layer: &str, color: bool, common: bool) {
    let picture = Picture::open(world, picture);
    let all = checkpoint(world, "run/best.safetensors");
    let (shape, weights) = &all[&format!("{layer}.weight")];
    let [kernels, channels, height, width] = shape[..] else { panic!("{shape:?}") };
    assert_eq!(said["shape"], serde_json::json!(shape));
    let zoom = said["zoom"].as_u64().unwrap() as usize;
    let size = channels * height * width;
    for kernel in 0..kernels {
        let (tower, own) = (kernel / (kernels / 2), kernel % (kernels / 2));
        let weights_here = &weights[kernel * size..][..size];
        let most = largest(if common { weights } else { weights_here });
        for (at, weight) in weights_here.iter().enumerate() {
            let (channel, y, x) = (at / (height * width), at / width % height, at % width);
            let tile = if color { own } else { own * channels + channel };
            let (left, top) = corner(said, tower, tile, (height, width));
            let expected = shade(f64::from(*weight), most);
            // The first and the last of the pixels of one weight.
            for inside in [0, zoom - 1] {
                let pixel = picture.at(left + x * zoom + inside, top + y * zoom + inside);
                let seen = pixel[if color { channel } else { 0 }];
                assert!(seen.abs_diff(expected) <= 1, "{layer} {kernel} {at}: {seen} {expected}");
            }
        }
    }
}

#[test]
fn each_pixel_is_the_weight_of_the_checkpoint() {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=1 --run run");
    let said = world.json("filters run/best.safetensors --out conv1.png --json");
    assert_eq!(said["layer"], "conv1");
    check(&world, &said, "conv1.png", "conv1", true, false);
    let of = "filters run/best.safetensors --layer conv2 --json";
    let said = world.json(&format!("{of} --out conv2.png"));
    check(&world, &said, "conv2.png", "conv2", false, false);
    let said = world.json(&format!("{of} --scale layer --zoom 2 --out common.png"));
    assert_eq!(said["zoom"], 2);
    check(&world, &said, "common.png", "conv2", false, true);
    let text = world.ok("filters run/best.safetensors --out conv1.svg");
    assert!(text.contains("8 kernels of conv1, 3×3×3, tower 0 above, tower 1 below"), "{text}");
    resvg::usvg::roxmltree::Document::parse(&world.text("conv1.svg")).unwrap();

    let fails = |more: &str, words: &[&str]| {
        world.fails(&format!("filters run/best.safetensors {more}"), 2, words);
    };
    fails("--layer fc3 --out a.png", &["--layer fc3", "conv1, conv2"]);
    fails("--out run/best.safetensors", &[".png or .svg"]);
    world.ok("train --config linear.toml --set train.epochs=1 --run linear");
    world.fails("filters linear/best.safetensors --out a.png", 2, &["none of its layers"]);
    assert!(!world.path("a.png").exists());
}
