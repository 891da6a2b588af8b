//! An image file's bytes to pixels: JPEG or PNG, recognised by content, never by name.
//!
//! The pixels are those that Pillow's `Image.open(…).convert("RGB")` gives (JPEG within the bounds
//! that the tests hold): alpha is dropped, grey is repeated, CMYK is taken as Adobe writes it
//! (inverted), of 16 bits the upper 8 count. A file that is cut short is an error, never filled up
//! with grey. Files gzip-compressed under an image's name are unpacked (ILSVRC-2010 has some).
//!
//! Sizes are checked by the file's header before anything is allocated.

use super::dataset::{Orientation, Preparation};
use super::markers;
use super::resize::{self, Image};
use anyhow::{Context, Result, anyhow, bail, ensure};
use flate2::read::GzDecoder;
use image::codecs::png::PngDecoder;
use image::metadata::Orientation as Mark;
use image::{ColorType, ImageDecoder, Limits};
use std::io::{Cursor, Read};
use std::sync::{Mutex, PoisonError};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// Images with more pixels are refused (ImageNet's largest have some tens of millions).
pub const LARGEST: usize = 100_000_000;
/// A decoder may need this much memory for one image.
const MEMORY: usize = 640 << 20;
/// Images that need more than this are decoded one at a time, whatever the number of threads.
const LARGE: usize = 64 << 20;
/// A gzip-compressed image may unpack to this many bytes.
const UNPACKED: u64 = 128 << 20;

static ONE_LARGE_IMAGE: Mutex<()> = Mutex::new(());

/// Decodes the image file `bytes` and does to it what `preparation` says: turn, scale, crop.
/// The result is [height, width, channels] bytes with the preparation's size; `channels` is 1 (grey,
/// as Pillow's `convert("L")`) or 3 (RGB).
///
/// Where the preparation scales nothing (its images came in one size), an image of another size is
/// still scaled and cropped to that size, so that `predict` can look at any picture.
pub fn prepare_image(bytes: &[u8], preparation: &Preparation, channels: usize) -> Result<Vec<u8>> {
    let image = decode(bytes, preparation.orientation, channels)?;
    let image = resize::cover(image, preparation.size)?;
    Ok(resize::centre(&image, preparation.size))
}

/// Decodes the image file `bytes` to `channels` (1 or 3) values a pixel.
pub fn decode(bytes: &[u8], orientation: Orientation, channels: usize) -> Result<Image> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = Vec::new();
        GzDecoder::new(bytes)
            .take(UNPACKED + 1)
            .read_to_end(&mut unpacked)
            .context("the file is gzip-compressed and does not unpack")?;
        ensure!(
            unpacked.len() as u64 <= UNPACKED,
            "the file is gzip-compressed and unpacks to more than {} MiB",
            UNPACKED >> 20
        );
        return decode_plain(&unpacked, orientation, channels);
    }
    decode_plain(bytes, orientation, channels)
}

fn decode_plain(bytes: &[u8], orientation: Orientation, channels: usize) -> Result<Image> {
    let (image, mark) = if bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        jpeg(bytes, channels).context("as a JPEG")?
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        png(bytes, channels).context("as a PNG")?
    } else {
        bail!("{}", what_else(bytes));
    };
    match orientation {
        Orientation::Apply => Ok(turn(image, mark)),
        Orientation::Ignore => Ok(image),
    }
}

/// For a file that is neither JPEG nor PNG: what it seems to be.
fn what_else(bytes: &[u8]) -> String {
    let kind = match bytes {
        [] => return "the file is empty".into(),
        [b'G', b'I', b'F', b'8', ..] => "a GIF",
        [b'B', b'M', ..] => "a BMP",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "a WebP",
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => "a TIFF",
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => "an AVIF, HEIC or video file",
        [b'<', ..] => "a web page or SVG",
        [0xff, 0xd8, ..] => "a damaged JPEG",
        _ => "neither",
    };
    format!("only JPEG and PNG images can be read, and by its first bytes this is {kind}")
}

