//! `alexnet eval`: errors of one checkpoint or of several averaged.

mod among;
mod report;
mod show;
mod weights;

use super::model::{self, Model};
use super::{outputs, own_gpus, print};
use crate::config_error;
use crate::data::dataset::{Class, Dataset, Split};
use crate::data::loader::{Crops, Images, Loader};
use crate::engine::{Choice, Engine};
use crate::files::write_whole;
use crate::layers::softmax::Tally;
use crate::mpi::Team;
use crate::note;
use crate::pictures;
use crate::progress::Progress;
use crate::train::checkpoint::same_classes;
use crate::train::evaluate::by_class::{ByClass, Confusion, distinct_names};
use crate::train::evaluate::predictions::Predictions;
use crate::train::evaluate::{Answers, Ensemble, Shared, images_per_batch};
use crate::train::feed::{self, Cropping};
use anyhow::{Context, Result, bail};
use report::Report;
use show::Show;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weights::Weights;

/// Count the errors of one network, or of several averaged.
///
/// Prints top-1 error (the most probable label is wrong), top-5 error (the label is not among the
/// five most probable) and the mean log-loss. With several networks their softmax outputs are
/// averaged, as the paper does in its Table 2, in one pass over the images, and each network's own
/// errors stand beside the average's. Under mpirun the images are shared among all processes.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Checkpoints, or runs' folders for their best; none: the best of the newest run.
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
    /// How much each network counts: numbers of sum 1, or auto, those with the lowest log-loss on
    /// the split val (found by expectation–maximisation; there is one minimum).
    #[arg(long, value_name = "auto|W,W,…")]
    weights: Option<Weights>,
    /// Also the errors of each class, the worst first.
    #[arg(long)]
    per_class: bool,
    /// Write which class was taken for which: a picture (.png) or a table (.csv), a row for each
    /// true class, a column for each predicted one.
    #[arg(long, value_name = "FILE")]
    confusion: Option<PathBuf>,
    /// Write a table (CSV) with a row for each image: its file, its label, the five most probable
    /// classes and how probable they are.
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Draw so many of the images with their labels and bars, chosen by lot (see --out).
    #[arg(
        long,
        value_name = "N",
        requires = "out",
        value_parser = clap::value_parser!(u16).range(1..=500)
    )]
    show: Option<u16>,
    /// Draw only images whose most probable label is wrong.
    #[arg(long, requires = "show")]
    only_errors: bool,
    /// The picture of --show, .png or .svg.
    #[arg(long, value_name = "FILE", requires = "show")]
    out: Option<PathBuf>,
    /// Where to compute: auto, cpu, cuda:0, or cuda:0,1 for a tower each.
    #[arg(long, default_value = "auto")]
    device: Choice,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  alexnet eval --ten-crop --split test
  alexnet eval runs/a runs/b runs/c --split test --weights auto
  alexnet eval --per-class --confusion confusion.png --predictions answers.csv
  alexnet eval --show 32 --only-errors --out sheet.png";

impl Args {
    fn crops(&self) -> Crops {
        if self.ten_crop { Crops::Ten } else { Crops::Centre }
    }
}

