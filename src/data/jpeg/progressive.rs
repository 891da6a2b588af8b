//! Progressive scans: parts of the coefficients, or further bits of them (ITU-T T.81, annex G).

use super::bits::{Bits, Restarts};
use super::header::{Frame, NATURAL, Scan};
use super::huffman::Huffman;
use super::idct::Block;
use super::sequential::{Tables, difference, table};
use anyhow::{Result, ensure};

/// All blocks of a component, row by row.
#[derive(Default)]
pub(super) struct Coefficients {
    values: Vec<Block>,
    blocks_wide: usize,
}

impl Coefficients {
    /// Makes room for the blocks of a component, all zeros.
    pub(super) fn clear(&mut self, blocks_wide: usize, blocks_high: usize) {
        self.blocks_wide = blocks_wide;
        self.values.clear();
        self.values.resize(blocks_wide * blocks_high, Block([0; 64]));
    }

    #[inline(always)]
    pub(super) fn block(&self, row: usize, column: usize) -> &Block {
        &self.values[row * self.blocks_wide + column]
    }

    #[inline(always)]
    fn block_mut(&mut self, row: usize, column: usize) -> &mut [i16; 64] {
        &mut self.values[row * self.blocks_wide + column].0
    }
}

/// Decodes the scan whose data begins at byte `at` of `bytes` into `coefficients`, one for each
/// component; gives where reading goes on.
///
/// # Errors
/// If the data end early or are damaged.
pub(super) fn decode(
    bytes: &[u8],
    at: usize,
    frame: &Frame,
    scan: &Scan,
    tables: &Tables,
    coefficients: &mut [Coefficients],
) -> Result<usize> {
    let mut bits = Bits::new(bytes, at);
    let restarts = Restarts::new(tables.restart);
    if scan.first == 0 {
        dc(&mut bits, restarts, frame, scan, tables, coefficients)?;
    } else {
        let (index, _, ac) = scan.parts[0];
        let component = &frame.components[index];
        let size = (component.width.div_ceil(8), component.height.div_ceil(8));
        let table = table(tables.ac, ac)?;
        let blocks = &mut coefficients[index];
        if scan.high == 0 {
            first(&mut bits, restarts, scan, table, blocks, size)?;
        } else {
            further(&mut bits, restarts, scan, table, blocks, size)?;
        }
    }
    Ok(bits.position())
}

fn end(bits: &Bits, y: usize, high: usize) -> Result<()> {
    ensure!(!bits.overrun(), "the file was cut short: data of a scan end {y} of {high} rows down");
    Ok(())
}

/// The DC coefficients' first bits, or one more.
#[inline(always)]
fn dc(
    bits: &mut Bits,
    mut restarts: Restarts,
    frame: &Frame,
    scan: &Scan,
    tables: &Tables,
    coefficients: &mut [Coefficients],
) -> Result<()> {
    let single = scan.parts.len() == 1;
    let (wide, high) = if single {
        let component = &frame.components[scan.parts[0].0];
        (component.width.div_ceil(8), component.height.div_ceil(8))
    } else {
        (frame.units_wide, frame.units_high)
    };
    let mut before = [0i32; 4];
    for y in 0..high {
        for x in 0..wide {
            if restarts.before_unit(bits)? {
                before = [0; 4];
            }
            for &(index, id, _) in &scan.parts {
                let component = &frame.components[index];
                let (h, v) = if single { (1, 1) } else { (component.h, component.v) };
                for n in 0..h * v {
                    let value = &mut coefficients[index].block_mut(y * v + n / h, x * h + n % h)[0];
                    if scan.high > 0 {
                        *value |= (bits.take(1) << scan.low) as i16;
                        continue;
                    }
                    let before = &mut before[index];
                    *before = before.wrapping_add(difference(bits, table(tables.dc, id)?)?);
                    *value = (*before << scan.low) as i16;
                }
            }
        }
        end(bits, y, high)?;
    }
    Ok(())
}

/// A symbol's run and size: with size 0 a run below 15 is the logarithm of a number of blocks.
#[inline(always)]
fn symbol(bits: &mut Bits, table: &Huffman) -> Result<(usize, u32)> {
    let entry = table.look(bits);
    let symbol = if entry.bits() > 0 {
        bits.skip(entry.bits());
        entry.second()
    } else {
        table.search(bits)?
    };
    Ok((usize::from(symbol >> 4), u32::from(symbol & 15)))
}

