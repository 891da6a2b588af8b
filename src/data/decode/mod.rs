//! An image file's bytes to pixels: JPEG, PNG, WebP, GIF, BMP or TIFF, recognised by content, never
//! by name.
//!
//! The pixels are those that Pillow's `Image.open(…).convert("RGB")` gives: grey is repeated, CMYK
//! is taken as Adobe writes it (inverted); of 16 bits the upper 8 count, also of grey, which Pillow
//! clips. What is transparent shows the preparation's background, as Pillow's `paste` with the alpha
//! channel as its mask has it; without one, alpha is dropped. A file that is cut short is an error,
//! never filled up with grey. Files gzip-compressed under an image's name are unpacked (ILSVRC-2010
//! has some).
//!
//! A file with something wrong that costs no pixel is read, with a note ([`Prepared::notes`]).
//!
//! Sizes are checked by the file's header before anything is allocated; what turns out not to fit
//! into memory is an error of that file.
//!
//! JPEG could be decoded at half the size where an image has twice the wanted one. It is not: on
//! six photographs of 0.5 to 2 megapixels libjpeg-turbo's took 1.3 times less time at best, and the
//! prepared images differed by 0.4 to 0.7 grey levels in the mean and by 7 to 33 at most from those
//! of a full decode; and ImageNet's usual 500×375 are too small for it.

mod chunks;
mod colours;
mod jpeg;
mod others;
mod png;
mod turn;
mod what;

#[cfg(test)]
mod tests;

use super::jpeg::Notes;
use super::preparation::{Colour, Orientation, Preparation, Resize};
use super::resize::{self, Image};
use super::unpack::{GZIP, unpack};
use crate::machine::memory as machine;
use anyhow::{Context, Result, anyhow, bail, ensure};
use flate2::read::GzDecoder;
use image::metadata::Orientation as Mark;
use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Images with more pixels are refused. (ImageNet's largest have some tens of millions, cameras of
/// telephones 200.)
pub const LARGEST: usize = 512_000_000;
/// A larger image file is refused unread.
pub const LARGEST_FILE: u64 = 256 << 20;
/// A decoder may need this much memory for one image: 15 bytes a pixel, for a progressive one in
/// four colours, are the most. A photograph of 108 megapixels, 4:2:0, takes 490 MB, or 810 MB where
/// it is progressive.
const MEMORY: usize = 15 * LARGEST + (512 << 20);
/// Images that need more than this are decoded one at a time, whatever the number of threads.
const LARGE: usize = 64 << 20;
/// A gzip-compressed image may unpack to this many bytes.
const UNPACKED: u64 = 128 << 20;

/// Memory above this is given back after an image.
const KEPT: usize = 16 << 20;

static ONE_LARGE_IMAGE: Mutex<()> = Mutex::new(());

/// An image as a network takes it.
#[derive(Debug)]
pub struct Prepared {
    /// [height, width, channels] bytes.
    pub pixels: Vec<u8>,
    /// What was wrong with the file without any harm to its pixels, a sentence each.
    pub notes: Notes,
    /// Whether it has fewer pixels along a side than were made of it.
    pub enlarged: bool,
    /// Its own height and width.
    pub from: [usize; 2],
}

/// An image as it is stored in its file.
struct Decoded {
    image: Image,
    /// How it is to be turned.
    mark: Mark,
    notes: Notes,
    _alone: Alone,
}

/// Decodes the image file `bytes` and does to it what `preparation` says: turn, scale, crop. The
/// result has the preparation's size; `channels` is 1 (grey, as Pillow's `convert("L")`) or 3
/// (RGB).
///
/// Where the preparation scales nothing (its images came in one size), an image of another size is
/// still scaled and cropped to that size, so that `predict` can look at any picture.
pub fn prepare_image(bytes: &[u8], preparation: &Preparation, channels: usize) -> Result<Prepared> {
    if is_jpeg(bytes)
        && let Some(prepared) = jpeg::prepare(bytes, preparation, channels).context("as a JPEG")?
    {
        return Ok(prepared);
    }
    let Preparation { orientation, background, .. } = *preparation;
    let Decoded { image, notes, _alone, .. } = decode(bytes, orientation, background, channels)?;
    let Image { height, width, channels, pixels } = image;
    scaled(&pixels, [height, width, channels], notes, preparation)
}

/// The pixels of an image of `shape` [height, width, channels] scaled and cropped.
fn scaled(
    pixels: &[u8],
    shape: [usize; 3],
    notes: Notes,
    preparation: &Preparation,
) -> Result<Prepared> {
    let size = preparation.size;
    let pixels = match preparation.resize {
        Resize::Warp => resize::warp(pixels, shape, size)?,
        _ => resize::cover_centre(pixels, shape, size)?,
    };
    // Where a side is shorter than wanted, covering the size enlarges both.
    let enlarged = shape[0] < size[0] || shape[1] < size[1];
    Ok(Prepared { pixels, notes, enlarged, from: [shape[0], shape[1]] })
}

/// As long as it lives, no other large image is let in.
type Alone = Option<MutexGuard<'static, ()>>;

/// Decodes the image file `bytes` to `channels` (1 or 3) values a pixel and turns it.
fn decode(
    bytes: &[u8],
    orientation: Orientation,
    background: Option<Colour>,
    channels: usize,
) -> Result<Decoded> {
    let unpacked;
    let bytes = if bytes.starts_with(&GZIP) {
        unpacked =
            unpack(GzDecoder::new(bytes), UNPACKED).context("the file is gzip-compressed")?;
        &unpacked
    } else {
        bytes
    };
    let mut decoded = if is_jpeg(bytes) {
        jpeg::read(bytes, channels).context("as a JPEG")?
    } else if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        png::read(bytes, background, channels).context("as a PNG")?
    } else if let Some(format) = others::Format::of(bytes) {
        others::read(bytes, format, background, channels).context(format.name())?
    } else {
        bail!("{}", what::what_else(bytes));
    };
    if orientation == Orientation::Apply {
        decoded.image = turn::turn(decoded.image, decoded.mark)?;
    }
    Ok(decoded)
}

fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff])
}

/// Refuses by its header what is too large, and lets only one large image in at a time. `memory` is
/// what decoding takes, in bytes.
fn admit(width: usize, height: usize, memory: usize) -> Result<Alone> {
    let pixels = width.saturating_mul(height);
    ensure!(pixels > 0, "it has no pixels");
    ensure!(
        pixels <= LARGEST,
        "{width}×{height} pixels are more than the {} million that are read",
        LARGEST / 1_000_000
    );
    ensure!(
        memory <= MEMORY,
        "decoding {width}×{height} pixels would take {} MiB of memory, more than the {} MiB \
         allowed",
        memory >> 20,
        MEMORY >> 20
    );
    if memory <= LARGE {
        return Ok(None);
    }
    let alone = ONE_LARGE_IMAGE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(supply) = machine::supply().filter(|supply| supply.free < memory as u64) {
        bail!(
            "decoding {width}×{height} pixels takes {} of memory, and {supply}",
            machine::size(memory as u64)
        );
    }
    Ok(Some(alone))
}

/// As many zeros. Err: there is no memory for them.
fn zeros(bytes: usize) -> Result<Vec<u8>> {
    let mut zeros = Vec::new();
    grow(&mut zeros, bytes)?;
    Ok(zeros)
}

/// Refuses a file that is too short for as many pixels as it speaks of. A pixel has a bit at least,
/// and what packs them (deflate; the other ways pack less) makes at most 1,032 bytes of one.
fn check_length(bytes: &[u8], width: usize, height: usize) -> Result<()> {
    ensure!(
        width * height <= bytes.len().saturating_mul(8 * 1032),
        "the file was cut short: {} bytes cannot hold {width}×{height} pixels",
        bytes.len()
    );
    Ok(())
}

/// Makes `memory` at least `bytes` long.
fn grow(memory: &mut Vec<u8>, bytes: usize) -> Result<()> {
    let more = bytes.saturating_sub(memory.len());
    memory.try_reserve_exact(more).map_err(|_| {
        anyhow!("there is no room in memory for the {} MiB of its pixels", bytes >> 20)
    })?;
    memory.resize(memory.len() + more, 0);
    Ok(())
}

/// Calls `work` with `bytes` bytes of memory that is kept from image to image; they are whatever
/// the image before left there.
fn scratch<T>(bytes: usize, work: impl FnOnce(&mut [u8]) -> Result<T>) -> Result<T> {
    thread_local! {
        static PIXELS: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    PIXELS.with_borrow_mut(|pixels| {
        grow(pixels, bytes)?;
        let result = work(&mut pixels[..bytes]);
        if bytes > KEPT {
            *pixels = Vec::new();
        }
        result
    })
}
