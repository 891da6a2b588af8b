//! The paper's tables 1 and 2, and the runs' errors in the same form.

use super::facts::Facts;
use super::html::{escape, percent, table};

/// Table 1, ILSVRC-2010, test set: top-1 and top-5 error in per cent.
const TABLE_1: [(&str, f64, f64); 3] = [
    ("Sparse coding [2]", 47.1, 28.2),
    ("SIFT + FVs [24]", 45.7, 25.7),
    ("CNN (the paper's)", 37.5, 17.0),
];

/// Table 2, ILSVRC-2012: top-1 and top-5 error on validation, top-5 on test, in per cent.
const TABLE_2: [(&str, [Option<f64>; 3]); 5] = [
    ("SIFT + FVs [7]", [None, None, Some(26.2)]),
    ("1 CNN", [Some(40.7), Some(18.2), None]),
    ("5 CNNs", [Some(38.1), Some(16.4), Some(16.4)]),
    ("1 CNN*", [Some(39.0), Some(16.6), None]),
    ("7 CNNs*", [Some(36.7), Some(15.4), Some(15.3)]),
];

/// The runs' errors beside the paper's two tables.
pub fn errors<'a>(runs: impl Iterator<Item = &'a Facts>) -> String {
    let number =
        |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.1}\u{a0}%"));
    let first = TABLE_1.map(|(model, top1, top5)| {
        (false, vec![escape(model), number(Some(top1)), number(Some(top5))])
    });
    let second = TABLE_2.map(|(model, errors)| {
        let cells = [vec![escape(model)], errors.map(number).to_vec()];
        (false, cells.concat())
    });
    let own: Vec<(bool, Vec<String>)> = runs.map(row).collect();
    format!(
        "<h2 id=\"errors\">Errors, beside the paper’s</h2>\n<p>The paper’s errors are on ImageNet, ten \
         crops of each image averaged. Those of these runs are on their own validation images, one \
         crop in the middle, after the best epoch: the two compare where the data are the \
         same.</p>\n<div class=\"grid\">\n{}{}{}</div>\n",
        table("These runs", &["run", "data", "epoch", "top-1", "top-5"], 2, &own),
        table("Paper, table 1: ILSVRC-2010, test", &["model", "top-1", "top-5"], 1, &first),
        table(
            "Paper, table 2: ILSVRC-2012 (* pre-trained on Fall 2011)",
            &["model", "top-1 (val)", "top-5 (val)", "top-5 (test)"],
            1,
            &second
        )
    )
}

/// A run's row: of its best epoch on validation.
fn row(facts: &Facts) -> (bool, Vec<String>) {
    let best = facts.best();
    let cells = vec![
        escape(&facts.name),
        escape(&facts.data_name()),
        best.map_or("–".into(), |epoch| epoch.to_string()),
        percent(best.and_then(|epoch| facts.at(epoch, "val_top1_error"))),
        percent(best.and_then(|epoch| facts.at(epoch, "val_top5_error"))),
    ];
    (true, cells)
}
