//! Huffman tables (ITU-T T.81, annex C and F.2.2.3), laid out for reading.

use super::bits::{Bits, extend};
use anyhow::{Result, bail, ensure};

/// Bits that are looked up at once. Of photographs' codes with their values about nine in ten fit.
const LOOK: u32 = 10;

/// A table for DC or AC coefficients.
pub(super) struct Huffman {
    /// By the next LOOK bits. Bits 0 to 7: bits to take, 0 where the code is longer than LOOK.
    /// With a value in bits 16 to 31 (never 0): that of an AC coefficient, its run in 8 to 15, the
    /// bits to take being those of code and value. Otherwise the code's symbol in bits 8 to 15.
    fast: Box<[u32; 1 << LOOK]>,
    /// By length: the first code that is longer, aligned to 16 bits.
    limit: [u32; 18],
    /// By length: what a code of it less its place in `symbols` is.
    offset: [i32; 17],
    symbols: Vec<u8>,
}

impl Huffman {
    /// The table with `counts` codes of 1 to 16 bits for `symbols`, as a DHT segment lists them.
    ///
    /// # Errors
    /// If there are more codes of a length than it has room for, or symbols are missing.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Result<Huffman> {
        let mut fast = Box::new([0; 1 << LOOK]);
        let (mut limit, mut offset) = ([0; 18], [0; 17]);
        let (mut code, mut place) = (0u32, 0usize);
        for length in 1..=16u32 {
            let count = usize::from(counts[length as usize - 1]);
            ensure!(place + count <= symbols.len(), "a Huffman table is short of symbols");
            offset[length as usize] = place as i32 - code as i32;
            for &symbol in &symbols[place..place + count] {
                ensure!(code < 1 << length, "a Huffman table has more codes than fit");
                if length <= LOOK {
                    let first = (code << (LOOK - length)) as usize;
                    for (low, entry) in
                        fast[first..first + (1 << (LOOK - length))].iter_mut().enumerate()
                    {
                        *entry = fast_entry(low as u32, length, symbol);
                    }
                }
                code += 1;
            }
            place += count;
            limit[length as usize] = code << (16 - length);
            code <<= 1;
        }
        limit[17] = u32::MAX;
        Ok(Huffman { fast, limit, offset, symbols: symbols[..place].to_vec() })
    }

    /// The entry for the next bits.
    #[inline(always)]
    pub(super) fn look(&self, bits: &Bits) -> Entry {
        Entry(self.fast[bits.peek(LOOK) as usize])
    }

    /// Takes a symbol whose code is longer than the look ahead. After [`Bits::refill`]; leaves 16 bits.
    ///
    /// # Errors
    /// If the next bits are no code.
    #[inline(never)]
    pub(super) fn search(&self, bits: &mut Bits) -> Result<u8> {
        let next = bits.peek(16);
        let mut length = 1;
        while next >= self.limit[length] {
            length += 1;
        }
        if length > 16 {
            bail!("its data holds bits that are no Huffman code");
        }
        bits.skip(length as u32);
        let place = (next >> (16 - length)) as i32 + self.offset[length];
        Ok(self.symbols[place as usize])
    }

    /// Whether all symbols are sizes of DC differences.
    pub(super) fn is_dc(&self) -> bool {
        self.symbols.iter().all(|&s| s < 16)
    }
}

/// The entry of a code of `length` bits, followed by the bits `low`, LOOK together.
fn fast_entry(low: u32, length: u32, symbol: u8) -> u32 {
    let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
    if size > 0 && length + size <= LOOK {
        let bits = low >> (LOOK - length - size);
        let value = extend(bits as i32, size) as u16;
        return u32::from(value) << 16 | run << 8 | (length + size);
    }
    u32::from(symbol) << 8 | length
}

/// What the next bits mean; see [`Huffman`].
#[derive(Clone, Copy)]
pub(super) struct Entry(u32);

impl Entry {
    #[inline(always)]
    pub(super) fn bits(self) -> u32 {
        self.0 & 0xff
    }

    /// A run or a symbol.
    #[inline(always)]
    pub(super) fn second(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// An AC coefficient's value, or 0 if there is none.
    #[inline(always)]
    pub(super) fn value(self) -> i16 {
        (self.0 >> 16) as u16 as i16
    }
}
