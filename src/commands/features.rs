//! `alexnet features`: what a hidden layer makes of the images of a split, in a file.

use super::model::{self, Model};
use super::{eval, outputs, print};
use crate::config_error;
use crate::data::dataset::Split;
use crate::data::loader::Crops;
use crate::data::seal;
use crate::engine::Choice;
use crate::files::npy;
use crate::files::tensors::{Description, Values, write_floats, write_streamed};
use crate::progress::Progress;
use crate::train::feature_file::{FEATURES, LABELS, Origin};
use crate::train::features::{cut_above, extract, last_hidden, shape};
use crate::train::feed;
use anyhow::{Context, Result};
use safetensors::tensor::Dtype;
use std::path::PathBuf;
use std::sync::Arc;

/// Write what a hidden layer makes of each image of a split.
///
/// By default the layer is the last hidden one after its ReLU: in the paper's network fc7, 4,096
/// values, both towers side by side. The centre crop is taken. A layer of maps is written channel,
/// row, column. `neighbours` and `codes` read the file; so does Python:
/// safetensors.numpy.load_file("features.safetensors").
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The checkpoint, or a run's folder for its best; none: the best of the newest run.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// The data set; by default the one that the checkpoint was trained on.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The part of the data set: train, val or test.
    #[arg(long, default_value = "train")]
    split: String,
    /// The layer whose output is taken, by its name in the config; after it nothing is computed.
    #[arg(long, value_name = "NAME")]
    layer: Option<String>,
    /// The file to write: .safetensors (features, labels and where they come from) or .npy (the
    /// features alone).
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where to compute: auto, cpu, cuda:0, or cuda:0,1 for a tower each.
    #[arg(long, default_value = "auto")]
    device: Choice,
}

const EXAMPLES: &str = "Examples:
  alexnet features --out features.safetensors
  alexnet features --checkpoint runs/demo --split val --layer pool5 --out pool5.npy";

/// Goes through the split once; memory does not grow with it.
pub fn run(args: Args) -> Result<()> {
    let is_npy = outputs::ends_in(&args.out, "npy");
    if !is_npy && !outputs::ends_in(&args.out, "safetensors") {
        return Err(config_error!(
            "--out {}: its name ends in .safetensors or in .npy",
            args.out.display()
        ));
    }
    let file = model::file(args.checkpoint.as_deref())?;
    outputs::check("--out", &args.out, &[&file])?;
    let mut layer = args.layer.clone();
    let mut model = Model::open_cut(&file, &args.device, None, |config| {
        if layer.is_none() {
            layer = Some(last_hidden(config)?);
        }
        cut_above(config, layer.as_deref().unwrap_or_default())
    })?;
    let layer = layer.unwrap_or_default();
    let dataset = eval::open_data(args.data.as_deref(), &model, &file)?;
    eval::check(&model, &file.display().to_string(), &dataset)?;
    let split = Arc::new(dataset.split(&args.split)?);
    let sizes = [split.len(), shape(model.engine.as_ref()).len()];
    if is_npy {
        npy::write(&args.out, sizes, |sink| through(&mut model, split, sink))?;
    } else {
        let origin = Origin {
            crc32: seal::of_file(&file).with_context(|| file.display().to_string())?,
            checkpoint: file,
            layer: layer.clone(),
            data: dataset.path.clone(),
            split: args.split.clone(),
            split_crc32: seal::hex(split.checksum()),
        };
        write_tensors(&args, &mut model, split, sizes, &origin)?;
    }
    print(&format!(
        "{}: {} values of layer {layer} for each of {} images of {} ({})",
        args.out.display(),
        sizes[1],
        sizes[0],
        dataset.path.display(),
        args.split
    ))
}

fn write_tensors(
    args: &Args,
    model: &mut Model,
    split: Arc<Split>,
    sizes: [usize; 2],
    origin: &Origin,
) -> Result<()> {
    let tensors = [
        Description::floats(FEATURES, sizes),
        Description { name: LABELS.into(), dtype: Dtype::I64, shape: vec![sizes[0]] },
    ];
    let labels = (0..split.len()).map(|image| i64::from(split.label(image))).collect();
    let labels = Values::I64(labels);
    write_streamed(&args.out, &origin.entries(), &tensors, |tensor, out| match tensor {
        0 => through(model, split.clone(), &mut |values| write_floats(out, values)),
        _ => labels.write(out),
    })
}

/// All images of `split` through the network, their features to `sink` batch by batch.
fn through(
    model: &mut Model,
    split: Arc<Split>,
    sink: &mut dyn FnMut(&[f32]) -> Result<()>,
) -> Result<()> {
    let progress = Progress::new("features", split.len() as u64);
    let batch = model.engine.plan().batch;
    let (data, cropping) = (&model.config.data, &model.cropping);
    let mut loader = feed::evaluation(data, split, cropping, Crops::Centre, batch)?;
    let mut values = Vec::new();
    while let Some(batch) = loader.next()? {
        values.clear();
        extract(model.engine.as_mut(), batch.images.view(), &mut values)?;
        sink(&values)?;
        progress.advance(batch.labels.len() as u64);
        loader.recycle(batch);
    }
    progress.finish();
    Ok(())
}
