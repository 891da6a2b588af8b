//! Protobuf's wire format, walked where it lies. The messages of Caffe and ONNX files have their
//! numbers in the midst of them, some 240 MB, which a decoder would copy; and it would make a whole
//! struct of each empty message of two bytes. Here a message is its bytes, and its fields are
//! walked one after the other; only what is small is decoded (by prost).

use anyhow::{Context, Result, bail, ensure};
use std::ops::Range;

/// A message: a part of the file.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    file: &'a [u8],
    start: usize,
    end: usize,
}

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub enum Field<'a> {
    /// An integer or a truth value.
    Varint(u64),
    /// A float.
    Four([u8; 4]),
    /// A double.
    Eight([u8; 8]),
    /// A text, bytes, a message or numbers side by side.
    Bytes(Message<'a>),
}

impl<'a> Message<'a> {
    /// The message that a whole file is.
    pub fn of(file: &'a [u8]) -> Message<'a> {
        Message { file, start: 0, end: file.len() }
    }

    /// Its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        &self.file[self.start..self.end]
    }

    /// Where they lie in the file.
    pub fn place(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The text that it is, at most 4 KiB of it.
    ///
    /// # Errors
    /// If it is longer, or no UTF-8.
    pub fn text(&self) -> Result<&'a str> {
        let bytes = self.bytes();
        ensure!(bytes.len() <= 4096, "a name has {} bytes", bytes.len());
        std::str::from_utf8(bytes).context("a name is no UTF-8")
    }

    /// Calls `take` with the number and the content of each field.
    ///
    /// # Errors
    /// If the message is damaged, or what `take` says.
    pub fn fields(&self, mut take: impl FnMut(u32, Field<'a>) -> Result<()>) -> Result<()> {
        let mut at = self.start;
        while at < self.end {
            let key = self.varint(&mut at)?;
            let number = u32::try_from(key >> 3).ok().filter(|&n| n > 0);
            let number = number.context("it is no message of protobuf")?;
            let field = match key & 7 {
                0 => Field::Varint(self.varint(&mut at)?),
                1 => Field::Eight(*self.next(&mut at)?),
                5 => Field::Four(*self.next(&mut at)?),
                2 => {
                    let length = self.varint(&mut at)?;
                    let there = (self.end - at) as u64;
                    ensure!(
                        length <= there,
                        "it is cut short: {length} bytes of {there} are there"
                    );
                    let start = at;
                    at += length as usize;
                    Field::Bytes(Message { file: self.file, start, end: at })
                }
                other => bail!("it is no message of protobuf (wire type {other})"),
            };
            take(number, field)?;
        }
        Ok(())
    }

    /// The integers that it is, side by side.
    ///
    /// # Errors
    /// If there are more than `most`, or the last is cut short.
    pub fn varints(&self, most: usize) -> Result<Vec<u64>> {
        let (mut at, mut found) = (self.start, Vec::new());
        while at < self.end {
            ensure!(found.len() < most, "it has more than {most} sizes");
            found.push(self.varint(&mut at)?);
        }
        Ok(found)
    }

    fn next<const N: usize>(&self, at: &mut usize) -> Result<&'a [u8; N]> {
        let taken = self.file[*at..self.end].first_chunk().context("it is cut short")?;
        *at += N;
        Ok(taken)
    }

    fn varint(&self, at: &mut usize) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = *self.next(at)?;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(value);
            }
        }
        bail!("it has a number of more than ten bytes")
    }
}

/// The sizes of a shape, in a field that comes once for each or once for all.
///
/// # Errors
/// If there are too many, or one is negative.
pub fn sizes(shape: &mut Vec<usize>, field: Field<'_>) -> Result<()> {
    let found = match field {
        Field::Varint(size) => vec![size],
        Field::Bytes(all) => all.varints(MOST_SIZES)?,
        _ => bail!("a shape has sizes that are no integers"),
    };
    for size in found {
        ensure!(shape.len() < MOST_SIZES, "a shape has more than {MOST_SIZES} sizes");
        let size = i64::try_from(size).ok().and_then(|size| usize::try_from(size).ok());
        shape.push(size.context("a shape has a size below 0")?);
    }
    Ok(())
}

/// Sizes of a shape.
const MOST_SIZES: usize = 16;
