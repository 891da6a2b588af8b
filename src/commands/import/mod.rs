//! `alexnet import`: another program's weights become a checkpoint.

mod facts;
mod network;
mod resaved;
mod theirs;

use super::outputs;
use super::print;
use super::table::columns;
use crate::config::shipped::TORCHVISION;
use crate::layers::Classes;
use crate::network::{Mode, Plan};
use crate::note;
use crate::quoting::{self, Typed};
use crate::train::checkpoint::{DataFacts, TrainingState, write_imported};
use crate::weights::{self, Numbers, Source, Tensor, Weights};
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use facts::Mean;
use network::Network;
use serde_json::json;
use std::path::{Path, PathBuf};
use theirs::Learnt;

/// Make a checkpoint of another program's weights.
///
/// Reads state dicts of PyTorch's (.pth, .pt, .bin; nothing in them is carried out), safetensors,
/// Caffe's .caffemodel, and ONNX. torchvision's AlexNet and Caffe's two are recognised and fitted,
/// whatever their widths and number of classes; --config names any other network. The weights keep
/// their bits, and all commands take the checkpoint like one trained here: predict, eval, features,
/// inspect, and train --init to go on with pictures of your own.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  alexnet import alexnet-owt-7be5be79.pth --out alexnet.safetensors
  alexnet import bvlc_alexnet.caffemodel --mean imagenet_mean.binaryproto --out bvlc.safetensors
  alexnet predict photo.jpg --checkpoint alexnet.safetensors")]
pub struct Args {
    /// The file of weights.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The checkpoint to write.
    #[arg(long, value_name = "CHECKPOINT")]
    out: PathBuf,
    /// The network, where it is none that is recognised: a config, or torchvision, caffe-alexnet or
    /// caffenet.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What is subtracted from images: Caffe's .binaryproto, or red, green and blue in grey levels
    /// [default: ImageNet's, 123.675,116.28,103.53, or Caffe's for its networks].
    #[arg(long, value_name = "FILE|R,G,B")]
    mean: Option<String>,
    /// The classes in the order of the outputs, a line each: a name, or a synset's id and its names
    /// [default: ImageNet's where there are 1,000].
    #[arg(long, value_name = "FILE")]
    classes: Option<PathBuf>,
    /// The order in which the file's first layer reads colours [default: bgr for Caffe's networks,
    /// else rgb]; here it is always red, green, blue.
    #[arg(long, value_enum)]
    colors: Option<Colors>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// An order of colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Colors {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

/// A parameter's way from the file to the checkpoint.
struct Taken {
    theirs: String,
    ours: String,
    numbers: Numbers,
}

/// Reads the file, finds its network and writes the checkpoint.
pub fn run(args: Args) -> Result<()> {
    let mean = args.mean.as_deref().map(Path::new).filter(|mean| mean.is_file());
    let inputs: Vec<&Path> = [Some(args.file.as_path()), args.config.as_deref(), mean]
        .into_iter()
        .chain([args.classes.as_deref()])
        .flatten()
        .collect();
    outputs::check("--out", &args.out, &inputs)?;
    let file = weights::read(&args.file)?;
    if resaved::is_ours(&file) {
        return resaved::run(&args, &file);
    }
    let of_file = || args.file.display().to_string();
    let learnt = theirs::layers(&file).with_context(of_file)?;
    let network = network::find(&file, &learnt, args.config.as_deref()).with_context(of_file)?;
    let outputs = learnt.last().map_or(0, |layer| layer.shape()[0]);
    ensure!(outputs >= 2, "{}: it tells {outputs} classes apart; two are the least", of_file());
    let plan = plan(&network, outputs)?;
    let colors = args.colors.unwrap_or_else(|| usual_colors(&network, &file));
    let taken = take(&plan, &learnt, colors).with_context(of_file)?;
    let (facts, words) = facts(&args, &network, &file, outputs)?;
    let state = TrainingState::new(&network.config);
    let parameters: Vec<(String, Numbers)> =
        taken.iter().map(|taken| (taken.ours.clone(), taken.numbers.clone())).collect();
    write_imported(&args.out, &network.config, &facts, &state, &parameters)?;
    let report = Report { args: &args, file: &file, network: &network, plan: &plan, colors, words };
    report.say(&taken)
}

/// The network as it will be used, before anything is taken for it.
fn plan(network: &Network, outputs: usize) -> Result<Plan> {
    let devices = vec![0; network.config.towers];
    Plan::new(&network.config, 1, Mode::Evaluation, &devices, Classes::Known(outputs))
        .with_context(|| format!("the network of {}", network.source))
}

/// Caffe's networks read blue first, wherever they have gone.
fn usual_colors(network: &Network, file: &Weights) -> Colors {
    let known = network.known.is_some_and(|known| known != TORCHVISION);
    if known || file.format == weights::caffe::FORMAT { Colors::Bgr } else { Colors::Rgb }
}

/// Every parameter of the plan with what it takes of the file.
fn take(plan: &Plan, learnt: &[Learnt], colors: Colors) -> Result<Vec<Taken>> {
    let tensors = plan.tensors();
    let layers: Vec<usize> =
        (0..plan.layers.len()).filter(|&at| plan.layers[at].weights.is_some()).collect();
    let names: Vec<&str> = layers.iter().map(|&at| plan.layers[at].name.as_str()).collect();
    ensure!(
        layers.len() == learnt.len(),
        "it has {} layers with weights ({}), and the network has {} ({})",
        learnt.len(),
        learnt.iter().map(|layer| layer.name.as_str()).collect::<Vec<_>>().join(", "),
        layers.len(),
        names.join(", ")
    );
    // Names as we have them say more than their order.
    let named = names.iter().all(|name| learnt.iter().any(|layer| layer.name == *name));
    let mut taken = Vec::new();
    for tensor in &tensors {
        let at = layers.iter().position(|&layer| layer == tensor.layer).expect("it has weights");
        let own = learnt.iter().find(|layer| named && layer.name == names[at]);
        let theirs = own.unwrap_or(&learnt[at]);
        let found = match (tensor.is_bias, &theirs.bias) {
            (false, _) => theirs.weight.clone(),
            (true, Some(bias)) => bias.clone(),
            (true, None) => nothing(&tensor.name, &tensor.shape)?,
        };
        let mut numbers = theirs::shaped(&found, &tensor.name, &tensor.shape)?;
        if at == 0 && !tensor.is_bias && colors == Colors::Bgr {
            ensure!(
                numbers.shape().len() == 4,
                "only a convolution's colours can be turned round; --colors rgb leaves them"
            );
            numbers = numbers.reversed(1);
        }
        taken.push(Taken { theirs: found.name, ours: tensor.name.clone(), numbers });
    }
    Ok(taken)
}

/// Biases that the file does not have.
fn nothing(name: &str, shape: &[usize]) -> Result<Tensor> {
    let bytes = vec![0; 4 * shape.iter().product::<usize>()];
    let place = 0..bytes.len();
    let source = Source::memory(bytes);
    let numbers = Numbers::whole(&source, weights::Kind::F32, place, shape.to_vec())?;
    Ok(Tensor { name: format!("no {name}: 0"), numbers })
}

/// What else belongs to the network, and what mean and classes are, for people.
fn facts(
    args: &Args,
    network: &Network,
    file: &Weights,
    outputs: usize,
) -> Result<(DataFacts, [String; 2])> {
    let channels = network.config.data.channels.unwrap_or(3);
    let mean = match &args.mean {
        Some(text) => Mean::given(text)?,
        None if channels == 1 => Mean::flat(&[127.5], " (the middle; --mean says another)"),
        None if usual_colors(network, file) == Colors::Bgr => {
            Mean::flat(&facts::CAFFE_MEAN, " (that of Caffe's mean image)")
        }
        None => Mean::flat(&facts::TORCHVISION_MEAN, " (ImageNet's)"),
    };
    let (classes, class_words) = facts::classes(outputs, args.classes.as_deref())?;
    let warps = usual_colors(network, file) == Colors::Bgr;
    let preparation = facts::preparation(network.config.data.crop, mean.size, warps);
    let words = [mean.words.clone(), class_words];
    let statistics = mean.statistics(preparation.size, channels)?;
    let crop = network.config.data.crop;
    let fits = preparation.size.iter().all(|&side| side >= crop);
    ensure!(
        fits,
        "--mean: an image of {}×{} is smaller than the crop of {crop}",
        preparation.size[0],
        preparation.size[1]
    );
    Ok((DataFacts { classes, preparation, channels, statistics, identity: None }, words))
}

/// What was done, told.
struct Report<'a> {
    args: &'a Args,
    file: &'a Weights,
    network: &'a Network,
    plan: &'a Plan,
    colors: Colors,
    /// Mean and classes.
    words: [String; 2],
}

