//! Pictures in formats beside JPEG and PNG.

use super::*;

/// Files of which every pixel is Pillow's.
const EXACT: [&str; 15] = [
    "lossless.webp",
    "animation.webp",
    "turned.webp",
    "still.gif",
    "grey.gif",
    "animation.gif",
    "colours.bmp",
    "palette.bmp",
    "grey.bmp",
    "plain.tif",
    "lzw.tif",
    "deflate.tif",
    "grey.tiff",
    "two-tone.tif",
    "turned.tif",
];

/// A data set of one picture, whose shorter side is 21 and stays so: its pixels, and Pillow's sizes.
fn prepared(world: &World, file: &str) -> (Vec<u8>, [usize; 2]) {
    // Whatever it is called.
    copy(world, &format!("formats/{file}"), &format!("s-{file}/a/picture.jpg"));
    world.ok(&format!("prepare image-folder s-{file} --out d-{file} --size 21 --val-fraction 0"));
    let said = expected("pictures", &format!("formats/{file}"));
    let sides = [0, 1].map(|side| said[side].as_u64().unwrap() as usize);
    (images(world, &format!("d-{file}"), "train")[0].pixels.clone(), sides)
}

/// The middle 21×21 of RGB pixels of `sides` [width, height].
fn middle(pixels: &[u8], [width, height]: [usize; 2]) -> Vec<u8> {
    let (left, top) = ((width - 21) / 2, (height - 21) / 2);
    let rows = pixels.chunks_exact(3 * width).skip(top).take(21);
    rows.flat_map(|row| &row[3 * left..3 * (left + 21)]).copied().collect()
}

/// The sum of all pixels is known of each file; the middle of them is compared through a decoder
/// that is turned by hand and found to have that sum.
#[test]
fn pictures_are_what_pillow_makes_of_them() {
    let world = world();
    for file in EXACT {
        let (pixels, sides) = prepared(&world, file);
        let image = image::open(made(&format!("formats/{file}"))).unwrap();
        let whole = if file.starts_with("turned") { image.rotate90() } else { image }.to_rgb8();
        assert_eq!([whole.width(), whole.height()].map(|side| side as usize), sides, "{file}");
        let said = expected("pictures", &format!("formats/{file}"));
        assert_eq!(sum(&whole), said[2].as_str().unwrap(), "{file}: not Pillow's pixels");
        assert!(pixels == middle(&whole, sides), "{file}");
    }
}

/// Decoders of lossy WebP round in their own ways.
#[test]
fn lossy_pictures_are_nearly_what_pillow_makes_of_them() {
    let world = world();
    let (pixels, sides) = prepared(&world, "lossy.webp");
    let theirs = middle(&fs::read(made("formats/lossy.webp.rgb")).unwrap(), sides);
    let off = pixels.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).max();
    assert!(off <= Some(3), "off by {off:?}");
}

#[test]
fn formats_that_cannot_be_read_are_named() {
    let world = world();
    put(&world, "s/a/0.png", &png(&picture(0, 0)));
    for (name, bytes, words) in [
        ("photo.heic", &b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"[..], "a HEIC (or HEIF); save it"),
        ("photo.avif", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1", "an AVIF; save it as PNG or JPEG"),
        ("other.avif", b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", "an AVIF"),
        ("clip.jpg", b"\0\0\0\x18ftypisom\0\0\0\0isom", "a video file"),
        ("scan.tif", &fs::read(made("formats/jpeg.tif")).unwrap(), "a JPEG inside of the TIFF"),
    ] {
        put(&world, &format!("s/a/{name}"), bytes);
        world.ok("prepare image-folder s --out d --size 16 --val-fraction 0 --max-bad 1");
        let skipped = skipped(&world, "d");
        let reason = skipped[0]["reason"].as_str().unwrap();
        assert!(reason.contains(words), "{reason}");
        fs::remove_file(world.path(&format!("s/a/{name}"))).unwrap();
        fs::remove_dir_all(world.path("d")).unwrap();
    }
}

/// Sizes are refused by the header, as of PNG.
#[test]
fn pictures_that_are_too_large_or_cut_short_are_skipped() {
    let world = world();
    put(&world, "s/a/0.png", &png(&picture(0, 0)));
    let gif = |side: u16| {
        let side = side.to_le_bytes();
        [
            b"GIF89a",
            &side[..],
            &side,
            b"\x80\0\0\0\0\0\xff\xff\xff\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0\x3b",
        ]
        .concat()
    };
    put(&world, "s/a/canvas.gif", &gif(40_000));
    put(&world, "s/a/few.gif", &gif(20_000));
    let mut bmp = fs::read(made("formats/colours.bmp")).unwrap();
    bmp[18..22].copy_from_slice(&30_000u32.to_le_bytes());
    bmp[22..26].copy_from_slice(&30_000u32.to_le_bytes());
    put(&world, "s/a/wide.bmp", &bmp);
    for file in ["lossless.webp", "lossy.webp", "lzw.tif", "colours.bmp", "still.gif"] {
        let bytes = fs::read(made(&format!("formats/{file}"))).unwrap();
        put(&world, &format!("s/a/cut-{file}"), &bytes[..bytes.len() / 2]);
    }
    world.ok("prepare image-folder s --out d --size 16 --val-fraction 0 --max-bad 8");
    let skipped = skipped(&world, "d");
    assert_eq!(skipped.len(), 8, "{skipped:?}");
    let reason = |name: &str| {
        let line = skipped.iter().find(|line| line["file"] == format!("a/{name}")).expect(name);
        line["reason"].as_str().unwrap()
    };
    assert!(reason("canvas.gif").contains("40000×40000 pixels are more than the 512 million"));
    assert!(reason("few.gif").contains("cannot hold 20000×20000 pixels"), "{}", reason("few.gif"));
    assert!(reason("wide.bmp").contains("30000×30000 pixels are more"), "{}", reason("wide.bmp"));
}
