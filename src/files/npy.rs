//! Arrays as NumPy keeps them (`.npy`, version 1.0 of its format): a text that says what they are,
//! then the numbers.

use super::tensors::write_floats;
use super::write_whole;
use anyhow::{Result, ensure};
use std::io::Write;
use std::path::Path;

/// The numbers begin at a multiple of this.
const ALIGNMENT: usize = 64;

/// Writes the file `path` with floats of `shape`, the last index the fastest, whole or not at all;
/// `fill(sink)` gives them to `sink` piece by piece.
///
/// # Errors
/// If `fill` fails or gives more or fewer than `shape` says, or the file cannot be written.
pub fn write(
    path: &Path,
    shape: [usize; 2],
    fill: impl FnOnce(&mut dyn FnMut(&[f32]) -> Result<()>) -> Result<()>,
) -> Result<()> {
    write_whole(path, |out| {
        out.write_all(&header(shape))?;
        let mut count = 0;
        fill(&mut |values| {
            count += values.len();
            write_floats(out, values)
        })?;
        ensure!(count == shape[0] * shape[1], "{count} values do not fill an array of {shape:?}");
        Ok(())
    })
}

/// Magic bytes, version, the length of the text, the text.
fn header([rows, columns]: [usize; 2]) -> Vec<u8> {
    let mut text =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let start = b"\x93NUMPY\x01\x00";
    let length = (start.len() + 2 + text.len() + 1).next_multiple_of(ALIGNMENT);
    let padded = length - start.len() - 2;
    text += &" ".repeat(padded - text.len() - 1);
    text.push('\n');
    [&start[..], &(padded as u16).to_le_bytes(), text.as_bytes()].concat()
}