/// Refuses by its header what is too large, and lets only one large image in at a time.
fn admit(
    width: usize,
    height: usize,
    bytes_a_pixel: usize,
) -> Result<Option<std::sync::MutexGuard<'static, ()>>> {
    let pixels = width.saturating_mul(height);
    ensure!(pixels > 0, "it has no pixels");
    ensure!(
        pixels <= LARGEST,
        "{width}×{height} pixels are more than the {} million that are read",
        LARGEST / 1_000_000
    );
    let memory = pixels.saturating_mul(bytes_a_pixel);
    ensure!(
        memory <= MEMORY,
        "decoding {width}×{height} pixels would take {} MiB of memory, more than the {} MiB allowed",
        memory >> 20,
        MEMORY >> 20
    );
    Ok((memory > LARGE).then(|| ONE_LARGE_IMAGE.lock().unwrap_or_else(PoisonError::into_inner)))
}

fn jpeg(bytes: &[u8], channels: usize) -> Result<(Image, Mark)> {
    // Nearly all files end with the end marker; only the others need the walk.
    ensure!(
        bytes.ends_with(&[0xff, 0xd9]) || markers::walk(bytes).whole,
        "the file was cut short: it has no end marker"
    );
    strict_jpeg(bytes, channels).or_else(|error| {
        let kept = markers::walk(bytes).kept;
        if kept == bytes { Err(error) } else { strict_jpeg(&kept, channels) }
    })
}

fn strict_jpeg(bytes: &[u8], channels: usize) -> Result<(Image, Mark)> {
    let options = DecoderOptions::new_fast()
        .set_strict_mode(true)
        .set_max_width(u16::MAX.into())
        .set_max_height(u16::MAX.into());
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| anyhow!("{e}"))?;
    let info = decoder.info().context("it has no header")?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    let input = decoder.input_colorspace().context("its colours are unknown")?;
    // Four components are read as stored; the way to RGB is ours, as Pillow's.
    let (output, stored) = match input {
        ColorSpace::Luma => (ColorSpace::Luma, 1),
        ColorSpace::CMYK => (ColorSpace::CMYK, 4),
        ColorSpace::YCCK => (ColorSpace::YCCK, 4),
        _ => (ColorSpace::RGB, 3),
    };
    // A progressive image's coefficients are all kept, 16 bits each, beside planes and output.
    let _alone = admit(width, height, stored * 4)?;
    decoder.set_options(options.jpeg_set_out_colorspace(output));
    let mut pixels = decoder.decode().map_err(|e| anyhow!("{e}"))?;
    ensure!(
        pixels.len() == width * height * stored,
        "the decoder gave {} bytes for {width}×{height} pixels of {stored}",
        pixels.len()
    );
    if stored == 4 {
        pixels = pixels
            .chunks_exact(4)
            .flat_map(|p| four_to_rgb([p[0], p[1], p[2], p[3]], output == ColorSpace::YCCK))
            .collect();
    }
    let mark = decoder.exif().and_then(|exif| Mark::from_exif_chunk(exif));
    let pixels = match stored {
        1 => from_grey(pixels, channels),
        _ => from_rgb(pixels, channels),
    };
    Ok((Image { height, width, channels, pixels }, mark.unwrap_or(Mark::NoTransforms)))
}

/// CMYK or YCCK as Adobe writes them (inverted) to RGB, with Pillow's rounding.
fn four_to_rgb(pixel: [u8; 4], ycck: bool) -> [u8; 3] {
    let [a, b, c, k] = pixel;
    let ink = if ycck {
        // JFIF's equations; libjpeg's fixed point with 16 bits. The stored values are those of
        // inverted inks, that is of light.
        let (y, cb, cr) = (i32::from(a), i32::from(b) - 128, i32::from(c) - 128);
        let half = 1 << 15;
        let r = y + ((91881 * cr + half) >> 16);
        let g = y + ((-22554 * cb - 46802 * cr + half) >> 16);
        let b = y + ((116130 * cb + half) >> 16);
        // libjpeg gives CMY as 255 less RGB.
        [r, g, b].map(|x| 255 - x.clamp(0, 255) as u8)
    } else {
        [a, b, c]
    };
    // As stored 255 is no ink: light = stored · k / 255.
    ink.map(|light| {
        let product = u32::from(255 - light) * u32::from(k) + 128;
        let absorbed = ((product >> 8) + product) >> 8;
        (u32::from(k) - absorbed.min(u32::from(k))) as u8
    })
}