/// Opens checkpoints and data, evaluates, prints.
pub fn run(args: Args, team: Team) -> Result<()> {
    weights::check(&args, args.checkpoints.len().max(1))?;
    let device = own_gpus::choose(&team, &args.device)?;
    let mut models = model::open(&args.checkpoints, &device, None)?;
    let paths: Vec<PathBuf> = models.iter().map(|model| model.checkpoint.path.clone()).collect();
    let dataset = open_data(args.data.as_deref(), &models[0], &paths[0])?;
    for model in &models {
        agree(&models[0], model)?;
        check(model, &model.checkpoint.path.display().to_string(), &dataset)?;
    }
    if team.leads() {
        check_outputs(&args, &paths, &dataset)?;
    }
    let split = Arc::new(dataset.split(&args.split)?);
    let batch = among::alike(&team, &args, &models, (&dataset, &split))?;
    let weights = match &args.weights {
        None => None,
        Some(Weights::Given(weights)) => Some(weights.clone()),
        Some(Weights::Auto) => {
            let images = Arc::new(dataset.split(weights::FOUND_ON)?);
            let count = images.len();
            let mut ensemble = ensemble(&mut models, images, args.crops(), None, (team, batch))?;
            let found = weights::find(&mut ensemble, count, team.leads())?;
            Some(among::of_rank_0(&team, found)?)
        }
    };
    let classes = &dataset.header.classes;
    let counted = {
        let (images, weights) = (split.clone(), weights.as_deref());
        let mut ensemble = ensemble(&mut models, images, args.crops(), weights, (team, batch))?;
        if !team.leads() {
            // All is sent to rank 0, which counts it.
            while ensemble.next_answers()?.is_some() {}
            return Ok(());
        }
        count(ensemble, &args, &split, classes)?
    };
    if let (Some(show), Some(out)) = (counted.show, &args.out) {
        match show.write(out, &dataset, &split)? {
            0 => note!("{} is not written: there is no such image", out.display()),
            images => note!("{}: {images} images with their labels", out.display()),
        }
    }
    let report = Report {
        tally: counted.tally,
        members: counted.members,
        checkpoints: paths.iter().map(|p| p.display().to_string()).collect(),
        weights: weights.map(normalised),
        crops: args.crops().count(),
        what: format!("{} ({})", dataset.path.display(), args.split),
        by_class: counted.by_class,
        classes,
    };
    print(&if args.json { report.json()? } else { report.text() })
}

fn normalised(weights: Vec<f64>) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}

/// All `models` over `images`, `batch` crops at once, shared among ranks. Those that crop and centre
/// alike share a loader.
fn ensemble<'a>(
    models: &'a mut [Model],
    images: Arc<dyn Images>,
    crops: Crops,
    weights: Option<&[f64]>,
    (team, batch): (Team, usize),
) -> Result<Shared<'a>> {
    let batch = images_per_batch(batch, crops);
    let (mut loaders, mut fed): (Vec<Loader>, Vec<Cropping>) = (Vec::new(), Vec::new());
    let mut networks: Vec<(&mut dyn Engine, usize)> = Vec::new();
    for Model { config, engine, cropping, .. } in models {
        let serving = fed.iter().position(|other| other.serves(cropping));
        if serving.is_none() {
            let images = images.clone();
            let (data, of) = (&config.data, &team);
            loaders.push(feed::evaluation_among(of, data, images, cropping, crops, batch)?);
            fed.push(cropping.clone());
        }
        networks.push((engine.as_mut(), serving.unwrap_or(fed.len() - 1)));
    }
    let equal = vec![1.0; networks.len()];
    let ensemble = Ensemble::new(networks, loaders, crops, weights.unwrap_or(&equal));
    Ok(Shared::new(ensemble, team))
}

/// What is counted over a split.
struct Counted {
    tally: Tally,
    members: Vec<Tally>,
    by_class: Option<ByClass>,
    confusion: Option<Confusion>,
    show: Option<Show>,
}

/// Evaluates all images of `split`, and writes the files that are wanted.
fn count(
    mut ensemble: Shared<'_>,
    args: &Args,
    split: &Split,
    classes: &[Class],
) -> Result<Counted> {
    let counted = match &args.predictions {
        None => go_through(&mut ensemble, args, split, classes, |_| Ok(()))?,
        Some(file) => {
            let mut counted = None;
            write_whole(file, |out| {
                let mut rows = Predictions::new(out, split, classes)?;
                let all = |answers: &Answers| rows.add(answers);
                counted = Some(go_through(&mut ensemble, args, split, classes, all)?);
                rows.finish()
            })?;
            counted.expect("written, so counted")
        }
    };
    if let (Some(file), Some(confusion)) = (&args.confusion, &counted.confusion) {
        if outputs::ends_in(file, "csv") {
            write_whole(file, |out| confusion.write_csv(classes, out))?;
        } else {
            let names = distinct_names(classes);
            pictures::confusion::confusion(&names, |t, p| confusion.count(t, p)).write(file)?;
        }
    }
    Ok(counted)
}

