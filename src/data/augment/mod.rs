//! Augmentation: from a stored image to the values that the network reads (paper section 4.1).
//!
//! Two steps: a [`Draw`] says where to crop, whether to flip and what colour to add, as a function
//! of (seed, epoch, image) alone; and [`Augmentation::apply`] carries it out in one pass over the
//! pixels. For a GPU, [`Augmentation::cut`] moves the bytes alone, and `kernels/input.cu` does the
//! arithmetic. For every value of the crop:
//!
//! `out[y, x, c] = ((pixel as f32 - mean[y, x, c]) + shift[c]) * scale[c]`
//!
//! with each operation rounded to f32 in this order and none of them fused, where `pixel` is the
//! stored byte at `(top + y, left + x)`, or at `(top + y, left + crop - 1 - x)` if flipped. The
//! mean is not flipped with the image, and it is the centre crop of the mean image wherever the
//! crop was taken; both as in the 2012 code.

mod pixels;

use super::area::Area;
use crate::random::{Purpose, Stream};
use anyhow::{Result, ensure};
use rand_distr::{Distribution, StandardNormal};

/// The shape of the stored images, `[height, width, channels]` bytes, and the side of the square
/// crop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Rows of a stored image, in pixels.
    pub height: usize,
    /// Columns of a stored image, in pixels.
    pub width: usize,
    /// 1 (grey) or 3 (red, green, blue).
    pub channels: usize,
    /// Rows and columns of the crop, in pixels.
    pub crop: usize,
}

impl Geometry {
    /// Bytes of a stored image.
    pub fn image_len(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Values of a crop.
    pub fn crop_len(&self) -> usize {
        self.crop * self.crop * self.channels
    }
}

/// Colour noise (paper section 4.1): `Σ alpha_i · vectors[i]`, one draw of the alphas an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Noise {
    /// The standard deviation of each alpha; 0.1 in the paper.
    pub sigma: f32,
    /// `[channels, channels]`: row i is principal component i of the training pixels' colours,
    /// times the deviation along it (the 2012 code) or the eigenvalue (the paper's words), in grey
    /// levels.
    pub vectors: Vec<f32>,
    /// Whether noisy images are divided by `1 + sigma`, which keeps their scale near that of test
    /// images (the 2012 code; not in the paper).
    pub rescale: bool,
}

/// What is done to one image; see the head of this module for the arithmetic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// The crop's first row in the stored image.
    pub top: usize,
    /// The crop's first column in the stored image.
    pub left: usize,
    /// Whether columns run from right to left.
    pub flip: bool,
    /// Added to each channel, in grey levels; as many are used as there are channels.
    pub shift: [f32; 4],
    /// What the centred and shifted values of each channel are multiplied by; as many are used as
    /// there are channels.
    pub scale: [f32; 4],
}

/// How a data set's images become crops; the same for every image of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Augmentation {
    /// Shapes of the stored images and the crop.
    pub geometry: Geometry,
    /// Whether half of the training crops are flipped.
    pub flip: bool,
    /// Colour noise for training; not used on grey images.
    pub noise: Option<Noise>,
    /// Whether training crops are taken anywhere; else from the centre, as evaluation's are.
    pub random_crops: bool,
    /// How many neighbours in an epoch share one crop position and one flip: 1 is the paper, 32 the
    /// 2012 code, where it was an economy of the loader.
    pub shared_crops: u32,
    /// The centre crop of the mean image, `[crop, crop, channels]`.
    pub mean: Vec<f32>,
    /// What each channel is multiplied by once the mean is subtracted, in training and evaluation;
    /// 1 in the paper.
    pub scale: [f32; 4],
}

impl Augmentation {
    /// Checks that the parts fit together, as [`apply`](Self::apply) and the draws rely on.
    ///
    /// # Errors
    /// One sentence that names what does not fit.
    pub fn check(&self) -> Result<()> {
        let Geometry { height, width, channels, crop } = self.geometry;
        ensure!(
            channels == 1 || channels == 3,
            "images have {channels} channels; only 1 (grey) and 3 (red, green, blue) can be cropped"
        );
        ensure!(
            crop >= 1 && crop <= height && crop <= width,
            "a crop of {crop}×{crop} pixels does not fit into images of {height}×{width}; \
             choose a crop of 1 to {}",
            height.min(width)
        );
        ensure!(
            self.mean.len() == self.geometry.crop_len(),
            "the mean has {} values where a crop of {crop}×{crop}×{channels} has {}",
            self.mean.len(),
            self.geometry.crop_len()
        );
        ensure!(self.shared_crops >= 1, "at least 1 image must share a crop, not 0");
        if let Some(noise) = &self.noise {
            ensure!(
                noise.vectors.len() == channels * channels,
                "colour noise has {} numbers in its components where {channels} channels need {}",
                noise.vectors.len(),
                channels * channels
            );
            ensure!(
                noise.sigma >= 0.0 && noise.sigma.is_finite(),
                "colour noise has a deviation of {}; it must be 0 or more",
                noise.sigma
            );
        }
        Ok(())
    }