fn png(bytes: &[u8], channels: usize) -> Result<(Image, Mark)> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MEMORY as u64);
    let mut decoder = PngDecoder::with_limits(Cursor::new(bytes), limits)?;
    let (width, height) = decoder.dimensions();
    let (width, height) = (width as usize, height as usize);
    let color = decoder.color_type();
    let _alone = admit(width, height, usize::from(color.bytes_per_pixel()) + 3)?;
    let mark = decoder.orientation().unwrap_or(Mark::NoTransforms);
    let size = usize::try_from(decoder.total_bytes())?;
    let mut pixels = vec![0; size];
    decoder.read_image(&mut pixels)?;

    let wide = match color {
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => 2,
        _ => 1,
    };
    let stored = usize::from(color.channel_count());
    if wide == 2 {
        // Samples come in the machine's byte order; the upper byte counts.
        pixels = pixels
            .chunks_exact(2)
            .map(|sample| (u16::from_ne_bytes([sample[0], sample[1]]) >> 8) as u8)
            .collect();
    }
    let kept = if stored >= 3 { 3 } else { 1 };
    if kept != stored {
        pixels = pixels.chunks_exact(stored).flat_map(|p| &p[..kept]).copied().collect();
    }
    let pixels = match kept {
        1 => from_grey(pixels, channels),
        _ => from_rgb(pixels, channels),
    };
    Ok((Image { height, width, channels, pixels }, mark))
}

fn from_grey(pixels: Vec<u8>, channels: usize) -> Vec<u8> {
    match channels {
        1 => pixels,
        _ => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
    }
}

fn from_rgb(pixels: Vec<u8>, channels: usize) -> Vec<u8> {
    match channels {
        // Rec. 601 luma in 16-bit fixed point, as Pillow's convert("L").
        1 => pixels
            .chunks_exact(3)
            .map(|p| {
                let [r, g, b] = [p[0], p[1], p[2]].map(u32::from);
                ((19595 * r + 38470 * g + 7471 * b + 0x8000) >> 16) as u8
            })
            .collect(),
        _ => pixels,
    }
}

