//! Files from anywhere, through the built binary: JPEGs that lack something, Exif data in every
//! form, large photographs, text with byte order marks.

mod common;

use alexnet::data::area::Area;
use alexnet::data::dataset::Dataset;
use common::{World, sentence, stderr};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn data(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn empty() -> World {
    World { folder: tempfile::tempdir().unwrap() }
}

fn put(world: &World, name: &str, bytes: &[u8]) {
    fs::create_dir_all(world.path(name).parent().unwrap()).unwrap();
    fs::write(world.path(name), bytes).unwrap();
}

/// The pixels of each training image of a data set, by its name.
fn pixels(world: &World, set: &str) -> Vec<(String, Vec<u8>)> {
    let dataset = Dataset::open(&world.path(set)).unwrap();
    let (height, width) = (dataset.header.height, dataset.header.width);
    let train = dataset.split("train").unwrap();
    let read = |index| {
        let mut pixels = vec![0; dataset.header.image_bytes()];
        train.read(index, &Area::all(height, width), &mut pixels).unwrap();
        (train.name(index).to_string(), pixels)
    };
    (0..train.len()).map(read).collect()
}

/// The JPEG file without its segments of the kind `marker`.
fn without(jpeg: &[u8], marker: u8) -> Vec<u8> {
    let mut jpeg = jpeg.to_vec();
    while let Some(at) = jpeg.windows(2).position(|w| w == [0xff, marker]) {
        let length = usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
        jpeg.drain(at..at + 2 + length);
    }
    jpeg
}

#[test]
fn jpegs_that_lack_what_costs_no_pixel_are_used_and_it_is_said() {
    let world = empty();
    let whole = data("jpeg/small-2x2-plain.jpg");
    let progressive = data("jpeg/small-2x2-progressive.jpg");
    let no_end = &whole[..whole.len() - 2];
    put(&world, "src/a/1.jpg", &whole);
    put(&world, "src/a/2.jpg", &without(&whole, 0xc4));
    put(&world, "src/a/3.jpg", no_end);
    put(&world, "src/a/4.jpg", &[no_end, &[0; 64]].concat());
    put(&world, "src/b/5.jpg", &progressive);
    put(&world, "src/b/6.jpg", &progressive[..progressive.len() - 2]);
    put(&world, "src/b/7.jpg", &whole[..whole.len() - 40]);
    let said = world.ok(
        "prepare image-folder src --out set --size 32 --val-fraction 0 --max-bad 1 --workers 2",
    );
    assert!(said.contains("1 image was skipped"), "{said}");
    let line = "used all the same: a/2.jpg: it has no Huffman tables";
    assert!(said.contains(line), "{said}");
    let line = "used all the same: a/3.jpg and 2 more: it has no end marker, but all of its pixels";
    assert!(said.contains(line), "{said}");
    assert!(world.text("set/skipped.jsonl").contains("the file was cut short"));

    let images = pixels(&world, "set");
    let of = |name: &str| &images.iter().find(|(n, _)| n.ends_with(name)).expect(name).1;
    for name in ["2.jpg", "3.jpg", "4.jpg"] {
        assert!(of(name) == of("1.jpg"), "{name}");
    }
    assert!(of("5.jpg") == of("6.jpg"));
}

#[test]
fn predict_says_what_was_wrong_with_an_image() {
    let world = World::new();
    world.ok("train --config linear.toml --run run");
    let whole = data("jpeg/small-2x2-plain.jpg");
    put(&world, "whole.jpg", &whole);
    put(&world, "odd.jpg", &without(&whole[..whole.len() - 2], 0xc4));
    put(&world, "cut.jpg", &whole[..whole.len() / 2]);
    let checkpoint = "--checkpoint run/best.safetensors --device cpu";
    let output = world.run(&format!("predict whole.jpg odd.jpg {checkpoint}"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stderr(&output);
    assert_eq!(said.matches("odd.jpg: it has no").count(), 2, "{said}");
    assert!(!said.contains("whole.jpg"), "{said}");

    let answers = world.json(&format!("predict whole.jpg odd.jpg {checkpoint} --json"));
    assert_eq!(answers[0]["top"], answers[1]["top"]);
    assert!(answers[0].get("notes").is_none(), "{answers}");
    assert_eq!(answers[1]["notes"].as_array().unwrap().len(), 2, "{answers}");
    let output = world.run(&format!("predict cut.jpg {checkpoint}"));
    assert!(stderr(&output).contains("cut.jpg: as a JPEG: the file was cut short"));
    assert!(sentence(&output).contains("no answer for 1 of 1 images"));
}

#[test]
fn exif_data_turn_a_picture_in_every_legal_form() {
    let world = empty();
    let list = String::from_utf8(data("exif/pixels.txt")).unwrap();
    for name in list.lines().map(|line| line.split(' ').next().unwrap()) {
        let class = if name.starts_with("none") { "upright" } else { "turned" };
        put(&world, &format!("src/{class}/{name}"), &data(&format!("exif/{name}")));
    }
    let prepare = "prepare image-folder src --size 16 --val-fraction 0 --out";
    world.ok(&format!("{prepare} turned"));
    world.ok(&format!("{prepare} stored --orientation ignore"));
    let (turned, stored) = (pixels(&world, "turned"), pixels(&world, "stored"));
    assert!(turned.len() > 15);
    for end in [".jpg", ".png"] {
        let of = |images: &[(String, Vec<u8>)]| -> Vec<(String, Vec<u8>)> {
            images.iter().filter(|(name, _)| name.ends_with(end)).cloned().collect()
        };
        let (turned, stored) = (of(&turned), of(&stored));
        let upright = &turned.iter().find(|(name, _)| name.contains("none")).unwrap().1;
        assert!(stored.iter().all(|(_, pixels)| pixels == upright), "{end}");
        let first = &turned.iter().find(|(name, _)| name.contains("turned/")).unwrap().1;
        for (name, pixels) in turned.iter().filter(|(name, _)| name.contains("turned/")) {
            assert!(pixels == first && pixels != upright, "{name}");
        }
    }
}

/// A JPEG of `width`×`height` pixels in one colour, 4:2:0, without the standard's Huffman tables.
/// A unit of 16×16 pixels is six blocks without coefficients: luminance's difference of 0 is 00 and
/// its end of block 1010, chrominance's are both 00.
fn plain_colour(width: u16, height: u16) -> Vec<u8> {
    let mut jpeg = vec![0xff, 0xd8, 0xff, 0xdb, 0, 67, 0];
    jpeg.extend([16; 64]);
    jpeg.extend([0xff, 0xc0, 0, 17, 8]);
    jpeg.extend([height.to_be_bytes(), width.to_be_bytes()].concat());
    jpeg.extend([3, 1, 0x22, 0, 2, 0x11, 0, 3, 0x11, 0]);
    jpeg.extend([0xff, 0xda, 0, 12, 3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0]);
    let units = usize::from(width).div_ceil(16) * usize::from(height).div_ceil(16);
    jpeg.extend([0x28, 0xa2, 0x8a, 0x00].repeat(units));
    jpeg.extend([0xff, 0xd9]);
    jpeg
}

#[test]
fn photographs_of_108_megapixels_are_read() {
    let world = empty();
    put(&world, "src/a/wide.jpg", &plain_colour(12_000, 9_000));
    put(&world, "src/a/small.jpg", &plain_colour(48, 32));
    let prepare = "prepare image-folder src --size 32 --val-fraction 0 --out";
    world.ok(&format!("{prepare} set"));
    let images = pixels(&world, "set");
    assert_eq!(images.len(), 2);
    assert!(images.iter().all(|(_, pixels)| pixels.iter().all(|&value| value == 128)));
}

#[test]
fn what_is_too_large_for_the_program_or_the_memory_is_skipped_with_a_sentence() {
    let world = empty();
    put(&world, "src/a/small.jpg", &plain_colour(48, 32));
    put(&world, "src/a/wide.jpg", &plain_colour(12_000, 9_000));
    // Of the largest only the header is looked at.
    put(&world, "src/a/widest.jpg", &plain_colour(16, 16));
    let mut widest = world.bytes("src/a/widest.jpg");
    let frame = widest.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    widest[frame + 5..frame + 9].copy_from_slice(&[0x5f, 0, 0x5f, 0]);
    put(&world, "src/a/widest.jpg", &widest);
    let program = env!("CARGO_BIN_EXE_alexnet");
    let limited = "prepare image-folder src --size 32 --val-fraction 0 --max-bad 2 --out set \
                   --workers 1 --threads 1";
    let line = format!("ulimit -v 400000; {program} {limited}");
    let output =
        Command::new("bash").current_dir(world.folder.path()).args(["-c", &line]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let skipped = world.text("set/skipped.jsonl");
    let words = "decoding 12000×9000 pixels takes";
    assert!(skipped.contains(words) && skipped.contains("are free"), "{skipped}");
    let words = "24320×24320 pixels are more than the 512 million that are read";
    assert!(skipped.contains(words), "{skipped}");
}

#[test]
fn what_an_image_really_is_is_said() {
    let world = empty();
    put(&world, "src/a/good.jpg", &plain_colour(48, 32));
    let zeros = vec![0; 500];
    let files: [(&str, &[u8], &str); 8] = [
        ("animation.jpg", b"GIF89a\x01\0\x01\0", "a GIF"),
        ("web.jpg", b"RIFF\x20\0\0\0WEBPVP8 ", "a WebP"),
        ("telephone.jpg", b"\0\0\0\x18ftypheic", "a HEIC"),
        ("next.jpg", b"\xff\x0a\xfa\x1f", "a JPEG XL"),
        ("scan.png", b"II*\0\x08\0\0\0", "a TIFF"),
        ("page.png", b"%PDF-1.4\n", "a PDF"),
        ("empty.png", b"", "the file is empty"),
        ("zeros.jpg", &zeros, "nothing but zeros"),
    ];
    for (name, bytes, _) in files {
        put(&world, &format!("src/a/{name}"), bytes);
    }
    world.ok("prepare image-folder src --size 32 --val-fraction 0 --max-bad 8 --out set");
    let skipped = world.text("set/skipped.jsonl");
    for (name, _, what) in files {
        let line = skipped.lines().find(|line| line.contains(name)).expect(name);
        assert!(line.contains(what), "{line}");
    }
}

/// As Windows writes text.
fn marked(text: &str) -> [Vec<u8>; 3] {
    let utf16 = |unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
        std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(unit).collect()
    };
    [[b"\xef\xbb\xbf", text.as_bytes()].concat(), utf16(u16::to_le_bytes), utf16(u16::to_be_bytes)]
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn byte_order_marks_are_no_part_of_any_text() {
    let world = World::new();
    let plain = world.ok("inspect linear.toml");
    let child = "extends = \"linear.toml\"\n[train]\nbatch = 10\n";
    for (index, config) in marked(&world.text("linear.toml")).into_iter().enumerate() {
        put(&world, "linear.toml", &config);
        assert_eq!(world.ok("inspect linear.toml"), plain);
        put(&world, "child.toml", &marked(child)[index]);
        assert_eq!(world.ok("inspect child.toml --set name=linear"), plain);
    }
    // Without a mark it is named.
    let bare: Vec<u8> = child.encode_utf16().flat_map(u16::to_le_bytes).collect();
    put(&world, "bare.toml", &bare);
    world.fails("inspect bare.toml", 2, &["bare.toml", "UTF-16 text without a byte order mark"]);

    let header = world.text("set/dataset.json");
    put(&world, "set/dataset.json", &marked(&header)[0]);
    world.ok("train --config linear.toml --run run --device cpu");

    let grey = empty();
    grey.grey(20, 4);
    fs::remove_dir_all(grey.path("set")).unwrap();
    for (index, names) in marked("links\nüber\n").into_iter().enumerate() {
        put(&grey, "names.txt", &names);
        grey.ok(&format!("prepare idx idx --out set{index} --classes names.txt"));
        let text = grey.text(&format!("set{index}/dataset.json"));
        assert!(text.contains("\"id\": \"links\"") && text.contains("\"id\": \"über\""), "{text}");
    }
    put(&grey, "names.txt", b"links\n\xfcber\n");
    let output = grey.run("prepare idx idx --out set --classes names.txt");
    assert_eq!(code(&output), 1);
    assert!(sentence(&output).contains("no UTF-8 text (line 2)"), "{}", stderr(&output));
}
