//! `maps` and `saliency` by the built program, against the checkpoint and the image.

use crate::common::{World, picture};
use crate::{Picture, checkpoint, largest};
use serde_json::Value;

const SIDE: usize = 16;
const CROP: usize = 12;

fn world() -> World {
    let world = World::new();
    world.ok("train --config net.toml --set train.epochs=1 --run run");
    picture(2, 1, SIDE as u32, SIDE as u32).save(world.path("a.png")).unwrap();
    world
}

/// conv1's maps [kernel][10 × 10] of `a.png`, worked out in f64.
fn conv1(world: &World) -> Vec<Vec<f64>> {
    let all = checkpoint(world, "run/best.safetensors");
    let (weights, biases) = (&all["conv1.weight"].1, &all["conv1.bias"].1);
    let mean = &all["data.mean"].1;
    let image = picture(2, 1, SIDE as u32, SIDE as u32);
    let value = |channel: usize, y: usize, x: usize| {
        // The centre crop, of image and mean.
        let (y, x) = (y + 2, x + 2);
        f64::from(image.get_pixel(x as u32, y as u32).0[channel])
            - f64::from(mean[(channel * SIDE + y) * SIDE + x])
    };
    let map = |kernel: usize| {
        let at = |y: usize, x: usize| {
            let mut sum = f64::from(biases[kernel]);
            for (i, weight) in weights[kernel * 27..][..27].iter().enumerate() {
                sum += f64::from(*weight) * value(i / 9, y + i / 3 % 3, x + i % 3);
            }
            sum
        };
        (0..100).map(|i| at(i / 10, i % 10)).collect()
    };
    (0..8).map(map).collect()
}

/// Asserts that each tile of a picture of 10×10 maps is `shades` of its values.
fn check(
    world: &World,
    said: &Value,
    name: &str,
    maps: &[Vec<f64>],
    shade: impl Fn(f64, f64) -> f64,
) {
    let picture = Picture::open(world, name);
    let number = |value: &Value| value.as_u64().unwrap() as usize;
    let (columns, zoom) = (number(&said["columns"]), number(&said["zoom"]));
    let across = 10 * zoom + number(&said["gap"]);
    for (kernel, map) in maps.iter().enumerate() {
        let (place, tile) = (&said["towers"][kernel / 4], kernel % 4);
        let most = map.iter().fold(0.0, |most: f64, v| most.max(v.abs()));
        let left = number(&place["x"]) + tile % columns * across;
        let top = number(&place["y"]) + tile / columns * across;
        for (i, &value) in map.iter().enumerate() {
            let seen = picture.at(left + i % 10 * zoom, top + i / 10 * zoom)[0];
            let expected = shade(value, most);
            assert!((f64::from(seen) - expected).abs() <= 1.0, "{kernel} {i}: {seen} {expected}");
        }
    }
}

#[test]
fn maps_are_what_each_layer_makes_of_the_image() {
    let world = world();
    let maps = conv1(&world);
    let of = "maps a.png --checkpoint run/best.safetensors --json";
    let said = world.json(&format!("{of} --layer conv1 --out conv1.png"));
    assert_eq!(said["shape"], serde_json::json!([10, 10, 8]));
    check(&world, &said, "conv1.png", &maps, |value, most| 127.5 + 127.5 * value / most);
    let all: Vec<f32> = maps.concat().into_iter().map(|v| v as f32).collect();
    let said_largest = said["largest"].as_f64().unwrap().max(-said["least"].as_f64().unwrap());
    assert!((said_largest / largest(&all) - 1.0).abs() < 1e-4);

    // ReLU works in place in training; here both are there.
    let said = world.json(&format!("{of} --layer relu1 --out relu1.png"));
    let positive: Vec<Vec<f64>> =
        maps.iter().map(|map| map.iter().map(|v| v.max(0.0)).collect()).collect();
    let black = |value: f64, most: f64| if most > 0.0 { 255.0 * value / most } else { 0.0 };
    check(&world, &said, "relu1.png", &positive, black);
    // Layers that one pass takes together in evaluation, and those of neurons.
    for layer in ["lrn1", "pool1", "fc3", "drop3", "softmax"] {
        let said = world.json(&format!("{of} --layer {layer} --out {layer}.png --scale layer"));
        assert!(said["largest"].as_f64().unwrap() >= 0.0, "{layer}: {said}");
        Picture::open(&world, &format!("{layer}.png"));
    }
    let of = "maps a.png --checkpoint run/best.safetensors";
    world.fails(&format!("{of} --layer conv9 --out a1.png"), 2, &["--layer conv9", "pool1"]);
    world.fails(&format!("{of} --layer conv1 --out a.png"), 2, &["a.png", "read here"]);
}

#[test]
fn saliency_shows_the_crop_and_where_the_score_hangs() {
    let world = world();
    let of = "saliency a.png --checkpoint run/best.safetensors --out s.png --json";
    let said = world.json(of);
    let told = world.json("predict a.png --checkpoint run/best.safetensors --json");
    assert_eq!(said["class"], told[0]["top"][0]["label"], "the most probable");
    let probability = |value: &Value| value.as_f64().unwrap();
    let difference =
        probability(&said["probability"]) - probability(&told[0]["top"][0]["probability"]);
    assert!(difference.abs() < 1e-5, "{difference}");
    let sheet = Picture::open(&world, "s.png");
    let image = picture(2, 1, SIDE as u32, SIDE as u32);
    // Below a heading of 34 pixels; 14 pixels for one of the crop's, 168 in all, 16 between cards.
    let (zoom, top) = (14, 50);
    for (x, y) in [(0, 0), (7, 3), (11, 11)] {
        let seen = sheet.at(16 + x * zoom + 1, top + y * zoom + 1);
        assert_eq!(seen, image.get_pixel(x as u32 + 2, y as u32 + 2).0);
    }
    let map: Vec<u8> = (0..CROP * CROP)
        .map(|i| sheet.at(16 + 184 + i % CROP * zoom + 1, top + i / CROP * zoom + 1)[0])
        .collect();
    assert!(map.contains(&255) && map.iter().any(|&value| value < 200), "{map:?}");
    for class in ["down", "level", "slant"] {
        assert_eq!(world.json(&format!("{of} --class {class}"))["class"], class);
    }
    world.fails(&format!("{of} --class lewel"), 2, &["--class", "\"lewel\"", "\"level\""]);
}
