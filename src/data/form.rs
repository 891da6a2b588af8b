//! The two forms in which crops reach a network: floats, ready to use, or bytes whose arithmetic is
//! left to the device, a quarter of the size.
//!
//! The device says which [`Form`] it takes; the loader fills [`CropBuffer`]s of that form where the
//! device will read them; an engine is lent their contents as a [`CropView`]. Both forms come from
//! one [`Draw`], and the device's arithmetic rounds as [`Augmentation::apply`] does, so a network
//! reads the same bits either way.

use super::augment::{Augmentation, Draw, Geometry};
use anyhow::Result;
use rayon::iter::Either;
use rayon::prelude::*;
use std::fmt;
use std::ops::{DerefMut, Range};
use std::sync::Arc;

/// Memory for bytes, such as pinned memory that a GPU reads directly.
pub type Bytes = Box<dyn DerefMut<Target = [u8]> + Send>;

/// How a device takes crops.
#[derive(Clone)]
pub enum Form {
    /// The network's input itself.
    Floats,
    /// Cropped and flipped bytes, in memory that this function takes; it is given their number.
    Bytes(Arc<dyn Fn(usize) -> Result<Bytes> + Send + Sync>),
}

/// Room for crops of one shape, and how many of them are in use.
pub struct CropBuffer {
    memory: Memory,
    geometry: Geometry,
    crops: usize,
}

enum Memory {
    /// `[crops, crop, crop, channels]`
    Floats(Vec<f32>),
    /// As the fields of [`CropView::Bytes`].
    Bytes { pixels: Bytes, colours: Vec<f32> },
}

/// Crops to read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CropView<'a> {
    /// `[crops, crop, crop, channels]`, centred, with colour noise.
    Floats(&'a [f32]),
    /// What a device centres and colours by itself.
    Bytes {
        /// `[crops, crop, crop, channels]`, as stored, but flipped.
        pixels: &'a [u8],
        /// `[crops, 2, channels]`: what is added to each channel, and what it is then multiplied
        /// by.
        colours: &'a [f32],
    },
}

/// Crops to write, as [`CropView`] has them.
pub enum CropViewMut<'a> {
    /// Centred, with colour noise.
    Floats(&'a mut [f32]),
    /// For a device that centres and colours by itself.
    Bytes {
        /// As stored, but flipped.
        pixels: &'a mut [u8],
        /// Shifts of the channels, and a scale.
        colours: &'a mut [f32],
    },
}

impl CropBuffer {
    /// Takes memory for `most` crops; none are in use.
    ///
    /// # Errors
    /// What the form's memory says where it cannot be taken.
    pub fn new(form: &Form, geometry: &Geometry, most: usize) -> Result<CropBuffer> {
        let values = most * geometry.crop_len();
        let memory = match form {
            Form::Floats => Memory::Floats(vec![0.0; values]),
            Form::Bytes(take) => Memory::Bytes {
                pixels: take(values)?,
                colours: vec![0.0; most * 2 * geometry.channels],
            },
        };
        Ok(CropBuffer { memory, geometry: *geometry, crops: 0 })
    }

    /// Uses the first `crops` of its room; what they hold is left from before.
    ///
    /// # Panics
    /// If there is not so much room.
    pub fn resize(&mut self, crops: usize) {
        let room = match &self.memory {
            Memory::Floats(values) => values.len(),
            Memory::Bytes { pixels, .. } => pixels.len(),
        };
        assert!(
            crops * self.geometry.crop_len() <= room,
            "{crops} crops in room for {room} values"
        );
        self.crops = crops;
    }

    /// The crops in use.
    pub fn view(&self) -> CropView<'_> {
        let Geometry { channels, .. } = self.geometry;
        let values = self.crops * self.geometry.crop_len();
        match &self.memory {
            Memory::Floats(all) => CropView::Floats(&all[..values]),
            Memory::Bytes { pixels, colours } => CropView::Bytes {
                pixels: &pixels[..values],
                colours: &colours[..self.crops * 2 * channels],
            },
        }
    }

    /// The crops in use, to be written.
    pub fn view_mut(&mut self) -> CropViewMut<'_> {
        let Geometry { channels, .. } = self.geometry;
        let values = self.crops * self.geometry.crop_len();
        match &mut self.memory {
            Memory::Floats(all) => CropViewMut::Floats(&mut all[..values]),
            Memory::Bytes { pixels, colours } => CropViewMut::Bytes {
                pixels: &mut pixels[..values],
                colours: &mut colours[..self.crops * 2 * channels],
            },
        }
    }

    /// The crops in use, `each` at a time.
    pub fn par_chunks_mut(
        &mut self,
        each: usize,
    ) -> impl IndexedParallelIterator<Item = CropViewMut<'_>> {
        let values = each * self.geometry.crop_len();
        let colour_len = each * 2 * self.geometry.channels;
        match self.view_mut() {
            CropViewMut::Floats(all) => {
                Either::Left(all.par_chunks_mut(values).map(CropViewMut::Floats))
            }
            CropViewMut::Bytes { pixels, colours } => {
                let both = pixels.par_chunks_mut(values).zip(colours.par_chunks_mut(colour_len));
                Either::Right(both.map(|(pixels, colours)| CropViewMut::Bytes { pixels, colours }))
            }
        }
    }
}