impl Report<'_> {
    fn say(&self, taken: &[Taken]) -> Result<()> {
        let rounded = taken.iter().filter(|taken| !taken.numbers.kind().is_exact());
        if let Some(first) = rounded.clone().next() {
            let (count, name) = (rounded.count(), &first.theirs);
            note!("{count} tensors ({name} …) were doubles and are rounded to the nearest floats");
        }
        if self.file.graph.is_none() && self.network.fitted.iter().any(|f| f.contains(".kernels="))
        {
            note!(
                "a state dict says nothing of normalisation, padding and colours: its layers have \
                 other widths than {}'s, and are taken to be used like them; if they are not, name \
                 the network with --config",
                self.network.source
            );
        }
        let colors = if self.colors == Colors::Bgr { "bgr" } else { "rgb" };
        if self.args.json {
            let tensor =
                |t: &Taken| json!({"from": t.theirs, "to": t.ours, "shape": t.numbers.shape()});
            let document = json!({
                "checkpoint": self.args.out.display().to_string(),
                "format": self.file.format,
                "network": self.network.source,
                "fitted": self.network.fitted,
                "parameters": self.plan.parameters(),
                "classes": self.words[1],
                "mean": self.words[0],
                "colors": colors,
                "crop": self.network.config.data.crop,
                "tensors": taken.iter().map(tensor).collect::<Vec<_>>(),
            });
            return print(&serde_json::to_string_pretty(&document)?);
        }
        let mut rows = vec![["of the file", "here", "shape"].map(String::from).to_vec()];
        rows.extend(taken.iter().map(|taken| {
            let shape: Vec<String> = taken.numbers.shape().iter().map(usize::to_string).collect();
            vec![taken.theirs.clone(), taken.ours.clone(), shape.join("×")]
        }));
        let Network { source, fitted, .. } = self.network;
        let turned = match self.colors {
            Colors::Bgr => "; blue, green, red in the file, turned round in the first layer",
            Colors::Rgb => "",
        };
        let mut text = format!(
            "{}: {}; network: {source}{}\n\n{}\n\n{} parameters; mean: {}{turned}; classes: {}",
            self.args.file.display(),
            self.file.format,
            if fitted.is_empty() { String::new() } else { format!(" with {}", fitted.join(", ")) },
            columns(&rows, 2),
            self.plan.parameters(),
            self.words[0],
            self.words[1]
        );
        let (out, predict) = (&self.args.out, Typed::new("predict IMAGE"));
        let predict = predict.option("--checkpoint", out);
        text += &format!("\n\n{} is a checkpoint: {predict}", quoting::path(out));
        print(&text)
    }
}
