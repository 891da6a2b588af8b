//! What a JPEG file says before its pixels: segments, frame, tables, scans (ITU-T T.81, annex B).
//!
//! Cameras and web sites put things into JPEG files: bytes between segments, application segments
//! with wrong lengths inside, a second image behind the first. Viewers show such files, and
//! ImageNet has some. So only those segments are looked into that matter to pixels and orientation,
//! and whatever is no marker between segments is passed over.

use super::huffman::Huffman;
use super::standard;
use crate::data::exif;
use anyhow::{Context, Result, bail, ensure};
use image::metadata::Orientation as Mark;

/// One of the image's colour components.
pub(super) struct Component {
    id: u8,
    /// Blocks of a minimum coded unit, across and down.
    pub(super) h: usize,
    pub(super) v: usize,
    /// Which quantisation table.
    table: usize,
    /// Samples that belong to the image.
    pub(super) width: usize,
    pub(super) height: usize,
    /// Blocks that are coded, those that fill up the last minimum coded units included.
    pub(super) blocks_wide: usize,
    pub(super) blocks_high: usize,
    /// The table that held at the component's first scan, in the order of [`NATURAL`]; later ones
    /// do not count.
    pub(super) quantisation: Option<[u16; 64]>,
    /// Of a progressive image the lowest bit that the scans so far bring of each coefficient, in
    /// zigzag order; [`NOTHING`] at first.
    lowest: [u8; 64],
}

/// No scan has brought any bit of a coefficient.
const NOTHING: u8 = u8::MAX;

impl Component {
    /// Whether a scan has brought its DC coefficients.
    pub(super) fn has_dc(&self) -> bool {
        self.lowest[0] != NOTHING
    }
}

/// The frame header.
pub(super) struct Frame {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) progressive: bool,
    pub(super) components: Vec<Component>,
    /// The largest of the components' h and v.
    pub(super) h: usize,
    pub(super) v: usize,
    /// Minimum coded units.
    pub(super) units_wide: usize,
    pub(super) units_high: usize,
}

/// A scan header: which coefficients of which components follow.
pub(super) struct Scan {
    /// Index of a component, its DC table, its AC table.
    pub(super) parts: Vec<(usize, usize, usize)>,
    /// The first and the last coefficient, in zigzag order.
    pub(super) first: usize,
    pub(super) last: usize,
    /// Bit positions of progressive coding: above `high` all is known (0: nothing), `low` is
    /// reached.
    pub(super) high: u32,
    pub(super) low: u32,
}

/// A scan, and all that its decoding needs.
pub(super) struct Coded<'a> {
    pub(super) bytes: &'a [u8],
    /// Where the scan's data begin.
    pub(super) at: usize,
    pub(super) frame: &'a Frame,
    pub(super) scan: &'a Scan,
    pub(super) dc: &'a [Option<Huffman>; 4],
    pub(super) ac: &'a [Option<Huffman>; 4],
    /// Units between restart markers, or 0.
    pub(super) restart: usize,
}

/// What components mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    Grey,
    Rgb,
    YCbCr,
    Cmyk,
    Ycck,
}

