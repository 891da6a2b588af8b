//! Dropout (paper section 4.2): in training each neuron's output is zero with probability `rate`;
//! in evaluation all outputs are used, times 1 − `rate`. With `scale = "train"`, what everybody else
//! does today, those that stay are divided by 1 − `rate` in training instead, and evaluation leaves
//! all as they are: weights trained in one way do not fit the other.
//!
//! The mask is not stored: neuron j of image i at step s is kept where word j mod 4 of the block j
//! / 4 of the stream (seed, dropout of this layer, s, i) is at least rate · 2³². j counts the
//! neurons of all towers, row, column, channel, so that a mask depends neither on towers nor on
//! devices.

mod cuda;

use super::{Family, Kind, Layer, Place, Pointwise, Role, Run, Settings, Shape, Stage, read_as};
use crate::keys::{self, to_table};
use crate::layers::cuda::{LaunchContext, Launches};
use crate::random::{BLOCKS, Purpose, Stream};
use crate::vectors::{Fill, Simd, fill};
use anyhow::{Result, bail};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use toml::Table;

/// `dropout`, with the keys of [`DropoutSettings`].
pub const KIND: Kind = Kind {
    name: "dropout",
    family: Family::Plain,
    keys: keys::fields_of::<DropoutSettings>,
    read: |table| {
        let settings: DropoutSettings = read_as(table)?;
        if !(0.0..1.0).contains(&settings.rate) {
            bail!("rate = {}: it must be from 0 to below 1", settings.rate);
        }
        Ok(Box::new(settings))
    },
};

/// The keys of a dropout layer.
#[derive(Debug, Deserialize, Serialize)]
struct DropoutSettings {
    /// The probability that an output is set to zero.
    #[serde(default = "half")]
    rate: f64,
    /// When outputs are scaled, so that their mean is the same in training and evaluation.
    #[serde(default, skip_serializing_if = "ScaleAt::is_test")]
    scale: ScaleAt,
}

/// When outputs are scaled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScaleAt {
    /// In evaluation, by 1 − `rate`: the paper.
    #[default]
    Test,
    /// In training, by 1 / (1 − `rate`): Caffe, PyTorch and others.
    Train,
}

impl ScaleAt {
    fn is_test(&self) -> bool {
        *self == ScaleAt::Test
    }
}

fn half() -> f64 {
    0.5
}

impl Settings for DropoutSettings {
    fn plan(&self, place: &Place<'_>) -> Result<Box<dyn Layer>> {
        Ok(Box::new(Dropout {
            name: place.name.to_string(),
            rate: self.rate,
            scale: self.scale,
            shape: place.input,
            first_channel: place.channels.start,
            all_channels: place.all_channels,
        }))
    }
    fn to_table(&self) -> Table {
        to_table(self)
    }
}

/// Dropout on one tower.
#[derive(Debug)]
pub struct Dropout {
    /// Of the layer: part of what its random numbers depend on.
    pub name: String,
    /// The probability that a value is dropped.
    pub rate: f64,
    /// When values are scaled.
    pub scale: ScaleAt,
    /// Of its input and its output.
    pub shape: Shape,
    /// Where this tower's channels begin among all towers'.
    pub first_channel: usize,
    /// Channels of all towers.
    pub all_channels: usize,
}

impl Layer for Dropout {
    fn output(&self) -> Shape {
        self.shape
    }
    fn role(&self) -> Role<'_> {
        Role::Pointwise(self)
    }
    fn stage(&self) -> Option<Stage<'_>> {
        Some(Stage::Drop(self))
    }
    fn cuda(&self, context: &LaunchContext) -> Result<Box<dyn Launches>> {
        Ok(Box::new(self.launches(context)))
    }
}

impl Dropout {
    /// Words below this are dropped.
    pub fn threshold(&self) -> u32 {
        (self.rate * 4_294_967_296.0) as u32
    }

    /// What the values that stay are multiplied with: in training, and in evaluation, where all stay.
    pub fn factors(&self) -> (f32, f32) {
        match self.scale {
            ScaleAt::Test => (1.0, (1.0 - self.rate) as f32),
            ScaleAt::Train => ((1.0 / (1.0 - self.rate)) as f32, 1.0),
        }
    }

    /// Sets the dropped values of one image to zero, and multiplies the others.
    fn mask(&self, run: &Run, image: usize, values: &mut [f32]) {
        let image = run.first_image + image as u32;
        let stream = Stream::new(run.seed, Purpose::Dropout(&self.name), run.step, image);
        let (threshold, (factor, _)) = (self.threshold(), self.factors());
        // Neurons that follow each other: a pixel's, or all if no other tower has some between them.
        let whole = self.shape.channels == self.all_channels;
        let run = if whole { values.len() } else { self.shape.channels };
        for (pixel, values) in values.chunks_exact_mut(run).enumerate() {
            let first = (pixel * self.all_channels + self.first_channel) as u32;
            fill(values, Masked { stream: &stream, first, threshold, factor });
        }
    }
}

/// Masks neighbouring values, of which the first is neuron `first`.
struct Masked<'a> {
    stream: &'a Stream,
    first: u32,
    threshold: u32,
    factor: f32,
}

impl Fill<f32> for Masked<'_> {
    type Out = ();

    #[inline(always)]
    fn fill<S: Simd>(self, _: S, to: &mut [f32]) {
        let Self { stream, first, threshold, factor } = self;
        // The first neurons' block may have begun before them.
        let skip = first as usize % 4;
        let mut position = first / 4;
        let mut rest = to;
        if skip > 0 {
            let words = stream.block(position);
            let (head, others) = rest.split_at_mut((4 - skip).min(rest.len()));
            for (value, word) in head.iter_mut().zip(&words[skip..]) {
                *value = if *word >= threshold { *value * factor } else { 0.0 };
            }
            (rest, position) = (others, position + 1);
        }
        for values in rest.chunks_mut(4 * BLOCKS) {
            let words = stream.blocks(position);
            for (values, block) in values.chunks_mut(4).zip(0..) {
                for (value, words) in values.iter_mut().zip(&words) {
                    let stays: bool = words[block] >= threshold;
                    *value = if stays { *value * factor } else { 0.0 };
                }
            }
            position += BLOCKS as u32;
        }
    }
}

impl Pointwise for Dropout {
    fn chains(&self) -> bool {
        true
    }

    fn forward(&self, run: &Run, y: &mut [f32]) {
        let (_, factor) = self.factors();
        y.par_chunks_exact_mut(self.shape.len()).take(run.batch).enumerate().for_each(|(i, y)| {
            if run.training {
                self.mask(run, i, y);
            } else {
                y.iter_mut().for_each(|y| *y *= factor);
            }
        });
    }

    fn backward(&self, run: &Run, dy: &mut [f32], _: &[f32]) {
        self.forward(run, dy);
    }
}
