//! `alexnet codes`: short binary codes for images, from an auto-encoder on saved features.

use super::{outputs, print};
use crate::config_error;
use crate::engine::Choice;
use crate::train::codes::file::write_codes;
use crate::train::codes::hamming::nearest_codes;
use crate::train::codes::training::{Trained, train};
use crate::train::codes::{Encoder, Options, Scaling};
use crate::train::feature_file::FeatureFile;
use crate::vectors::nearest::nearest;
use anyhow::Result;
use clap::value_parser;
use serde_json::json;
use std::path::PathBuf;

/// Make short binary codes by which similar images are found fast.
///
/// The paper's section 6.1 suggests it: an auto-encoder is trained to give back the features
/// through a middle layer of as many values as the code has bits; the code is their signs.
/// `neighbours --codes FILE` searches them. A twentieth of the images, at most
/// 200, is not trained on: of their ten nearest by exact search it is counted how many the codes
/// find.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The features, as `alexnet features` writes them (.safetensors).
    #[arg(value_name = "FEATURES")]
    features: PathBuf,
    /// Bits of a code, a multiple of 8.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = value_parser!(u32).range(8..=4096))]
    bits: u32,
    /// Values of each of the two hidden layers.
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = value_parser!(u32).range(1..=65536))]
    hidden: u32,
    /// Passes over the images.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = value_parser!(u32).range(1..=100_000))]
    epochs: u32,
    /// The learning rate; in the last third of the epochs it is a tenth.
    #[arg(long, value_name = "RATE", default_value_t = 0.003)]
    rate: f64,
    /// Chooses first weights and order.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u32,
    /// The file to write (.safetensors): the codes, and the encoder for other images.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where to learn: auto, cpu, or cuda:0.
    #[arg(long, default_value = "auto")]
    device: Choice,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Example:
  alexnet features --out features.safetensors
  alexnet codes features.safetensors --bits 64 --out codes.safetensors
  alexnet neighbours photo.jpg --codes codes.safetensors";

/// Neighbours that are counted.
const NEAREST: usize = 10;
/// Codes among which they are counted a second time: those that a search would look at again.
const LOOKED_AT: usize = 100;

/// Trains, writes, and measures what the codes find.
pub fn run(args: Args) -> Result<()> {
    check(&args)?;
    let file = FeatureFile::open(&args.features)?;
    file.verify()?;
    let held_out: Vec<usize> = held_out(file.images).collect();
    if file.images < 2 || held_out.len() == file.images {
        return Err(config_error!("{}: too few images to learn from", args.features.display()));
    }
    let is_held = |image: &u32| held_out.binary_search(&(*image as usize)).is_ok();
    let images: Vec<u32> = (0..file.images as u32).filter(|image| !is_held(image)).collect();
    let options = Options {
        bits: args.bits as usize,
        hidden: args.hidden as usize,
        epochs: args.epochs,
        rate: args.rate,
        seed: args.seed,
    };
    let trained = train(&file.features, file.values, &images, &options, &args.device)?;
    let codes = encoder(&trained)?.encode(&file.features)?;
    let recall = recall(&file, &codes, options.bits / 8, &held_out);
    write_codes(&args.out, &trained, (codes, options.bits / 8), &file.origin)?;
    if args.json {
        return print(&serde_json::to_string_pretty(&json!({
            "images": file.images,
            "bits": args.bits,
            "explained": trained.explained,
            "queries": held_out.len(),
            "recall_at_10": recall[0],
            "recall_at_10_of_100": recall[1],
        }))?);
    }
    print(&format!(
        "{}: {} bits for each of {} images of {} ({}); the auto-encoder explains {:.1} % of the \
         features' variance\n  of the {NEAREST} nearest images by exact search, of {} that were not \
         trained on:\n  {:5.1} % are among the {NEAREST} nearest by code (recall@{NEAREST})\n  {:5.1} \
         % are among the {LOOKED_AT} nearest by code",
        args.out.display(),
        args.bits,
        file.images,
        file.origin.data.display(),
        file.origin.split,
        100.0 * trained.explained,
        held_out.len(),
        100.0 * recall[0],
        100.0 * recall[1]
    ))
}

fn check(args: &Args) -> Result<()> {
    if !args.bits.is_multiple_of(8) {
        return Err(config_error!("--bits {}: it must be a multiple of 8", args.bits));
    }
    if !(args.rate > 0.0 && args.rate.is_finite()) {
        return Err(config_error!("--rate {}: it must be a number above 0", args.rate));
    }
    if !outputs::ends_in(&args.out, "safetensors") {
        return Err(config_error!("--out {}: its name ends in .safetensors", args.out.display()));
    }
    outputs::check("--out", &args.out, &[&args.features])
}

/// A twentieth of the images, at most 200, evenly spread.
fn held_out(images: usize) -> impl Iterator<Item = usize> {
    let step = 20.max(images.div_ceil(200));
    (step.min(images) - 1..images).step_by(step)
}

fn encoder(trained: &Trained) -> Result<Encoder> {
    let Scaling { mean, scale } = &trained.scaling;
    let scaling = Scaling { mean: mean.clone(), scale: *scale };
    Encoder::new(&trained.config, scaling, |name| {
        let found = trained.parameters.iter().find(|(own, ..)| own == name);
        Ok(found.map(|(_, _, values)| values.clone()).unwrap_or_default())
    })
}

/// The share of the exact ten nearest other images of each of `queries` that are among the ten, and
/// among the hundred, nearest by code.
fn recall(file: &FeatureFile, codes: &[u8], bytes: usize, queries: &[usize]) -> [f64; 2] {
    let values = file.values;
    let row = |image: usize| &file.features[image * values..][..values];
    let features: Vec<f32> = queries.iter().flat_map(|&image| row(image)).copied().collect();
    let exact = nearest(&file.features, &features, values, NEAREST + 1);
    let (mut found, mut all) = ([0, 0], 0);
    for (&image, exact) in queries.iter().zip(&exact) {
        let exact = exact.iter().map(|n| n.row).filter(|&row| row != image).take(NEAREST);
        let exact: Vec<usize> = exact.collect();
        let by_code = nearest_codes(codes, &codes[image * bytes..][..bytes], LOOKED_AT + 1);
        let by_code: Vec<usize> =
            by_code.into_iter().map(|(_, row)| row).filter(|&row| row != image).collect();
        for (found, most) in found.iter_mut().zip([NEAREST, LOOKED_AT]) {
            let near = &by_code[..most.min(by_code.len())];
            *found += exact.iter().filter(|row| near.contains(row)).count();
        }
        all += exact.len();
    }
    found.map(|found| found as f64 / all.max(1) as f64)
}
