//! What `eval` prints, as text and as JSON.

use crate::data::dataset::Class;
use crate::layers::softmax::{ALWAYS_AMONG, Tally};
use crate::progress::count;
use crate::train::evaluate::by_class::ByClass;
use anyhow::Result;
use serde_json::{Value, json};

/// What an evaluation came to.
pub struct Report<'a> {
    /// Of the average, or the only network.
    pub tally: Tally,
    /// Of each network.
    pub members: Vec<Tally>,
    /// The networks' files.
    pub checkpoints: Vec<String>,
    /// Of the networks, of sum 1; none: all the same.
    pub weights: Option<Vec<f64>>,
    /// Crops of an image.
    pub crops: usize,
    /// What was evaluated, in words.
    pub what: String,
    /// Errors by class, if they are wanted.
    pub by_class: Option<ByClass>,
    /// In the order of the outputs.
    pub classes: &'a [Class],
}

impl Report<'_> {
    /// The weight of each network.
    fn weights(&self) -> Vec<f64> {
        let networks = self.members.len();
        self.weights.clone().unwrap_or_else(|| vec![1.0 / networks as f64; networks])
    }

    /// One document. `members` and `weights` are there where there are several networks.
    pub fn json(&self) -> Result<String> {
        let mut all = json!({
            "images": self.tally.images,
            "top1_error": self.tally.top1_error(),
            "top5_error": self.tally.top5_error(),
            "log_loss": self.tally.mean_loss(),
            "crops": self.crops,
            "checkpoints": self.checkpoints,
        });
        if self.members.len() > 1 {
            let weights = self.weights();
            let members = self.members.iter().zip(&self.checkpoints).zip(&weights);
            all["members"] = members
                .map(|((tally, checkpoint), weight)| {
                    json!({
                        "checkpoint": checkpoint,
                        "weight": weight,
                        "top1_error": tally.top1_error(),
                        "top5_error": tally.top5_error(),
                        "log_loss": tally.mean_loss(),
                    })
                })
                .collect();
            all["weights"] = json!(weights);
        }
        if let Some(by_class) = &self.by_class {
            let rows = self.classes.iter().zip(&by_class.0);
            all["per_class"] = rows.map(|(class, tally)| class_json(class, tally)).collect();
        }
        Ok(serde_json::to_string_pretty(&all)?)
    }

    /// Lines for a person.
    pub fn text(&self) -> String {
        let crops = if self.crops > 1 { "ten crops averaged" } else { "centre crop" };
        let images = count(self.tally.images, "image", "images");
        let mut text = format!("{images} of {}, {crops}", self.what);
        if self.members.len() > 1 {
            let how = if self.weights.is_some() { "weighted" } else { "all counting the same" };
            text += &format!(
                ", the softmax outputs of {} networks averaged, {how}",
                self.members.len()
            );
        }
        let with_five = self.classes.len() > ALWAYS_AMONG;
        let five = |text: String| if with_five { text } else { String::new() };
        text += &format!("\n  top-1 error  {:6.2} %", 100.0 * self.tally.top1_error());
        text += &five(format!("\n  top-5 error  {:6.2} %", 100.0 * self.tally.top5_error()));
        text += &format!("\n  log-loss     {:8.4}", self.tally.mean_loss());
        let head = five("top-5 error  ".to_string());
        if self.members.len() > 1 {
            text += &format!("\n\neach by itself\n  top-1 error  {head}log-loss  weight  network");
            for ((tally, name), weight) in
                self.members.iter().zip(&self.checkpoints).zip(self.weights())
            {
                text += &format!(
                    "\n     {:6.2} %{}  {:8.4}  {weight:6.4}  {name}",
                    100.0 * tally.top1_error(),
                    five(format!("     {:6.2} %", 100.0 * tally.top5_error())),
                    tally.mean_loss()
                );
            }
        }
        if let Some(by_class) = &self.by_class {
            text += &format!("\n\nby class, the worst first\n  top-1 error  {head} images  class");
            for class in by_class.worst_first() {
                text += &class_row(&self.classes[class], &by_class.0[class], with_five);
            }
        }
        text
    }
}

/// A class without images has no errors.
fn class_json(class: &Class, tally: &Tally) -> Value {
    let error = |error: f64| (tally.images > 0).then_some(error);
    json!({
        "id": class.id,
        "name": class.name,
        "images": tally.images,
        "top1_error": error(tally.top1_error()),
        "top5_error": error(tally.top5_error()),
    })
}

fn class_row(class: &Class, tally: &Tally, with_five: bool) -> String {
    let error = |error: f64| match tally.images {
        0 => "     –  ".to_string(),
        _ => format!("{:6.2} %", 100.0 * error),
    };
    let five = match with_five {
        true => format!("     {}", error(tally.top5_error())),
        false => String::new(),
    };
    let id = if class.id == class.name { String::new() } else { format!(" ({})", class.id) };
    format!("\n     {}{five}  {:7}  {}{id}", error(tally.top1_error()), tally.images, class.name)
}