/// The image as an orientation mark says that it is to be shown.
fn turn(image: Image, mark: Mark) -> Image {
    if mark == Mark::NoTransforms {
        return image;
    }
    let (h, w, c) = (image.height, image.width, image.channels);
    let sideways = matches!(
        mark,
        Mark::Rotate90 | Mark::Rotate270 | Mark::Rotate90FlipH | Mark::Rotate270FlipH
    );
    let (height, width) = if sideways { (w, h) } else { (h, w) };
    let mut pixels = Vec::with_capacity(image.pixels.len());
    for y in 0..height {
        for x in 0..width {
            let (row, column) = match mark {
                Mark::NoTransforms => (y, x),
                Mark::FlipHorizontal => (y, w - 1 - x),
                Mark::Rotate180 => (h - 1 - y, w - 1 - x),
                Mark::FlipVertical => (h - 1 - y, x),
                Mark::Rotate90FlipH => (x, y),
                Mark::Rotate90 => (h - 1 - x, y),
                Mark::Rotate270FlipH => (h - 1 - x, w - 1 - y),
                Mark::Rotate270 => (x, w - 1 - y),
            };
            let at = (row * w + column) * c;
            pixels.extend_from_slice(&image.pixels[at..at + c]);
        }
    }
    Image { height, width, channels: c, pixels }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file(name: &str) -> Vec<u8> {
        let path = format!("{}/tests/data/prepare/{name}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    fn rgb(bytes: &[u8]) -> Result<Image> {
        decode(bytes, Orientation::Ignore, 3)
    }

    /// The bounds of agreement with Pillow: mean difference 0.5, 0.1 % of values off by more than 2,
    /// none by more than 8.
    #[test]
    fn jpegs_agree_with_pillow() {
        for name in ["baseline420", "baseline444", "progressive420", "grey", "cmyk"] {
            let ours = rgb(&file(&format!("{name}.jpg"))).unwrap();
            let theirs = file(&format!("{name}.rgb"));
            assert_eq!((ours.height, ours.width, ours.pixels.len()), (47, 61, theirs.len()));
            let off: Vec<u8> =
                ours.pixels.iter().zip(&theirs).map(|(a, b)| a.abs_diff(*b)).collect();
            let mean = off.iter().map(|&d| f64::from(d)).sum::<f64>() / off.len() as f64;
            let far = off.iter().filter(|&&d| d > 2).count() as f64 / off.len() as f64;
            let most = off.iter().max().unwrap();
            assert!(
                mean <= 0.5 && far <= 0.001 && *most <= 8,
                "{name}: mean {mean}, {far} of values off by more than 2, most {most}"
            );
        }
    }

    #[test]
    fn pngs_are_what_pillow_makes_of_them() {
        for name in ["palette", "alpha"] {
            let ours = rgb(&file(&format!("{name}.png"))).unwrap();
            assert!(ours.pixels == file(&format!("{name}.rgb")), "{name}");
        }
        let grey = decode(&file("plain.png"), Orientation::Ignore, 1).unwrap();
        assert_eq!(grey.pixels, file("plain.grey"));
    }

    #[test]
    fn orientation_is_applied_or_ignored() {
        let bytes = file("rotated.jpg");
        let stored = rgb(&bytes).unwrap();
        assert_eq!((stored.height, stored.width), (47, 61));
        let turned = decode(&bytes, Orientation::Apply, 3).unwrap();
        assert_eq!((turned.height, turned.width), (61, 47));
        let theirs = file("rotated.rgb");
        assert!(turned.pixels.iter().zip(&theirs).all(|(a, b)| a.abs_diff(*b) <= 3));
    }

    /// Every orientation mark of a 2×3 image, written out by hand from the EXIF standard.
    #[test]
    fn each_orientation_mark_turns_its_way() {
        let image = Image { height: 2, width: 3, channels: 1, pixels: b"abcdef".to_vec() };
        let expected: [&[u8]; 8] = [
            b"abcdef", b"cbafed", b"fedcba", b"defabc", b"adbecf", b"daebfc", b"fcebda", b"cfbead",
        ];
        for (exif, expected) in (1..).zip(expected) {
            let turned = turn(image.clone(), Mark::from_exif(exif).unwrap());
            assert_eq!(turned.pixels, expected, "mark {exif}");
            assert_eq!(turned.height, if exif < 5 { 2 } else { 3 });
        }
    }

    #[test]
    fn an_image_cut_short_is_an_error() {
        for name in ["baseline420.jpg", "baseline444.jpg", "progressive420.jpg", "plain.png"] {
            let bytes = file(name);
            // The last four bytes of a PNG are the checksum of an empty chunk.
            let end = if name == "plain.png" { bytes.len() - 4 } else { bytes.len() };
            for cut in 0..end {
                assert!(rgb(&bytes[..cut]).is_err(), "{name} with {cut} of {} bytes", bytes.len());
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
        assert!(error.contains("65535×65535 pixels are more than the 100 million"), "{error}");

        let mut png = file("plain.png");
        png[16..20].copy_from_slice(&100_000u32.to_be_bytes());
        png[20..24].copy_from_slice(&100_000u32.to_be_bytes());
        let crc = crc32fast::hash(&png[12..29]);
        png[29..33].copy_from_slice(&crc.to_be_bytes());
        let error = format!("{:#}", rgb(&png).unwrap_err());
        assert!(error.contains("100000×100000 pixels are more than"), "{error}");
    }

    #[test]
    fn what_is_no_image_is_named() {
        for (bytes, name) in [(&b"GIF89a"[..], "a GIF"), (b"<html>", "a web page"), (b"", "empty")]
        {
            let error = rgb(bytes).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
