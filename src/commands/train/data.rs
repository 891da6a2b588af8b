//! The data of a training run: found or made, and parted into what is trained and what is validated
//! on.

use crate::config::{Config, Prepare};
use crate::config_error;
use crate::data::dataset::{Dataset, HEADER_FILE};
use crate::data::identity::Identity;
use crate::data::loader::Images;
use crate::data::prepare::{idx, writer};
use crate::note;
use crate::train::trainer::Splits;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens the data set of `config`, whose path becomes absolute: a checkpoint shall find its data
/// again from any folder. `named` on the command line, it is not made where it is missing.
pub fn open(config: &mut Config, named: Option<&Path>) -> Result<Dataset> {
    let path = data_path(config);
    let prepare = config.data.prepare.take().filter(|_| named.is_none());
    let dataset = open_or_prepare(prepare.as_ref(), &path)?;
    config.data.path = Some(kept_path(&path)?);
    Ok(dataset)
}

/// The path as checkpoints keep it, whose configs are UTF-8: absolute, or as it was given where a
/// folder above has a name that is not.
fn kept_path(path: &Path) -> Result<PathBuf> {
    let whole = std::path::absolute(path)?;
    if whole.to_str().is_some() {
        return Ok(whole);
    }
    if path.to_str().is_some() {
        note!("{} is no UTF-8: go on with this run from this folder only", whole.display());
        return Ok(path.to_path_buf());
    }
    Err(config_error!(
        "the data set's path {} is no UTF-8, and a run's config, which keeps it, is; rename the \
         folder, or reach it by a link (ln -s)",
        path.display()
    ))
}

fn data_path(config: &Config) -> PathBuf {
    config.data.path.clone().unwrap_or_else(|| Path::new("data").join(&config.name))
}

/// Opens the data set; makes it first, where the config says from what and it is not there.
fn open_or_prepare(prepare: Option<&Prepare>, path: &Path) -> Result<Dataset> {
    if let Some(prepare) = prepare.filter(|_| !path.join(HEADER_FILE).exists()) {
        if prepare.kind != "idx" {
            return Err(config_error!(
                "data.prepare.kind = {:?}: only \"idx\" is prepared on first use",
                prepare.kind
            ));
        }
        if !prepare.source.is_dir() {
            bail!(
                "{} is to be made from the pictures in {}, which does not exist here; train where it \
                 is, in a copy of the program's source for the demo, or say \
                 --set data.prepare.source=FOLDER",
                path.display(),
                prepare.source.display()
            );
        }
        note!("preparing {} from {}", path.display(), prepare.source.display());
        let source = idx::find(&prepare.source, None, prepare.val_fraction, 1)?;
        let options = writer::Options {
            out: path.to_path_buf(),
            max_bad: Some(0),
            workers: None,
            shard_bytes: writer::SHARD_BYTES,
            jpeg_quality: None,
        };
        return writer::write_once(&source, &options);
    }
    Dataset::open(path).context("the training data cannot be opened")
}

/// The images to train on, and those of `val`, or else `test`, to validate on; and what tells them
/// from others.
pub fn splits(dataset: &Dataset) -> Result<(Splits, Identity)> {
    let mut identity = Identity::default();
    let train = dataset.split("train")?;
    if train.is_empty() {
        bail!("{}: the data set has no training images", dataset.path.display());
    }
    identity.add("train", &train);
    let name = ["val", "test"].into_iter().find(|s| dataset.header.splits.contains_key(*s));
    if name == Some("test") {
        note!("the data set has no split val; validating on test");
    }
    let validation = name.map(|name| dataset.split(name)).transpose()?.filter(|s| !s.is_empty());
    if let (Some(name), Some(split)) = (name, &validation) {
        identity.add(name, split);
    }
    let splits = Splits {
        train: Arc::new(train),
        validation: validation.map(|split| Arc::new(split) as Arc<dyn Images>),
    };
    Ok((splits, identity))
}
