//! `alexnet plot`: a number of the logs of several runs over epochs, and who reaches a target when.

mod reach;

use super::print;
use crate::config_error;
use crate::pictures::chart::{Chart, Line};
use crate::pictures::{Canvas, check_out};
use crate::train::history::{History, log_of};
use anyhow::Result;
use clap::ValueEnum;
use reach::{Reached, reached};
use serde_json::json;
use std::path::PathBuf;

/// Compare runs: a number of their logs over epochs, drawn, and who reaches a target when.
///
/// What figure 1 of the paper does with ReLU and tanh: training error over epochs of several runs,
/// a line at 25 %, and how many times as fast one reaches it as the others. Any number of
/// metrics.jsonl can be taken; of those of validation the key with val_ before it, or --split val.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:\n  alexnet plot runs/relu runs/tanh --target 0.25 --out \
    figure1.png\n  alexnet plot demo demo-2 --key loss --split val --out loss.svg\n\nThe training \
    error of an epoch is counted over its batches while the weights change, with crops, flips and \
    dropout as training has them.")]
pub struct Args {
    /// Folders of runs, their logs, or names of runs in runs/.
    #[arg(value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// The picture to write, .png or .svg.
    #[arg(long, value_name = "FILE", required_unless_present = "target")]
    out: Option<PathBuf>,
    /// Which number of metrics.jsonl.
    #[arg(long, default_value = "top1_error")]
    key: String,
    /// Of training, or of validation.
    #[arg(long, default_value = "train")]
    split: Of,
    /// A value to be reached, such as 0.25: drawn as a line; it is said which run reaches it when.
    #[arg(long, value_name = "VALUE")]
    target: Option<f64>,
    /// A run's name in the picture, in the order of the runs; repeat for more [default: its folder].
    #[arg(long, value_name = "NAME")]
    name: Vec<String>,
    /// The picture's title [default: the key in words].
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// What a number is counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Of {
    /// The images that are learned from
    Train,
    /// The images kept for validation
    Val,
}

/// Width and height of the picture.
const SIZE: (usize, usize) = (900, 560);

/// A run's points.
struct Run {
    /// As it was asked for.
    path: PathBuf,
    name: String,
    points: Vec<(f64, f64)>,
    /// None: never.
    reached: Option<Reached>,
}

/// Reads the logs, says what there is to be said, draws.
pub fn run(args: Args) -> Result<()> {
    let key = match args.split {
        Of::Val if !args.key.starts_with("val_") => format!("val_{}", args.key),
        _ => args.key.clone(),
    };
    let logs = args.runs.iter().map(|run| log_of(run)).collect::<Result<Vec<_>>>()?;
    if let Some(out) = &args.out {
        check_out(out, logs.iter().map(PathBuf::as_path))?;
    }
    let names = names(&args)?;
    let mut runs = Vec::new();
    for ((log, path), name) in logs.iter().zip(&args.runs).zip(names) {
        let points = points(&History::read(log)?, &key, log)?;
        let reached = args.target.and_then(|target| reached(&points, &key, target));
        runs.push(Run { path: path.clone(), name, points, reached });
    }
    if let Some(out) = &args.out {
        draw(&args, &key, &runs).write(out)?;
    }
    print(&if args.json { as_json(&args, &key, &runs)? } else { as_text(&args, &key, &runs) })
}

/// What each run is called: what `--name` says, or its folder's name where no other is called so.
fn names(args: &Args) -> Result<Vec<String>> {
    if !args.name.is_empty() && args.name.len() != args.runs.len() {
        return Err(config_error!(
            "--name is given {} times for {} runs; give it once for each run, in their order",
            args.name.len(),
            args.runs.len()
        ));
    }
    if !args.name.is_empty() {
        return Ok(args.name.clone());
    }
    let short = |run: &PathBuf| {
        let folder = run.parent().filter(|_| run.is_file());
        let name = folder.unwrap_or(run).file_name();
        name.map_or(run.display().to_string(), |name| name.to_string_lossy().into_owned())
    };
    let all: Vec<String> = args.runs.iter().map(short).collect();
    let unique = |name: &String| all.iter().filter(|other| *other == name).count() == 1;
    let named = args.runs.iter().zip(&all);
    Ok(named
        .map(|(run, name)| if unique(name) { name.clone() } else { run.display().to_string() })
        .collect())
}

/// The points of `key` in a log, of which there must be one.
fn points(history: &History, key: &str, log: &std::path::Path) -> Result<Vec<(f64, f64)>> {
    let points = history.points(key);
    if !points.is_empty() {
        return Ok(points);
    }
    let log = log.display();
    if history.epochs.is_empty() {
        return Err(anyhow::anyhow!("{log}: the run has not ended its first epoch yet"));
    }
    Err(config_error!("{log}: its epochs have no number {key:?}; they have {}", {
        let mut keys = history.keys();
        keys.retain(|key| !["step", "epoch"].contains(&key.as_str()));
        keys.join(", ")
    }))
}

