//! A decoder of JPEG files: baseline, extended sequential and progressive ones of 8 bits (ITU-T
//! T.81).
//!
//! [`Jpeg`] is the only door: nothing outside knows of what is behind it, and nothing here of data
//! sets.
//!
//! # Why it is here
//!
//! Three things are needed that no decoder in Rust has together:
//!
//! - The pixels of libjpeg-turbo in its default settings (the slow integer transform, fancy
//!   upsampling), to the bit and on any processor, since published results and other programs' data
//!   sets come from it; the tests compare with Pillow. Two kinds of files are apart: where
//!   progressive scans were left out libjpeg smooths blocks, and coefficients out of any encoder's
//!   range overflow in other ways.
//! - Cut files refused: data that end early or are no codes are an error, never grey. (Of a
//!   progressive file every component's DC coefficients have to be there; further scans may be left
//!   out before an end marker, as JPEG allows.) A file that lacks its end marker is taken where
//!   every bit of every coefficient came all the same, one that lacks its Huffman tables with the
//!   standard's, and both are noted. Clutter between segments, which some of ImageNet's files have,
//!   is passed over.
//! - A window: blocks outside are only passed over, which leaves out their transform, upsampling
//!   and colours, and nothing below the window need be looked at.
//!
//! # What it buys
//!
//! 60 files each of 500×375 pixels, 4:2:0, some 105 KB, on one core of an AMD EPYC (Zen 3, AVX2),
//! 2026-11-25: this decoder's milliseconds a file (best of 25 rounds), and the others' time by its
//! own (medians of 25 rounds in turn, two runs):
//!
//! | | this, ms | zune-jpeg 0.5.15 | libjpeg-turbo 2.1.5 |
//! | --- | ---: | ---: | ---: |
//! | baseline | 1.5 | 1.33 and 1.27 | 1.02 and 1.04 |
//! | progressive | 5.5 | 1.23 and 1.19 | 1.06 and 1.00 |
//! | baseline, the middle 224×224 | 0.97 | | |
//!
//! On these files zune-jpeg's pixels are up to 7 grey levels off libjpeg-turbo's, 0.24 in the mean;
//! 17 % of all values differ. Of 114 cuts, at every twentieth of six files, it refuses none; in its
//! strict mode all, but then files with bytes between segments too, and 18 of 2,179 cuts of two
//! small files still pass. Of the 47 colour files in `tests/data/jpeg` it refuses 5, panics at 1,
//! and makes another picture of 6 (unusual samplings, components in separate scans).
//! libjpeg-turbo's pixels are ours on all of them; it tells of a cut by a warning, and would bring
//! a C compiler and an assembler into the build.
//!
//! About three quarters of the time for baseline photographs go to Huffman codes, which come one
//! after the other.
//!
//! # When it goes
//!
//! Once a maintained crate gives libjpeg-turbo's bits on the files of `tests/data/jpeg`, refuses
//! every cut that the tests make, decodes a window without transforming the rest, and takes at most
//! a tenth longer than this.
//!
//! # Inside
//!
//! `header` reads segments; `sequential` and `progressive` read scans from `bits` by `huffman`
//! codes (`standard` has those that video frames leave out); `idct` turns coefficients into the samples of `planes`, and `color` those into pixels.

mod bits;
mod color;
mod header;
mod huffman;
mod idct;
mod planes;
mod progressive;
mod sequential;
mod standard;

#[cfg(test)]
mod tests;

use super::area::Area;
use crate::vectors::{Simd, Work, dispatch};
use anyhow::{Context, Result, bail, ensure};
use header::{Coded, Color, Frame, Header, Next, Scan};
use image::metadata::Orientation as Mark;
use planes::{Line, Plane};
use progressive::Coefficients;
use std::cell::RefCell;

/// A progressive image with more scans is refused: each scan passes over all blocks, so that a
/// small file could take hours. Encoders write about ten.
const MOST_SCANS: usize = 200;
/// What was wrong with a file whose pixels are all there, a sentence each.
pub type Notes = Vec<&'static str>;

const NO_TABLES: &str = "it has no Huffman tables, as frames of a webcam's video; those of the \
                         JPEG standard were taken";
const NO_END: &str = "it has no end marker, but all of its pixels are there";

/// Memory of an image that takes more bytes than this is given back after it.
const KEPT: usize = 16 << 20;

thread_local! {
    /// Memory that is used again from image to image.
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// A JPEG file, read up to its first scan.
pub struct Jpeg<'a> {
    bytes: &'a [u8],
    state: Header,
    /// The first scan, and where its data begins.
    scan: Scan,
    at: usize,
    color: Color,
}

