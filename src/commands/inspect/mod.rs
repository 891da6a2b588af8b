//! `alexnet inspect`: the plan of a network, as a table or as JSON.

mod gpu;
mod ranks;

use super::table::columns;
use super::{model, print};
use crate::config::{Config, shipped};
use crate::data::dataset::Dataset;
use crate::data::imagenet;
use crate::layers::Classes;
use crate::network::{Mode, Plan, PlannedLayer};
use crate::progress::{count, grouped, memory};
use crate::train::checkpoint::{Checkpoint, DataFacts};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Show a network as a table.
///
/// One line a layer: on which towers it lives, the shape it makes of one image, its kernels,
/// parameters and multiply-adds of one image's forward pass; then what crosses between the towers in
/// one training step, and the memory that each device needs (one tower a device). Of a checkpoint
/// also where it comes from and what it has come to.
///
/// --ranks adds what processes under mpirun would send each other, and, for a network between them and
/// a speed that you state, how long a step would take: the trainer's tasks and messages in their order,
/// not a measurement.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A config, or a checkpoint, or a run's folder for its best; none: the best of the newest run.
    #[arg(value_name = "CONFIG|CHECKPOINT")]
    file: Option<PathBuf>,
    /// The data set that outputs = "classes" counts its classes in.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Change a value of the config; repeat for more.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
    /// Add what a training step is on one GPU of so many multiprocessors (108: an A100): the
    /// kernels of each layer, the memory that they read and write, and how much of it is needed.
    #[arg(long, value_name = "MULTIPROCESSORS", num_args = 0..=1, default_missing_value = "108",
        value_parser = clap::value_parser!(u32).range(1..=4096))]
    gpu: Option<u32>,
    #[command(flatten)]
    ranks: ranks::Asked,
}

/// Characters of a line of names.
const ROOM: usize = 74;

const EXAMPLES: &str = "Examples:
  alexnet inspect runs/demo
  alexnet inspect configs/ilsvrc2012.toml
  alexnet inspect configs/ilsvrc2010.toml --gpu --set gpu.precision=bf16
  alexnet inspect configs/ilsvrc2012.toml --ranks 64 --images-per-rank 128 \\
      --gbit-per-second 25 --latency-us 20 --images-per-second 60";

/// Plans the network and prints the plan.
pub fn run(args: Args) -> Result<()> {
    let file = file(args.file.as_deref())?;
    let checkpoint = is_checkpoint(&file).then(|| Checkpoint::open(&file)).transpose()?;
    let (mut config, mut classes) = match &checkpoint {
        Some(checkpoint) => {
            let source = file.display().to_string();
            let config = Config::parse(&checkpoint.config, &args.set, &source)?;
            (config, Classes::Known(checkpoint.facts.classes.len()))
        }
        None => (Config::read(&file, &args.set)?, Classes::Any),
    };
    let data = args.data.as_ref().or(config.data.path.as_ref().filter(|p| p.exists()));
    if let Some(data) = data.filter(|_| classes == Classes::Any) {
        let header = Dataset::open(data)?.header;
        classes = Classes::Known(header.classes.len());
        config.data.channels.get_or_insert(header.channels);
    }
    let devices: Vec<usize> = (0..config.towers).collect();
    let plan = Plan::new(&config, config.train.batch, Mode::Training, &devices, classes)
        .with_context(|| file.display().to_string())?;
    // A network that was changed on the way need not be the file's.
    if let Some(checkpoint) = checkpoint.as_ref().filter(|_| args.set.is_empty()) {
        checkpoint.fits(&plan, false)?;
    }
    let gpu = args.gpu.map(|count| gpu::one_gpu(&config, classes, count as usize)).transpose()?;
    let ranks = ranks::ranks(args.ranks, &config, classes, args.gpu.map(|n| n as usize))?;
    if !args.json {
        let gpu = gpu.map_or(String::new(), |gpu| gpu.table());
        let ranks = ranks.map_or(String::new(), |ranks| ranks.table());
        let origin = checkpoint.map_or(String::new(), |checkpoint| origin(&checkpoint, &config));
        return print(&(as_table(&config.name, &plan) + &origin + &gpu + &ranks));
    }
    let mut document = as_json(&plan);
    if let Some(gpu) = gpu {
        document["gpu"] = gpu.json();
    }
    if let Some(ranks) = ranks {
        document["ranks"] = ranks.json();
    }
    print(&serde_json::to_string_pretty(&document)?)
}

/// The file that is named, a run's best checkpoint, or that of the newest run; of a run and a config
/// of the same name the run.
fn file(named: Option<&Path>) -> Result<PathBuf> {
    match named {
        Some(path) if shipped::named_by(path).is_some() && !model::is_run(path) => {
            Ok(path.to_path_buf())
        }
        named => model::file(named),
    }
}

