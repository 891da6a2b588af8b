//! `alexnet report`: what runs came to, as one page for a browser.
//!
//! - [`facts`]: what a run's folder says. [`evaluation`]: its best checkpoint on its validation
//!   images.
//! - [`page`]: the page. [`paper`]: the errors beside the paper's. [`answers`]: what an evaluation
//!   shows. [`chart`]: curves. [`html`]: text and tables.

mod answers;
mod chart;
mod evaluation;
mod facts;
mod html;
mod page;
mod paper;

use super::{outputs, print};
use crate::engine::Choice;
use crate::files::write_text;
use crate::note;
use crate::quoting::Typed;
use crate::train::runs::{FOLDER, RunFolder};
use anyhow::{Result, bail};
use facts::Facts;
use std::path::{Path, PathBuf};

/// Show what runs came to, as one page for a browser.
///
/// The page has the errors beside those of the paper's tables 1 and 2, curves of loss, errors, rate
/// and speed, the first kernels over time, and from an evaluation of each run's best checkpoint on
/// its validation images the errors by class, the confusion matrix and the hardest pictures; then
/// the config. It is one file that needs no network, for screens, phones and paper, light or dark.
/// Where a run's data set is not there the page says so.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  alexnet report runs/demo runs/demo-2 --out report.html")]
pub struct Args {
    /// Runs: their folders, or their names in runs/; none: the newest.
    #[arg(value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The page to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The data set, in place of the one that each run was trained on.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Evaluate nothing, which is the part that takes time.
    #[arg(long)]
    no_eval: bool,
    /// Where to compute: auto, cpu, cuda:0, or cuda:0,1 for a tower each.
    #[arg(long, default_value = "auto")]
    device: Choice,
}

/// Gathers, evaluates, writes.
pub fn run(args: Args) -> Result<()> {
    let runs = match &args.runs[..] {
        [] => vec![RunFolder::newest()?],
        named => named.iter().map(|run| folder(run)).collect::<Result<_>>()?,
    };
    runs.iter().try_for_each(|run| check_out(&args.out, run))?;
    let mut parts = Vec::new();
    for run in &runs {
        let facts = Facts::of(run);
        let evaluation = if args.no_eval {
            Err("--no-eval was asked for".to_string())
        } else {
            let evaluated = evaluation::evaluate(run, args.data.as_deref(), &args.device);
            evaluated.inspect_err(|why| note!("{}: not evaluated: {why}", run.0.display()))
        };
        parts.push((facts, evaluation));
    }
    let html = page::page(&parts)?;
    write_text(&args.out, &html)?;
    let megabytes = html.len() as f64 / 1e6;
    let count = if runs.len() == 1 { "1 run".into() } else { format!("{} runs", runs.len()) };
    print(&format!("{}: {count}, {megabytes:.1} MB; open it in a browser", args.out.display()))
}

/// The run that a person means.
fn folder(run: &Path) -> Result<RunFolder> {
    let places = [run.to_path_buf(), Path::new(FOLDER).join(run)].map(RunFolder);
    match places.into_iter().find(RunFolder::is_run) {
        Some(run) => Ok(run),
        None => bail!(
            "{}: no run is there, nor in {}; {} lists those that are",
            run.display(),
            Path::new(FOLDER).join(run).display(),
            Typed::new("runs")
        ),
    }
}

/// Refuses a page in the place of what it is made from.
fn check_out(out: &Path, run: &RunFolder) -> Result<()> {
    let mut own = vec![run.config(), run.metrics(), run.last(), run.best(), run.diverged()];
    own.extend(run.kept());
    outputs::check("--out", out, &own.iter().map(PathBuf::as_path).collect::<Vec<_>>())
}
