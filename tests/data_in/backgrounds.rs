//! Pictures that are transparent in places.

use super::*;

const FILES: [&str; 7] = [
    "colours.png",
    "grey.png",
    "palette.png",
    "key.png",
    "colours.webp",
    "hole.gif",
    "colours.tif",
];

/// A data set of one picture, not scaled: its pixels.
fn pixels(world: &World, file: &str, set: &str, options: &str) -> Vec<u8> {
    let folder = format!("s-{set}");
    copy(world, &format!("alpha/{file}"), &format!("{folder}/a/{file}"));
    // 30×21: as a table of one class, prepared as it is.
    world.ok(&format!(
        "prepare image-folder {folder} --out {set} --size 21 --val-fraction 0 {options}"
    ));
    images(world, set, "train")[0].pixels.clone()
}

/// The middle 21×21 of an RGB image of 30×21.
fn middle(whole: &[u8]) -> Vec<u8> {
    whole.chunks_exact(90).flat_map(|row| &row[12..75]).copied().collect()
}

/// Pillow's picture, made again from its parts: what is said of it is a sum of the whole.
fn composed(file: &str, colour: [u8; 3]) -> Vec<u8> {
    let image = image::open(made(&format!("alpha/{file}"))).unwrap().to_rgba8();
    let over = |p: &image::Rgba<u8>| {
        [0, 1, 2].map(|c| {
            let alpha = f64::from(p[3]) / 255.0;
            (f64::from(p[c]) * alpha + f64::from(colour[c]) * (1.0 - alpha)).round() as u8
        })
    };
    image.pixels().flat_map(over).collect()
}

#[test]
fn transparent_pictures_are_composed_as_pillow_does() {
    let world = world();
    for file in FILES {
        let said = expected("pictures", &format!("alpha/{file}"));
        for (n, (colour, option)) in
            [([255; 3], ""), ([0x20, 0x40, 0x60], "--background 204060")].into_iter().enumerate()
        {
            let whole = composed(file, colour);
            assert_eq!(sum(&whole), said[2 + n].as_str().unwrap(), "{file}: Pillow has others");
            let set = format!("{file}-{n}");
            assert!(pixels(&world, file, &set, option) == middle(&whole), "{file} on {colour:?}");
        }
    }
}

/// A picture of 16×16 whose left half is transparent, over colours of its own.
fn half_hidden() -> image::RgbaImage {
    image::RgbaImage::from_fn(16, 16, |x, y| {
        image::Rgba([(x * 16) as u8, (y * 16) as u8, 90, if x < 8 { 0 } else { 255 }])
    })
}

/// The same without transparency, before `colour`, or in its hidden colours.
fn opaque(colour: Option<[u8; 3]>) -> RgbImage {
    let whole = half_hidden();
    RgbImage::from_fn(16, 16, |x, y| match (whole.get_pixel(x, y).0, colour) {
        ([.., 0], Some(colour)) => image::Rgb(colour),
        ([r, g, b, _], _) => image::Rgb([r, g, b]),
    })
}

/// What `predict` says of the picture `name`, without its name.
fn answer(world: &World, checkpoint: &str, name: &str) -> String {
    let answer = world.ok(&format!("predict {name} --checkpoint {checkpoint} --json"));
    answer.replace(name, "")
}

/// A network sees pictures before the background of those that it was trained on; one of before
/// backgrounds were kept sees hidden colours, as it did then.
#[test]
fn predict_follows_the_background_or_its_absence() {
    let world = World::new();
    half_hidden().save(world.path("hidden.png")).unwrap();
    opaque(Some([255; 3])).save(world.path("white.png")).unwrap();
    opaque(Some([0, 0, 64])).save(world.path("blue.png")).unwrap();
    opaque(None).save(world.path("dropped.png")).unwrap();
    world.ok("prepare image-folder photos --out blue-set --size 16 --background 000040");
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/version-1/run");
    fs::copy(old.join("last.safetensors"), world.path("old.safetensors")).unwrap();
    for (set, run) in [("set", "on-white"), ("blue-set", "on-blue")] {
        let train = "train --config linear.toml --set train.epochs=1 --data";
        world.ok(&format!("{train} {set} --run {run}"));
    }
    let pictures = ["white.png", "blue.png", "dropped.png"];
    for (checkpoint, same) in [
        ("on-white/last.safetensors", "white.png"),
        ("on-blue/last.safetensors", "blue.png"),
        ("old.safetensors", "dropped.png"),
    ] {
        let seen = answer(&world, checkpoint, "hidden.png");
        for picture in pictures {
            let alike = answer(&world, checkpoint, picture) == seen;
            assert_eq!(alike, picture == same, "{checkpoint}, {picture}");
        }
    }
}

/// What an older version began goes on as it was begun.
#[test]
fn what_was_begun_without_a_background_ends_without_one() {
    let world = world();
    for i in 0..4 {
        let path = world.path(&format!("s/a/{i}.png"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        half_hidden().save(path).unwrap();
    }
    put(&world, "s/a/bad.png", b"no picture");
    let prepare = "prepare image-folder s --out o --size 16 --val-fraction 0 --max-bad";
    world.fails(&format!("{prepare} 0"), 1, &["1 of 5"]);
    let state = world.text("o/unfinished.json");
    assert!(state.contains("\"background\""), "{state}");
    let older = state.replace(",\n    \"background\": \"ffffff\"", "");
    assert_ne!(older, state);
    // Without its checksum, a file that was changed is read as it is.
    let body = &older[..older.rfind(",\n  \"checksum\"").unwrap()];
    world.write("o/unfinished.json", &format!("{body}\n}}\n"));
    fs::remove_file(world.path("o/train-00000.shard")).unwrap();
    let words = ["another source or other settings"];
    world.fails(&format!("{prepare} 1 --background 000000"), 2, &words);
    world.ok(&format!("{prepare} 1"));
    assert!(!world.text("o/dataset.json").contains("background"));
    assert!(images(&world, "o", "train")[0].pixels == opaque(None).into_raw());
}

#[test]
fn a_background_that_is_no_colour_is_refused() {
    let world = World::new();
    for colour in ["white", "fff", "12345g"] {
        let args = format!("prepare image-folder photos --out o --background {colour}");
        let output = world.run(&args);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("six digits of base 16"), "{}", stderr(&output));
    }
}
