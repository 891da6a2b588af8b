//! Numbers on their way into a file: all of a tensor at once, or piece by piece.

use anyhow::Result;
use safetensors::tensor::Dtype;
use std::io::{self, Write};

/// A tensor's numbers, in the order of its shape.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Of a tensor that is F32.
    F32(Vec<f32>),
    /// Of a tensor that is F64.
    F64(Vec<f64>),
    /// Of a tensor that is U64.
    U64(Vec<u64>),
    /// Of a tensor that is I64.
    I64(Vec<i64>),
    /// Of a tensor that is U8.
    U8(Vec<u8>),
}

impl Values {
    /// What they are, and how many.
    pub(super) fn kind(&self) -> (Dtype, usize) {
        match self {
            Values::F32(values) => (Dtype::F32, values.len()),
            Values::F64(values) => (Dtype::F64, values.len()),
            Values::U64(values) => (Dtype::U64, values.len()),
            Values::I64(values) => (Dtype::I64, values.len()),
            Values::U8(values) => (Dtype::U8, values.len()),
        }
    }

    /// Writes their bytes, the lowest first.
    ///
    /// # Errors
    /// If `out` cannot be written.
    pub fn write(&self, out: &mut impl Write) -> Result<()> {
        match self {
            Values::F32(values) => write_floats(out, values),
            Values::F64(values) => write_numbers(out, values, |value| value.to_le_bytes()),
            Values::U64(values) => write_numbers(out, values, |value| value.to_le_bytes()),
            Values::I64(values) => write_numbers(out, values, |value| value.to_le_bytes()),
            Values::U8(values) => Ok(out.write_all(values)?),
        }
    }
}

/// Writes floats' bytes, the lowest first.
///
/// # Errors
/// If `out` cannot be written.
pub fn write_floats(out: &mut impl Write, values: &[f32]) -> Result<()> {
    write_numbers(out, values, |value| value.to_le_bytes())
}

fn write_numbers<T: Copy, const BYTES: usize>(
    out: &mut impl Write,
    values: &[T],
    bytes_of: impl Fn(T) -> [u8; BYTES],
) -> Result<()> {
    let mut bytes = vec![0; 1 << 16];
    for chunk in values.chunks((1 << 16) / BYTES) {
        let bytes = &mut bytes[..chunk.len() * BYTES];
        for (bytes, &value) in bytes.chunks_exact_mut(BYTES).zip(chunk) {
            bytes.copy_from_slice(&bytes_of(value));
        }
        out.write_all(bytes)?;
    }
    Ok(())
}

/// Where one tensor's bytes go: counts them and makes their CRC-32.
pub struct Sink<'a> {
    out: &'a mut dyn Write,
    sum: crc32fast::Hasher,
    bytes: u64,
}

impl<'a> Sink<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Sink<'a> {
        Sink { out, sum: crc32fast::Hasher::new(), bytes: 0 }
    }

    /// How many bytes have come, and their CRC-32.
    pub(super) fn end(self) -> (u64, u32) {
        (self.bytes, self.sum.finalize())
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
