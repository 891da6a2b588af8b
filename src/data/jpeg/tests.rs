use super::*;
use crate::vectors::at_each_level;
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/jpeg")
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// All pixels of a file.
fn whole(bytes: &[u8]) -> Result<Vec<u8>> {
    noted(bytes).map(|(pixels, _)| pixels)
}

/// All pixels of a file, and what was wrong with it.
fn noted(bytes: &[u8]) -> Result<(Vec<u8>, Notes)> {
    let jpeg = Jpeg::open(bytes)?;
    let mut pixels = vec![0; jpeg.width() * jpeg.height() * jpeg.channels()];
    let window = Area::all(jpeg.height(), jpeg.width());
    let notes = jpeg.decode(&window, false, &mut pixels)?;
    Ok((pixels, notes))
}

/// Name, width, height, channels and the checksum of the pixels by Pillow.
fn all() -> Vec<(String, [usize; 3], u32)> {
    let list = std::fs::read_to_string(folder().join("pixels.txt")).unwrap();
    let read = |line: &str| {
        let mut words = line.split(' ');
        let name = words.next().unwrap().to_string();
        let shape = [0; 3].map(|_| words.next().unwrap().parse().unwrap());
        (name, shape, u32::from_str_radix(words.next().unwrap(), 16).unwrap())
    };
    list.lines().map(read).collect()
}

/// Photographs of 500×375 pixels, baseline and progressive, and small images of all samplings, with
/// restart markers, components in separate scans, grey, RGB, CMYK: to the bit, at every level of
/// vectors.
#[test]
fn pixels_are_those_of_libjpeg_turbo() {
    let files = all();
    assert!(files.len() > 50 && files.iter().filter(|f| f.0.starts_with("photo")).count() == 3);
    for (name, [width, height, channels], crc) in files {
        let bytes = file(&name);
        let jpeg = Jpeg::open(&bytes).unwrap();
        let shape = (jpeg.width(), jpeg.height(), jpeg.channels());
        assert_eq!(shape, (width, height, channels), "{name}");
        at_each_level(|level| {
            assert_eq!(crc32fast::hash(&whole(&bytes).unwrap()), crc, "{name} {level:?}");
        });
    }
}

/// A window shows what all of the image has there, whatever was in the memory before, and the rest
/// stays as it was.
#[test]
fn a_window_is_a_part_of_the_whole() {
    for (name, [width, height, channels], _) in all() {
        let bytes = file(&name);
        let whole = whole(&bytes).unwrap();
        for (top, high, left, wide) in [
            (0, 1, 0, 1),
            (0, 2, 3, 5),
            (height / 2, 20, width / 3, 9),
            (7, 9, 15, 3),
            (1, 70, 1, 300),
        ] {
            let window = Area {
                rows: top.min(height - 1)..(top + high).min(height),
                columns: left.min(width - 1)..(left + wide).min(width),
            };
            for sound in [false, true] {
                let mut pixels: Vec<u8> = whole.iter().map(|p| !p).collect();
                let jpeg = Jpeg::open(&bytes).unwrap();
                jpeg.decode(&window, sound, &mut pixels).unwrap();
                for (at, (ours, theirs)) in pixels.iter().zip(&whole).enumerate() {
                    let (y, x) = (at / channels / width, at / channels % width);
                    let inside = window.rows.contains(&y) && window.columns.contains(&x);
                    assert_eq!(ours == theirs, inside, "{name} {window:?} {y} {x}");
                }
            }
        }
    }
}

/// However a file is cut, it is an error, unless all that is missing is the end marker.
#[test]
fn a_file_that_is_cut_short_is_an_error() {
    for (name, ..) in all() {
        let bytes = file(&name);
        let end = bytes.len() - 2;
        let step = if name.starts_with("photo") { 997 } else { 1 };
        for cut in (0..end).step_by(step).chain(end - 5..end) {
            assert!(whole(&bytes[..cut]).is_err(), "{name}, {cut} of {} bytes", bytes.len());
        }
    }
}

