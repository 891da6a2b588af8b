//! A checkpoint of ours that another program has saved again: Python's safetensors writes the
//! tensors in an order of its own, with the texts beside them or without. Its checksums are then
//! missing or another file's, which is said once.

use super::facts::{self, Mean};
use super::theirs::differs;
use super::{Args, print};
use crate::config::Config;
use crate::config_error;
use crate::data::dataset::Class;
use crate::data::preparation::{Crop, Filter, Orientation, Preparation, Resize};
use crate::data::statistics::Statistics;
use crate::files::tensors;
use crate::layers::Classes;
use crate::network::{Mode, Plan, TensorPlan};
use crate::note;
use crate::train::checkpoint::{Checkpoint, DataFacts, TrainingState, write_imported};
use crate::weights::{Numbers, Weights};
use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::path::Path;

/// What stands before the name of a momentum.
const MOMENTUM: &str = "momentum/";

/// Whether `file` was a checkpoint of ours.
pub fn is_ours(file: &Weights) -> bool {
    file.metadata.get("format").is_some_and(|format| format.starts_with("alexnet"))
        || file.tensors.iter().any(|tensor| tensor.name == "data.mean")
}

/// Writes the checkpoint that `file` was.
pub fn run(args: &Args, file: &Weights) -> Result<()> {
    let name = args.file.display();
    say_checksums(&args.file, file)?;
    let config = config(args, file)?;
    let of_file = || name.to_string();
    let tensor = |name: &str| file.tensors.iter().find(|tensor| tensor.name == name);
    let outputs = tensor(&last(&config)?).map_or(0, |tensor| tensor.numbers.shape()[0]);
    let (devices, classes) = (vec![0; config.towers], Classes::Known(outputs));
    let plan = Plan::new(&config, 1, Mode::Evaluation, &devices, classes).with_context(of_file)?;
    let plans = plan.tensors();
    let mut parameters = take(&plans, file, "").with_context(of_file)?;
    if file.tensors.iter().any(|tensor| tensor.name.starts_with(MOMENTUM)) {
        parameters.extend(take(&plans, file, MOMENTUM).with_context(of_file)?);
    }
    let facts = the_facts(args, file, outputs, config.data.crop).with_context(of_file)?;
    let state = text(file, "state")?.unwrap_or_else(|| TrainingState::new(&config));
    write_imported(&args.out, &config, &facts, &state, &parameters)?;
    let out = args.out.display();
    if args.json {
        return print(&serde_json::to_string_pretty(&json!({
            "checkpoint": out.to_string(),
            "format": "a checkpoint of alexnet's",
            "network": config.name,
            "parameters": plan.parameters(),
            "step": state.step,
        }))?);
    }
    print(&format!(
        "{name}: a checkpoint of alexnet's, {} of step {}, {} parameters\n{out} is one again",
        config.name,
        state.step,
        plan.parameters()
    ))
}

/// Says that checksums are missing or another file's. Err: they are the file's own, and say that it
/// is damaged.
fn say_checksums(path: &Path, file: &Weights) -> Result<()> {
    let what = match Checkpoint::open(path) {
        Ok(checkpoint) => return checkpoint.verify(),
        Err(_) if !file.metadata.contains_key("checksums") => "it has no checksums any more",
        Err(_) if tensors::saved_elsewhere(path)? => "its checksums are those of before",
        Err(error) => return Err(error),
    };
    note!(
        "{}: another program saved it, and {what}; whether all values are whole nothing says",
        path.display()
    );
    Ok(())
}

fn config(args: &Args, file: &Weights) -> Result<Config> {
    if let Some(path) = &args.config {
        return Config::read(path, &[]);
    }
    match file.metadata.get("config") {
        Some(text) => Config::parse(text, &[], &args.file.display().to_string()),
        None => Err(config_error!(
            "{}: this was a checkpoint of alexnet's, and whoever saved it left out its config; \
             name it with --config (config.toml in the run's folder)",
            args.file.display()
        )),
    }
}

