//! `alexnet saliency`: which pixels of an image a class's score hangs on.

use super::inside::{Inside, ONE};
use super::{model, print, right_label};
use crate::data::dataset::Class;
use crate::engine::Engine;
use crate::pictures::cards::{Card, sheet};
use crate::pictures::kernels::shade;
use crate::pictures::maps::{Map, largest, tile};
use crate::pictures::{Pixels, check_out};
use crate::train::evaluate::best;
use anyhow::Result;
use serde_json::json;
use std::path::PathBuf;

/// Draw which pixels of an image the score of a class hangs on.
///
/// The gradient of the score (what softmax reads of the class) at the image's centre crop, network
/// as in evaluation. Three pictures: the crop; of each pixel the largest of its channels' gradients,
/// the sign left out, white the largest of all; and the gradient itself, grey being zero, which is
/// how to change the image for a higher score.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: alexnet saliency cat.jpg --class tabby --out saliency.png")]
pub struct Args {
    /// A picture file: JPEG, PNG, WebP, GIF, BMP or TIFF.
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// The picture to write, .png or .svg.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Whose score: a class's name or id [default: the most probable].
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// The checkpoint, or a run's folder for its best; none: the best of the newest run.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Forward, backward as far as the image, drawn.
pub fn run(args: Args) -> Result<()> {
    let path = model::file(args.checkpoint.as_deref())?;
    check_out(&args.out, [args.image.as_path(), path.as_path()])?;
    let mut inside = Inside::open(&path)?;
    let classes = inside.checkpoint.facts.classes.clone();
    let asked = args.class.as_deref().map(|name| right_label::named("--class", name, &classes));
    let asked = asked.transpose()?;
    let (input, crop) = inside.crop(&args.image)?;
    inside.engine.forward(&ONE, input.view())?;
    let probabilities = inside.engine.probabilities()?;
    let class = asked.unwrap_or_else(|| best(&probabilities, 1)[0].0);
    let gradient = inside.engine.gradient_at_image(&ONE, input.view(), &[class as u32])?;
    let score = inside.engine.left_in(inside.engine.plan().logits())?[class];
    let channels = inside.engine.plan().input.channels;
    let (map, colors) = pictures(&gradient, &crop, channels);
    let Class { name, id, .. } = &classes[class];
    let image = args.image.file_name().unwrap_or_default().to_string_lossy();
    let percent = 100.0 * probabilities[class];
    let card = |image, title: &str| Card { image, title: title.into(), labels: Vec::new() };
    let most = largest(&map);
    let cards = [
        card(crop, "the crop"),
        card(tile(&map, false, most), "size of the gradient"),
        card(colors, "the gradient"),
    ];
    sheet(&format!("{name}, {percent:.1} %: {image}"), &cards, Some(3)).write(&args.out)?;
    let out = args.out.display();
    if args.json {
        return print(&serde_json::to_string_pretty(&json!({
            "out": out.to_string(),
            "class": name,
            "id": id,
            "index": class,
            "score": score,
            "probability": probabilities[class],
            "largest": most,
        }))?);
    }
    print(&format!("{out}: the score of {name:?} ({score:.4}, {percent:.1} %) and its gradient"))
}

/// Of a gradient [row, column, channel]: the largest size of each pixel's, and all of it.
fn pictures(gradient: &[f32], crop: &Pixels, channels: usize) -> (Map, Pixels) {
    let (width, height) = (crop.width, crop.height);
    let sizes = gradient
        .chunks_exact(channels)
        .map(|pixel| pixel.iter().fold(0.0f32, |most, value| most.max(value.abs())));
    let map = Map { width, height, values: sizes.collect() };
    let most = largest(&map);
    let shades: Vec<u8> = gradient.iter().map(|&value| shade(value, most)).collect();
    (map, Pixels::new(width, height, channels, &shades))
}