impl fmt::Debug for CropBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

impl<'a> CropView<'a> {
    /// Number of crops of `values` values each.
    pub fn len(&self, values: usize) -> usize {
        match self {
            CropView::Floats(all) => all.len() / values,
            CropView::Bytes { pixels, .. } => pixels.len() / values,
        }
    }

    /// Those of the crops, of `values` values each, whose numbers are in `range`.
    pub fn slice(self, range: Range<usize>, values: usize) -> CropView<'a> {
        let of = |each: usize| range.start * each..range.end * each;
        match self {
            CropView::Floats(all) => CropView::Floats(&all[of(values)]),
            CropView::Bytes { pixels, colours } => {
                let colour_len = colours.len() / self.len(values).max(1);
                CropView::Bytes { pixels: &pixels[of(values)], colours: &colours[of(colour_len)] }
            }
        }
    }
}

impl CropViewMut<'_> {
    /// Writes crop number `crop`: what `draw` makes of a stored `image`, but for the arithmetic
    /// that is left to a device that takes bytes.
    ///
    /// # Panics
    /// Where [`Augmentation::apply`] does, and if there is no such crop.
    pub fn write(&mut self, crop: usize, image: &[u8], draw: &Draw, augmentation: &Augmentation) {
        let Geometry { channels, .. } = augmentation.geometry;
        let values = augmentation.geometry.crop_len();
        match self {
            CropViewMut::Floats(all) => {
                augmentation.apply(&mut all[crop * values..][..values], image, draw);
            }
            CropViewMut::Bytes { pixels, colours } => {
                augmentation.cut(&mut pixels[crop * values..][..values], image, draw);
                let colours = &mut colours[crop * 2 * channels..][..2 * channels];
                colours[..channels].copy_from_slice(&draw.shift[..channels]);
                colours[channels..].copy_from_slice(&draw.scale[..channels]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three crops of 2×2 grey pixels out of images of 3×3, in both forms; the third is flipped and
    /// has colour.
    #[test]
    fn both_forms_come_from_one_draw() {
        let geometry = Geometry { height: 3, width: 3, channels: 1, crop: 2 };
        let mean = vec![1.0, 2.0, 3.0, 4.0];
        let a = Augmentation {
            geometry,
            flip: true,
            noise: None,
            random_crops: true,
            shared_crops: 1,
            mean,
            scale: [1.0; 4],
        };
        let image: Vec<u8> = (10..19).collect();
        let mut draws = [a.centre(); 3];
        (draws[1].top, draws[1].left) = (1, 1);
        (draws[2].flip, draws[2].shift[0], draws[2].scale[0]) = (true, 0.5, 2.0);
        let take = |bytes| -> Result<Bytes> { Ok(Box::new(vec![9u8; bytes])) };
        for form in [Form::Floats, Form::Bytes(Arc::new(take))] {
            let mut buffer = CropBuffer::new(&form, &geometry, 4).unwrap();
            buffer.resize(3);
            for (crop, draw) in draws.iter().enumerate() {
                buffer.view_mut().write(crop, &image, draw, &a);
            }
            let floats = [9., 9., 10., 10., 13., 13., 14., 14., 21., 17., 23., 19.];
            let pixels = [10, 11, 13, 14, 14, 15, 17, 18, 11, 10, 14, 13];
            let colours = [0.0, 1.0, 0.0, 1.0, 0.5, 2.0];
            let of = |from: usize, to: usize| match form {
                Form::Floats => CropView::Floats(&floats[4 * from..4 * to]),
                Form::Bytes(_) => CropView::Bytes {
                    pixels: &pixels[4 * from..4 * to],
                    colours: &colours[2 * from..2 * to],
                },
            };
            assert_eq!(buffer.view(), of(0, 3));
            assert_eq!(buffer.view().len(4), 3);
            assert_eq!(buffer.view().slice(1..3, 4), of(1, 3));
            buffer.par_chunks_mut(1).enumerate().for_each(|(i, mut one)| {
                one.write(0, &image, &draws[2 - i], &a);
            });
            assert_eq!(buffer.view().slice(0..1, 4), of(2, 3));
            assert_eq!(buffer.view().slice(2..3, 4), of(0, 1));
            buffer.resize(2);
            assert_eq!(buffer.view().len(4), 2);
        }
    }
}