fn draw(args: &Args, key: &str, runs: &[Run]) -> Canvas {
    let mut canvas = Canvas::new(SIZE.0, SIZE.1);
    let line = |run: &Run| Line { name: run.name.clone(), points: run.points.clone() };
    let words = in_words(key);
    let chart = Chart {
        title: args.title.clone().unwrap_or_else(|| format!("{words} over epochs")),
        names: ["epochs".into(), words],
        lines: runs.iter().map(line).collect(),
        target: args.target,
        percent: key.ends_with("_error"),
        logarithmic: key == "learning_rate",
    };
    chart.draw(&mut canvas, (0.0, 0.0), (SIZE.0 as f64, SIZE.1 as f64));
    canvas
}

/// `val_top1_error` as `validation top-1 error`.
fn in_words(key: &str) -> String {
    let (of, bare) = match key.strip_prefix("val_") {
        Some(bare) => ("validation ", bare),
        None => ("", key),
    };
    let of = if of.is_empty() && bare.ends_with("error") { "training " } else { of };
    let bare = match bare {
        "top1_error" => "top-1 error".to_string(),
        "top5_error" => "top-5 error".to_string(),
        "loss" => "loss in nats".to_string(),
        other => other.replace('_', " "),
    };
    format!("{of}{bare}")
}

/// The run that reaches the target first, and how many times the epochs of it each other one takes.
fn ratios(runs: &[Run]) -> Option<(&Run, Vec<(&Run, f64)>)> {
    let at = |run: &Run| run.reached.map_or(f64::INFINITY, |reached| reached.between);
    let first =
        runs.iter().min_by(|a, b| at(a).total_cmp(&at(b))).filter(|r| r.reached.is_some())?;
    let others = runs.iter().filter(|run| !std::ptr::eq(*run, first) && run.reached.is_some());
    Some((first, others.map(|run| (run, at(run) / at(first))).collect()))
}

/// The best value of a run and its epoch.
fn best(run: &Run, key: &str) -> (f64, f64) {
    let better = |a: &(f64, f64), b: &(f64, f64)| reach::is_at(b.1, key, a.1) && a.1 != b.1;
    let first = run.points[0];
    run.points.iter().fold(first, |best, point| if better(&best, point) { *point } else { best })
}

fn as_text(args: &Args, key: &str, runs: &[Run]) -> String {
    let mut lines = Vec::new();
    let wide = runs.iter().map(|run| run.name.chars().count()).max().unwrap_or(0);
    lines.push(match args.target {
        Some(target) => format!(
            "{key}, target {target}: the first epoch at it or past it, and where the straight line \
             from the epoch before meets it"
        ),
        None => key.to_string(),
    });
    for run in runs {
        let (epoch, value) = best(run, key);
        let epochs = run.points.last().map_or(0.0, |point| point.0);
        let best = format!("best {value:.4} in epoch {epoch} of {epochs}");
        let reached = match (args.target, run.reached) {
            (None, _) => String::new(),
            (_, Some(Reached { epoch, between })) => format!("epoch {epoch} ({between:.2}); "),
            (_, None) => "not reached; ".to_string(),
        };
        lines.push(format!("  {:wide$}  {reached}{best}", run.name));
    }
    if let Some((first, others)) = ratios(runs) {
        for (other, ratio) in others {
            let (fast, slow) = (&first.name, &other.name);
            lines.push(format!("{fast} reaches it {ratio:.2} times as fast as {slow}"));
        }
    }
    if let Some(out) = &args.out {
        lines.push(format!("drawn: {}", out.display()));
    }
    lines.join("\n")
}

fn as_json(args: &Args, key: &str, runs: &[Run]) -> Result<String> {
    let one = |run: &Run| {
        let (epoch, value) = best(run, key);
        json!({
            "run": run.path.display().to_string(),
            "name": run.name,
            "epochs": run.points.iter().map(|point| point.0).collect::<Vec<_>>(),
            "values": run.points.iter().map(|point| point.1).collect::<Vec<_>>(),
            "best": {"epoch": epoch, "value": value},
            "reached": run.reached.map(|r| json!({"epoch": r.epoch, "interpolated": r.between})),
        })
    };
    let faster = ratios(runs).map(|(first, others)| {
        let of = |(other, ratio): &(&Run, f64)| json!({"name": other.name, "ratio": ratio});
        json!({"first": first.name, "times_as_fast_as": others.iter().map(of).collect::<Vec<_>>()})
    });
    let out = args.out.as_ref().map(|out| out.display().to_string());
    Ok(serde_json::to_string_pretty(&json!({
        "key": key,
        "target": args.target,
        "runs": runs.iter().map(one).collect::<Vec<_>>(),
        "faster": faster,
        "out": out,
    }))?)
}
