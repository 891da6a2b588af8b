//! Huffman tables (ITU-T T.81, annex C and F.2.2.3), laid out for reading.

use super::bits::Bits;
use anyhow::{Result, bail, ensure};

/// Bits that are looked up at once; nearly all codes of photographs are no longer.
const LOOK: u32 = 10;

/// A table for DC or AC coefficients.
pub(super) struct Huffman {
    /// By the next LOOK bits.
    fast: Box<[Entry; 1 << LOOK]>,
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
        let mut fast = Box::new([Entry(0); 1 << LOOK]);
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
                    fast[first..first + (1 << (LOOK - length))].fill(Entry::new(length, symbol));
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

    #[inline(always)]
    fn look(&self, bits: &Bits) -> Entry {
        self.fast[bits.peek(LOOK) as usize]
    }

    /// The entry for the next bits, whatever their length. After [`Bits::refill`].
    ///
    /// # Errors
    /// If the next bits are no code.
    #[inline(always)]
    pub(super) fn entry(&self, bits: &Bits) -> Result<Entry> {
        let entry = self.look(bits);
        if entry.length() > 0 { Ok(entry) } else { self.search(bits) }
    }

    #[inline(never)]
    fn search(&self, bits: &Bits) -> Result<Entry> {
        let next = bits.peek(16);
        let mut length = 1;
        while next >= self.limit[length] {
            length += 1;
        }
        if length > 16 {
            bail!("its data holds bits that are no Huffman code");
        }
        let place = (next >> (16 - length)) as i32 + self.offset[length];
        Ok(Entry::new(length as u32, self.symbols[place as usize]))
    }

    /// Whether all symbols are sizes of DC differences.
    pub(super) fn is_dc(&self) -> bool {
        self.symbols.iter().all(|&s| s < 16)
    }
}

/// What the next bits mean. A symbol is a run of zeros and the size of the value behind them, in
/// bits.
#[derive(Clone, Copy)]
pub(super) struct Entry(u32);

impl Entry {
    /// A code of `length` bits.
    fn new(length: u32, symbol: u8) -> Entry {
        let (run, size) = (u32::from(symbol >> 4), u32::from(symbol & 15));
        Entry(size << 24 | run << 16 | length << 8 | (length + size))
    }

    /// Bits of the code; 0 where it is longer than was looked.
    #[inline(always)]
    pub(super) fn length(self) -> u32 {
        self.0 >> 8 & 0xff
    }

    /// Bits of code and value.
    #[inline(always)]
    pub(super) fn bits(self) -> u32 {
        self.0 & 0xff
    }

    #[inline(always)]
    pub(super) fn run(self) -> u32 {
        self.0 >> 16 & 0xff
    }

    /// Bits of the value; 0 where there is none, or the code is longer than was looked.
    #[inline(always)]
    pub(super) fn size(self) -> u32 {
        self.0 >> 24
    }
}
