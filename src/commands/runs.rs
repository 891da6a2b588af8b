//! `alexnet runs`: the runs of a folder, a line each.

use super::print;
use super::table::columns;
use crate::quoting::Typed;
use crate::train::runs::FOLDER;
use crate::train::survey::{RunState, Survey, runs_in};
use anyhow::{Result, bail};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;
use std::path::{Path, PathBuf};

/// List the runs of a folder, the newest first.
///
/// A line a run: its data set, how many of its epochs it has done, the lowest and the last top-1
/// error on validation (with no validation, of the last epoch's training), the learning rate, when
/// it was changed last, and what it is doing: running (a process trains in it), interrupted (alexnet
/// train --resume --run RUN goes on), diverged, finished, or damaged (its last checkpoint cannot be
/// read). What is wrong with a run's files is said below the table and hides no other run.
#[derive(clap::Args, Debug)]
#[command(after_help = "Example: what has the lowest error?\n  \
    alexnet runs --json | jq '.runs | min_by(.best_top1_error // 1) | .path'")]
pub struct Args {
    /// The folder that holds the runs' folders, or one run's folder.
    #[arg(value_name = "FOLDER", default_value = FOLDER)]
    folder: PathBuf,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// Looks at all runs and prints what there is to say of them.
pub fn run(args: Args) -> Result<()> {
    let folder = &args.folder;
    if !folder.is_dir() {
        let what = if folder.exists() { "is no folder" } else { "does not exist" };
        bail!(
            "{} {what}; name the folder that holds the runs, or train first ({})",
            folder.display(),
            Typed::new("train --config configs/demo.toml")
        );
    }
    let runs = runs_in(folder)?;
    print(&if args.json { as_json(folder, &runs)? } else { as_text(folder, &runs) })
}

fn as_json(folder: &Path, runs: &[Survey]) -> Result<String> {
    let run = |survey: &Survey| {
        json!({
            "name": name(survey),
            "path": survey.run.0.display().to_string(),
            "data": survey.data,
            "state": survey.state,
            "why": survey.why,
            "epochs_done": survey.epochs_done,
            "epochs": survey.epochs,
            "step": survey.step,
            "best_epoch": survey.best.map(|(epoch, _)| epoch),
            "best_top1_error": survey.best.map(|(_, error)| error),
            "last_top1_error": survey.last,
            "last_training_top1_error": survey.last_training,
            "learning_rate": survey.rate,
            "changed": survey.changed.and_then(|at| Timestamp::try_from(at).ok()).map(|at| at.to_string()),
            "problems": survey.problems,
        })
    };
    let runs: Vec<_> = runs.iter().map(run).collect();
    Ok(serde_json::to_string_pretty(
        &json!({ "folder": folder.display().to_string(), "runs": runs }),
    )?)
}

/// The folder's own name.
fn name(survey: &Survey) -> String {
    let path = &survey.run.0;
    path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into())
}

fn as_text(folder: &Path, runs: &[Survey]) -> String {
    if runs.is_empty() {
        return format!("no runs in {}", folder.display());
    }
    let head = ["run", "data", "state", "epochs", "best error", "last", "rate", "changed"];
    let mut rows = vec![head.map(String::from).to_vec()];
    rows.extend(runs.iter().map(row));
    let mut text = columns(&rows, 3);
    let said =
        runs.iter().flat_map(|run| run.why.iter().chain(&run.problems).map(move |s| (run, s)));
    for (run, sentence) in said {
        text += &format!("\n\n{}: {}", plain(&name(run)), plain(sentence));
    }
    text
}

fn row(survey: &Survey) -> Vec<String> {
    let percent = |error: f64| format!("{:.2} %", 100.0 * error);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".into());
    let data = survey
        .data
        .as_deref()
        .map(|path| Path::new(path).file_name().map_or(path.into(), |name| name.to_string_lossy()));
    let last = match (survey.last, survey.last_training) {
        (Some(error), _) => Some(percent(error)),
        (None, Some(error)) => Some(format!("{} (training)", percent(error))),
        (None, None) => None,
    };
    let state = match (survey.state, survey.problems.is_empty()) {
        (RunState::Damaged, _) | (_, true) => survey.state.word().to_string(),
        (state, false) => format!("{}, damaged", state.word()),
    };
    vec![
        plain(&name(survey)),
        or_dash(data.map(|data| plain(&data))),
        state,
        match survey.epochs {
            Some(epochs) => format!("{}/{epochs}", survey.epochs_done),
            None => survey.epochs_done.to_string(),
        },
        or_dash(survey.best.map(|(epoch, error)| format!("{} (epoch {epoch})", percent(error)))),
        or_dash(last),
        or_dash(survey.rate.map(|rate| format!("{rate:?}"))),
        or_dash(survey.changed.and_then(local)),
    ]
}

/// `12-03 14:05`, in the time of this machine, or `2012-12-03` of another year.
fn local(time: std::time::SystemTime) -> Option<String> {
    let here = |time: Timestamp| time.to_zoned(TimeZone::system());
    let time = here(Timestamp::try_from(time).ok()?);
    let form =
        if time.year() == here(Timestamp::now()).year() { "%m-%d %H:%M" } else { "%Y-%m-%d" };
    Some(time.strftime(form).to_string())
}

/// Text of a file or of a name as it may stand on a terminal.
fn plain(text: &str) -> String {
    let shown = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    text.chars().map(shown).collect()
}
