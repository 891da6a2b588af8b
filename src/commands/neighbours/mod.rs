//! `alexnet neighbours`: which images of a split look most like a given one to the network.

mod index;

use super::model::{self, Model};
use super::{images, print};
use crate::data::area::Area;
use crate::data::dataset::{Class, Dataset, Split};
use crate::data::decode::{Prepared, prepare_image};
use crate::data::form::CropBuffer;
use crate::engine::Choice;
use crate::errors::sentence;
use crate::note;
use crate::pictures::cards::{self, Card};
use crate::pictures::{Pixels, check_out};
use crate::train::features::{cut_above, extract, shape};
use crate::vectors::nearest::Neighbour;
use anyhow::{Context, Result, bail};
use index::Index;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Find the images that look most like given ones to the network.
///
/// As in the paper's Figure 4 (right): near by the Euclidean distance of the last hidden layer's
/// features. `alexnet features` writes those of a split; the file knows its checkpoint and its data
/// set. The search is exact, it looks at every image. By codes (`alexnet codes`) it is faster and
/// rougher: near is then where few bits differ.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Pictures (JPEG, PNG, WebP, GIF, BMP or TIFF), folders of them, or - for one on standard input.
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// The features to search, as `alexnet features` writes them.
    #[arg(long, value_name = "FILE", required_unless_present = "codes")]
    features: Option<PathBuf>,
    /// Search codes in place of features, as `alexnet codes` writes them.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["features", "verify"])]
    codes: Option<PathBuf>,
    /// How many neighbours of each image.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 6,
        value_parser = clap::value_parser!(u16).range(1..=1000)
    )]
    count: u16,
    /// Where the checkpoint is that the features were made with, if no longer where it was.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Where the data set is that they are of, if no longer where it was.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// First compare the checksum of all features, which takes as long as the search.
    #[arg(long)]
    verify: bool,
    /// Write a picture (.png or .svg): each image, and its neighbours beside it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Where to compute: auto, cpu, cuda:0, or cuda:0,1 for a tower each.
    #[arg(long, default_value = "auto")]
    device: Choice,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Example:
  alexnet features --out features.safetensors
  alexnet neighbours photo.jpg --features features.safetensors --out sheet.png";

/// An image that is asked about.
struct Query {
    path: PathBuf,
    /// Its centre crop as the network sees it, and the network's features of it.
    seen: Result<(Vec<u8>, Vec<f32>)>,
}

/// Prints the neighbours of each image; an image that cannot be read does not keep the others from
/// being looked at.
pub fn run(mut args: Args) -> Result<()> {
    args.images = images::listed(&args.images)?;
    let mut index = Index::open(&args)?;
    let searched = args.codes.clone().or(args.features.clone()).unwrap_or_default();
    let named = args.checkpoint.as_deref().map(|path| model::file(Some(path))).transpose()?;
    let checkpoint = index.origin().checkpoint(named.as_deref())?;
    if let Some(out) = &args.out {
        let read = [searched.as_path(), checkpoint.as_path()];
        check_out(out, read.into_iter().chain(args.images.iter().map(PathBuf::as_path)))?;
    }
    let (dataset, split) = index.origin().images(args.data.as_deref())?;
    let mut model = Model::open_cut(&checkpoint, &args.device, Some(1), |config| {
        cut_above(config, &index.origin().layer)
    })?;
    index.check(&searched, split.len(), shape(model.engine.as_ref()).len())?;
    let queries = look_at(&mut model, &args.images)?;
    let seen: Vec<f32> =
        queries.iter().flat_map(|q| q.seen.iter().flat_map(|(_, f)| f.iter().copied())).collect();
    let mut found = index.search(&seen, args.count.into())?.into_iter();
    let answers: Vec<Option<Vec<Neighbour>>> =
        queries.iter().map(|q| q.seen.as_ref().ok().and_then(|_| found.next())).collect();
    let images = Images { dataset, split };
    tell(&args, &queries, &answers, (&index, &images))?;
    if let Some(out) = args.out.filter(|_| answers.iter().any(Option::is_some)) {
        draw(&out, &queries, &answers, (&index, &images), &model)?;
    }
    let failed = answers.iter().filter(|answer| answer.is_none()).count();
    if failed > 0 {
        bail!("no answer for {failed} of {} images", args.images.len());
    }
    Ok(())
}

/// The images that are searched.
struct Images {
    dataset: Dataset,
    split: Split,
}

impl Images {
    fn class(&self, row: usize) -> &Class {
        &self.dataset.header.classes[self.split.label(row) as usize]
    }
}

