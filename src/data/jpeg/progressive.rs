//! Progressive scans: parts of the coefficients, or further bits of them (ITU-T T.81, annex G).

use super::bits::{Bits, End, Restarts};
use super::header::{Coded, NATURAL, Scan};
use super::huffman::Huffman;
use super::idct::Block;
use super::planes::room;
use super::sequential::{difference, table};
use anyhow::{Result, ensure};

/// All blocks of a component, row by row.
#[derive(Default)]
pub(super) struct Coefficients {
    values: Vec<Block>,
    blocks_wide: usize,
}

impl Coefficients {
    /// Makes room for the blocks of a component, all zeros.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub(super) fn clear(&mut self, blocks_wide: usize, blocks_high: usize) -> Result<()> {
        self.blocks_wide = blocks_wide;
        self.values.clear();
        room(&mut self.values, blocks_wide * blocks_high, Block([0; 64]))
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

/// Decodes a scan into `coefficients`, one for each component; gives where reading goes on.
/// `memory` is used again and again.
///
/// # Errors
/// If the data end early or are damaged.
pub(super) fn decode(
    coded: &Coded,
    coefficients: &mut [Coefficients],
    memory: &mut Vec<u8>,
) -> Result<End> {
    let Coded { bytes, at, frame, scan, .. } = *coded;
    let mut bits = Bits::new(bytes, at, std::mem::take(memory));
    let restarts = Restarts::new(coded.restart);
    if scan.first == 0 {
        dc(&mut bits, restarts, coded, coefficients)?;
    } else {
        let (index, _, ac) = scan.parts[0];
        let component = &frame.components[index];
        let size = (component.width.div_ceil(8), component.height.div_ceil(8));
        let table = table(coded.ac, ac)?;
        let blocks = &mut coefficients[index];
        if scan.high == 0 {
            first(&mut bits, restarts, scan, table, blocks, size)?;
        } else {
            further(&mut bits, restarts, scan, table, blocks, size)?;
        }
    }
    let end;
    (end, *memory) = bits.finish();
    Ok(end)
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
    coded: &Coded,
    coefficients: &mut [Coefficients],
) -> Result<()> {
    let Coded { frame, scan, .. } = *coded;
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
                    *before = before.wrapping_add(difference(bits, table(coded.dc, id)?)?);
                    *value = (*before << scan.low) as i16;
                }
            }
        }
        end(bits, y, high)?;
    }
    Ok(())
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
                let entry = table.entry(bits)?;
                let (run, size) = (entry.run(), entry.size());
                if size == 0 {
                    bits.skip(entry.bits());
                    // A run below 15 is the logarithm of a number of blocks.
                    if run < 15 {
                        empty = (1 << run) - 1 + bits.take(run);
                        break;
                    }
                    at += 16;
                    continue;
                }
                at += run as usize;
                let value = bits.value(entry.length(), size);
                bits.skip(entry.bits());
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
                let entry = table.entry(bits)?;
                let (run, size) = (entry.run(), entry.size());
                ensure!(size <= 1, "a refined coefficient is not 1");
                let new = if size == 0 { 0 } else { bits.value(entry.length(), 1) as i16 * bit };
                bits.skip(entry.bits());
                if size == 0 && run < 15 {
                    empty = (1 << run) - 1 + bits.take(run);
                    refine(bits, block, &mut at, scan.last, usize::MAX, bit);
                    break;
                }
                refine(bits, block, &mut at, scan.last, run as usize, bit);
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

/// Passes over `zeros` coefficients that are 0, to the one after them, and takes one more bit of
/// each other one on the way.
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
