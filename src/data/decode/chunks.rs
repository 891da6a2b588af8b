//! The orientation mark among the chunks of a PNG file, before its pixels or behind them.
//!
//! Exif data have a chunk of their own, `eXIf` (PNG Specification, third edition, 11.3.4.5).
//! ImageMagick and others wrote them before there was one, and write them still, as text under the
//! keyword `Raw profile type exif` (or `APP1`, as in a JPEG): a name, a length and hexadecimal
//! digits, each on lines of their own.

use crate::data::exif;
use flate2::read::ZlibDecoder;
use image::metadata::Orientation as Mark;
use std::io::Read;

/// Exif data of a photograph are some KB, with a preview some 100; a text that unpacks to more than
/// this is looked at no further.
const MOST_TEXT: u64 = 1 << 20;

/// The orientation that the PNG file `bytes` gives: by its `eXIf`, else by a text.
pub(super) fn orientation(bytes: &[u8]) -> Option<Mark> {
    let mut of_text = None;
    for (kind, data) in chunks(bytes) {
        match kind {
            b"eXIf" => {
                if let Some(mark) = exif::orientation(data) {
                    return Some(mark);
                }
            }
            b"tEXt" | b"zTXt" | b"iTXt" if of_text.is_none() => {
                of_text = raw_profile(kind, data).and_then(|data| exif::orientation(&data));
            }
            _ => {}
        }
    }
    of_text
}

/// Kind and data of each chunk, up to the end or to what is none. Those with a wrong checksum are
/// left out.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = bytes.get(8..).unwrap_or_default();
    std::iter::from_fn(move || {
        loop {
            let (length, behind) = rest.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            let (chunk, behind) = behind.split_at_checked(length.checked_add(4)?)?;
            let (sum, behind) = behind.split_first_chunk::<4>()?;
            rest = behind;
            let (kind, data) = chunk.split_at(4);
            // Those of pixels were looked at already, and are long.
            if kind != b"IDAT" && crc32fast::hash(chunk) == u32::from_be_bytes(*sum) {
                return Some((kind, data));
            }
        }
    })
}

/// The Exif data of a text chunk with a raw profile.
fn raw_profile(kind: &[u8], chunk: &[u8]) -> Option<Vec<u8>> {
    let end = chunk.iter().position(|&byte| byte == 0)?;
    let (keyword, value) = (&chunk[..end], &chunk[end + 1..]);
    if keyword != b"Raw profile type exif" && keyword != b"Raw profile type APP1" {
        return None;
    }
    let (packed, text) = match kind {
        b"tEXt" => (false, value),
        b"zTXt" => (true, value.get(1..)?),
        // Whether it is compressed, the method, a language, the keyword in it, the text.
        _ => {
            let [packed, _, rest @ ..] = value else { return None };
            (*packed == 1, rest.splitn(3, |&byte| byte == 0).nth(2)?)
        }
    };
    let mut plain = Vec::new();
    if packed {
        ZlibDecoder::new(text).take(MOST_TEXT).read_to_end(&mut plain).ok()?;
    } else {
        plain.extend(&text[..text.len().min(MOST_TEXT as usize)]);
    }
    let text = String::from_utf8(plain).ok()?;
    // A name and a length come before the digits.
    let digits: Vec<u8> = text
        .trim_start()
        .lines()
        .skip(2)
        .flat_map(str::bytes)
        .filter_map(|digit| char::from(digit).to_digit(16).map(|value| value as u8))
        .collect();
    Some(digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect())
}
