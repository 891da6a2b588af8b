//! `alexnet inspect`: the plan of a network, as a table or as JSON.

mod gpu;
mod ranks;

use super::print;
use super::table::columns;
use crate::config::Config;
use crate::data::dataset::Dataset;
use crate::layers::Classes;
use crate::network::{Mode, Plan, PlannedLayer};
use crate::train::checkpoint::Checkpoint;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Show a network as a table.
///
/// One line a layer: on which towers it lives, the shape it makes of one image, its kernels,
/// parameters, multiply-adds of one image's forward pass and neurons; then what crosses between the
/// towers in one training step, and the memory that each device needs (one tower a device).
///
/// --ranks adds what processes under mpirun would send each other, and, for a network between them and
/// a speed that you state, how long a step would take: the trainer's tasks and messages in their order,
/// not a measurement.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A config (.toml) or a checkpoint (.safetensors).
    #[arg(value_name = "CONFIG|CHECKPOINT")]
    file: PathBuf,
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

const EXAMPLES: &str = "Examples:
  alexnet inspect configs/ilsvrc2012.toml
  alexnet inspect configs/ilsvrc2010.toml --gpu --set gpu.precision=bf16
  alexnet inspect configs/ilsvrc2012.toml --ranks 64 --images-per-rank 128 \\
      --gbit-per-second 25 --latency-us 20 --images-per-second 60";

/// Plans the network and prints the plan.
pub fn run(args: Args) -> Result<()> {
    let checkpoint = is_checkpoint(&args.file).then(|| Checkpoint::open(&args.file)).transpose()?;
    let (mut config, mut classes) = match &checkpoint {
        Some(checkpoint) => {
            let source = args.file.display().to_string();
            let config = Config::parse(&checkpoint.config, &args.set, &source)?;
            (config, Classes::Known(checkpoint.facts.classes.len()))
        }
        None => (Config::read(&args.file, &args.set)?, Classes::Any),
    };
    let data = args.data.as_ref().or(config.data.path.as_ref().filter(|p| p.exists()));
    if let Some(data) = data.filter(|_| classes == Classes::Any) {
        let header = Dataset::open(data)?.header;
        classes = Classes::Known(header.classes.len());
        config.data.channels.get_or_insert(header.channels);
    }
    let devices: Vec<usize> = (0..config.towers).collect();
    let plan = Plan::new(&config, config.train.batch, Mode::Training, &devices, classes)
        .with_context(|| args.file.display().to_string())?;
    // A network that was changed on the way need not be the file's.
    if let Some(checkpoint) = checkpoint.filter(|_| args.set.is_empty()) {
        checkpoint.fits(&plan, false)?;
    }
    let gpu = args.gpu.map(|count| gpu::one_gpu(&config, classes, count as usize)).transpose()?;
    let ranks = ranks::ranks(args.ranks, &config, classes, args.gpu.map(|n| n as usize))?;
    if !args.json {
        let gpu = gpu.map_or(String::new(), |gpu| gpu.table());
        let ranks = ranks.map_or(String::new(), |ranks| ranks.table());
        return print(&(as_table(&config.name, &plan) + &gpu + &ranks));
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
    let towers = |n: usize| format!("{n} tower{}", if n == 1 { "" } else { "s" });
    let mut text = format!(
        "{name}: {}, input {}, {} classes{}, batch {}\n\n",
        towers(plan.devices.len()),
        plan.input,
        plan.classes,
        if plan.assumes_classes {
            " (assumed: the data set says how many; name it with --data DIR)"
        } else {
            ""
        },
        plan.batch
    );
    let head =
        ["layer", "kind", "tower", "output", "kernels", "parameters", "multiply-adds", "neurons"];
    let mut rows: Vec<Vec<String>> = vec![head.map(String::from).to_vec()];
    rows.extend(plan.layers.iter().map(row));
    rows.push(vec![
        "total".into(),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        grouped(plan.parameters()),
        grouped(plan.multiply_adds()),
        grouped(plan.neurons()),
    ]);
    text += &columns(&rows, 2);
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
        text += &format!("\n  device {device}: {:.2} GiB", bytes as f64 / (1u64 << 30) as f64);
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
        or_blank(layer.neurons()),
    ]
}

/// 60965224 as 60,965,224.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
