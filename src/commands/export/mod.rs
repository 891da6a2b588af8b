//! `alexnet export`: a checkpoint's network for other programs, as an ONNX file or as a folder with
//! its weights and a module for PyTorch.

mod names;
mod network;
mod onnx;
mod python;
mod pytorch;

use super::{inside, outputs, print};
use crate::config::Config;
use crate::config_error;
use crate::data::augment::Augmentation;
use crate::data::dataset::Class;
use crate::data::imagenet;
use crate::layers::Shape;
use crate::network::Mode;
use crate::train::checkpoint::Checkpoint;
use crate::train::feed;
use anyhow::{Context, Result};
use network::Step;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Write a checkpoint's network for other programs: ONNX, or PyTorch.
///
/// With --out FILE.onnx one file for onnxruntime and its like. It reads `image`, f32 [N, 3, crop,
/// crop]: pixels from 0 to 255, RGB, channel first; the mean is subtracted inside. It gives
/// `probabilities` [N, classes]. The metadata has `labels` and `ids`, JSON lists in the order of
/// the outputs, `preparation`, how image files become images, and the `config`.
///
/// With --out DIR a folder for PyTorch: `model.py` builds the network and says how images are
/// prepared, `weights.safetensors` has its weights under their names here, `labels.txt` the names
/// of the classes. `python DIR/model.py photo.jpg` prints the five most probable.
///
/// Both compute what `predict` computes: towers apart, the normalisation's own alpha, the pooling's
/// edges, and dropout's factor at test time.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The checkpoint, or a run's folder for its best; none: the best of the newest run.
    #[arg(value_name = "CHECKPOINT")]
    checkpoint: Option<PathBuf>,
    /// What to write: a file whose name ends in .onnx, or a new folder for PyTorch.
    #[arg(long, value_name = "FILE.onnx|DIR")]
    out: PathBuf,
    /// Print one JSON document: what was written.
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  alexnet export runs/demo --out demo.onnx
  alexnet export runs/demo/best.safetensors --out demo-pytorch
  python demo-pytorch/model.py photo.jpg";

/// All that is written down of a network.
struct Exported<'a> {
    /// Of the config.
    name: String,
    checkpoint: &'a Checkpoint,
    /// As a person reads them, in the order of the outputs.
    classes: Vec<Class>,
    input: Shape,
    steps: Vec<Step<'a>>,
    /// How images are cropped, centred and scaled.
    augmentation: Augmentation,
}

/// Plans the network, and writes it in the form that the name of `--out` asks for.
pub fn run(args: Args) -> Result<()> {
    let path = super::model::file(args.checkpoint.as_deref())?;
    let is_onnx = outputs::ends_in(&args.out, "onnx");
    if is_onnx {
        outputs::check("--out", &args.out, &[&path])?;
    } else {
        check_folder(&args.out)?;
    }
    let checkpoint = Checkpoint::open(&path)?;
    let plan = inside::plan(&checkpoint, Mode::Evaluation)?;
    let file = path.display().to_string();
    let config = Config::parse(&checkpoint.config, &[], &file)?;
    let exported = Exported {
        name: config.name.clone(),
        checkpoint: &checkpoint,
        classes: imagenet::readable(checkpoint.facts.classes.clone()),
        input: plan.input,
        steps: network::steps(&plan, &file)?,
        augmentation: feed::augmentation(&config.data, &checkpoint.facts)
            .with_context(|| file.clone())?,
    };
    if is_onnx {
        onnx::write(&args.out, &exported)?;
    } else {
        pytorch::write(&args.out, &exported)?;
    }
    let parameters = plan.parameters();
    print(&match args.json {
        true => serde_json::to_string_pretty(&json!({
            "out": args.out.display().to_string(),
            "form": if is_onnx { "onnx" } else { "pytorch" },
            "checkpoint": file,
            "parameters": parameters,
            "classes": plan.classes,
            "input": [plan.input.channels, plan.input.height, plan.input.width],
        }))?,
        false if is_onnx => onnx::words(&args.out, &exported, parameters),
        false => pytorch::words(&args.out, &exported, parameters),
    })
}

/// Refuses a folder that there is something in, and what looks like the name of a file.
fn check_folder(out: &Path) -> Result<()> {
    let name = out.display();
    let as_file = out.extension().and_then(|extension| extension.to_str());
    let as_file = as_file.filter(|e| e.chars().all(|c| c.is_ascii_alphabetic()));
    let as_folder = out.as_os_str().to_string_lossy().ends_with(['/', std::path::MAIN_SEPARATOR]);
    if let Some(extension) = as_file.filter(|_| !as_folder && !out.is_dir()) {
        return Err(config_error!(
            "--out {name}: .{extension} is no form that is written; name a file that ends in \
             .onnx, or a folder, for PyTorch (`{name}/` if it is to be called so)"
        ));
    }
    if out.is_file() {
        return Err(config_error!(
            "--out {name}: this is a file; name a new folder, or a file that ends in .onnx"
        ));
    }
    if std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(config_error!(
            "--out {name}: there is something in this folder already; name a new one, or empty it"
        ));
    }
    Ok(())
}

impl Exported<'_> {
    /// What is subtracted from the pixels: a square's side, and values [channels, side, side]; none
    /// where it is 0.
    fn mean(&self) -> Option<(usize, Vec<f32>)> {
        let (mean, channels) = (&self.augmentation.mean, self.input.channels);
        let first = &mean[..channels];
        if mean.chunks_exact(channels).all(|pixel| pixel == first) {
            return first.iter().any(|&value| value != 0.0).then(|| (1, first.to_vec()));
        }
        let plane = |c| mean.iter().skip(c).step_by(channels).copied();
        Some((self.input.height, (0..channels).flat_map(plane).collect()))
    }

    /// What each channel is multiplied with then, as [`Exported::mean`] has it; none where it is 1.
    fn scale(&self) -> Option<(usize, Vec<f32>)> {
        let scale = &self.augmentation.scale[..self.input.channels];
        scale.iter().any(|&factor| factor != 1.0).then(|| (1, scale.to_vec()))
    }
}
