//! A checkpoint: one safetensors file, enough to evaluate, predict, go on training, or be read by
//! another tool. `src/train/README.md` documents its content.
//!
//! Tensors: each parameter by name (`conv1.weight` [out, in per group, height, width], …), its
//! momentum as `momentum/NAME`, `data.mean` [channel, height, width], `data.components` [component,
//! channel] and `data.deviations` `[component]`. Metadata: `config`, `classes`, `seed`, `step`,
//! `preparation`, `state`, `data`, `format`, `checksums`.

mod fit;
mod glance;
mod imported;
mod snapshot;
mod sound;

use crate::data::dataset::{Class, Dataset};
use crate::data::identity::Identity;
use crate::data::preparation::Preparation;
use crate::data::statistics::Statistics;
use crate::engine::{Engine, Slot, Tensor};
use crate::files::tensors::{Reader, Subject};
use crate::layers::softmax::Tally;
use crate::schedules;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};

pub use glance::Glance;
pub use imported::write_imported;
pub use snapshot::{Snapshot, lend};
pub use sound::open_sound;

/// The format's version, in the metadata entry `format`.
const FORMAT: &str = "alexnet 1";

const SUBJECT: Subject = Subject { name: "checkpoint", remedy: "use another checkpoint" };

/// Where training stands: with the parameters and momenta all that is needed to go on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainingState {
    /// Steps done.
    pub step: u64,
    /// The epoch at hand, from 1.
    pub epoch: u32,
    /// Batches of it that are done.
    pub batches: u32,
    /// What they came to.
    pub tally: Tally,
    /// Images of the training split, which an epoch that is gone on with must still have.
    pub training_images: u64,
    /// Where the schedule stands.
    pub schedule: schedules::State,
    /// Epoch with the lowest validation top-1 error, and that error (a fraction).
    pub best: Option<(u32, f64)>,
    /// Whether training is over.
    pub finished: bool,
}

/// What the network has to know of its data to treat other images alike.
#[derive(Clone, Debug, PartialEq)]
pub struct DataFacts {
    /// In the order of the outputs.
    pub classes: Vec<Class>,
    /// What was done to each image file.
    pub preparation: Preparation,
    /// 1 (grey) or 3 (RGB).
    pub channels: usize,
    /// Mean image and colours of the training split.
    pub statistics: Statistics,
    /// The splits that are trained and validated on; none in checkpoints from before it was kept.
    pub identity: Option<Identity>,
}

impl DataFacts {
    /// Those of an opened data set, without its splits.
    pub fn of(dataset: &Dataset) -> DataFacts {
        DataFacts {
            classes: dataset.header.classes.clone(),
            preparation: dataset.header.preparation.clone(),
            channels: dataset.header.channels,
            statistics: dataset.statistics.clone(),
            identity: None,
        }
    }
}

/// `[channel][pixel]` to `[pixel][channel]`.
fn interleaved(planes: &[f32], channels: usize) -> Vec<f32> {
    let pixels = planes.len() / channels;
    (0..planes.len()).map(|i| planes[i % channels * pixels + i / channels]).collect()
}

/// What is kept of a parameter, and what stands before its name there.
fn slots(momenta: bool) -> impl Iterator<Item = (Slot, &'static str)> {
    [(Slot::Value, ""), (Slot::Momentum, "momentum/")].into_iter().take(1 + usize::from(momenta))
}

/// A checkpoint that is sound as far as anybody can tell, but of a format that is unknown here.
#[derive(Debug)]
pub struct OtherFormat(String);

impl fmt::Display for OtherFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "its format is {:?}; this version of alexnet reads {FORMAT:?}, and newer ones come from \
             a newer version",
            self.0
        )
    }
}

impl std::error::Error for OtherFormat {}

/// Err: the checkpoint is of a format that is unknown here.
fn check_format(reader: &Reader) -> Result<()> {
    match reader.entry("format")? {
        FORMAT => Ok(()),
        other => Err(OtherFormat(other.to_string()).into()),
    }
}

/// An opened checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    /// The file.
    pub path: PathBuf,
    /// The config as TOML, resolved.
    pub config: String,
    /// Of the data it was trained on.
    pub facts: DataFacts,
    /// Where training stood.
    pub state: TrainingState,
    reader: Reader,
}