/// The features of each image, one after the other.
fn look_at(model: &mut Model, images: &[PathBuf]) -> Result<Vec<Query>> {
    let augmentation = model.cropping.augmentation.clone();
    let mut input = CropBuffer::new(&model.cropping.form, &augmentation.geometry, 1)?;
    input.resize(1);
    let mut look = |path: &Path| -> Result<(Vec<u8>, Vec<f32>)> {
        let facts = &model.checkpoint.facts;
        let context = || path.display().to_string();
        let bytes = images::read(path).with_context(context)?;
        let Prepared { pixels, notes, .. } =
            prepare_image(&bytes, &facts.preparation, facts.channels).with_context(context)?;
        notes.iter().for_each(|note| note!("{}: {note}", path.display()));
        let draw = augmentation.centre();
        input.view_mut().write(0, &pixels, &draw, &augmentation);
        let mut features = Vec::new();
        extract(model.engine.as_mut(), input.view(), &mut features)?;
        Ok((crop(model, &pixels), features))
    };
    Ok(images.iter().map(|path| Query { path: path.clone(), seen: look(path) }).collect())
}

/// The centre crop of an image's pixels.
fn crop(model: &Model, pixels: &[u8]) -> Vec<u8> {
    let augmentation = &model.cropping.augmentation;
    let mut crop = vec![0; augmentation.geometry.crop_len()];
    augmentation.cut(&mut crop, pixels, &augmentation.centre());
    crop
}

/// Prints the answers.
fn tell(
    args: &Args,
    queries: &[Query],
    answers: &[Option<Vec<Neighbour>>],
    (index, images): (&Index, &Images),
) -> Result<()> {
    let split = &images.split;
    let mut all: Vec<Value> = Vec::new();
    for (query, answer) in queries.iter().zip(answers) {
        let image = query.path.display().to_string();
        match (answer, &query.seen) {
            (Some(answer), _) if args.json => {
                let one = |n: &Neighbour| {
                    json!({
                        "index": n.row, "file": split.name(n.row),
                        "distance": index.json(n.distance),
                        "id": images.class(n.row).id, "label": images.class(n.row).name,
                    })
                };
                let neighbours: Vec<Value> = answer.iter().map(one).collect();
                all.push(json!({"image": image, "neighbours": neighbours}));
            }
            (Some(answer), _) => {
                let line = |n: &Neighbour| {
                    let (distance, class) = (index.words(n.distance), &images.class(n.row).name);
                    format!("\n  {distance:>10}  {}  {class}", split.name(n.row))
                };
                print(&format!("{image}{}", answer.iter().map(line).collect::<String>()))?;
            }
            (None, Err(error)) if args.json => {
                all.push(json!({"image": image, "error": sentence(error)}));
            }
            (None, Err(error)) => note!("{}", sentence(error)),
            (None, Ok(_)) => unreachable!("what was seen was searched for"),
        }
    }
    if args.json { print(&serde_json::to_string_pretty(&all)?) } else { Ok(()) }
}

/// The sheet: a row for each image that was seen, itself first.
fn draw(
    out: &Path,
    queries: &[Query],
    answers: &[Option<Vec<Neighbour>>],
    (index, images): (&Index, &Images),
    model: &Model,
) -> Result<()> {
    let geometry = &model.cropping.augmentation.geometry;
    let side = geometry.crop;
    let card = |pixels: &[u8], title: String| Card {
        image: Pixels::new(side, side, geometry.channels, pixels),
        title,
        labels: Vec::new(),
    };
    let all = Area::all(geometry.height, geometry.width);
    let mut pixels = vec![0; geometry.image_len()];
    let mut cards = Vec::new();
    for (query, answer) in queries.iter().zip(answers) {
        let (Some(answer), Ok((image, _))) = (answer, &query.seen) else { continue };
        let name = query.path.file_name().unwrap_or(query.path.as_os_str()).to_string_lossy();
        cards.push(card(image, format!("▸ {name}")));
        for neighbour in answer {
            images.split.read(neighbour.row, &all, &mut pixels)?;
            let class = &images.class(neighbour.row).name;
            let title = format!("{class}, {}", index.words(neighbour.distance));
            cards.push(card(&crop(model, &pixels), title));
        }
    }
    let heading = "each row: an image, and the nearest to it with their classes and distances";
    let count = answers.iter().flatten().map(Vec::len).max().unwrap_or(0);
    cards::sheet(heading, &cards, Some(count + 1)).write(out)?;
    note!("{}: neighbours of {} images", out.display(), answers.iter().flatten().count());
    Ok(())
}
