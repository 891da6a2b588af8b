//! `alexnet eval`: errors of one checkpoint or of several averaged.

use super::model::{self, Model};
use super::print;
use crate::config_error;
use crate::data::dataset::Dataset;
use crate::data::loader::Crops;
use crate::engine::Choice;
use crate::layers::softmax::Tally;
use crate::note;
use crate::progress::Progress;
use crate::train::checkpoint::same_classes;
use crate::train::evaluate::{Member, evaluate, images_per_batch};
use crate::train::feed;
use anyhow::{Context, Result, bail};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Count the errors of one checkpoint, or of several averaged.
///
/// Prints top-1 error (the most probable label is wrong), top-5 error (the label is not among the
/// five most probable) and the mean log-loss. With several checkpoints their softmax outputs are
/// averaged, as the paper does in its Table 2.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Checkpoints; none: the best of the newest run.
    #[arg(value_name = "CHECKPOINT")]
    checkpoints: Vec<PathBuf>,
    /// Average over the four corners and the centre and their mirror images (paper section 4.1).
    #[arg(long)]
    ten_crop: bool,
    /// The data set; by default the one that the first checkpoint was trained on.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The part of the data set: val, train or test.
    #[arg(long, default_value = "val")]
    split: String,
    /// Where to compute: auto, cpu, cuda:0, or cuda:0,1 for a tower each.
    #[arg(long, default_value = "auto")]
    device: Choice,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Opens checkpoints and data, evaluates, prints.
pub fn run(args: Args) -> Result<()> {
    let mut models = model::open(&args.checkpoints, &args.device, None)?;
    let paths: Vec<PathBuf> = models.iter().map(|model| model.checkpoint.path.clone()).collect();
    let crops = if args.ten_crop { Crops::Ten } else { Crops::Centre };
    let dataset = open_data(args.data.as_deref(), &models[0], &paths[0])?;
    for (model, path) in models.iter().zip(&paths) {
        check(model, &path.display().to_string(), &dataset)?;
    }
    let split = Arc::new(dataset.split(&args.split)?);
    let batch = models.iter().map(|m| m.engine.plan().batch).min().unwrap_or(1);
    let batch = images_per_batch(batch, crops);
    let loader = |model: &Model| {
        feed::evaluation(&model.config.data, split.clone(), &model.cropping, crops, batch)
    };
    let mut loaders = models.iter().map(loader).collect::<Result<Vec<_>>>()?;
    let pairs = models.iter_mut().zip(&mut loaders);
    let mut members: Vec<Member<'_>> = pairs.map(|(m, l)| (m.engine.as_mut() as _, l)).collect();
    let progress = Progress::new("evaluation", split.len() as u64);
    let tally = evaluate(&mut members, crops, &progress)?;
    progress.finish();
    if args.json {
        return print(&as_json(&tally, crops, &paths)?);
    }
    let what = format!("{} ({})", dataset.path.display(), args.split);
    print(&as_text(&tally, &what, args.ten_crop))
}

/// The data set named, or the one that the first checkpoint was trained on.
fn open_data(named: Option<&Path>, model: &Model, checkpoint: &Path) -> Result<Dataset> {
    let Some(data) = named.or(model.config.data.path.as_deref()) else {
        return Err(config_error!(
            "{} does not say which data set it was trained on; name one with --data DIR",
            checkpoint.display()
        ));
    };
    Dataset::open(data).with_context(|| match named {
        Some(_) => format!("--data {}", data.display()),
        None => format!(
            "{} was trained on a data set that cannot be opened (--data DIR names where it is now)",
            checkpoint.display()
        ),
    })
}

fn as_json(tally: &Tally, crops: Crops, paths: &[PathBuf]) -> Result<String> {
    let names: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    Ok(serde_json::to_string_pretty(&json!({
        "images": tally.images,
        "top1_error": tally.top1_error(),
        "top5_error": tally.top5_error(),
        "log_loss": tally.mean_loss(),
        "crops": crops.count(),
        "checkpoints": names,
    }))?)
}

fn as_text(tally: &Tally, what: &str, ten_crop: bool) -> String {
    format!(
        "{} images of {what}, {}\n  top-1 error  {:6.2} %\n  top-5 error  {:6.2} %\n  log-loss     \
         {:8.4}",
        tally.images,
        if ten_crop { "ten crops averaged" } else { "centre crop" },
        100.0 * tally.top1_error(),
        100.0 * tally.top5_error(),
        tally.mean_loss()
    )
}

/// Refuses a data set with other classes or sizes; says where its images were made in another way.
fn check(model: &Model, name: &str, dataset: &Dataset) -> Result<()> {
    let place = dataset.path.display().to_string();
    let facts = &model.checkpoint.facts;
    same_classes((name, &facts.classes), (&place, &dataset.header.classes))?;
    let (ours, theirs) = (&facts.preparation, &dataset.header.preparation);
    if ours.size != theirs.size || facts.channels != dataset.header.channels {
        bail!(
            "{name} was trained on images of {}×{}×{}, those of {place} are {}×{}×{}; prepare the \
             data set in the same size",
            ours.size[0],
            ours.size[1],
            facts.channels,
            theirs.size[0],
            theirs.size[1],
            dataset.header.channels
        );
    }
    if ours != theirs {
        note!(
            "the images of {place} were made in another way than those {name} was trained on, \
             which can cost a few points: {} here, {} there",
            serde_json::to_string(theirs)?,
            serde_json::to_string(ours)?
        );
    }
    Ok(())
}