impl Checkpoint {
    /// Reads all but the parameters. Err: what is wrong with the file.
    pub fn open(path: &Path) -> Result<Checkpoint> {
        let reader = Reader::open(path, SUBJECT)?;
        Checkpoint::from_reader(path, reader).with_context(|| path.display().to_string())
    }

    fn from_reader(path: &Path, reader: Reader) -> Result<Checkpoint> {
        check_format(&reader)?;
        let preparation: Preparation = serde_json::from_str(reader.entry("preparation")?)?;
        let (shape, mean) = reader.tensor("data.mean")?;
        let [height, width] = preparation.size;
        let channels = *shape.first().unwrap_or(&0);
        let mean = match shape[..] {
            [_] if channels > 0 => mean.repeat(height * width),
            [_, h, w] if channels > 0 && [h, w] == [height, width] => interleaved(&mean, channels),
            _ => bail!(
                "data.mean has the shape {shape:?}, its images are {height}×{width}; it must be an \
                 image or one value a channel"
            ),
        };
        let (_, components) = reader.tensor("data.components")?;
        let (_, deviations) = reader.tensor("data.deviations")?;
        ensure!(
            components.len() == channels * channels && deviations.len() == channels,
            "data.components and data.deviations do not fit {channels} channels"
        );
        Ok(Checkpoint {
            path: path.to_path_buf(),
            config: reader.entry("config")?.to_string(),
            facts: DataFacts {
                classes: serde_json::from_str(reader.entry("classes")?)
                    .context("the class table cannot be read")?,
                preparation,
                channels,
                statistics: Statistics { mean, components, deviations },
                identity: match reader.has_entry("data") {
                    false => None,
                    true => serde_json::from_str(reader.entry("data")?)
                        .context("what it says of its data set cannot be read")?,
                },
            },
            state: serde_json::from_str(reader.entry("state")?)
                .context("the training state cannot be read")?,
            reader,
        })
    }

    /// Puts the parameters (and, to go on training, the momenta) into `engine`.
    pub fn load(&self, engine: &mut dyn Engine, momenta: bool) -> Result<()> {
        self.fits(engine.plan(), momenta)?;
        self.put(engine, momenta)
    }

    /// As [`Checkpoint::load`], but the file may hold parameters of further layers, which are left
    /// there.
    pub fn put(&self, engine: &mut dyn Engine, momenta: bool) -> Result<()> {
        let tensors = engine.plan().tensors();
        for (index, tensor) in tensors.iter().enumerate() {
            for (slot, prefix) in slots(momenta) {
                let name = format!("{prefix}{}", tensor.name);
                match self.reader.mapped(&name)?.1 {
                    Some(values) if slot == Slot::Value => engine.adopt(index, &values)?,
                    Some(values) => engine.write(slot, index, &values)?,
                    None => engine.write(slot, index, &self.reader.tensor(&name)?.1)?,
                }
            }
        }
        Ok(())
    }

    /// Compares the checksums of all tensors. Err: which is damaged.
    pub fn verify(&self) -> Result<()> {
        self.reader.verify()
    }

    /// The names of its parameters: `conv1.weight`, ….
    pub fn parameters(&self) -> Vec<String> {
        let other = |name: &String| name.contains('/') || name.starts_with("data.");
        self.reader.names().into_iter().filter(|name| !other(name)).collect()
    }

    /// The sizes of a tensor, where there is one of that name.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.reader.shape(name).map(<[usize]>::to_vec)
    }

    /// One tensor, its checksum verified.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let (shape, values) = self.reader.tensor(name)?;
        Ok(Tensor { shape, values })
    }
}

/// Refuses two class tables that differ, naming the first difference; `a` and `b` say whose they
/// are.
pub fn same_classes((a, ours): (&str, &[Class]), (b, theirs): (&str, &[Class])) -> Result<()> {
    if let Some((i, (x, y))) = ours.iter().zip(theirs).enumerate().find(|(_, (x, y))| x.id != y.id)
    {
        bail!(
            "the class tables differ: class {i} is {:?} in {a}, but {:?} in {b}; their labels do \
             not mean the same",
            x.id,
            y.id
        );
    }
    ensure!(
        ours.len() == theirs.len(),
        "the class tables differ: {a} has {} classes, {b} has {}",
        ours.len(),
        theirs.len()
    );
    Ok(())
}