/// The weights of the last layer that has some.
fn last(config: &Config) -> Result<String> {
    let layer = config.layers.iter().rfind(|layer| layer.weights.is_some());
    let layer = layer.context("the network of the config has no layer that learns")?;
    Ok(format!("{}.weight", layer.name))
}

/// The tensors of `plans` as `file` has them under their names behind `prefix`.
fn take(plans: &[TensorPlan], file: &Weights, prefix: &str) -> Result<Vec<(String, Numbers)>> {
    let mut taken = Vec::new();
    for plan in plans {
        let name = format!("{prefix}{}", plan.name);
        let tensor = file.tensors.iter().find(|tensor| tensor.name == name);
        let Some(tensor) = tensor else { bail!("it has no {name}, which its network needs") };
        let shape = tensor.numbers.shape();
        ensure!(shape == plan.shape, differs(&name, shape, &plan.name, &plan.shape));
        taken.push((name, tensor.numbers.clone()));
    }
    Ok(taken)
}

/// What the text `key` beside the tensors holds, where there is one.
fn text<T: DeserializeOwned>(file: &Weights, key: &str) -> Result<Option<T>> {
    let Some(text) = file.metadata.get(key) else { return Ok(None) };
    serde_json::from_str(text).map(Some).with_context(|| format!("its {key} cannot be read"))
}

fn the_facts(args: &Args, file: &Weights, outputs: usize, crop: usize) -> Result<DataFacts> {
    let numbers = |name: &str| -> Result<&Numbers> {
        let tensor = file.tensors.iter().find(|tensor| tensor.name == name);
        Ok(&tensor.with_context(|| format!("it has no {name}"))?.numbers)
    };
    let mean = numbers("data.mean")?;
    let channels = *mean.shape().first().context("data.mean has no size")?;
    let kept: Option<Preparation> = text(file, "preparation")?;
    let preparation = kept.unwrap_or_else(|| match mean.shape() {
        [_, height, width] => Preparation {
            size: [*height, *width],
            resize: Resize::ShorterSide,
            filter: Filter::Triangle,
            crop: Crop::Centre,
            orientation: Orientation::Apply,
            background: None,
        },
        _ => facts::preparation(crop, None, false),
    });
    let statistics = match &args.mean {
        Some(given) => Mean::given(given)?.statistics(preparation.size, channels)?,
        None => statistics(mean, numbers("data.components")?, numbers("data.deviations")?)?,
    };
    let statistics = match (statistics.mean.len(), preparation.size) {
        (n, [height, width]) if n == channels => {
            Statistics { mean: statistics.mean.repeat(height * width), ..statistics }
        }
        _ => statistics,
    };
    let named: Option<Vec<Class>> = text(file, "classes")?.filter(|_| args.classes.is_none());
    let classes = match named {
        Some(classes) if classes.len() == outputs => classes,
        Some(classes) => {
            bail!("its network tells {outputs} classes apart, its table names {}", classes.len())
        }
        None => facts::classes(outputs, args.classes.as_deref())?.0,
    };
    let identity = text(file, "data")?;
    Ok(DataFacts { classes, preparation, channels, statistics, identity })
}

/// The mean [pixel, channel] and the colours.
fn statistics(mean: &Numbers, components: &Numbers, deviations: &Numbers) -> Result<Statistics> {
    let channels = mean.shape()[0];
    ensure!(
        matches!(channels, 1 | 3)
            && components.len() == channels * channels
            && deviations.len() == channels,
        "data.mean, data.components and data.deviations do not fit each other"
    );
    let (planes, pixels) = (mean.values(), mean.len() / channels);
    let place = |i: usize| i % channels * pixels + i / channels;
    Ok(Statistics {
        mean: (0..planes.len()).map(|i| planes[place(i)]).collect(),
        components: components.values(),
        deviations: deviations.values(),
    })
}
