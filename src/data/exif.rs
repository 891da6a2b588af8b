//! The orientation mark of Exif data (Exif 2.32, section 4.6; TIFF 6.0, section 2).
//!
//! Exif data are a TIFF file without pixels: a header with the byte order, and directories of
//! entries, each a tag, a type, a count, and the value or where it lies. The first directory may
//! lie anywhere. The standard wants the orientation as one SHORT; programs also write a LONG or a
//! BYTE, which readers of TIFF take for the number that it is.

use image::metadata::Orientation as Mark;

/// Tags of entries.
const ORIENTATION: u32 = 0x0112;
const COMPRESSION: u32 = 0x0103;

/// The orientation that the Exif data `bytes` give; None: none, or they are damaged before it. What
/// a JPEG segment or some writers of PNG put before the data is passed over.
pub fn orientation(bytes: &[u8]) -> Option<Mark> {
    entry(bytes, ORIENTATION, |value| u8::try_from(value).ok().and_then(Mark::from_exif))
}

/// How the pixels of a TIFF file are packed, by the number of TIFF 6.0, section 3.
pub fn compression(bytes: &[u8]) -> Option<u32> {
    entry(bytes, COMPRESSION, Some)
}

/// The first entry `tag` of the first directory that `read` makes something of.
fn entry<T>(bytes: &[u8], tag: u32, read: impl Fn(u32) -> Option<T>) -> Option<T> {
    let bytes = bytes.strip_prefix(b"Exif\0").and_then(|rest| rest.get(1..)).unwrap_or(bytes);
    let file = Tiff { bytes, little: bytes.starts_with(b"II") };
    if !(file.little || bytes.starts_with(b"MM")) || file.number(2, 2)? != 42 {
        return None;
    }
    let directory = usize::try_from(file.number(4, 4)?).ok()?;
    let entries = file.number(directory, 2)?;
    (0..entries as usize).find_map(|entry| {
        let at = directory.checked_add(2 + 12 * entry)?;
        if file.number(at, 2)? != tag {
            return None;
        }
        read(file.first_value(at)?)
    })
}

/// A TIFF file's bytes and their order.
struct Tiff<'a> {
    bytes: &'a [u8],
    little: bool,
}

impl Tiff<'_> {
    /// The number of `length` bytes, at most 4, at `at`.
    fn number(&self, at: usize, length: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..at.checked_add(length)?)?;
        let add = |number: u32, &byte: &u8| number << 8 | u32::from(byte);
        Some(match self.little {
            true => bytes.iter().rev().fold(0, add),
            false => bytes.iter().fold(0, add),
        })
    }

    /// The first value of the entry at `at`, where it is of a type of whole numbers. (A negative
    /// one comes out as one that is too large.)
    fn first_value(&self, at: usize) -> Option<u32> {
        let length = match self.number(at + 2, 2)? {
            // BYTE and SBYTE, SHORT and SSHORT, LONG and SLONG.
            1 | 6 => 1,
            3 | 8 => 2,
            4 | 9 => 4,
            _ => return None,
        };
        let count = usize::try_from(self.number(at + 4, 4)?).ok()?;
        match count.checked_mul(length)? {
            0 => None,
            1..=4 => self.number(at + 8, length),
            _ => self.number(usize::try_from(self.number(at + 8, 4)?).ok()?, length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exif data whose first directory lies at `directory`, with an entry before the orientation's,
    /// which is `mark` as `count` numbers of `length` bytes and the type `kind`.
    fn exif(little: bool, directory: usize, kind: u32, length: usize, count: u32) -> Vec<u8> {
        let number = |value: u32, length: usize| {
            let bytes = value.to_be_bytes();
            let mut bytes = bytes[4 - length..].to_vec();
            if little {
                bytes.reverse();
            }
            bytes
        };
        let mut file = if little { b"II".to_vec() } else { b"MM".to_vec() };
        file.extend([number(42, 2), number(directory as u32, 4)].concat());
        let values = number(6, length).repeat(count as usize);
        let elsewhere = values.len() > 4;
        if elsewhere {
            file.extend(&values);
        }
        file.resize(directory.max(file.len()), 0xa5);
        file.extend(number(2, 2));
        // ImageWidth, a LONG.
        file.extend([number(0x100, 2), number(4, 2), number(1, 4), number(640, 4)].concat());
        file.extend([number(ORIENTATION, 2), number(kind, 2), number(count, 4)].concat());
        let mut value = if elsewhere { number(8, 4) } else { values };
        value.resize(4, 0);
        file.extend(value);
        file.extend(number(0, 4));
        file
    }

    #[test]
    fn every_legal_form_is_read() {
        for little in [true, false] {
            for directory in [8, 9, 100, 70_000] {
                for (kind, length) in [(1, 1), (3, 2), (4, 4), (6, 1), (8, 2), (9, 4)] {
                    for count in [1, 2, 3, 9] {
                        if count as usize * length > 4 && directory < 50 {
                            continue;
                        }
                        let file = exif(little, directory, kind, length, count);
                        let found = orientation(&file);
                        let form = format!("{little} {directory} {kind} {count}");
                        assert_eq!(found, Some(Mark::Rotate90), "{form}");
                        let prefixed = [b"Exif\0\0", &file[..]].concat();
                        assert_eq!(orientation(&prefixed), Some(Mark::Rotate90), "{form}");
                    }
                }
            }
        }
    }

    #[test]
    fn whatever_is_cut_or_wrong_is_no_mark() {
        let whole = exif(true, 20, 3, 2, 1);
        // The rest of a value's four bytes, and the place of the next directory, are not needed.
        for cut in 0..whole.len() - 6 {
            assert_eq!(orientation(&whole[..cut]), None, "{cut} bytes");
        }
        for (kind, length, count) in [(3, 2, 0), (2, 1, 1), (5, 4, 1), (0, 1, 1), (3, 2, u32::MAX)]
        {
            let mut file = exif(true, 20, kind, length, count.min(1));
            let at = 20 + 2 + 12 + 4;
            file[at..at + 4].copy_from_slice(&count.to_le_bytes());
            assert_eq!(orientation(&file), None, "type {kind}, {count} values");
        }
    }
}
