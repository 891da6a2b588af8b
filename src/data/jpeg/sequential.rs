//! Baseline and extended sequential scans: every block's coefficients at once (ITU-T T.81, F.2).

use super::Kernels;
use super::bits::{Bits, Restarts};
use super::header::{Frame, NATURAL, Scan};
use super::huffman::Huffman;
use super::idct::{self, Block};
use super::planes::Plane;
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

/// The tables of a scan, by number.
pub(super) struct Tables<'a> {
    pub(super) dc: &'a [Option<Huffman>; 4],
    pub(super) ac: &'a [Option<Huffman>; 4],
    /// Units between restart markers, or 0.
    pub(super) restart: usize,
}

/// Decodes the scan whose data begins at byte `at` of `bytes` into the samples of `planes`, as far as
/// they are wanted; gives where reading goes on. With `stop`, what lies below is not looked at.
///
/// # Errors
/// If the data end early or are damaged.
#[expect(clippy::too_many_arguments, reason = "all that a scan is")]
#[inline(always)]
pub(super) fn decode(
    bytes: &[u8],
    at: usize,
    frame: &Frame,
    scan: &Scan,
    tables: &Tables,
    planes: &mut [Plane],
    stop: bool,
    kernels: &impl Kernels,
) -> Result<usize> {
    let single = scan.parts.len() == 1;
    let mut parts = Vec::with_capacity(scan.parts.len());
    for (index, plane) in planes.iter_mut().enumerate() {
        let Some(&(_, dc, ac)) = scan.parts.iter().find(|part| part.0 == index) else { continue };
        let component = &frame.components[index];
        parts.push(Part {
            dc: table(tables.dc, dc)?,
            ac: table(tables.ac, ac)?,
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

    let mut bits = Bits::new(bytes, at);
    let mut block = Block([0; 64]);
    let mut restarts = Restarts::new(tables.restart);
    for y in 0..high {
        if stop && parts.iter().all(|part| y * part.v >= part.plane.rows.end) {
            break;
        }
        for x in 0..wide {
            if restarts.before_unit(&mut bits)? {
                parts.iter_mut().for_each(|part| part.before = 0);
            }
            for part in &mut parts {
                unit(part, x, y, &mut bits, &mut block, kernels)?;
            }
        }
        ensure!(!bits.overrun(), "the file was cut short: its data end {y} of {high} rows down");
    }
    Ok(bits.position())
}

pub(super) fn table(tables: &[Option<Huffman>; 4], id: usize) -> Result<&Huffman> {
    tables
        .get(id)
        .and_then(Option::as_ref)
        .with_context(|| format!("Huffman table {id} is missing"))
}

/// The blocks of one component in the unit at column `x` of row `y`.
#[inline(always)]
fn unit(
    part: &mut Part,
    x: usize,
    y: usize,
    bits: &mut Bits,
    block: &mut Block,
    kernels: &impl Kernels,
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
                kernels.idct(block, part.quantisation, out, stride);
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
    let entry = table.look(bits);
    let size = if entry.bits() > 0 {
        bits.skip(entry.bits());
        if entry.value() != 0 {
            return Ok(entry.value().into());
        }
        entry.second()
    } else {
        table.search(bits)?
    };
    Ok(if size == 0 { 0 } else { bits.value(u32::from(size)) })
}

/// A block's AC coefficients, into a block of zeros; gives the place of the last one, or 0.
#[inline(always)]
fn coefficients(bits: &mut Bits, table: &Huffman, block: &mut Block) -> Result<usize> {
    each_coefficient(bits, table, |bits, at, value| {
        let value = match value {
            Coefficient::Known(value) => value,
            Coefficient::Size(size) => bits.value(size) as i16,
        };
        block.0[usize::from(NATURAL[at])] = value;
    })
}

/// Passes over a block's AC coefficients.
#[inline(always)]
fn pass(bits: &mut Bits, table: &Huffman) -> Result<()> {
    each_coefficient(bits, table, |bits, _, value| {
        if let Coefficient::Size(size) = value {
            bits.skip(size);
        }
    })?;
    Ok(())
}

enum Coefficient {
    Known(i16),
    /// Its bits come next, 1 to 15.
    Size(u32),
}

/// Calls `found` with the place in zigzag order of each AC coefficient of a block that is not 0; gives
/// the last place, or 0.
#[inline(always)]
fn each_coefficient(
    bits: &mut Bits,
    table: &Huffman,
    mut found: impl FnMut(&mut Bits, usize, Coefficient),
) -> Result<usize> {
    let mut at = 0;
    while at < 63 {
        bits.refill();
        let entry = table.look(bits);
        let coefficient = if entry.value() != 0 {
            bits.skip(entry.bits());
            at += usize::from(entry.second()) + 1;
            Coefficient::Known(entry.value())
        } else {
            let symbol = if entry.bits() > 0 {
                bits.skip(entry.bits());
                entry.second()
            } else {
                table.search(bits)?
            };
            let size = u32::from(symbol & 15);
            at += usize::from(symbol >> 4);
            if size == 0 {
                if symbol != 0xf0 {
                    return Ok(at - usize::from(symbol >> 4));
                }
                at += 1;
                continue;
            }
            at += 1;
            Coefficient::Size(size)
        };
        if at > 63 {
            break;
        }
        found(bits, at, coefficient);
    }
    if at > 63 {
        bail!("a block of its data has more than 64 coefficients");
    }
    Ok(at)
}
