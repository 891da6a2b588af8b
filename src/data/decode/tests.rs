use super::turn::turn;
use super::*;
use image::metadata::Orientation as Mark;
use std::io::Write;

fn file(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/data/prepare/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn image(bytes: &[u8], orientation: Orientation, channels: usize) -> Result<Image> {
    decode(bytes, orientation, None, channels).map(|decoded| decoded.image)
}

fn rgb(bytes: &[u8]) -> Result<Image> {
    image(bytes, Orientation::Ignore, 3)
}

#[test]
fn jpegs_are_what_pillow_makes_of_them() {
    for name in ["baseline420", "baseline444", "progressive420", "grey", "cmyk"] {
        let ours = rgb(&file(&format!("{name}.jpg"))).unwrap();
        assert!(ours.pixels == file(&format!("{name}.rgb")), "{name}");
    }
}

#[test]
fn pngs_are_what_pillow_makes_of_them() {
    for name in ["palette", "alpha"] {
        let ours = rgb(&file(&format!("{name}.png"))).unwrap();
        assert!(ours.pixels == file(&format!("{name}.rgb")), "{name}");
    }
    let grey = image(&file("plain.png"), Orientation::Ignore, 1).unwrap();
    assert_eq!(grey.pixels, file("plain.grey"));
}

#[test]
fn orientation_is_applied_or_ignored() {
    let bytes = file("rotated.jpg");
    let stored = rgb(&bytes).unwrap();
    assert_eq!((stored.height, stored.width), (47, 61));
    let turned = image(&bytes, Orientation::Apply, 3).unwrap();
    assert_eq!((turned.height, turned.width), (61, 47));
    let theirs = file("rotated.rgb");
    assert!(turned.pixels.iter().zip(&theirs).all(|(a, b)| a.abs_diff(*b) <= 3));
}

/// Every orientation mark of a 2×3 image, written out by hand from the EXIF standard.
#[test]
fn each_orientation_mark_turns_its_way() {
    let image = Image { height: 2, width: 3, channels: 1, pixels: b"abcdef".to_vec() };
    let expected: [&[u8]; 8] =
        [b"abcdef", b"cbafed", b"fedcba", b"defabc", b"adbecf", b"daebfc", b"fcebda", b"cfbead"];
    for (exif, expected) in (1..).zip(expected) {
        let turned = turn(image.clone(), Mark::from_exif(exif).unwrap()).unwrap();
        assert_eq!(turned.pixels, expected, "mark {exif}");
        assert_eq!(turned.height, if exif < 5 { 2 } else { 3 });
    }
}

/// tests/data/exif says what Pillow makes of one picture, turned by every form of Exif data.
#[test]
fn every_form_of_orientation_is_read() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/exif");
    let list = std::fs::read_to_string(format!("{folder}/pixels.txt")).unwrap();
    assert!(list.lines().count() > 15);
    for line in list.lines() {
        let name = line.split(' ').next().unwrap();
        let bytes = std::fs::read(format!("{folder}/{name}")).unwrap();
        let turned = image(&bytes, Orientation::Apply, 3).unwrap();
        let crc = crc32fast::hash(&turned.pixels);
        assert_eq!(format!("{name} {} {} {crc:08x}", turned.width, turned.height), line);
    }
}

#[test]
fn an_image_cut_short_is_an_error() {
    for name in ["baseline420.jpg", "baseline444.jpg", "progressive420.jpg", "plain.png"] {
        let bytes = file(name);
        // The last four bytes of a PNG are the checksum of an empty chunk, the last two of a JPEG
        // the end marker.
        let end = bytes.len() - if name == "plain.png" { 4 } else { 2 };
        for cut in 0..end {
            assert!(rgb(&bytes[..cut]).is_err(), "{name} with {cut} of {} bytes", bytes.len());
        }
        for cut in end..bytes.len() {
            assert_eq!(rgb(&bytes[..cut]).unwrap(), rgb(&bytes).unwrap(), "{name}, {cut}");
        }
    }
}

/// What viewers show, we read: bytes between segments, a broken APP14, a second image behind.
#[test]
fn clutter_in_a_jpeg_does_no_harm() {
    let bytes = file("baseline420.jpg");
    let tables = bytes.windows(2).position(|w| w == [0xff, 0xdb]).unwrap();
    let plain = rgb(&bytes).unwrap();
    let broken_adobe = [0xff, 0xee, 0, 4, b'A', b'd'];
    for clutter in [&[0xff, 0x00][..], &[1, 2, 3, 4], &broken_adobe] {
        let cluttered = [&bytes[..tables], clutter, &bytes[tables..]].concat();
        assert_eq!(rgb(&cluttered).unwrap(), plain, "{clutter:?}");
    }
    assert_eq!(rgb(&[&bytes[..], &bytes[..300]].concat()).unwrap(), plain);
}

#[test]
fn gzipped_images_are_unpacked() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Default::default());
    gzip.write_all(&file("baseline420.jpg")).unwrap();
    assert_eq!(rgb(&gzip.finish().unwrap()).unwrap(), rgb(&file("baseline420.jpg")).unwrap());
}

#[test]
fn sixteen_bits_keep_the_upper_eight() {
    let samples: Vec<u8> =
        [0x12ffu16, 0xff00, 0x0001].iter().flat_map(|v| v.to_ne_bytes()).collect();
    let mut png = Vec::new();
    image::ImageEncoder::write_image(
        image::codecs::png::PngEncoder::new(&mut png),
        &samples,
        3,
        1,
        image::ExtendedColorType::L16,
    )
    .unwrap();
    assert_eq!(rgb(&png).unwrap().pixels, [0x12, 0x12, 0x12, 0xff, 0xff, 0xff, 0, 0, 0]);
}

#[test]
fn a_bomb_is_refused_by_its_header() {
    // A JPEG whose frame header says 65,535 × 65,535; a PNG with sides of 100,000.
    let mut jpeg = file("baseline420.jpg");
    let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xff);
    let error = format!("{:#}", rgb(&jpeg).unwrap_err());
    assert!(error.contains("65535×65535 pixels are more than the 512 million"), "{error}");

    let mut png = file("plain.png");
    png[16..20].copy_from_slice(&100_000u32.to_be_bytes());
    png[20..24].copy_from_slice(&100_000u32.to_be_bytes());
    let crc = crc32fast::hash(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    let error = format!("{:#}", rgb(&png).unwrap_err());
    assert!(error.contains("100000×100000 pixels are more than"), "{error}");
}

/// A few bytes that speak of many pixels take no memory for them.
#[test]
fn a_file_that_cannot_hold_its_pixels_is_refused_by_its_header() {
    let mut jpeg = file("baseline420.jpg");
    let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0x3f, 0xff, 0x3f, 0xff]);
    let mut png = file("plain.png");
    png[16..20].copy_from_slice(&20_000u32.to_be_bytes());
    png[20..24].copy_from_slice(&20_000u32.to_be_bytes());
    let crc = crc32fast::hash(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    for (bytes, size) in [(jpeg, "16383×16383"), (png, "20000×20000")] {
        let error = format!("{:#}", rgb(&bytes).unwrap_err());
        assert!(error.contains(&format!("bytes cannot hold {size} pixels")), "{error}");
    }
}

#[test]
fn what_is_no_image_is_named() {
    for (bytes, name) in [(&b"GIF89a"[..], "a GIF"), (b"<html>", "a web page"), (b"", "empty")] {
        let error = rgb(bytes).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}
