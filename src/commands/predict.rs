//! `alexnet predict`: the most probable labels of images, and how probable they are.

use super::images::{self, SizeNote};
use super::model::{self, Model};
use super::{print, right_label};
use crate::config_error;
use crate::data::dataset::Class;
use crate::data::decode::{Prepared, prepare_image};
use crate::data::form::CropBuffer;
use crate::data::imagenet;
use crate::data::jpeg::Notes;
use crate::data::loader::Crops;
use crate::data::preparation::Resize;
use crate::engine::Choice;
use crate::errors::sentence;
use crate::note;
use crate::pictures::cards::{self, Card, Guess};
use crate::pictures::{Pixels, check_out};
use crate::progress::count;
use crate::train::checkpoint::DataFacts;
use crate::train::evaluate::{best, probabilities};
use crate::train::feed::Cropping;
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Name the most probable labels of images.
///
/// The images are scaled and cropped as the checkpoint's training images were. With --out they are
/// drawn too, with their labels and bars as in figure 4 of the paper.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Pictures (JPEG, PNG, WebP, GIF, BMP or TIFF), folders of them, or - for one on standard input.
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// The checkpoint, or a run's folder for its best; none: the best of the newest run.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// How many labels for each image.
    #[arg(
        long,
        default_value_t = 5,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    top: u32,
    /// Average over the four corners and the centre and their mirror images.
    #[arg(long)]
    ten_crop: bool,
    /// Where to compute: auto, cpu, cuda:0, or cuda:0,1 for a tower each.
    #[arg(long, default_value = "auto")]
    device: Choice,
    /// Also draw the images with their labels and bars, the right label marked where it is known;
    /// a .png or .svg file.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The right label of all images, to be marked on the sheet; by default the class that an
    /// image's folder is called after, if there is one.
    #[arg(long, value_name = "CLASS", requires = "out")]
    label: Option<String>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// Print a table (CSV) with a row for each image and label: image, rank, id, name, probability.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