/// What decoding needs beside the pixels. A new image finds there whatever the one before left.
#[derive(Default)]
struct Memory {
    planes: Vec<Plane>,
    coefficients: Vec<Coefficients>,
    /// A scan's data without stuffed zeros.
    data: Vec<u8>,
    lines: [Line; 4],
    colors: [Vec<u8>; 3],
}

impl<'a> Jpeg<'a> {
    /// Reads the header of the file `bytes`.
    ///
    /// # Errors
    /// If it is none that can be read.
    pub fn open(bytes: &'a [u8]) -> Result<Jpeg<'a>> {
        ensure!(bytes.starts_with(&[0xff, 0xd8]), "it does not begin as a JPEG does");
        let mut state = Header::default();
        match state.advance(bytes, 2)? {
            Next::Scan(scan, at) => {
                let color = state.color()?;
                Ok(Jpeg { bytes, state, scan, at, color })
            }
            Next::End => bail!("it ends before its pixels"),
            Next::Cut(how) => bail!("the file was cut short: {how}"),
        }
    }

    /// Pixels from left to right.
    pub fn width(&self) -> usize {
        self.state.frame.as_ref().map_or(0, |frame| frame.width)
    }

    /// Pixels from top to bottom.
    pub fn height(&self) -> usize {
        self.state.frame.as_ref().map_or(0, |frame| frame.height)
    }

    /// Values a pixel that [`decode`](Jpeg::decode) gives: 1 for grey, else 3 (RGB).
    pub fn channels(&self) -> usize {
        if self.color == Color::Grey { 1 } else { 3 }
    }

    /// How the image has to be turned, by its Exif data.
    pub fn orientation(&self) -> Mark {
        self.state.mark.unwrap_or(Mark::NoTransforms)
    }

    /// Bytes that decoding takes at most, pixels included.
    pub fn memory(&self) -> usize {
        let pixels = self.width() * self.height() * self.channels();
        let frame = self.state.frame.as_ref().map_or(0, Frame::memory);
        pixels + frame + self.bytes.len()
    }

    /// Refuses a file that is too short for its pixels, before memory is taken for them: a block has
    /// two codes at least, one in a progressive image, of a bit each.
    ///
    /// # Errors
    /// If it cannot be whole.
    pub fn check_length(&self) -> Result<()> {
        let bits = self.state.frame.as_ref().map_or(0, Frame::least_bits);
        ensure!(
            8 * self.bytes.len() >= bits,
            "the file was cut short: {} bytes cannot hold {}×{} pixels",
            self.bytes.len(),
            self.width(),
            self.height()
        );
        Ok(())
    }

    /// Decodes the `window` of the image into `pixels` [height, width, channels], which is all of
    /// the image; what lies outside of the window is left as it was. Where `sound` says that the
    /// file is known to be whole, it is not read further than needed. What was wrong with the file
    /// without any harm to its pixels is given back, a sentence each.
    ///
    /// # Errors
    /// If the data are cut short or damaged; the pixels are then whatever they are.
    pub fn decode(self, window: &Area, sound: bool, pixels: &mut [u8]) -> Result<Notes> {
        MEMORY.with_borrow_mut(|memory| {
            let large = self.memory() > KEPT;
            let result = self.decode_in(window, sound, memory, pixels);
            if large {
                *memory = Memory::default();
            }
            result
        })
    }

    fn decode_in(
        self,
        window: &Area,
        sound: bool,
        memory: &mut Memory,
        pixels: &mut [u8],
    ) -> Result<Notes> {
        assert_eq!(pixels.len(), self.height() * self.width() * self.channels());
        assert!(window.rows.end <= self.height() && window.columns.end <= self.width());
        dispatch(Decode { jpeg: self, window, sound, memory, pixels })
    }

    /// Reads the scans and makes the planes' samples of them; gives what was wrong.
    #[inline(always)]
    fn samples<S: Simd>(
        &mut self,
        s: S,
        window: &Area,
        sound: bool,
        memory: &mut Memory,
    ) -> Result<Notes> {
        let frame = self.state.frame.as_ref().context("it has no frame")?;
        let (count, progressive) = (frame.components.len(), frame.progressive);
        memory.planes.resize_with(count.max(memory.planes.len()), Plane::default);
        memory.coefficients.resize_with(count.max(memory.coefficients.len()), Default::default);
        let planes = &mut memory.planes[..count];
        let coefficients = &mut memory.coefficients[..count];
        let data = &mut memory.data;
        for (i, component) in frame.components.iter().enumerate() {
            planes[i].fit(frame, component, &window.rows, &window.columns)?;
            if progressive {
                coefficients[i].clear(component.blocks_wide, component.blocks_high)?;
            }
        }
        let mut scans = 1;
        let mut notes = Notes::new();
        loop {
            let state = &self.state;
            let frame = state.frame.as_ref().context("it has no frame")?;
            let coded = Coded {
                bytes: self.bytes,
                at: self.at,
                frame,
                scan: &self.scan,
                dc: &state.dc,
                ac: &state.ac,
                restart: state.restart,
            };
            // A sequential image in one scan has nothing of interest behind it.
            let stop = sound && self.scan.parts.len() == count;
            let end = if progressive {
                progressive::decode(&coded, coefficients, data)?
            } else {
                sequential::decode(s, &coded, planes, stop, data)?
            };
            if stop && !progressive {
                break;
            }
            match self.state.advance(self.bytes, end.at)? {
                Next::Scan(scan, at) => (self.scan, self.at) = (scan, at),
                Next::End => break,
                Next::Cut(how) => {
                    let frame = self.state.frame.as_ref();
                    let whole = frame.is_some_and(Frame::is_complete) && !end.filled;
                    ensure!(whole, "the file was cut short: {how}");
                    notes.push(NO_END);
                    break;
                }
            }
            scans += 1;
            ensure!(scans <= MOST_SCANS, "it has more than {MOST_SCANS} scans");
        }

        if self.state.standard_tables {
            notes.push(NO_TABLES);
        }
        self.transform(s, planes, coefficients)?;
        Ok(notes)
    }

    /// Checks that all components came; of a progressive image, makes samples of their
    /// coefficients.
    #[inline(always)]
    fn transform<S: Simd>(
        &self,
        s: S,
        planes: &mut [Plane],
        coefficients: &[Coefficients],
    ) -> Result<()> {
        let frame = self.state.frame.as_ref().context("it has no frame")?;
        for (i, component) in frame.components.iter().enumerate() {
            let quantisation = component
                .quantisation
                .as_ref()
                .context("one of its colour components is missing")?;
            ensure!(
                component.has_dc(),
                "a scan is missing: the DC coefficients of one of its components"
            );
            if !frame.progressive {
                continue;
            }
            let plane = &mut planes[i];
            for row in plane.rows.clone() {
                for column in plane.columns.clone() {
                    let (out, stride) = plane.block_mut(row, column);
                    let block = coefficients[i].block(row, column);
                    idct::transform(s, block, quantisation, out, stride);
                }
            }
        }
        Ok(())
    }

    /// Makes pixels of the planes' samples.
    #[inline(always)]
    fn pixels<S: Simd>(
        &self,
        s: S,
        window: &Area,
        memory: &mut Memory,
        pixels: &mut [u8],
    ) -> Result<()> {
        let Memory { planes, lines: [first, second, third, fourth], colors, .. } = memory;
        let channels = self.channels();
        let columns = &window.columns;
        let row_bytes = self.width() * channels;
        for y in window.rows.clone() {
            let out =
                &mut pixels[y * row_bytes..][columns.start * channels..columns.end * channels];
            let a = planes[0].row(y, columns, first);
            if self.color == Color::Grey {
                out.copy_from_slice(a);
                continue;
            }
            let b = planes[1].row(y, columns, second);
            let c = planes[2].row(y, columns, third);
            match self.color {
                Color::Rgb => color::interleave(s, [a, b, c], out),
                Color::Cmyk | Color::Ycck => {
                    let k = planes[3].row(y, columns, fourth);
                    for (x, out) in out.as_chunks_mut::<3>().0.iter_mut().enumerate() {
                        let stored = [a[x], b[x], c[x], k[x]];
                        *out = color::four_to_rgb(stored, self.color == Color::Ycck);
                    }
                }
                _ => color::rgb(s, [a, b, c], out, colors),
            }
        }
        Ok(())
    }
}

/// [`Jpeg::decode`] at the level of vectors in use.
struct Decode<'a, 'b> {
    jpeg: Jpeg<'a>,
    window: &'b Area,
    sound: bool,
    memory: &'b mut Memory,
    pixels: &'b mut [u8],
}

impl Work for Decode<'_, '_> {
    type Out = Result<Notes>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Result<Notes> {
        let Self { mut jpeg, window, sound, memory, pixels } = self;
        let notes = jpeg.samples(s, window, sound, memory)?;
        jpeg.pixels(s, window, memory, pixels)?;
        Ok(notes)
    }
}
