//! Short binary codes for images (paper section 6.1: an auto-encoder on the features makes codes by
//! which similar images are found faster than by the features themselves).
//!
//! The auto-encoder is a network like any other, with fully connected layers and a layer in the
//! middle of as many values as the code has bits; its input is an image's features, its loss the
//! squared error against them. The code is the signs of the middle layer.
//!
//! - this file: the network, and the encoder that is its lower half.
//! - [`training`]: learns it. [`mod@file`]: keeps codes and encoder. [`hamming`]: searches codes.

pub mod file;
pub mod hamming;
pub mod training;

use super::features::{cut_above, extract};
use crate::config::Config;
use crate::data::form::CropView;
use crate::engine::{Choice, Engine, Slot};
use crate::layers::Classes;
use crate::network::{Mode, Plan};
use anyhow::{Result, ensure};

/// Images that the encoder takes at once.
const BATCH: usize = 256;
/// The layer whose signs are the code.
const MIDDLE: &str = "code";
/// Squared length of an average input: the scale at which the layers of the network learn about
/// equally fast with one rate.
const LENGTH: f64 = 8.0;

/// How features become the network's input: (feature − mean) · scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaling {
    /// Of each feature, over the training images.
    pub mean: Vec<f32>,
    /// So that the average input has a squared length of 8.
    pub scale: f32,
}

impl Scaling {
    /// From the rows that `rows` walks through twice.
    fn of<'a, I: Iterator<Item = &'a [f32]>>(values: usize, rows: impl Fn() -> I) -> Scaling {
        let (mut sum, mut count) = (vec![0.0f64; values], 0.0);
        for row in rows() {
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += f64::from(*value));
            count += 1.0;
        }
        let mean: Vec<f32> = sum.iter().map(|sum| (sum / count) as f32).collect();
        let square = |(value, mean): (&f32, &f32)| (f64::from(*value) - f64::from(*mean)).powi(2);
        let squares: f64 = rows().map(|row| row.iter().zip(&mean).map(square).sum::<f64>()).sum();
        // Features that are all the same have no scale.
        let scale = if squares > 0.0 { (LENGTH * count / squares).sqrt() } else { 1.0 };
        Scaling { mean, scale: scale as f32 }
    }

    /// Appends the network's input for `features` to `input`.
    fn apply(&self, features: &[f32], input: &mut Vec<f32>) {
        input.extend(features.iter().zip(&self.mean).map(|(f, m)| (f - m) * self.scale));
    }
}

/// The auto-encoder of `values` features as a config (TOML): fully connected, `values`–hidden–bits–
/// hidden–`values`, ReLU in the hidden layers and tanh in the middle.
fn network(values: usize, options: &Options) -> String {
    let Options { bits, hidden, epochs, rate, seed } = *options;
    let fc = |name: &str, inputs: f64, outputs: usize, gain: f64| {
        let sigma = (gain / inputs).sqrt();
        format!(
            "[[layer]]\nname = \"{name}\"\nkind = \"fc\"\noutputs = {outputs}\nweight_sigma = \
             {sigma:.9}\n"
        )
    };
    let plain =
        |name: &str, kind: &str| format!("[[layer]]\nname = \"{name}\"\nkind = \"{kind}\"\n");
    let [wide, narrow] = [hidden, bits].map(|n| n as f64);
    let layers = [
        fc("encode1", LENGTH, hidden, 2.0),
        plain("relu1", "relu"),
        fc(MIDDLE, wide, bits, 2.0),
        plain("tanh2", "tanh"),
        fc("decode3", narrow, hidden, 2.0),
        plain("relu3", "relu"),
        fc("decode4", wide * values as f64, values, LENGTH),
        plain("loss", "squared-error"),
    ];
    // In the last third of the epochs a tenth of the rate.
    let late = epochs - epochs / 3 + 1;
    format!(
        "name = \"codes\"\nseed = {seed}\n[data]\ncrop = 1\n[train]\nbatch = {}\nepochs = \
         {epochs}\nweight_decay = 0.0\n[schedule]\nkind = \"steps\"\nrate = {rate:?}\nsteps = [{{ \
         epoch = {late}, rate = {:?} }}]\n{}",
        training::BATCH,
        rate / 10.0,
        layers.concat()
    )
}

/// What is learnt, and how.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Of a code, a multiple of 8.
    pub bits: usize,
    /// Values of each hidden layer.
    pub hidden: usize,
    /// Passes over the images; in the last third the rate is a tenth.
    pub epochs: u32,
    /// The learning rate at the start.
    pub rate: f64,
    /// Everything random follows from it.
    pub seed: u32,
}

/// A config of [`network`], whose input is one pixel with a channel for each of `values` features,
/// which no config of images can say.
fn read(text: &str, values: usize) -> Result<Config> {
    let mut config = Config::parse(text, &[], "the auto-encoder")?;
    config.data.channels = Some(values);
    Ok(config)
}

/// The lower half of a trained auto-encoder.
pub struct Encoder {
    engine: Box<dyn Engine>,
    scaling: Scaling,
    bits: usize,
}

impl Encoder {
    /// The half of the network of `text` (TOML) below its middle; `parameter(name)` gives each of its
    /// weights and biases.
    ///
    /// # Errors
    /// If the text is no such network, or a parameter has another size.
    pub fn new(
        text: &str,
        scaling: Scaling,
        mut parameter: impl FnMut(&str) -> Result<Vec<f32>>,
    ) -> Result<Encoder> {
        let mut config = read(text, scaling.mean.len())?;
        cut_above(&mut config, MIDDLE)?;
        let place = Choice::Cpu.resolve(config.towers)?;
        let towers = &place.towers;
        let plan = Plan::new(&config, BATCH, Mode::Evaluation, towers, Classes::Any)?;
        let bits = plan.classes;
        ensure!(bits.is_multiple_of(8), "{bits} bits are no whole bytes");
        let tensors = plan.tensors();
        let mut engine = place.engine(plan)?;
        for (index, tensor) in tensors.iter().enumerate() {
            let values = parameter(&tensor.name)?;
            ensure!(values.len() == tensor.len(), "{} has {} values", tensor.name, values.len());
            engine.write(Slot::Value, index, &values)?;
        }
        Ok(Encoder { engine, scaling, bits })
    }

    /// Bytes of a code.
    pub fn bytes(&self) -> usize {
        self.bits / 8
    }

    /// The codes of `features` [images, values], [images, bytes]: bit i of a code, counted from the
    /// lowest of its first byte, is 1 where the middle layer's value i is above 0.
    pub fn encode(&mut self, features: &[f32]) -> Result<Vec<u8>> {
        let values = self.scaling.mean.len();
        let (mut codes, mut input, mut middle) = (Vec::new(), Vec::new(), Vec::new());
        for rows in features.chunks(BATCH * values) {
            input.clear();
            middle.clear();
            rows.chunks_exact(values).for_each(|row| self.scaling.apply(row, &mut input));
            extract(self.engine.as_mut(), CropView::Floats(&input), &mut middle)?;
            let byte = |eight: &[f32]| {
                eight.iter().enumerate().fold(0, |byte, (i, v)| byte | u8::from(*v > 0.0) << i)
            };
            codes.extend(middle.chunks_exact(8).map(byte));
        }
        Ok(codes)
    }
}