/// Counts batch by batch; `each` sees every one.
fn go_through(
    ensemble: &mut Shared<'_>,
    args: &Args,
    split: &Split,
    classes: &[Class],
    mut each: impl FnMut(&Answers) -> Result<()>,
) -> Result<Counted> {
    let mut counted = Counted {
        tally: Tally::default(),
        members: Vec::new(),
        by_class: args.per_class.then(|| ByClass::new(classes.len())),
        confusion: args.confusion.is_some().then(Confusion::default),
        show: Show::new(args),
    };
    let progress = Progress::new("evaluation", split.len() as u64);
    while let Some(answers) = ensemble.next_answers()? {
        counted.tally.add(answers.tally);
        counted.members.resize(answers.members.len(), Tally::default());
        for (sum, more) in counted.members.iter_mut().zip(&answers.members) {
            sum.add(*more);
        }
        counted.by_class.iter_mut().for_each(|by_class| by_class.add(&answers));
        counted.confusion.iter_mut().for_each(|confusion| confusion.add(&answers));
        counted.show.iter_mut().for_each(|show| show.add(&answers));
        each(&answers)?;
        progress.advance(answers.tally.images);
    }
    progress.finish();
    Ok(counted)
}

/// Refuses files that cannot be written, before the work.
fn check_outputs(args: &Args, checkpoints: &[PathBuf], dataset: &Dataset) -> Result<()> {
    let inputs: Vec<&Path> = checkpoints.iter().map(PathBuf::as_path).collect();
    for (option, file) in [("--predictions", &args.predictions), ("--confusion", &args.confusion)] {
        if let Some(file) = file {
            outputs::check(option, file, &inputs)?;
        }
    }
    if let Some(out) = &args.out {
        outputs::check("--out", out, &inputs)?;
        pictures::check_out(out, [])?;
    }
    let Some(file) = &args.confusion else { return Ok(()) };
    let classes = dataset.header.classes.len();
    match (outputs::ends_in(file, "csv"), outputs::ends_in(file, "png")) {
        (false, false) => Err(config_error!(
            "--confusion {}: its name ends in .png for a picture or in .csv for a table",
            file.display()
        )),
        (false, true) if classes > pictures::confusion::MOST => Err(config_error!(
            "--confusion {}: {classes} classes are more than the {} that a picture shows; a table \
             (.csv) has room for all",
            file.display(),
            pictures::confusion::MOST
        )),
        _ => Ok(()),
    }
}

/// Refuses two networks whose answers do not mean the same: of other classes, or trained on images
/// that were made in another way. Their crops may differ.
fn agree(first: &Model, other: &Model) -> Result<()> {
    let [a, b] = [first, other].map(|model| model.checkpoint.path.display().to_string());
    let (ours, theirs) = (&first.checkpoint.facts, &other.checkpoint.facts);
    same_classes((&a, &ours.classes), (&b, &theirs.classes))?;
    let (ours, theirs) = (&ours.preparation, &theirs.preparation);
    if !ours.agrees_with(theirs) {
        bail!(
            "{a} and {b} were trained on images that were made in different ways, {} and {}; \
             networks are averaged over the same images, so evaluate each by itself",
            serde_json::to_string(ours)?,
            serde_json::to_string(theirs)?
        );
    }
    Ok(())
}

/// The data set named, or the one that the first checkpoint was trained on.
pub(super) fn open_data(named: Option<&Path>, model: &Model, checkpoint: &Path) -> Result<Dataset> {
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

/// Refuses a data set with other classes or sizes; says where its images were made in another way.
pub(super) fn check(model: &Model, name: &str, dataset: &Dataset) -> Result<()> {
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
    if !ours.agrees_with(theirs) {
        note!(
            "the images of {place} were made in another way than those {name} was trained on, \
             which can cost a few points: {} here, {} there",
            serde_json::to_string(theirs)?,
            serde_json::to_string(ours)?
        );
    }
    Ok(())
}
