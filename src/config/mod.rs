//! The TOML files: what may be written in them, with every default and its source.
//!
//! A config describes one experiment: the network layer by layer, the data and how it is augmented,
//! the update rule and the schedule. [`Config::read`] takes a file, follows `extends`, applies
//! `--set key=value` and checks each key; [`crate::network::Plan`] then checks the network itself.
//! [`Config::to_toml`] gives it back with all defaults filled in, as it is kept beside a run and
//! inside a checkpoint.

mod changes;
mod layers;
mod read;
pub mod shipped;
mod stack;
mod train;

pub use changes::{Change, changes};
pub use read::name_in;
pub use stack::Stack;
pub use train::{Distribute, Optimizer, Train};

use crate::config_error;
use crate::gpu::precision::GpuOptions;
use crate::keys::{self, to_table, to_value};
use crate::layers::conv::CpuOptions;
use crate::layers::{KINDS, Kind, Settings, Weights};
use crate::schedules::Schedule;
use anyhow::Result;
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// The version of config files that this program writes and reads, under the key `format`; a file
/// without it is of version 1.
pub const FORMAT: u32 = 1;

/// A whole experiment.
#[derive(Debug)]
pub struct Config {
    /// Names the run folder; the file's name where it is not given.
    pub name: String,
    /// Everything random follows from it (module `random`).
    pub seed: u64,
    /// 1 or 2 (paper section 3.2).
    pub towers: usize,
    /// `[data]`
    pub data: Data,
    /// `[init]`
    pub init: Init,
    /// `[train]`
    pub train: Train,
    /// `[schedule]`
    pub schedule: Schedule,
    /// `[cpu]`
    pub cpu: CpuOptions,
    /// `[gpu]`
    pub gpu: GpuOptions,
    /// `[[layer]]`, from the input to the loss.
    pub layers: Vec<LayerConfig>,
}

/// `[data]`: where the images are and what is done to them (paper section 4.1).
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Data {
    /// The prepared data set; relative to the current folder. `--data` replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// Side of the square crop that the network sees, in pixels.
    pub crop: usize,
    /// Colour channels of the images, 3 or 1; otherwise taken from the data set (3 without one).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// Number of classes; otherwise taken from the data set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<usize>,
    /// Takes training crops anywhere in the image; `false`: from its centre, for comparison.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub random_crops: bool,
    /// What each channel is multiplied with once the mean is subtracted, red first; 1 in the paper.
    /// Weights of others expect it (`alexnet import`): torchvision's 1 / (255 · deviation).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Vec<f64>>,
    /// Mirrors each training image with probability ½.
    #[serde(default = "yes")]
    pub flip: bool,
    /// Standard deviation of the colour noise's α; `true` is the paper's 0.1, `false` or 0 is none.
    #[serde(default)]
    pub color_noise: Noise,
    /// What α is multiplied with.
    #[serde(default)]
    pub color_noise_unit: NoiseUnit,
    /// Divides the centred, noisy training image by 1 + σ(α), as the 2012 code did.
    #[serde(default)]
    pub color_noise_rescale: bool,
    /// How many consecutive images of an epoch share crop position and flip: 1 in the paper, 32 in
    /// the 2012 code.
    #[serde(default = "one")]
    pub shared_crops: usize,
    /// Order of the training images: all shuffled, or in a disk-friendly window.
    #[serde(default)]
    pub shuffle: ShuffleKind,
    /// Batches made ahead of the device.
    #[serde(default = "three")]
    pub prefetch: usize,
    /// Threads that make batches; 0 takes one for every two cores.
    #[serde(default)]
    pub workers: usize,
    /// Prepares `path` on first use, for data sets that come with a config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepare: Option<Prepare>,
}

/// `[data.prepare]`: how `data.path` is made when it does not exist.
#[derive(Debug, Clone, Deserialize, Serialize)]
pub struct Prepare {
    /// `"idx"`, the MNIST format.
    pub kind: String,
    /// The folder with the files, relative to the config file that names it.
    pub source: PathBuf,
    /// Share of each class that becomes the validation split.
    #[serde(default = "tenth")]
    pub val_fraction: f64,
}

/// Standard deviation of the colour noise's α.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Noise {
    /// Of the paper, or none.
    Switch(bool),
    /// So large.
    Sigma(f64),
}

impl<'de> Deserialize<'de> for Noise {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Noise, D::Error> {
        struct SwitchOrSigma;
        impl Visitor<'_> for SwitchOrSigma {
            type Value = Noise;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or a number")
            }
            fn visit_bool<E>(self, on: bool) -> Result<Noise, E> {
                Ok(Noise::Switch(on))
            }
            fn visit_i64<E>(self, sigma: i64) -> Result<Noise, E> {
                Ok(Noise::Sigma(sigma as f64))
            }
            fn visit_f64<E>(self, sigma: f64) -> Result<Noise, E> {
                Ok(Noise::Sigma(sigma))
            }
        }
        value.deserialize_any(SwitchOrSigma)
    }
}

impl Default for Noise {
    fn default() -> Self {
        Noise::Sigma(0.1)
    }
}

impl Noise {
    /// σ of α; 0 is no noise.
    pub fn sigma(self) -> f64 {
        match self {
            Noise::Switch(true) => 0.1,
            Noise::Switch(false) => 0.0,
            Noise::Sigma(sigma) => sigma,
        }
    }
}

/// What the colour noise's α is multiplied with, along each principal component.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NoiseUnit {
    /// The standard deviation, in grey levels: what the 2012 code did.
    #[default]
    Deviation,
    /// Its square, as the paper's text says; on 0–255 pixels hundreds of grey levels.
    Eigenvalue,
}

/// Order of the training images.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShuffleKind {
    /// All images of the split, shuffled.
    #[default]
    Full,
    /// Shuffled within a window that moves over the shards.
    Window,
}

