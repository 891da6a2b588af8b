//! `alexnet maps`: what a layer makes of an image, map by map.

use super::inside::{Inside, ONE};
use super::{model, print};
use crate::config_error;
use crate::engine::Engine;
use crate::network::PlannedLayer;
use crate::pictures::check_out;
use crate::pictures::maps::{Map, Reach, blocks};
use crate::pictures::tiles::{self, Layout};
use anyhow::Result;
use clap::ValueEnum;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Draw what a layer makes of an image: its maps, towers apart.
///
/// The image's centre crop goes through the network as in evaluation. Black is zero and white the
/// largest value of a map, or of the layer; where a layer has values below zero, zero is grey. The
/// maps of a layer are its own output: those of conv3 are from before relu3. Neurons of fully
/// connected layers are maps of one value, and always shown alike.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: alexnet maps cat.jpg --layer relu3 --out maps.png")]
pub struct Args {
    /// A picture file: JPEG, PNG, WebP, GIF, BMP or TIFF.
    #[arg(value_name = "IMAGE")]
    image: PathBuf,
    /// Which layer, as `alexnet inspect` lists them.
    #[arg(long, value_name = "NAME")]
    layer: String,
    /// The picture to write, .png or .svg.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The checkpoint, or a run's folder for its best; none: the best of the newest run.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// What is white: the largest value of each map, or of the layer.
    #[arg(long, default_value = "map")]
    scale: Scale,
    /// Pixels for each value, across and down [default: so that it can be seen].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    zoom: Option<u8>,
    /// Print one JSON document: what is drawn and where in the picture.
    #[arg(long)]
    json: bool,
}

/// What the largest value is taken of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scale {
    /// Each map for itself: where it answers
    Map,
    /// All maps alike: how strongly they answer
    Layer,
}

/// Pixels across of a map that is a single value.
const NEURON: usize = 12;

/// One image through the network, and one layer's output drawn.
pub fn run(args: Args) -> Result<()> {
    let path = model::file(args.checkpoint.as_deref())?;
    check_out(&args.out, [args.image.as_path(), path.as_path()])?;
    let mut inside = Inside::open(&path)?;
    let (input, _) = inside.crop(&args.image)?;
    let index = find(&inside.engine.plan().layers, &args.layer, &path)?;
    inside.engine.forward(&ONE, input.view())?;
    let layer = &inside.engine.plan().layers[index];
    let maps = maps(&inside.engine, layer)?;
    let shape = layer.output();
    let most = layer.parts.iter().map(|part| part.layer.output().channels).max().unwrap_or(1);
    let usual = Layout::of(most, layer.parts.len(), shape.height.max(shape.width));
    let usual = if shape.pixels() == 1 { Layout { zoom: NEURON, ..usual } } else { usual };
    let layout = Layout { zoom: args.zoom.map_or(usual.zoom, usize::from), ..usual };
    let reach = match args.scale {
        // One value by itself would be white or nothing.
        Scale::Map if shape.pixels() > 1 => Reach::Map,
        Scale::Map => Reach::Layer,
        Scale::Layer => Reach::Layer,
    };
    let name = args.image.file_name().unwrap_or_default().to_string_lossy();
    let heading = format!("{} of {name}", layer.name);
    let (canvas, places) = tiles::draw(&heading, &blocks(&maps, reach), layout);
    canvas.write(&args.out)?;
    let (least, most) = range(&maps);
    if args.json {
        return print(&serde_json::to_string_pretty(&json!({
            "out": args.out.display().to_string(),
            "layer": layer.name,
            "shape": [shape.height, shape.width, shape.channels],
            "least": least,
            "largest": most,
            "columns": layout.columns,
            "zoom": layout.zoom,
            "gap": layout.gap,
            "towers": places,
        }))?);
    }
    print(&format!(
        "{}: the {} maps of {}, {}×{}, values from {least:.4} to {most:.4}; {} is zero",
        args.out.display(),
        shape.channels,
        layer.name,
        shape.height,
        shape.width,
        if least < 0.0 { "grey" } else { "black" }
    ))
}

/// The layer of that name.
fn find(layers: &[PlannedLayer], name: &str, path: &Path) -> Result<usize> {
    layers.iter().position(|layer| layer.name == name).ok_or_else(|| {
        let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
        let path = path.display();
        config_error!("--layer {name}: {path} has no such layer; it has {}", names.join(", "))
    })
}

/// The maps of each tower, which the last pass has left.
fn maps(engine: &dyn Engine, layer: &PlannedLayer) -> Result<Vec<(usize, Vec<Map>)>> {
    let of = |part: &crate::network::Part| {
        let shape = part.layer.output();
        let values = engine.left_in(part.y)?;
        // [row, column, channel] to one map after another.
        let map = |channel: usize| Map {
            width: shape.width,
            height: shape.height,
            values: values[channel..].iter().step_by(shape.channels).copied().collect(),
        };
        Ok((part.tower, (0..shape.channels).map(map).collect()))
    };
    layer.parts.iter().map(of).collect()
}

/// The least and the largest value of all maps.
fn range(maps: &[(usize, Vec<Map>)]) -> (f32, f32) {
    let values = maps.iter().flat_map(|(_, maps)| maps).flat_map(|map| &map.values);
    values.fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), &value| {
        (least.min(value), most.max(value))
    })
}