/// AC coefficients' first bits.
#[inline(always)]
fn first(
    bits: &mut Bits,
    mut restarts: Restarts,
    scan: &Scan,
    table: &Huffman,
    blocks: &mut Coefficients,
    (wide, high): (usize, usize),
) -> Result<()> {
    // Blocks that have no more coefficients in this scan.
    let mut empty = 0u32;
    for y in 0..high {
        for x in 0..wide {
            if restarts.before_unit(bits)? {
                empty = 0;
            }
            if empty > 0 {
                empty -= 1;
                continue;
            }
            let block = blocks.block_mut(y, x);
            let mut at = scan.first;
            while at <= scan.last {
                bits.refill();
                let entry = table.look(bits);
                let value;
                if entry.value() != 0 {
                    bits.skip(entry.bits());
                    at += usize::from(entry.second());
                    value = i32::from(entry.value());
                } else {
                    let (run, size) = symbol(bits, table)?;
                    if size == 0 && run < 15 {
                        empty = (1 << run) - 1 + bits.take(run as u32);
                        break;
                    }
                    at += run;
                    if size == 0 {
                        at += 1;
                        continue;
                    }
                    value = bits.value(size);
                }
                ensure!(at <= scan.last, "a block of its data has too many coefficients");
                block[usize::from(NATURAL[at])] = (value << scan.low) as i16;
                at += 1;
            }
        }
        end(bits, y, high)?;
    }
    Ok(())
}

/// One more bit of AC coefficients, and those that become 1 or -1 by it.
#[inline(always)]
fn further(
    bits: &mut Bits,
    mut restarts: Restarts,
    scan: &Scan,
    table: &Huffman,
    blocks: &mut Coefficients,
    (wide, high): (usize, usize),
) -> Result<()> {
    let bit = 1i16 << scan.low;
    let mut empty = 0u32;
    for y in 0..high {
        for x in 0..wide {
            if restarts.before_unit(bits)? {
                empty = 0;
            }
            let block = blocks.block_mut(y, x);
            let mut at = scan.first;
            if empty > 0 {
                empty -= 1;
                refine(bits, block, &mut at, scan.last, usize::MAX, bit);
                continue;
            }
            while at <= scan.last {
                bits.refill();
                let entry = table.look(bits);
                let (run, new);
                if entry.value() != 0 {
                    bits.skip(entry.bits());
                    run = usize::from(entry.second());
                    ensure!(matches!(entry.value(), 1 | -1), "a refined coefficient is not 1");
                    new = entry.value() * bit;
                } else {
                    let (zeros, size) = symbol(bits, table)?;
                    if size == 0 && zeros < 15 {
                        empty = (1 << zeros) - 1 + bits.take(zeros as u32);
                        refine(bits, block, &mut at, scan.last, usize::MAX, bit);
                        break;
                    }
                    ensure!(size <= 1, "a refined coefficient is not 1");
                    run = zeros;
                    new = if size == 0 { 0 } else { bits.value(1) as i16 * bit };
                }
                refine(bits, block, &mut at, scan.last, run, bit);
                if new != 0 {
                    ensure!(at <= scan.last, "a block of its data has too many coefficients");
                    block[usize::from(NATURAL[at])] = new;
                }
                at += 1;
            }
        }
        end(bits, y, high)?;
    }
    Ok(())
}

/// Passes over `zeros` coefficients that are 0, to the one after them, and takes one more bit of each
/// other one on the way.
#[inline(always)]
fn refine(
    bits: &mut Bits,
    block: &mut [i16; 64],
    at: &mut usize,
    last: usize,
    mut zeros: usize,
    bit: i16,
) {
    while *at <= last {
        let value = &mut block[usize::from(NATURAL[*at])];
        if *value == 0 {
            if zeros == 0 {
                return;
            }
            zeros -= 1;
        } else if bits.take(1) == 1 && *value & bit == 0 {
            *value = value.wrapping_add(if *value > 0 { bit } else { -bit });
        }
        *at += 1;
    }
}
