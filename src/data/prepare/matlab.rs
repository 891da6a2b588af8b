//! Just enough of MATLAB's v5 file format to read the contest kits' `meta.mat`: zlib-compressed
//! elements, struct arrays, text, numbers.
//!
//! A file is a header of 128 bytes, then elements: type and length (4 bytes each, or 2 and 2 with up
//! to 4 bytes of data beside them), data, padding to 8 bytes ("MAT-File Format", MathWorks). Any
//! header text is taken, since writers other than MATLAB have their own. Everything is bounded: by the
//! bytes that are there, the depth, and the size after decompression.

use crate::data::unpack::unpack;
use anyhow::{Context, Result, bail, ensure};
use flate2::read::ZlibDecoder;

/// A compressed variable may unpack to this many bytes.
const UNPACKED: u64 = 64 << 20;
/// Structs inside structs, at most.
const DEPTH: usize = 8;
/// Entries of a struct array times its fields, at most.
const CELLS: usize = 4_000_000;

const COMPRESSED: u32 = 15;
const MATRIX: u32 = 14;

/// A variable's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A struct array: for each element, a value for each field.
    Struct {
        /// The fields' names.
        fields: Vec<String>,
        /// The elements in order, each `[fields]`.
        elements: Vec<Vec<Value>>,
    },
    /// Characters.
    Text(String),
    /// Numbers of any kind, in column order.
    Numbers(Vec<f64>),
    /// Something else, such as a cell array.
    Other,
}

impl Value {
    /// The number, where this is exactly one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Numbers(numbers) if numbers.len() == 1 => Some(numbers[0]),
            _ => None,
        }
    }

    /// The text, where this is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            // An empty text is often written as an empty array of numbers.
            Value::Numbers(numbers) if numbers.is_empty() => Some(""),
            _ => None,
        }
    }
}

/// The variable `name` of the file `bytes`.
pub fn read(bytes: &[u8], name: &str) -> Result<Value> {
    ensure!(!bytes.starts_with(b"\x89HDF"), "this is a MATLAB v7.3 (HDF5) file; v5 to v7 are read");
    ensure!(bytes.len() >= 128, "{} bytes are too few for a MATLAB file", bytes.len());
    match &bytes[124..128] {
        [_, 1, b'I', b'M'] => {}
        [1, _, b'M', b'I'] => bail!("this MATLAB file was written on a big-endian machine"),
        _ => bail!("this is no MATLAB v5 file"),
    }
    let mut rest = &bytes[128..];
    while !rest.is_empty() {
        let (kind, data) = element(&mut rest)?;
        let value = if kind == COMPRESSED {
            let unpacked =
                unpack(ZlibDecoder::new(data), UNPACKED).context("a compressed variable")?;
            let mut inner = unpacked.as_slice();
            let (kind, data) = element(&mut inner)?;
            variable(kind, data, name)?
        } else {
            variable(kind, data, name)?
        };
        if let Some(value) = value {
            return Ok(value);
        }
    }
    bail!("the MATLAB file has no variable `{name}`")
}

/// The value, where the element is the variable `wanted`.
fn variable(kind: u32, data: &[u8], wanted: &str) -> Result<Option<Value>> {
    if kind != MATRIX {
        return Ok(None);
    }
    let (head, body) = matrix_head(data)?;
    match head {
        Some(head) if head.name == wanted => Ok(Some(value(&head, body, 0)?)),
        _ => Ok(None),
    }
}

/// The next element's type and data; `rest` is moved behind it and its padding.
fn element<'a>(rest: &mut &'a [u8]) -> Result<(u32, &'a [u8])> {
    let all = *rest;
    ensure!(all.len() >= 8, "the MATLAB file ends inside of an element");
    let word = u32::from_le_bytes([all[0], all[1], all[2], all[3]]);
    if word >> 16 != 0 {
        let length = (word >> 16) as usize;
        ensure!(length <= 4, "a small element is said to have {length} bytes");
        *rest = &all[8..];
        return Ok((word & 0xffff, &all[4..4 + length]));
    }
    let length = u32::from_le_bytes([all[4], all[5], all[6], all[7]]) as usize;
    ensure!(length <= all.len() - 8, "the MATLAB file ends inside of an element of {length} bytes");
    // Compressed elements alone are not padded.
    let padded = if word == COMPRESSED { length } else { length.next_multiple_of(8) };
    *rest = &all[(8 + padded).min(all.len())..];
    Ok((word, &all[8..8 + length]))
}