/// With the end marker put back, what is missing is still noticed.
#[test]
fn missing_data_are_an_error_even_before_an_end_marker() {
    for name in ["photo-baseline-420.jpg", "small-1x1-restart.jpg", "small-2x2-scans.jpg"] {
        let bytes = file(name);
        for cut in (bytes.len() / 2..bytes.len() - 8).step_by(bytes.len() / 40) {
            let mut cut = bytes[..cut].to_vec();
            cut.extend([0, 0xff, 0xd9]);
            assert!(whole(&cut).is_err(), "{name}");
        }
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    let bytes = file("small-1x1-plain.jpg");
    let frame = bytes.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    let changed = |at: usize, value: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = value;
        format!("{:#}", whole(&bytes).unwrap_err())
    };
    assert!(changed(frame + 1, 0xc9).contains("arithmetic coded"));
    assert!(changed(frame + 1, 0xc3).contains("lossless"));
    assert!(changed(frame + 4, 12).contains("samples of 12 bits"));
}

/// Whatever stands in place of the end marker, or nothing: all pixels are there, and it is said.
#[test]
fn an_end_marker_may_be_missing() {
    for (name, ..) in all() {
        let bytes = file(&name);
        let (pixels, notes) = noted(&bytes).unwrap();
        assert!(notes.is_empty(), "{name}: {notes:?}");
        let data = &bytes[..bytes.len() - 2];
        let segment = [0xff, 0xe2, 0, 9, 1];
        let table = [0xff, 0xc4, 0, 4, 0xff, 0xff];
        for end in [&[][..], &[0xff], &[0; 64], &[0xff; 3], b"no marker", &segment, &table] {
            // A table that cannot be read is one only where further scans may need it.
            if end == table && name.contains("progressive") {
                continue;
            }
            let (found, notes) = noted(&[data, end].concat()).unwrap();
            assert!(found == pixels && notes == [NO_END], "{name} {end:?}");
        }
    }
}

/// A file that was begun, its room taken: zeros are codes too, and would make a picture.
#[test]
fn what_was_filled_up_is_no_picture() {
    for (name, ..) in all() {
        let bytes = file(&name);
        let mut refused = 0;
        for tenth in 3..10 {
            let kept = bytes.len() * tenth / 10;
            for fill in [0, 0x55, 0xff] {
                let mut filled = bytes[..kept].to_vec();
                filled.resize(8 * bytes.len(), fill);
                if let Ok((pixels, notes)) = noted(&filled) {
                    panic!(
                        "{name} {tenth} {fill}: {notes:?}, {}",
                        pixels == whole(&bytes).unwrap()
                    );
                }
                refused += 1;
            }
        }
        assert!(refused > 0);
    }
}

/// A progressive image with scans left out is one that ends early, unless an end marker says that
/// it is all there.
#[test]
fn an_end_marker_is_needed_where_scans_are_missing() {
    let bytes = file("photo-progressive-420.jpg");
    let scans: Vec<usize> =
        (0..bytes.len() - 1).filter(|&at| bytes[at..at + 2] == [0xff, 0xda]).collect();
    assert!(scans.len() > 5);
    for &scan in &scans[1..] {
        // The tables of a scan stand before it.
        let tables = bytes[..scan].windows(2).rposition(|w| w == [0xff, 0xc4]).unwrap();
        let cut = if tables > scan - 200 { tables } else { scan };
        let error = format!("{:#}", whole(&bytes[..cut]).unwrap_err());
        assert!(error.contains("no end marker"), "{error}");
    }
}

