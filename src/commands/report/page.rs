//! The page: what it says of all runs, and then of each.

use super::answers;
use super::chart::{Curve, Scale, chart};
use super::evaluation::Evaluation;
use super::facts::Facts;
use super::html::{data_uri, escape, percent};
use super::paper;
use crate::progress::duration;
use anyhow::Result;
use jiff::Zoned;

/// The style of the page, for screens light and dark, phones and paper.
const STYLE: &str = include_str!("style.css");
/// Pictures of kernels over time.
const FILTERS: usize = 6;

/// A run, and its evaluation or why there is none.
pub type Part = (Facts, std::result::Result<Evaluation, String>);

/// The page of all runs. It names no other file and no address, and forbids to load any.
pub fn page(parts: &[Part]) -> Result<String> {
    let names: Vec<String> = parts.iter().map(|(facts, _)| escape(&facts.name)).collect();
    let title = format!("Report: {}", names.join(", "));
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta \
         name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta \
         http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'; img-src data:\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
         </head>\n<body>\n<h1>{title}</h1>\n<p class=\"soft\">Written by alexnet {} on {}.</p>\n",
        env!("CARGO_PKG_VERSION"),
        Zoned::now().strftime("%Y-%m-%d %H:%M %Z")
    );
    html += &paper::errors(parts.iter().map(|(facts, _)| facts));
    html += &curves(parts);
    for (facts, evaluation) in parts {
        html += &run(facts, evaluation)?;
    }
    html += "</body>\n</html>\n";
    Ok(html)
}

/// The curves of all runs: validation whole, training dashed.
fn curves(parts: &[Part]) -> String {
    let curve = |index: usize, what: &str, dashed: bool, key: &str| {
        let facts = &parts[index].0;
        let name = match (parts.len(), what) {
            (1, what) => what.to_string(),
            (_, "") => facts.name.clone(),
            (_, what) => format!("{}, {what}", facts.name),
        };
        // One run's two curves have two colours, several runs' one each.
        let color = if parts.len() == 1 { usize::from(dashed) } else { index };
        Curve { name, points: facts.history.points(key), color, dashed }
    };
    let both = |title: &str, scale: Scale, [validation, training]: [&str; 2]| {
        let all = (0..parts.len()).flat_map(|index| {
            [
                curve(index, "validation", false, validation),
                curve(index, "training", true, training),
            ]
        });
        chart(title, scale, &all.collect::<Vec<_>>())
    };
    let one = |title: &str, what: &str, scale: Scale, key: &str| {
        let what = if parts.len() == 1 { what } else { "" };
        let all: Vec<Curve> = (0..parts.len()).map(|i| curve(i, what, false, key)).collect();
        chart(title, scale, &all)
    };
    let all = [
        both("Loss (nats)", Scale::Plain, ["val_loss", "loss"]),
        both("Top-1 error", Scale::Percent, ["val_top1_error", "top1_error"]),
        both("Top-5 error", Scale::Percent, ["val_top5_error", "top5_error"]),
        one("Learning rate", "learning rate", Scale::Log, "learning_rate"),
        one("Images per second", "trained on", Scale::Plain, "images_per_second"),
    ];
    let all = all.concat();
    let none = "<p>No epoch has ended yet.</p>\n".to_string();
    let all = if all.is_empty() { none } else { format!("<div class=\"grid\">\n{all}</div>\n") };
    format!(
        "<h2 id=\"curves\">Curves</h2>\n<p class=\"soft\">Training errors are those of the images as \
         they were trained on, with crops, noise and dropout, averaged over the epoch.</p>\n{all}"
    )
}

/// All of one run.
fn run(facts: &Facts, evaluation: &std::result::Result<Evaluation, String>) -> Result<String> {
    let mut html = format!("<h2>{}</h2>\n{}", escape(&facts.name), summary(facts));
    html += &filters(facts);
    html += &match evaluation {
        Ok(evaluation) => answers::sections(evaluation)?,
        Err(why) => format!(
            "<h3>Errors by class, confusion matrix, hardest pictures</h3>\n<p class=\"warn\">They are \
             missing: {}.</p>\n",
            escape(why)
        ),
    };
    html += &format!("<h3>Config</h3>\n<pre>{}</pre>\n", escape(facts.config.trim_end()));
    Ok(html)
}

/// State, problems, throughput.
fn summary(facts: &Facts) -> String {
    let survey = &facts.survey;
    let epochs = survey.epochs.map_or(String::new(), |epochs| format!(" of {epochs}"));
    let mut text = format!(
        "<p>{}, {}{epochs} epochs, {} steps; data: {}.</p>\n",
        survey.state.word(),
        survey.epochs_done,
        survey.step,
        escape(survey.data.as_deref().unwrap_or("not known"))
    );
    for problem in survey.why.iter().chain(&survey.problems) {
        text += &format!("<p class=\"warn\">{}</p>\n", escape(problem));
    }
    text + &throughput(facts)
}

fn throughput(facts: &Facts) -> String {
    let values = |key: &str| facts.history.points(key).into_iter().map(|point| point.1);
    let mut speeds: Vec<f64> = values("images_per_second").collect();
    speeds.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (speeds.first(), speeds.last()) else { return String::new() };
    let median = speeds[speeds.len() / 2];
    let waited: f64 = values("wait_seconds").sum();
    let mut text = format!(
        "<h3>Throughput</h3>\n<p>{median:.0} images a second in the median epoch, {least:.0} in the \
         slowest, {most:.0} in the fastest",
    );
    if let Some(images) = facts.images {
        let seconds: f64 = speeds.iter().map(|speed| images as f64 / speed).sum();
        let share = percent(Some(waited / seconds.max(1e-9)));
        text += &format!(
            "; {} of training in all, validation apart, {share} of it waiting for data",
            duration(seconds)
        );
    }
    text + ".</p>\n"
}

/// The first kernels, from the first to the last picture.
fn filters(facts: &Facts) -> String {
    let (all, count) = (&facts.filters, facts.filters.len().min(FILTERS));
    if count == 0 {
        return "<h3>First kernels over time</h3>\n<p>The run holds no picture of them: its first layer \
                has none, or neither event files nor checkpoints are there.</p>\n"
            .into();
    }
    let chosen = (0..count).map(|n| &all[n * (all.len() - 1) / (count - 1).max(1)]);
    let figure = |(step, png): &(u64, Vec<u8>)| {
        let when = match facts.epoch_of(*step) {
            Some(0) => "before training".to_string(),
            Some(epoch) => format!("epoch {epoch}, step {step}"),
            None => format!("step {step}"),
        };
        format!(
            "<figure><img alt=\"kernels, {when}\" src=\"{}\"><figcaption>{when}</figcaption></figure>\n",
            data_uri("image/png", png)
        )
    };
    let figures: String = chosen.map(figure).collect();
    format!("<h3>First kernels over time</h3>\n<div class=\"filters\">\n{figures}</div>\n")
}
