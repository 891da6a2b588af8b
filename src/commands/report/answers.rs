//! What an evaluation shows: errors by class, the confusion matrix, the hardest pictures.

use super::evaluation::{Evaluation, Hard};
use super::html::{data_uri, escape, percent, table};
use anyhow::Result;
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

/// Classes whose errors are shown at once; the others unfold.
const SHOWN: usize = 20;
/// The most that unfold.
const MOST: usize = 2000;
/// A matrix of more classes is a picture without numbers.
const NUMBERED: usize = 24;
/// The most frequent confusions that are listed.
const PAIRS: usize = 12;
/// The colour of a matrix's cells, which its background shines through: readable on light and dark.
const CELL: [u8; 3] = [30, 136, 203];
/// The matrix as a picture has at least so many pixels a side, and no more classes than these.
const WIDE: usize = 640;
const LARGEST: usize = 1500;

/// All three.
pub fn sections(evaluation: &Evaluation) -> Result<String> {
    Ok(by_class(evaluation) + &confusion(evaluation)? + &hardest(evaluation))
}

fn class(evaluation: &Evaluation, class: usize) -> String {
    escape(&evaluation.classes[class])
}

fn by_class(evaluation: &Evaluation) -> String {
    let tallies = &evaluation.by_class.0;
    let mut order = evaluation.by_class.worst_first();
    order.retain(|&class| tallies[class].images > 0);
    let row = |&index: &usize| {
        let tally = &tallies[index];
        let cells = vec![
            class(evaluation, index),
            tally.images.to_string(),
            percent(Some(tally.top1_error())),
            percent(Some(tally.top5_error())),
        ];
        (false, cells)
    };
    let rows: Vec<(bool, Vec<String>)> = order.iter().take(MOST).map(row).collect();
    let head = ["class", "images", "top-1", "top-5"];
    let (first, rest) = rows.split_at(rows.len().min(SHOWN));
    let none = order.len() < tallies.len();
    let mut text = format!(
        "<h3>Errors by class</h3>\n<p>{} on {}, one crop in the middle; the worst first.{}</p>\n",
        escape(&evaluation.checkpoint.display().to_string()),
        evaluation.split,
        if none { " Classes without images there are left out." } else { "" }
    );
    text += &table("Errors of each class", &head, 1, first);
    if !rest.is_empty() {
        text += &format!(
            "<details><summary>{} more classes</summary>\n{}</details>\n",
            rest.len(),
            table("", &head, 1, rest)
        );
    }
    text
}

fn confusion(evaluation: &Evaluation) -> Result<String> {
    let mut pairs: Vec<((usize, usize), u64)> =
        evaluation.confusion.pairs().filter(|((label, answer), _)| label != answer).collect();
    pairs.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    let row = |&((label, answer), count): &((usize, usize), u64)| {
        let cells = vec![class(evaluation, label), class(evaluation, answer), count.to_string()];
        (false, cells)
    };
    let rows: Vec<(bool, Vec<String>)> = pairs.iter().take(PAIRS).map(row).collect();
    let matrix = match evaluation.classes.len() {
        classes if classes <= NUMBERED => numbered(evaluation),
        classes if classes <= LARGEST => format!(
            "<img class=\"confusion\" alt=\"confusion matrix\" src=\"{}\">\n",
            data_uri("image/png", &picture(evaluation)?)
        ),
        _ => String::new(),
    };
    Ok(format!(
        "<h3>Confusion matrix</h3>\n<p>A row is a right class, a column an answer, in the order of the \
         classes; the deeper the colour, the larger the share of the row.</p>\n{matrix}{}",
        table("Most often taken for another", &["right class", "answer", "images"], 2, &rows)
    ))
}

/// The share of class `label` that was taken for `answer`, and how many that are.
fn share(evaluation: &Evaluation, label: usize, answer: usize) -> (f64, u64) {
    let count = evaluation.confusion.count(label, answer);
    (count as f64 / evaluation.by_class.0[label].images.max(1) as f64, count)
}

/// The matrix as a table with numbers.
fn numbered(evaluation: &Evaluation) -> String {
    let classes = evaluation.classes.len();
    let head: String = (0..classes)
        .map(|c| format!("<th scope=\"col\"><span>{}</span></th>", class(evaluation, c)))
        .collect();
    let row = |label: usize| {
        let cell = |answer: usize| {
            let (share, count) = share(evaluation, label, answer);
            let number = if count == 0 { String::new() } else { count.to_string() };
            format!("<td style=\"--share:{:.3}\">{number}</td>", 0.75 * share.sqrt())
        };
        let cells: String = (0..classes).map(cell).collect();
        format!("<tr><th scope=\"row\">{}</th>{cells}</tr>\n", class(evaluation, label))
    };
    let rows: String = (0..classes).map(row).collect();
    format!(
        "<div class=\"wide\"><table class=\"confusion\"><thead><tr><td></td>{head}</tr></thead>\n\
         <tbody>\n{rows}</tbody></table></div>\n"
    )
}

/// The matrix as PNG, a square a cell, opaque where all of a row are.
fn picture(evaluation: &Evaluation) -> Result<Vec<u8>> {
    let classes = evaluation.classes.len();
    let zoom = WIDE.div_ceil(classes);
    let side = classes * zoom;
    let mut pixels = vec![0u8; side * side * 4];
    for ((label, answer), _) in evaluation.confusion.pairs() {
        let (share, _) = share(evaluation, label, answer);
        let [r, g, b] = CELL;
        let pixel = [r, g, b, (255.0 * share.sqrt()).round() as u8];
        for y in label * zoom..(label + 1) * zoom {
            for x in answer * zoom..(answer + 1) * zoom {
                pixels[(y * side + x) * 4..][..4].copy_from_slice(&pixel);
            }
        }
    }
    let mut png = Vec::new();
    let encoder = PngEncoder::new(&mut png);
    encoder.write_image(&pixels, side as u32, side as u32, ExtendedColorType::Rgba8)?;
    Ok(png)
}

fn hardest(evaluation: &Evaluation) -> String {
    if evaluation.hardest.is_empty() {
        return "<h3>Hardest pictures</h3>\n<p>No picture is classified wrongly.</p>\n".into();
    }
    let one = |hard: &Hard| {
        let (kind, bytes) = &hard.picture;
        let small = if hard.side <= 128 { " class=\"small\"" } else { "" };
        format!(
            "<figure><img{small} loading=\"lazy\" alt=\"{0}\" src=\"{1}\"><figcaption><b>{2}</b> \
             {3}<br>taken for <b>{4}</b> {5}<br>{0}</figcaption></figure>\n",
            escape(&hard.file),
            data_uri(kind, bytes),
            class(evaluation, hard.label),
            percent(Some(f64::from(hard.of_label))),
            class(evaluation, hard.answer),
            percent(Some(f64::from(hard.of_answer)))
        )
    };
    let all: String = evaluation.hardest.iter().map(one).collect();
    format!(
        "<h3>Hardest pictures</h3>\n<p>Wrong answers that give the right class the least. It stands \
         first, each class with its probability.</p>\n<div class=\"hard\">\n{all}</div>\n"
    )
}
