//! Both sides scaled to the size, as Caffe's pictures are.

use super::*;

#[test]
fn warped_pictures_are_what_pillow_makes_of_them() {
    let world = world();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/prepare");
    for name in ["down", "up"] {
        let bytes = fs::read(data.join(format!("{name}.png"))).unwrap();
        put(&world, &format!("s-{name}/a/{name}.png"), &bytes);
        let out = world.ok(&format!(
            "prepare image-folder s-{name} --out {name} --size 32 --val-fraction 0 --resize warp"
        ));
        let ours = &images(&world, name, "train")[0].pixels;
        let theirs = fs::read(made(&format!("{name}.warp"))).unwrap();
        let off = ours.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).max();
        assert!(ours.len() == theirs.len() && off <= Some(1), "{name}: off by {off:?}");
        assert_eq!(out.contains("1 image is smaller than 32×32"), name == "up", "{out}");
        let header: Value =
            serde_json::from_str(&world.text(&format!("{name}/dataset.json"))).unwrap();
        let preparation = &header["preparation"];
        assert_eq!(
            (&preparation["resize"], &preparation["crop"]),
            (&"warp".into(), &"none".into())
        );
    }
    let none = world.run("prepare image-folder s-up --out o --resize none");
    assert_eq!(none.status.code(), Some(2));
    assert!(stderr(&none).contains("shorter-side, warp"), "{}", stderr(&none));
}

/// A JPEG, of which only what is needed is decoded elsewhere, is scaled as its pixels in a PNG are;
/// and `predict` looks at a picture as at those it was trained on.
#[test]
fn jpegs_are_warped_too_and_predict_follows() {
    let world = World::new();
    let wide = RgbImage::from_fn(40, 16, |x, y| image::Rgb([(x * 6) as u8, (y * 15) as u8, 80]));
    let file = std::fs::File::create(world.path("wide.jpg")).unwrap();
    let encoder = jpeg_encoder::Encoder::new(file, 95);
    encoder.encode(&wide, 40, 16, jpeg_encoder::ColorType::Rgb).unwrap();
    for (set, resize) in [("warped", "--resize warp"), ("cut", "")] {
        world.ok(&format!("prepare image-folder photos --out {set} --size 16 {resize}"));
        world.ok(&format!(
            "train --config linear.toml --set train.epochs=1 --data {set} --run r-{set}"
        ));
    }
    // The prepared picture, as a file of its own: it needs no scaling.
    fs::create_dir_all(world.path("one/a")).unwrap();
    fs::copy(world.path("wide.jpg"), world.path("one/a/wide.jpg")).unwrap();
    for (set, resize) in [("warped", "--resize warp"), ("cut", "")] {
        let one = format!("one-{set}");
        world.ok(&format!(
            "prepare image-folder one --out {one} --size 16 --val-fraction 0 {resize}"
        ));
        let pixels = images(&world, &one, "train")[0].pixels.clone();
        let ready = RgbImage::from_raw(16, 16, pixels).unwrap();
        ready.save(world.path(&format!("{set}.png"))).unwrap();
    }
    for set in ["warped", "cut"] {
        let answer = |name: &str| {
            let args = format!("predict {name} --checkpoint r-{set}/last.safetensors --json");
            world.ok(&args).replace(name, "")
        };
        assert_eq!(answer("wide.jpg") == answer("warped.png"), set == "warped");
        assert_eq!(answer("wide.jpg") == answer("cut.png"), set == "cut");
    }
}