struct Head {
    class: u8,
    count: usize,
    name: String,
}

/// Flags, dimensions and name of a matrix, and what follows them. `None`: an empty element.
fn matrix_head(mut data: &[u8]) -> Result<(Option<Head>, &[u8])> {
    if data.is_empty() {
        return Ok((None, data));
    }
    let (_, flags) = element(&mut data)?;
    let class = *flags.first().context("an array has no flags")?;
    let (_, dimensions) = element(&mut data)?;
    let count = dimensions
        .chunks_exact(4)
        .map(|d| u32::from_le_bytes([d[0], d[1], d[2], d[3]]) as usize)
        .fold(1usize, usize::saturating_mul);
    let (_, name) = element(&mut data)?;
    let name = String::from_utf8_lossy(name).into_owned();
    Ok((Some(Head { class, count, name }), data))
}

fn value(head: &Head, mut body: &[u8], depth: usize) -> Result<Value> {
    match head.class {
        2 => structs(head, body, depth),
        4 => {
            let (kind, data) = element(&mut body)?;
            Ok(Value::Text(text(kind, data)?))
        }
        6..=15 => {
            let (kind, data) = element(&mut body)?;
            Ok(Value::Numbers(numbers(kind, data)?))
        }
        _ => Ok(Value::Other),
    }
}

fn structs(head: &Head, mut body: &[u8], depth: usize) -> Result<Value> {
    ensure!(depth < DEPTH, "structs are nested more than {DEPTH} deep");
    let (_, length) = element(&mut body)?;
    let length = match length {
        [a, b, c, d] => u32::from_le_bytes([*a, *b, *c, *d]) as usize,
        _ => bail!("a struct does not say how long its fields' names are"),
    };
    let (_, names) = element(&mut body)?;
    ensure!((1..=4096).contains(&length), "a struct's field names are said to have {length} bytes");
    let fields: Vec<String> = names
        .chunks_exact(length)
        .map(|name| {
            let end = name.iter().position(|&b| b == 0).unwrap_or(length);
            String::from_utf8_lossy(&name[..end]).into_owned()
        })
        .collect();
    // Each cell takes at least the 8 bytes of an element.
    let cells = head.count.saturating_mul(fields.len());
    ensure!(
        !fields.is_empty() && cells <= CELLS && cells.saturating_mul(8) <= body.len(),
        "a struct array is said to have {} elements of {} fields",
        head.count,
        fields.len()
    );
    let mut elements = Vec::with_capacity(head.count);
    for _ in 0..head.count {
        let mut values = Vec::with_capacity(fields.len());
        for _ in &fields {
            let (kind, data) = element(&mut body)?;
            ensure!(kind == MATRIX, "a struct's field is no array");
            values.push(match matrix_head(data)? {
                (Some(head), inner) => value(&head, inner, depth + 1)?,
                (None, _) => Value::Numbers(Vec::new()),
            });
        }
        elements.push(values);
    }
    Ok(Value::Struct { fields, elements })
}

fn text(kind: u32, data: &[u8]) -> Result<String> {
    Ok(match kind {
        // Bytes are Latin-1.
        1 | 2 => data.iter().map(|&byte| char::from(byte)).collect(),
        16 => String::from_utf8_lossy(data).into_owned(),
        4 | 17 => {
            let units: Vec<u16> =
                data.chunks_exact(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
            String::from_utf16_lossy(&units)
        }
        other => bail!("text is stored as type {other}"),
    })
}

fn numbers(kind: u32, data: &[u8]) -> Result<Vec<f64>> {
    fn all<const N: usize>(data: &[u8], number: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        data.as_chunks::<N>().0.iter().map(|&bytes| number(bytes)).collect()
    }
    Ok(match kind {
        1 => all(data, |b: [u8; 1]| i8::from_le_bytes(b).into()),
        2 => all(data, |b: [u8; 1]| b[0].into()),
        3 => all(data, |b| i16::from_le_bytes(b).into()),
        4 => all(data, |b| u16::from_le_bytes(b).into()),
        5 => all(data, |b| i32::from_le_bytes(b).into()),
        6 => all(data, |b| u32::from_le_bytes(b).into()),
        7 => all(data, |b| f32::from_le_bytes(b).into()),
        9 => all(data, f64::from_le_bytes),
        12 => all(data, |b| i64::from_le_bytes(b) as f64),
        13 => all(data, |b| u64::from_le_bytes(b) as f64),
        other => bail!("numbers are stored as type {other}"),
    })
}