const EXAMPLES: &str = "Examples:
  alexnet predict photo.jpg
  alexnet predict photos --checkpoint runs/demo --csv > answers.csv
  alexnet predict photos/val/*/1.jpg --out sheet.png
  curl -s https://example.org/cat.jpg | alexnet predict -";

/// Prints the most probable labels of each image; an image that cannot be read does not keep the
/// others from being looked at.
pub fn run(args: Args) -> Result<()> {
    let images = images::listed(&args.images)?;
    if let Some(out) = &args.out {
        check_out(out, images.iter().chain(&args.checkpoint).map(PathBuf::as_path))?;
    }
    let named: Vec<PathBuf> = args.checkpoint.iter().cloned().collect();
    let crops = if args.ten_crop { Crops::Ten } else { Crops::Centre };
    let mut model = model::open(&named, &args.device, Some(crops.count()))?.remove(0);
    let classes = model.checkpoint.facts.classes.clone();
    let Cropping { augmentation, form } = &model.cropping;
    let mut input = CropBuffer::new(form, &augmentation.geometry, crops.count())?;
    let label = args.label.as_deref().map(|name| right_label::named("--label", name, &classes));
    let label = label.transpose()?;
    let mut shown = model.checkpoint.facts.clone();
    shown.classes = imagenet::readable(shown.classes);
    let (mut answers, mut cards, mut failed) = (Vec::new(), Vec::new(), 0);
    let size_note = SizeNote::default();
    if args.csv {
        print(&row(["image", "rank", "id", "name", "probability"].map(String::from))?)?;
    }
    for path in &images {
        let image = path.display().to_string();
        let answer = predict(&mut model, &mut input, (path, &size_note), crops)
            .map(|seen| (best(&seen.probabilities, args.top as usize), seen));
        failed += usize::from(answer.is_err());
        if let (Some(_), Ok((top, seen))) = (&args.out, &answer) {
            let right = label.or_else(|| right_label::of_folder(path, &classes));
            cards.push(card(path, top, &seen.pixels, right, &shown));
        }
        match answer {
            answer if args.json => answers.push(as_json(&image, answer, &classes)),
            Ok((top, seen)) => {
                seen.notes.iter().for_each(|note| note!("{image}: {note}"));
                print(&match args.csv {
                    true => as_csv(&image, &top, &shown.classes)?,
                    false => as_text(&image, &top, &shown.classes),
                })?
            }
            Err(error) => note!("{}", sentence(&error)),
        }
    }
    if let Some(out) = args.out.filter(|_| !cards.is_empty()) {
        cards::sheet("", &cards, None).write(&out)?;
        let images = count(cards.len() as u64, "image with its", "images with their");
        note!("{}: {images} labels", out.display());
    }
    if args.json {
        print(&serde_json::to_string_pretty(&answers)?)?;
    }
    if failed > 0 {
        bail!("no answer for {failed} of {} images", images.len());
    }
    Ok(())
}

/// The most probable classes of an image and how probable they are, and all else of it.
type Answer = (Vec<(usize, f64)>, Seen);

/// What the network makes of an image.
struct Seen {
    /// Of all classes.
    probabilities: Vec<f64>,
    /// The image as it was prepared, of which the network sees crops.
    pixels: Vec<u8>,
    /// What was wrong with its file.
    notes: Notes,
}

/// The image `path` as the sheet has it; `right` is the index of its class, if that is known.
fn card(
    path: &Path,
    top: &[(usize, f64)],
    pixels: &[u8],
    right: Option<usize>,
    facts: &DataFacts,
) -> Card {
    let [height, width] = facts.preparation.size;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    let guess = |&(index, probability): &(usize, f64)| Guess {
        label: facts.classes[index].name.clone(),
        probability,
        is_right: right == Some(index),
    };
    Card {
        image: Pixels::new(width, height, facts.channels, pixels),
        title: right.map_or(name.into_owned(), |right| facts.classes[right].name.clone()),
        labels: top.iter().map(guess).collect(),
    }
}

fn as_json(image: &str, answer: Result<Answer>, classes: &[Class]) -> Value {
    let label = |(index, probability): (usize, f64)| json!({"label": classes[index].name, "index": index, "probability": probability});
    match answer {
        Ok((top, Seen { notes, .. })) => {
            let top: Vec<Value> = top.into_iter().map(label).collect();
            let mut answer = json!({"image": image, "top": top});
            if !notes.is_empty() {
                answer["notes"] = json!(notes);
            }
            answer
        }
        Err(error) => json!({"image": image, "error": sentence(&error)}),
    }
}

/// A row an image and label; no line's end behind the last.
fn as_csv(image: &str, top: &[(usize, f64)], classes: &[Class]) -> Result<String> {
    let rows = top.iter().enumerate().map(|(at, &(index, p))| {
        let Class { id, name, .. } = &classes[index];
        row([image.into(), (at + 1).to_string(), id.clone(), name.clone(), p.to_string()])
    });
    Ok(rows.collect::<Result<Vec<_>>>()?.join("\n"))
}

/// A row of CSV.
fn row(fields: [String; 5]) -> Result<String> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(fields)?;
    let bytes = csv.into_inner().map_err(|error| config_error!("{error}"))?;
    Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\n').to_string())
}

fn as_text(image: &str, top: &[(usize, f64)], classes: &[Class]) -> String {
    let lines = top.iter().map(|&(index, p)| {
        let bar = "█".repeat((p * 20.0).round() as usize);
        format!("\n  {:5.1} % {bar:20} {}", 100.0 * p, classes[index].name)
    });
    format!("{image}{}", lines.collect::<String>())
}

/// What `model` makes of one image, which goes through `input`.
fn predict(
    model: &mut Model,
    input: &mut CropBuffer,
    (path, size_note): (&Path, &SizeNote),
    crops: Crops,
) -> Result<Seen> {
    let facts = &model.checkpoint.facts;
    let context = || path.display().to_string();
    let bytes = images::read(path).with_context(context)?;
    let Prepared { pixels, notes, from, .. } =
        prepare_image(&bytes, &facts.preparation, facts.channels).with_context(context)?;
    if facts.preparation.resize == Resize::None {
        size_note.mind(path, from, facts.preparation.size, facts.channels);
    }
    let augmentation = &model.cropping.augmentation;
    let draws = match crops {
        Crops::Ten => augmentation.ten().to_vec(),
        _ => vec![augmentation.centre()],
    };
    input.resize(draws.len());
    for (crop, draw) in draws.iter().enumerate() {
        input.view_mut().write(crop, &pixels, draw, augmentation);
    }
    let probabilities = probabilities(model.engine.as_mut(), input.view(), crops)?;
    Ok(Seen { probabilities, pixels, notes })
}