/// `[init]`: a trained network to begin with (paper section 6: pre-training and fine-tuning). The
/// 2012 code took layers by name too.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Init {
    /// The checkpoint; relative to the current folder. `train --init` replaces it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<PathBuf>,
    /// Layers that begin with random weights though the checkpoint has some of their name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fresh: Vec<String>,
    /// Whose mean image and colours are used.
    #[serde(default)]
    pub mean: MeanOf,
}

/// Whose mean image is subtracted, and whose colours the noise has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeanOf {
    /// The data set's.
    #[default]
    Data,
    /// The checkpoint's: its layers have learnt on images that were centred with it.
    Checkpoint,
}

/// One `[[layer]]`.
#[derive(Debug)]
pub struct LayerConfig {
    /// Unique in the network; parameters and random numbers are called after it.
    pub name: String,
    /// What it is.
    pub kind: &'static Kind,
    /// The one tower it lives on; all towers where it is not given.
    pub tower: Option<usize>,
    /// For kinds that learn.
    pub weights: Option<Weights>,
    /// What is particular to the kind.
    pub settings: Box<dyn Settings>,
}

/// Keys that every layer has.
#[derive(Deserialize)]
pub(crate) struct LayerHead {
    pub name: String,
    pub kind: String,
    #[serde(default)]
    pub tower: Option<usize>,
}

impl Config {
    /// The config with every default filled in, as TOML that [`Config::parse`] reads again.
    pub fn to_toml(&self) -> String {
        toml::to_string(&self.to_table()).expect("a config is plain data")
    }

    fn to_table(&self) -> toml::Table {
        let mut top = toml::Table::new();
        top.insert("format".into(), i64::from(FORMAT).into());
        top.insert("name".into(), self.name.clone().into());
        top.insert("seed".into(), (self.seed as i64).into());
        top.insert("towers".into(), (self.towers as i64).into());
        top.insert("data".into(), to_value(&self.data));
        if self.init.from.is_some() {
            top.insert("init".into(), to_value(&self.init));
        }
        top.insert("train".into(), to_value(&self.train));
        top.insert("schedule".into(), self.schedule.to_table().into());
        top.insert("cpu".into(), to_value(&self.cpu));
        top.insert("gpu".into(), to_value(&self.gpu));
        let layers = self.layers.iter().map(|layer| {
            let mut table = toml::Table::new();
            table.insert("name".into(), layer.name.clone().into());
            table.insert("kind".into(), layer.kind.name.into());
            if let Some(tower) = layer.tower {
                table.insert("tower".into(), (tower as i64).into());
            }
            table.extend(layer.settings.to_table());
            if let Some(weights) = &layer.weights {
                table.extend(to_table(weights));
            }
            toml::Value::Table(table)
        });
        top.insert("layer".into(), toml::Value::Array(layers.collect()));
        top
    }

    /// Checks values that serde cannot: ranges, and layers named in the schedule.
    fn check(&self) -> Result<()> {
        let fail = |key: &str, value: String, right: &str| {
            Err(config_error!("{key} = {value}: it must be {right}"))
        };
        let noise = self.data.color_noise.sigma();
        if !(noise.is_finite() && noise >= 0.0) {
            return fail("data.color_noise", noise.to_string(), "a number from 0 up");
        }
        self.train.check()?;
        if !(1..=2).contains(&self.towers) {
            return fail("towers", self.towers.to_string(), "1 or 2");
        }
        let whole = [
            ("data.crop", self.data.crop, 1 << 14),
            ("data.prefetch", self.data.prefetch, 1 << 10),
            ("data.shared_crops", self.data.shared_crops, 1 << 24),
        ];
        for (key, value, most) in whole {
            if !(1..=most).contains(&value) {
                return fail(key, value.to_string(), &format!("from 1 to {most}"));
            }
        }
        if let Some(channels) = self.data.channels.filter(|c| *c != 1 && *c != 3) {
            return fail("data.channels", channels.to_string(), "1 (grey) or 3 (RGB)");
        }
        let usable = |scale: &&f64| !(scale.is_normal() && (**scale as f32).is_normal());
        if let Some(scale) = self.data.scale.iter().flatten().find(usable) {
            return fail("data.scale", scale.to_string(), "a factor for each channel, not 0");
        }
        if self.data.classes.is_some_and(|n| !(2..=1 << 20).contains(&n)) {
            return fail(
                "data.classes",
                self.data.classes.unwrap().to_string(),
                "from 2 to 1048576",
            );
        }
        let learnt: Vec<&str> =
            self.layers.iter().filter(|l| l.weights.is_some()).map(|l| l.name.as_str()).collect();
        for (key, names) in [("train.freeze", &self.train.freeze), ("init.fresh", &self.init.fresh)]
        {
            if let Some(name) = names.iter().find(|name| !learnt.contains(&name.as_str())) {
                return Err(config_error!(
                    "{key}: no layer that learns is called {name:?}{}; there are {}",
                    keys::nearest(name, &learnt),
                    learnt.join(", ")
                ));
            }
        }
        self.schedule.check_layers(&learnt)
    }
}

/// The kind of that name, or an error with the nearest one.
pub(crate) fn kind_named(name: &str) -> Result<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name).ok_or_else(|| {
        let names: Vec<&str> = KINDS.iter().map(|k| k.name).collect();
        config_error!(
            "kind = {name:?} is no kind of layer{}; there are {}",
            keys::nearest(name, &names),
            names.join(", ")
        )
    })
}

fn one() -> usize {
    1
}
fn three() -> usize {
    3
}
fn yes() -> bool {
    true
}
fn is_yes(value: &bool) -> bool {
    *value
}
fn tenth() -> f64 {
    0.1
}
