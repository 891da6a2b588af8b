//! Reads at a place of a file, by many threads at once: no common position, nothing mapped.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::time::Duration;

/// Before each further try of a read that has failed: a device or network that is busy, or comes
/// back, often answers then.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(500)];

/// Fills `buffer` with the bytes of `file` from byte `offset` on. What cannot be read is tried
/// again three times, with short pauses.
///
/// # Errors
/// If the file ends before (`UnexpectedEof`) or cannot be read.
pub fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> Result<()> {
    let mut pauses = PAUSES.iter();
    while !buffer.is_empty() {
        match read_some(file, buffer, offset) {
            Ok(0) => return Err(Error::new(ErrorKind::UnexpectedEof, "the file ends before")),
            Ok(count) => {
                buffer = &mut buffer[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => match pauses.next() {
                Some(pause) => std::thread::sleep(*pause),
                None => return Err(error),
            },
        }
    }
    Ok(())
}

#[cfg(unix)]
fn read_some(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

/// Moves the file's own position too, which nothing here looks at.
#[cfg(windows)]
fn read_some(file: &File, buffer: &mut [u8], offset: u64) -> Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_is_read_and_none_beyond_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::write(&path, (0..100).collect::<Vec<u8>>()).unwrap();
        let file = File::open(&path).unwrap();
        for (from, to) in [(0, 100), (97, 100), (3, 50), (100, 100), (7, 7)] {
            let mut part = vec![0; to - from];
            read_exact_at(&file, &mut part, from as u64).unwrap();
            assert_eq!(part, (from as u8..to as u8).collect::<Vec<u8>>());
        }
        for (from, length) in [(0, 101), (99, 2), (100, 1), (u64::MAX / 4, 1)] {
            let error = read_exact_at(&file, &mut vec![0; length], from).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{length} bytes at {from}");
        }
    }
}