/// Where a checkpoint comes from and what it has come to, behind the plan's table.
fn origin(checkpoint: &Checkpoint, config: &Config) -> String {
    let Checkpoint { path, state, facts, .. } = checkpoint;
    let trained = match state.batches {
        0 => format!("after epoch {}", state.epoch.saturating_sub(1)),
        batches => {
            format!("inside epoch {}, {} steps into it", state.epoch, grouped(batches.into()))
        }
    };
    let best = state.best.map_or("not validated".to_string(), |(epoch, error)| {
        format!("lowest top-1 error on validation {:.2} %, after epoch {epoch}", 100.0 * error)
    });
    let data = config.data.path.as_ref().map(|path| path.display().to_string());
    let [height, width] = facts.preparation.size;
    format!(
        "\n\n{}:\n  {trained} of {}, step {}\n  {best}\n  seed {}, learning rate {:?}\n  data: {}\n  \
         {} training images of {width}×{height}\n  {}",
        path.display(),
        config.train.epochs,
        grouped(state.step),
        config.seed,
        state.schedule.rate,
        data.unwrap_or("not known".into()),
        grouped(state.training_images),
        classes(facts)
    )
}

/// The first classes, as many as there is room for in a line.
fn classes(facts: &DataFacts) -> String {
    let names = imagenet::readable(facts.classes.clone());
    let mut text = format!("{} classes: ", grouped(names.len() as u64));
    for (at, class) in names.iter().enumerate() {
        // Of several names the first.
        let name = class.name.split(',').next().unwrap_or_default();
        if text.chars().count() + name.chars().count() > ROOM {
            return text + "…";
        }
        text += name;
        text += if at + 1 < names.len() { ", " } else { "" };
    }
    text
}

/// By its name, or else by its first bytes: the header's length and `{`.
fn is_checkpoint(file: &Path) -> bool {
    let mut start = [0; 9];
    let read = File::open(file).and_then(|mut file| file.read_exact(&mut start));
    let begins_like_one = read.is_ok() && start[7] == 0 && start[8] == b'{';
    begins_like_one || file.extension().is_some_and(|e| e == "safetensors")
}

fn as_json(plan: &Plan) -> Value {
    let layers = plan.layers.iter().map(|layer| {
        let output = layer.output();
        json!({
            "name": layer.name,
            "kind": layer.kind.name,
            "output": [output.height, output.width, output.channels],
            "parameters": layer.parameters(),
            "multiply_adds": layer.multiply_adds(),
        })
    });
    let mut document = json!({
        "parameters": plan.parameters(),
        "neurons": plan.neurons(),
        "multiply_adds": plan.multiply_adds(),
        "towers": plan.devices.len(),
        "layers": layers.collect::<Vec<_>>(),
        "crossings": plan.crossings(),
        "memory_bytes": plan.memory_bytes(),
    });
    if plan.assumes_classes {
        document["assumed_classes"] = plan.classes.into();
    }
    document
}

fn as_table(name: &str, plan: &Plan) -> String {
    let mut text = format!(
        "{name}: {}, input {}, {} classes{}, batch {}\n\n",
        count(plan.devices.len() as u64, "tower", "towers"),
        plan.input,
        plan.classes,
        if plan.assumes_classes { " assumed" } else { "" },
        plan.batch
    );
    if plan.assumes_classes {
        text.insert_str(text.len() - 1, "(--data DIR counts the classes of a data set)\n");
    }
    let head = ["layer", "kind", "tower", "output", "kernels", "parameters", "mult-adds"];
    let mut rows: Vec<Vec<String>> = vec![head.map(String::from).to_vec()];
    rows.extend(plan.layers.iter().map(row));
    let mut total = vec![String::new(); head.len()];
    total[0] = "total".into();
    total[5] = grouped(plan.parameters());
    total[6] = grouped(plan.multiply_adds());
    rows.push(total);
    text += &columns(&rows, 2);
    text += &format!(
        "\n\n{} neurons; mult-adds are those of one image's forward pass.",
        grouped(plan.neurons())
    );
    let crossings = plan.crossings();
    if !crossings.is_empty() {
        text += "\n\nBetween the towers, in one training step (bytes, both directions):\n";
        let mut rows = vec![["read by", "forward", "backward"].map(String::from).to_vec()];
        rows.extend(
            crossings.iter().map(|c| {
                vec![c.layer.clone(), grouped(c.bytes_forward), grouped(c.bytes_backward)]
            }),
        );
        text += &columns(&rows, 1);
    }
    text += "\n\nMemory for training, one tower a device:";
    for (device, bytes) in plan.memory_bytes().into_iter().enumerate() {
        text += &format!("\n  device {device}: {}", memory(bytes));
    }
    text
}

fn row(layer: &PlannedLayer) -> Vec<String> {
    let towers: Vec<String> = layer.parts.iter().map(|p| p.tower.to_string()).collect();
    let kernels = layer.parts[0].layer.parameters().filter(|_| layer.weights.is_some());
    let kernels = kernels.map_or(String::new(), |p| match p.weight[..] {
        [_, inputs] => format!("{} of {inputs}", layer.output().channels),
        [.., depth, height, width] => {
            format!("{} of {height}×{width}×{depth}", layer.output().channels)
        }
        _ => String::new(),
    });
    let or_blank = |n: u64| if n == 0 { String::new() } else { grouped(n) };
    vec![
        layer.name.clone(),
        layer.kind.name.to_string(),
        towers.join(","),
        layer.output().to_string(),
        kernels,
        or_blank(layer.parameters()),
        or_blank(layer.multiply_adds()),
    ]
}
