//! Text that a person or another program wrote: UTF-8, or UTF-16 as Windows writes it, with or
//! without a byte order mark, which is no part of the text.

use anyhow::{Context, Result, ensure};
use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The text of the file `path`, which has at most `most` bytes. The caller names the file.
///
/// # Errors
/// If it cannot be read, is larger, or is no text.
pub fn read(path: &Path, most: u64) -> Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    ensure!(bytes.len() as u64 <= most, "it has more than {}, too much for this", size(most));
    Ok(decoded(&bytes)?.into_owned())
}

/// The text that `bytes` are, without a byte order mark.
///
/// # Errors
/// If they are no text in UTF-8, nor in UTF-16 with its mark.
pub fn decoded(bytes: &[u8]) -> Result<Cow<'_, str>> {
    let wide = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|&pair| unit(pair)).collect();
        // Text of any language has ends of lines, at least; other bytes seldom have such a unit.
        let like_text = |text: &String| text.is_empty() || text.contains(|c: char| c.is_ascii());
        let text = String::from_utf16(&units).ok().filter(|_| rest.is_empty()).filter(like_text);
        text.context("it begins as UTF-16 text, but is damaged; save it again, as UTF-8")
    };
    let text = match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => {
            anyhow::bail!("it is UTF-32 text, which cannot be read; save it again, as UTF-8")
        }
        [0xff, 0xfe, rest @ ..] => Cow::Owned(wide(rest, u16::from_le_bytes)?),
        [0xfe, 0xff, rest @ ..] => Cow::Owned(wide(rest, u16::from_be_bytes)?),
        [0xef, 0xbb, 0xbf, rest @ ..] => Cow::Borrowed(utf8(rest)?),
        _ => Cow::Borrowed(utf8(bytes)?),
    };
    // UTF-16 without its mark is UTF-8 with a NUL at every other place.
    ensure!(
        !text.contains('\0'),
        "it holds NUL characters, as UTF-16 text without a byte order mark does and files that \
         are no text; save it again, as UTF-8"
    );
    Ok(text)
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count() + 1;
        anyhow::anyhow!("this is no UTF-8 text (line {line}); save it again, as UTF-8")
    })
}

fn size(bytes: u64) -> String {
    if bytes < 1 << 20 { format!("{} KiB", bytes >> 10) } else { format!("{} MiB", bytes >> 20) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Käse\n🧀 = 1\n";

    fn utf16(mark: bool, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let units = mark.then_some(0xfeff).into_iter().chain(TEXT.encode_utf16());
        units.flat_map(unit).collect()
    }

    #[test]
    fn marks_are_no_part_of_the_text() {
        let marked = [b"\xef\xbb\xbf", TEXT.as_bytes()].concat();
        let little = utf16(true, u16::to_le_bytes);
        let big = utf16(true, u16::to_be_bytes);
        for bytes in [TEXT.as_bytes(), &marked, &little, &big] {
            assert_eq!(decoded(bytes).unwrap(), TEXT, "{bytes:?}");
        }
        assert_eq!(decoded(b"").unwrap(), "");
        assert_eq!(decoded(b"\xef\xbb\xbf").unwrap(), "");
    }

    #[test]
    fn what_is_no_text_is_said() {
        let cut = &utf16(true, u16::to_le_bytes)[..7];
        let words = utf16(false, u16::to_le_bytes);
        let ascii: Vec<u8> = "a = 1".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for (bytes, word) in [
            (cut, "UTF-16 text, but is damaged"),
            (b"\xff\xfe\0\x01", "UTF-16 text, but is damaged"),
            (&words[..], "no UTF-8 text (line 1)"),
            (&ascii, "UTF-16 text without a byte order mark"),
            (b"a\nb\nK\xe4se", "no UTF-8 text (line 3)"),
            (b"\xff\xfe\0\0a\0\0\0", "UTF-32"),
            (b"\xef\xbb", "no UTF-8 text"),
        ] {
            let error = decoded(bytes).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_too_large_is_refused_unread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, vec![b'a'; 2048]).unwrap();
        assert_eq!(read(&path, 2048).unwrap().len(), 2048);
        let error = read(&path, 2047).unwrap_err().to_string();
        assert!(error.contains("more than 1 KiB"), "{error}");
    }
}