/// Frames of video leave out the tables of annex K.3, which cjpeg writes where it is not told to
/// find better ones; libjpeg-turbo takes them for granted too.
#[test]
fn the_standards_huffman_tables_are_taken_where_there_are_none() {
    let mut files = 0;
    for (name, ..) in all().iter().filter(|(name, ..)| name.ends_with("-plain.jpg")) {
        let mut bytes = file(name);
        let pixels = whole(&bytes).unwrap();
        let mut segments = 0;
        while let Some(at) = bytes.windows(2).position(|w| w == [0xff, 0xc4]) {
            let length = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
            bytes.drain(at..at + 2 + length);
            segments += 1;
            let (found, notes) = noted(&bytes).unwrap();
            assert!(found == pixels && notes == [NO_TABLES], "{name} without {segments} tables");
        }
        files += 1;
    }
    assert!(files > 5);
}

/// In progressive images the standard's tables have no meaning.
#[test]
fn a_progressive_image_needs_its_huffman_tables() {
    let mut bytes = file("small-1x1-progressive.jpg");
    let at = bytes.windows(2).position(|w| w == [0xff, 0xc4]).unwrap();
    let length = usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
    bytes.drain(at..at + 2 + length);
    let error = format!("{:#}", whole(&bytes).unwrap_err());
    assert!(error.contains("Huffman table 0 is missing"), "{error}");
}

/// Only progressive images send a component in several scans.
#[test]
fn a_component_that_comes_twice_is_refused() {
    let bytes = file("small-1x1-plain.jpg");
    let scan = bytes.windows(2).position(|w| w == [0xff, 0xda]).unwrap();
    let twice = [&bytes[..bytes.len() - 2], &bytes[scan..]].concat();
    let error = format!("{:#}", whole(&twice).unwrap_err());
    assert!(error.contains("comes in two scans"), "{error}");
}

/// Each scan passes over the whole image: thousands of them would be a way to keep a program busy.
#[test]
fn too_many_scans_are_refused() {
    let bytes = file("small-1x1-progressive.jpg");
    let next = |from: usize, marker: u8| {
        from + bytes[from..].windows(2).position(|w| w == [0xff, marker]).unwrap()
    };
    // The first scan, up to the tables of the second.
    let scan = next(0, 0xda);
    let end = next(scan, 0xc4);
    let mut many = bytes[..end].to_vec();
    for _ in 0..MOST_SCANS {
        many.extend(&bytes[scan..end]);
    }
    many.extend(&bytes[end..]);
    let error = format!("{:#}", whole(&many).unwrap_err());
    assert!(error.contains("more than 200 scans"), "{error}");
}

/// Blocks without their DC coefficients would be grey, which is what nobody would notice.
#[test]
fn a_progressive_image_without_its_first_scan_is_refused() {
    let bytes = file("small-1x1-progressive.jpg");
    let next = |from: usize, marker: u8| {
        from + bytes[from..].windows(2).position(|w| w == [0xff, marker]).unwrap()
    };
    let scan = next(0, 0xda);
    let without = [&bytes[..scan], &bytes[next(scan, 0xc4)..]].concat();
    let error = format!("{:#}", whole(&without).unwrap_err());
    assert!(error.contains("a scan is missing"), "{error}");
}

/// Of four components, Adobe's marker says YCCK by whatever is not 0, as libjpeg takes it.
#[test]
fn the_kind_of_four_components_is_libjpegs() {
    let mut bytes = file("small-cmyk.jpg");
    let at = bytes.windows(5).position(|w| w == b"Adobe").unwrap() + 11;
    let [zero, one, two, three] = [0, 1, 2, 3].map(|transform| {
        bytes[at] = transform;
        whole(&bytes).unwrap()
    });
    assert!(one == two && three == two && zero != two);
}

/// Some writers number no components; libjpeg takes them in their order, and so must we.
#[test]
fn components_of_one_number_are_taken_in_order() {
    let mut bytes = file("photo-baseline-420.jpg");
    let pixels = whole(&bytes).unwrap();
    let frame = bytes.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    let scan = bytes.windows(2).position(|w| w == [0xff, 0xda]).unwrap();
    for component in 0..3 {
        bytes[frame + 10 + 3 * component] = 7;
        bytes[scan + 5 + 2 * component] = 7;
    }
    assert!(whole(&bytes).unwrap() == pixels);
}