/// Natural position of the n-th coefficient of the zigzag order.
#[rustfmt::skip]
pub(super) const NATURAL: [u8; 64] = [
     0,  1,  8, 16,  9,  2,  3, 10, 17, 24, 32, 25, 18, 11,  4,  5,
    12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,  6,  7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

/// All that was said so far.
#[derive(Default)]
pub(super) struct Header {
    pub(super) frame: Option<Frame>,
    quantisation: [Option<[u16; 64]>; 4],
    pub(super) dc: [Option<Huffman>; 4],
    pub(super) ac: [Option<Huffman>; 4],
    /// Minimum coded units between restart markers; 0: there are none.
    pub(super) restart: usize,
    /// Whether tables of the standard were taken, because the file has none.
    pub(super) standard_tables: bool,
    jfif: bool,
    adobe: Option<u8>,
    /// The Exif data of all segments.
    exif: Vec<u8>,
    pub(super) mark: Option<Mark>,
}

/// What stands at a place of the file.
pub(super) enum Next {
    /// A scan, and where its data begins.
    Scan(Scan, usize),
    /// The end marker.
    End,
    /// The end of the file without an end marker, and how it shows.
    Cut(&'static str),
}

impl Header {
    /// Reads from byte `at` on to the next scan or the end of the image.
    pub(super) fn advance(&mut self, bytes: &[u8], mut at: usize) -> Result<Next> {
        // A sequential image whose components have all come needs nothing more.
        let done = self.frame.as_ref().is_some_and(|f| !f.progressive && f.is_complete());
        loop {
            let Some(found) = next_marker(bytes, at) else {
                return Ok(Next::Cut("it has no end marker"));
            };
            let marker = bytes[found + 1];
            at = found + 2;
            // Start, restart and TEM have no length; 0xc8 and 0x02 to 0xbf are reserved, so
            // clutter.
            if matches!(marker, 0x01..=0xbf | 0xc8 | 0xd0..=0xd8) {
                continue;
            }
            if marker == 0xd9 {
                // Thumbnails aside, an end before the frame is clutter too.
                if self.frame.is_some() {
                    return Ok(Next::End);
                }
                continue;
            }
            let segment = bytes.get(at..at + 2).and_then(|length| {
                let length = usize::from(word(length, 0));
                bytes.get(at + 2..(at + length).max(at + 2))
            });
            let Some(segment) = segment else {
                return Ok(Next::Cut("it ends inside a segment"));
            };
            at += segment.len() + 2;
            match marker {
                _ if done && marker != 0xda => {}
                0xc4 => self.huffman_tables(segment).context("its Huffman tables")?,
                0xc0..=0xc2 => {
                    ensure!(self.frame.is_none(), "it has two frames");
                    self.frame =
                        Some(Frame::read(segment, marker == 0xc2).context("its frame header")?);
                }
                0xc9..=0xcf => bail!(
                    "it is arithmetic coded, which this program cannot read; save it again, as an \
                     ordinary or a progressive JPEG"
                ),
                0xc3 | 0xc5..=0xc7 => bail!(
                    "it is a lossless or hierarchical JPEG, which this program cannot read; save it \
                     again, as an ordinary or a progressive JPEG"
                ),
                0xda => return Ok(Next::Scan(self.scan(segment).context("a scan header")?, at)),
                0xdb => self.quantisation_tables(segment).context("its quantisation tables")?,
                0xdd => {
                    ensure!(segment.len() == 2, "its restart interval has {} bytes", segment.len());
                    self.restart = usize::from(word(segment, 0));
                }
                0xe0 if segment.starts_with(b"JFIF\0") => self.jfif = true,
                0xe1 if segment.starts_with(b"Exif\0") && segment.len() > 6 => {
                    // What does not fit into one segment goes on in the next.
                    self.exif.extend(&segment[6..]);
                    self.mark = exif::orientation(&self.exif)
                        .or(self.mark)
                        .or_else(|| exif::orientation(&segment[6..]));
                }
                0xee if segment.starts_with(b"Adobe") && segment.len() >= 12 => {
                    self.adobe = Some(segment[11]);
                }
                _ => {}
            }
        }
    }

    /// What the components mean, by the rules of libjpeg.
    pub(super) fn color(&self) -> Result<Color> {
        let components = &self.frame.as_ref().context("it has no frame")?.components;
        Ok(match components.len() {
            1 => Color::Grey,
            3 => {
                let ids = [&components[0], &components[1], &components[2]].map(|c| c.id);
                match (self.jfif, self.adobe) {
                    (false, Some(0)) => Color::Rgb,
                    (false, None) if ids == *b"RGB" => Color::Rgb,
                    _ => Color::YCbCr,
                }
            }
            4 if self.adobe.is_none_or(|transform| transform == 0) => Color::Cmyk,
            4 => Color::Ycck,
            n => bail!("it has {n} components; 1 (grey), 3 (colour) or 4 (CMYK) can be read"),
        })
    }

    fn quantisation_tables(&mut self, mut segment: &[u8]) -> Result<()> {
        while let [head, rest @ ..] = segment {
            let (wide, id) = (usize::from(head >> 4), usize::from(head & 15));
            ensure!(wide <= 1 && id < 4, "there is no table {head:#04x}");
            let size = 64 << wide;
            let values = rest.get(..size).context("they are cut short")?;
            let mut table = [0; 64];
            for (n, natural) in NATURAL.into_iter().enumerate() {
                table[usize::from(natural)] =
                    if wide == 1 { word(values, 2 * n) } else { u16::from(values[n]) };
            }
            self.quantisation[id] = Some(table);
            segment = &rest[size..];
        }
        Ok(())
    }

    fn huffman_tables(&mut self, mut segment: &[u8]) -> Result<()> {
        while let [head, rest @ ..] = segment {
            let (class, id) = (head >> 4, usize::from(head & 15));
            ensure!(class <= 1 && id < 4, "there is no table {head:#04x}");
            let (counts, rest) = rest.split_first_chunk::<16>().context("they are cut short")?;
            let size: usize = counts.iter().map(|&n| usize::from(n)).sum();
            ensure!(size <= 256 && size <= rest.len(), "they are cut short");
            let table = Huffman::new(counts, &rest[..size])?;
            ensure!(class == 1 || table.is_dc(), "a table for DC coefficients has sizes above 15");
            if class == 0 {
                self.dc[id] = Some(table)
            } else {
                self.ac[id] = Some(table)
            }
            segment = &rest[size..];
        }
        Ok(())
    }

    fn scan(&mut self, segment: &[u8]) -> Result<Scan> {
        let frame = self.frame.as_mut().context("it comes before the frame")?;
        let count = usize::from(*segment.first().context("it is empty")?);
        ensure!((1..=4).contains(&count) && segment.len() >= 2 * count + 4, "it is cut short");
        let mut parts: Vec<(usize, usize, usize)> = Vec::with_capacity(count);
        for pair in segment[1..][..2 * count].chunks_exact(2) {
            // Some writers give all components the same number: the next of them is meant.
            let unused = |i: usize| parts.iter().all(|(other, ..)| *other != i);
            let component = (0..frame.components.len())
                .find(|&i| frame.components[i].id == pair[0] && unused(i));
            let component =
                component.with_context(|| format!("it has no component {} (any more)", pair[0]))?;
            parts.push((component, usize::from(pair[1] >> 4), usize::from(pair[1] & 15)));
            let part = &mut frame.components[component];
            if part.quantisation.is_none() {
                let table = self.quantisation.get(part.table).copied().flatten();
                part.quantisation = Some(table.context("its quantisation table is missing")?);
            } else {
                ensure!(frame.progressive, "a component comes in two scans");
            }
        }
        let units = parts.iter().map(|&(c, ..)| frame.components[c].h * frame.components[c].v);
        ensure!(count == 1 || units.sum::<usize>() <= 10, "its units have more than 10 blocks");
        let [first, last, bits, ..] = segment[2 * count + 1..] else { bail!("it is cut short") };
        let scan = Scan {
            parts,
            first: first.into(),
            last: last.into(),
            high: u32::from(bits >> 4),
            low: u32::from(bits & 15),
        };
        if frame.progressive {
            let fits = if scan.first == 0 {
                scan.last == 0
            } else {
                count == 1 && scan.last >= scan.first
            };
            ensure!(
                fits && scan.last < 64
                    && scan.low <= 13
                    && (scan.high == 0 || scan.high == scan.low + 1),
                "its progression ({first} to {last}, bits {bits:#04x}) is not allowed"
            );
        }
        let brought = if frame.progressive { scan.first..=scan.last } else { 0..=63 };
        let low = if frame.progressive { scan.low as u8 } else { 0 };
        for &(component, dc, ac) in &scan.parts {
            // A further bit of what has not begun is no beginning.
            let lowest = &mut frame.components[component].lowest[brought.clone()];
            let begun = !frame.progressive || scan.high == 0;
            lowest.iter_mut().filter(|now| begun || **now != NOTHING).for_each(|now| *now = low);
            if !frame.progressive {
                for (tables, is_dc, id) in [(&mut self.dc, true, dc), (&mut self.ac, false, ac)] {
                    if let Some(table) = tables.get_mut(id).filter(|table| table.is_none()) {
                        *table = standard::table(is_dc, id)?;
                        self.standard_tables |= table.is_some();
                    }
                }
            }
        }
        Ok(scan)
    }
}

impl Frame {
    fn read(segment: &[u8], progressive: bool) -> Result<Frame> {
        ensure!(segment.len() >= 6, "it is cut short");
        ensure!(segment[0] == 8, "it has samples of {} bits; 8 can be read", segment[0]);
        let (height, width) = (usize::from(word(segment, 1)), usize::from(word(segment, 3)));
        ensure!(height > 0 && width > 0, "the image has no pixels ({width}×{height})");
        let count = usize::from(segment[5]);
        ensure!(segment.len() >= 6 + 3 * count, "it is cut short");
        let parts = segment[6..][..3 * count].chunks_exact(3);
        let sampling = parts.clone().map(|c| (usize::from(c[1] >> 4), usize::from(c[1] & 15)));
        ensure!(
            (1..=4).contains(&count)
                && sampling.clone().all(|(h, v)| (1..=4).contains(&h) && (1..=4).contains(&v)),
            "its components are not what JPEG allows"
        );
        let h = sampling.clone().map(|s| s.0).max().unwrap_or(1);
        let v = sampling.map(|s| s.1).max().unwrap_or(1);
        let (units_wide, units_high) = (width.div_ceil(8 * h), height.div_ceil(8 * v));
        let components = parts.map(|part| {
            let (own_h, own_v) = (usize::from(part[1] >> 4), usize::from(part[1] & 15));
            ensure!(
                h % own_h == 0 && v % own_v == 0,
                "a component has {own_h}×{own_v} samples where another has {h}×{v}, which is no \
                 whole ratio"
            );
            Ok(Component {
                id: part[0],
                h: own_h,
                v: own_v,
                table: part[2].into(),
                width: (width * own_h).div_ceil(h),
                height: (height * own_v).div_ceil(v),
                blocks_wide: units_wide * own_h,
                blocks_high: units_high * own_v,
                quantisation: None,
                lowest: [NOTHING; 64],
            })
        });
        let components = components.collect::<Result<_>>()?;
        Ok(Frame { width, height, progressive, components, h, v, units_wide, units_high })
    }

    /// Whether the scans so far bring every bit of every coefficient of all components.
    pub(super) fn is_complete(&self) -> bool {
        self.components.iter().all(|component| component.lowest == [0; 64])
    }

    /// Bits that the data have at least.
    pub(super) fn least_bits(&self) -> usize {
        let blocks = |c: &Component| c.width.div_ceil(8) * c.height.div_ceil(8);
        let blocks: usize = self.components.iter().map(blocks).sum();
        if self.progressive { blocks } else { 2 * blocks }
    }

    /// Bytes that decoding takes beside the pixels: a byte a sample, or the coefficients too.
    pub(super) fn memory(&self) -> usize {
        let samples: usize =
            self.components.iter().map(|c| c.blocks_wide * c.blocks_high * 64).sum();
        if self.progressive { 3 * samples } else { samples }
    }
}

/// Where the next 0xff with a marker behind it lies, from `at` on; fill bytes are passed over.
fn next_marker(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = bytes.get(at..)?;
    let found = rest.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0 | 0xff))?;
    Some(at + found)
}

/// The big-endian number of 16 bits at `at`.
fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}
