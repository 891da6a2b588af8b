//! The header of a page, in Thrift's compact protocol (Parquet format, `parquet.thrift`, struct
//! `PageHeader`).
//!
//! The `parquet` crate reads it too, but takes the sizes that it speaks of as they are. Here they
//! are looked at first ([`pages`](super::pages)): a damaged file may speak of any number of bytes.

use anyhow::{Context, Result, bail};

/// Structs in structs, more than which none of a page's has.
const DEEPEST: usize = 16;

/// What a page is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PageHeader {
    /// 0: data, 1: an index, 2: a dictionary, 3: data in the second version.
    pub(super) kind: i64,
    /// Bytes after unpacking, of all behind the header.
    pub(super) unpacked: i64,
    /// Bytes behind the header.
    pub(super) packed: i64,
    /// The fields of the header of its kind, by number from 1, where they are whole numbers or
    /// truths.
    pub(super) fields: [Option<i64>; 9],
}

/// The header at the beginning of `bytes`, and its length; None: it is longer.
///
/// # Errors
/// If this is none.
pub(super) fn page_header(bytes: &[u8]) -> Result<Option<(PageHeader, usize)>> {
    let mut input = Input { bytes, at: 0 };
    match input.page_header() {
        Ok(header) => Ok(Some((header, input.at))),
        Err(_) if input.at >= bytes.len() => Ok(None),
        Err(error) => Err(error),
    }
}

struct Input<'a> {
    bytes: &'a [u8],
    /// Beyond the end once a byte was missing.
    at: usize,
}

/// Types of values.
mod kind {
    pub(super) const STOP: u8 = 0;
    pub(super) const TRUE: u8 = 1;
    pub(super) const FALSE: u8 = 2;
    pub(super) const BYTE: u8 = 3;
    pub(super) const I16: u8 = 4;
    pub(super) const I64: u8 = 6;
    pub(super) const DOUBLE: u8 = 7;
    pub(super) const BINARY: u8 = 8;
    pub(super) const LIST: u8 = 9;
    pub(super) const SET: u8 = 10;
    pub(super) const MAP: u8 = 11;
    pub(super) const STRUCT: u8 = 12;
}

impl Input<'_> {
    fn page_header(&mut self) -> Result<PageHeader> {
        let mut header = PageHeader::default();
        let mut last = 0;
        while let Some((id, kind)) = self.field(&mut last)? {
            match (id, kind) {
                (1..=3, kind::I16..=kind::I64) => {
                    let value = self.number()?;
                    match id {
                        1 => header.kind = value,
                        2 => header.unpacked = value,
                        _ => header.packed = value,
                    }
                }
                // The headers of data, of a dictionary, of data in the second version.
                (5 | 7 | 8, kind::STRUCT) => header.fields = self.numbers()?,
                _ => self.skip(kind, 0)?,
            }
        }
        Ok(header)
    }

    /// The whole numbers and truths among the first fields of a struct.
    fn numbers(&mut self) -> Result<[Option<i64>; 9]> {
        let mut numbers = [None; 9];
        let mut last = 0;
        while let Some((id, kind)) = self.field(&mut last)? {
            let value = match kind {
                kind::TRUE => 1,
                kind::FALSE => 0,
                kind::I16..=kind::I64 => self.number()?,
                _ => {
                    self.skip(kind, 0)?;
                    continue;
                }
            };
            if let Some(number) = usize::try_from(id).ok().and_then(|id| numbers.get_mut(id)) {
                *number = Some(value);
            }
        }
        Ok(numbers)
    }

    /// Number and type of the next field; None: the struct ends.
    fn field(&mut self, last: &mut i64) -> Result<Option<(i64, u8)>> {
        let head = self.byte()?;
        let kind = head & 15;
        if kind == kind::STOP {
            return Ok(None);
        }
        *last = match head >> 4 {
            0 => self.number()?,
            more => last.wrapping_add(i64::from(more)),
        };
        Ok(Some((*last, kind)))
    }

    fn byte(&mut self) -> Result<u8> {
        let byte = self.bytes.get(self.at).copied();
        self.at += 1;
        byte.context("a page's header breaks off")
    }

    fn unsigned(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(value);
            }
        }
        bail!("a page's header is damaged: a number does not end")
    }

    /// A signed number, zigzag.
    fn number(&mut self) -> Result<i64> {
        let value = self.unsigned()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn pass(&mut self, bytes: u64) -> Result<()> {
        let rest = self.bytes.len().saturating_sub(self.at) as u64;
        if bytes > rest {
            self.at = self.bytes.len();
            bail!("a page's header breaks off");
        }
        self.at += bytes as usize;
        Ok(())
    }

    /// Passes over a value.
    fn skip(&mut self, kind: u8, depth: usize) -> Result<()> {
        if depth > DEEPEST {
            bail!("a page's header is damaged: it has structs in structs without end");
        }
        match kind {
            kind::TRUE | kind::FALSE => Ok(()),
            kind::BYTE => self.pass(1),
            kind::I16..=kind::I64 => self.unsigned().map(drop),
            kind::DOUBLE => self.pass(8),
            kind::BINARY => {
                let length = self.unsigned()?;
                self.pass(length)
            }
            kind::LIST | kind::SET => {
                let head = self.byte()?;
                let length = if head >> 4 == 15 { self.unsigned()? } else { (head >> 4).into() };
                // A truth takes a byte here, and not that of its field.
                let inner = if head & 15 <= kind::FALSE { kind::BYTE } else { head & 15 };
                (0..length).try_for_each(|_| self.skip(inner, depth + 1))
            }
            kind::MAP => bail!("a page's header is damaged: it has a map"),
            kind::STRUCT => {
                let mut last = 0;
                while let Some((_, kind)) = self.field(&mut last)? {
                    self.skip(kind, depth + 1)?;
                }
                Ok(())
            }
            _ => bail!("a page's header is damaged: it has a value of an unknown type"),
        }
    }
}
