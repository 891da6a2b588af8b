//! `alexnet filters`: the kernels of a layer as a picture.

use super::{inside, model, print};
use crate::config_error;
use crate::network::{Mode, Plan, PlannedLayer};
use crate::pictures::check_out;
use crate::pictures::kernels::{Kernels, Span, are_drawable};
use crate::pictures::tiles::{Layout, Place};
use crate::train::checkpoint::Checkpoint;
use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Draw the kernels of a layer, towers apart, as figure 3 of the paper does.
///
/// Kernels that read RGB images are drawn in their colours. Of kernels that read maps each channel
/// is drawn in grey: a row a kernel, a column a channel. Grey is a weight of zero, white and black
/// the largest of its kernel, or of the layer. A local layer has kernels of its own at every place:
/// those in the middle are drawn.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: alexnet filters runs/demo/best.safetensors --out filters.png")]
pub struct Args {
    /// The checkpoint, or a run's folder for its best; none: the best of the newest run.
    #[arg(value_name = "CHECKPOINT")]
    checkpoint: Option<PathBuf>,
    /// The picture to write, .png or .svg.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Which layer [default: the first that has kernels].
    #[arg(long, value_name = "NAME")]
    layer: Option<String>,
    /// What is white or black: the largest weight of each kernel, or of the layer.
    #[arg(long, default_value = "kernel")]
    scale: Scale,
    /// Pixels for each weight, across and down [default: so that it can be seen].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    zoom: Option<u8>,
    /// Print one JSON document: what is drawn and where in the picture.
    #[arg(long)]
    json: bool,
}

/// What the largest weight is taken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scale {
    /// Each kernel for itself: what it looks for
    Kernel,
    /// All kernels alike: how strong they are
    Layer,
}

/// Reads one tensor of the checkpoint and draws it.
pub fn run(args: Args) -> Result<()> {
    let path = model::file(args.checkpoint.as_deref())?;
    check_out(&args.out, [path.as_path()])?;
    let checkpoint = Checkpoint::open(&path)?;
    let plan = inside::plan(&checkpoint, Mode::Evaluation)?;
    let layer = choose(&plan, args.layer.as_deref(), &path)?;
    let weight = checkpoint.tensor(&format!("{}.weight", layer.name));
    let kernels = Kernels::new(&plan, layer, &weight.with_context(|| path.display().to_string())?);
    let layout =
        Layout { zoom: args.zoom.map_or(kernels.layout().zoom, usize::from), ..kernels.layout() };
    let span = match args.scale {
        Scale::Kernel => Span::Kernel,
        Scale::Layer => Span::Layer,
    };
    let heading = format!("{} of {}", layer.name, path.display());
    let (canvas, places) = kernels.draw(&heading, span, layout);
    canvas.write(&args.out)?;
    print(&match args.json {
        true => as_json(&args, &kernels, layout, &places)?,
        false => as_text(&args, &kernels, &places),
    })
}

/// The layer of that name, or the first that can be drawn.
fn choose<'a>(plan: &'a Plan, name: Option<&str>, path: &Path) -> Result<&'a PlannedLayer> {
    let drawable: Vec<&PlannedLayer> =
        plan.layers.iter().filter(|layer| are_drawable(layer)).collect();
    let found = match name {
        Some(name) => drawable.iter().find(|layer| layer.name == name),
        None => drawable.first(),
    };
    let names: Vec<&str> = drawable.iter().map(|layer| layer.name.as_str()).collect();
    found.copied().ok_or_else(|| match name {
        _ if names.is_empty() => {
            config_error!("{}: none of its layers has kernels to draw", path.display())
        }
        Some(name) => config_error!(
            "--layer {name}: {} has no such layer with kernels; it has {}",
            path.display(),
            names.join(", ")
        ),
        None => unreachable!("the first of some is there"),
    })
}

fn as_text(args: &Args, kernels: &Kernels, places: &[Place]) -> String {
    let [count, channels, height, width] = kernels.shape;
    let towers = match places.len() {
        1 => "",
        _ => ", tower 0 above, tower 1 below",
    };
    let tiles = match kernels.are_single() {
        true => "",
        false => "; a row a kernel, a column a channel",
    };
    let range = match args.scale {
        Scale::Kernel => "its kernel",
        Scale::Layer => "the layer",
    };
    format!(
        "{}: the {count} kernels of {}, {height}×{width}×{channels}{towers}{tiles}; grey is zero, \
         white the largest weight of {range}",
        args.out.display(),
        kernels.layer
    )
}

fn as_json(args: &Args, kernels: &Kernels, layout: Layout, places: &[Place]) -> Result<String> {
    Ok(serde_json::to_string_pretty(&json!({
        "out": args.out.display().to_string(),
        "layer": kernels.layer,
        "shape": kernels.shape,
        "columns": layout.columns,
        "zoom": layout.zoom,
        "gap": layout.gap,
        "towers": places,
    }))?)
}