    /// The draw of a training image: every crop position equally likely, 33×33 of them for 256 and
    /// 224 (the 2012 code; the paper's count of 2048 means 32×32), a flip with probability ½, and
    /// one alpha from N(0, sigma) for each component.
    ///
    /// `image` is the index in the data set, `position` the place in the epoch's order (of use only
    /// where crops are shared). `noise_on` = false leaves colours alone, as the 2012 run did late.
    pub fn training(
        &self,
        seed: u64,
        epoch: u32,
        image: u32,
        position: u32,
        noise_on: bool,
    ) -> Draw {
        let Geometry { height, width, crop, .. } = self.geometry;
        let group = if self.shared_crops == 1 { image } else { position / self.shared_crops };
        let mut stream = Stream::new(seed, Purpose::Crop, epoch, group);
        let top = stream.below((height - crop + 1) as u32) as usize;
        let left = stream.below((width - crop + 1) as u32) as usize;
        let flip = self.flip && stream.below(2) == 1;
        let mut draw = match self.random_crops {
            true => self.at(top, left, flip),
            false => Draw { flip, ..self.centre() },
        };
        let channels = self.geometry.channels;
        if let Some(noise) = self.noise.as_ref().filter(|_| noise_on && channels > 1) {
            let mut stream = Stream::new(seed, Purpose::Color, epoch, image);
            for component in noise.vectors.chunks_exact(channels) {
                let normal: f32 = StandardNormal.sample(&mut stream);
                let alpha = noise.sigma * normal;
                for (shift, part) in draw.shift.iter_mut().zip(component) {
                    *shift += alpha * part;
                }
            }
            if noise.rescale {
                let rescale = 1.0 / (1.0 + noise.sigma);
                draw.scale.iter_mut().for_each(|scale| *scale *= rescale);
            }
        }
        draw
    }

    /// The crop in the middle, as it is.
    pub fn centre(&self) -> Draw {
        let Geometry { height, width, crop, .. } = self.geometry;
        self.at((height - crop) / 2, (width - crop) / 2, false)
    }

    /// The ten crops of the paper's test: top left, top right, bottom left, bottom right and the
    /// middle, then the same five flipped.
    pub fn ten(&self) -> [Draw; 10] {
        let Geometry { height, width, crop, .. } = self.geometry;
        let (bottom, right) = (height - crop, width - crop);
        let places = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom / 2, right / 2)];
        std::array::from_fn(|i| self.at(places[i % 5].0, places[i % 5].1, i >= 5))
    }

    /// The part of the stored image that the crop of `draw` is.
    pub fn window(&self, draw: &Draw) -> Area {
        let crop = self.geometry.crop;
        Area { rows: draw.top..draw.top + crop, columns: draw.left..draw.left + crop }
    }

    fn at(&self, top: usize, left: usize, flip: bool) -> Draw {
        Draw { top, left, flip, shift: [0.0; 4], scale: self.scale }
    }

    /// Writes the crop that `draw` describes to `out`, `[crop, crop, channels]`, from `image`,
    /// `[height, width, channels]`. Every kind of CPU gives the same bits.
    ///
    /// # Panics
    /// If a length or the draw does not fit the geometry, or the augmentation fails its
    /// [`check`](Self::check).
    pub fn apply(&self, out: &mut [f32], image: &[u8], draw: &Draw) {
        let Geometry { height, width, channels, crop } = self.geometry;
        assert_eq!(out.len(), self.geometry.crop_len());
        assert_eq!(image.len(), self.geometry.image_len());
        assert_eq!(self.mean.len(), self.geometry.crop_len());
        assert!(draw.top + crop <= height && draw.left + crop <= width);
        match channels {
            1 => pixels::apply_channels::<1>(out, image, draw, self),
            3 => pixels::apply_channels::<3>(out, image, draw, self),
            _ => panic!("images of {channels} channels cannot be cropped"),
        }
    }

    /// Writes the stored bytes of the crop that `draw` describes to `out`,
    /// `[crop, crop, channels]`, flipped if it says so, and nothing else done to them.
    ///
    /// # Panics
    /// As [`apply`](Self::apply).
    pub fn cut(&self, out: &mut [u8], image: &[u8], draw: &Draw) {
        let Geometry { height, width, channels, crop } = self.geometry;
        assert_eq!(out.len(), self.geometry.crop_len());
        assert_eq!(image.len(), self.geometry.image_len());
        assert!(draw.top + crop <= height && draw.left + crop <= width);
        match channels {
            1 => pixels::cut_channels::<1>(out, image, draw, &self.geometry),
            3 => pixels::cut_channels::<3>(out, image, draw, &self.geometry),
            _ => panic!("images of {channels} channels cannot be cropped"),
        }
    }
}

#[cfg(test)]
mod tests;
