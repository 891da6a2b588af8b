//! Baseline and extended sequential scans: every block's coefficients at once (ITU-T T.81, F.2).

use super::bits::{Bits, End, Restarts};
use super::header::{Coded, NATURAL};
use super::huffman::Huffman;
use super::idct::{self, Block};
use super::planes::Plane;
use crate::vectors::Simd;
use anyhow::{Context, Result, bail, ensure};

/// One component's part in a scan.
struct Part<'a> {
    dc: &'a Huffman,
    ac: &'a Huffman,
    quantisation: &'a [u16; 64],
    plane: &'a mut Plane,
    component: usize,
    /// Blocks of a unit, across and down; 1 and 1 where a scan has one component only.
    h: usize,
    v: usize,
    /// The last DC coefficient.
    before: i32,
}

/// Decodes a scan into the samples of `planes`, as far as they are wanted; gives where reading goes
/// on. With `stop`, what lies below is not looked at. `memory` is used again and again.
///
/// # Errors
/// If the data end early or are damaged.
#[inline(always)]
pub(super) fn decode<S: Simd>(
    s: S,
    coded: &Coded,
    planes: &mut [Plane],
    stop: bool,
    memory: &mut Vec<u8>,
) -> Result<End> {
    let Coded { bytes, at, frame, scan, .. } = *coded;
    let single = scan.parts.len() == 1;
    let mut parts = Vec::with_capacity(scan.parts.len());
    for (index, plane) in planes.iter_mut().enumerate() {
        let Some(&(_, dc, ac)) = scan.parts.iter().find(|part| part.0 == index) else { continue };
        let component = &frame.components[index];
        parts.push(Part {
            dc: table(coded.dc, dc)?,
            ac: table(coded.ac, ac)?,
            quantisation: component
                .quantisation
                .as_ref()
                .context("a quantisation table is missing")?,
            plane,
            component: index,
            h: if single { 1 } else { component.h },
            v: if single { 1 } else { component.v },
            before: 0,
        });
    }
    // Blocks come in the scan's order.
    parts.sort_by_key(|part| scan.parts.iter().position(|p| p.0 == part.component));
    let (wide, high) = if single {
        let component = &frame.components[scan.parts[0].0];
        (component.width.div_ceil(8), component.height.div_ceil(8))
    } else {
        (frame.units_wide, frame.units_high)
    };

    let mut bits = Bits::new(bytes, at, std::mem::take(memory));
    let mut block = Block([0; 64]);
    let mut restarts = Restarts::new(coded.restart);
    for y in 0..high {
        if stop && parts.iter().all(|part| y * part.v >= part.plane.rows.end) {
            break;
        }
        for x in 0..wide {
            if restarts.before_unit(&mut bits)? {
                parts.iter_mut().for_each(|part| part.before = 0);
            }
            for part in &mut parts {
                unit(s, part, x, y, &mut bits, &mut block)?;
            }
        }
        ensure!(!bits.overrun(), "the file was cut short: its data end {y} of {high} rows down");
    }
    let end;
    (end, *memory) = bits.finish();
    Ok(end)
}

pub(super) fn table(tables: &[Option<Huffman>; 4], id: usize) -> Result<&Huffman> {
    tables
        .get(id)
        .and_then(Option::as_ref)
        .with_context(|| format!("Huffman table {id} is missing"))
}

/// The blocks of one component in the unit at column `x` of row `y`.
#[inline(always)]
fn unit<S: Simd>(
    s: S,
    part: &mut Part,
    x: usize,
    y: usize,
    bits: &mut Bits,
    block: &mut Block,
) -> Result<()> {
    for down in 0..part.v {
        let row = y * part.v + down;
        for across in 0..part.h {
            let column = x * part.h + across;
            let difference = difference(bits, part.dc)?;
            part.before = part.before.wrapping_add(difference);
            if !part.plane.wants(row, column) {
                pass(bits, part.ac)?;
                continue;
            }
            let last = coefficients(bits, part.ac, block)?;
            block.0[0] = part.before as i16;
            let (out, stride) = part.plane.block_mut(row, column);
            if last == 0 {
                idct::flat(part.before as i16, part.quantisation[0], out, stride);
            } else {
                idct::transform(s, block, part.quantisation, out, stride);
                *block = Block([0; 64]);
            }
        }
    }
    Ok(())
}

/// The difference of a block's DC coefficient to that of the block before.
#[inline(always)]
pub(super) fn difference(bits: &mut Bits, table: &Huffman) -> Result<i32> {
    bits.refill();
    let entry = table.entry(bits)?;
    let size = entry.size();
    let difference = if size == 0 { 0 } else { bits.value(entry.length(), size) };
    bits.skip(entry.bits());
    Ok(difference)
}

/// A block's AC coefficients, into a block of zeros; gives the place of the last one, or 0.
#[inline(always)]
fn coefficients(bits: &mut Bits, table: &Huffman, block: &mut Block) -> Result<usize> {
    each_coefficient(bits, table, |at, value| block.0[usize::from(NATURAL[at])] = value)
}

/// Passes over a block's AC coefficients.
#[inline(always)]
fn pass(bits: &mut Bits, table: &Huffman) -> Result<()> {
    each_coefficient(bits, table, |_, _| {}).map(|_| ())
}

/// Calls `found` with the place in zigzag order and the value of each AC coefficient of a block
/// that is not 0; gives the last place, or 0.
#[inline(always)]
fn each_coefficient(
    bits: &mut Bits,
    table: &Huffman,
    mut found: impl FnMut(usize, i16),
) -> Result<usize> {
    let mut at = 0;
    while at < 63 {
        bits.refill();
        let entry = table.entry(bits)?;
        let size = entry.size();
        if size == 0 {
            bits.skip(entry.bits());
            if entry.run() != 15 {
                return Ok(at);
            }
            at += 16;
            continue;
        }
        at += entry.run() as usize + 1;
        if at > 63 {
            break;
        }
        found(at, bits.value(entry.length(), size) as i16);
        bits.skip(entry.bits());
    }
    if at > 63 {
        bail!("a block of its data has more than 64 coefficients");
    }
    Ok(at)
}
