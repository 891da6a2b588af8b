//! What is done to each image file before it is stored, and again to those that `predict` looks at.
//!
//! The rules stand in `dataset.json` and in checkpoints under the names that serde gives them here.
//! A value that this version does not know was written by a later one; it is refused with those
//! known.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What becomes of an EXIF orientation mark in an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Orientation {
    /// The image is turned as the mark says, as viewers show it.
    Apply,
    /// The pixels are taken as stored, as in the paper's time.
    Ignore,
}

/// How an image is scaled: `shorter-side` or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case", try_from = "String")]
pub enum Resize {
    /// Until the shorter side fits the size.
    ShorterSide,
    /// Not at all: the images came in one size.
    None,
}

/// The filter of the scaling: `triangle` or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case", try_from = "String")]
pub enum Filter {
    /// The antialiased triangle, Pillow's BILINEAR.
    Triangle,
    /// None, since nothing is scaled.
    None,
}

/// Which part of the scaled image is kept: `centre` or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case", try_from = "String")]
pub enum Crop {
    /// The middle, offsets rounded down.
    Centre,
    /// All of it.
    None,
}

/// What was done to each image file before it was stored; `predict` does the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preparation {
    /// Height and width of a prepared image.
    pub size: [usize; 2],
    /// Scaling.
    pub resize: Resize,
    /// Its filter.
    pub filter: Filter,
    /// Cropping to `size`.
    pub crop: Crop,
    /// Whether EXIF orientation was applied.
    pub orientation: Orientation,
}

impl Preparation {
    /// The paper's way for photographs: shorter side to `size`, then the centre `size` × `size`.
    pub fn photographs(size: usize, orientation: Orientation) -> Preparation {
        Preparation {
            size: [size, size],
            resize: Resize::ShorterSide,
            filter: Filter::Triangle,
            crop: Crop::Centre,
            orientation,
        }
    }

    /// For sources whose images all have one size, such as MNIST and CIFAR.
    pub fn as_stored(height: usize, width: usize) -> Preparation {
        Preparation {
            size: [height, width],
            resize: Resize::None,
            filter: Filter::None,
            crop: Crop::None,
            orientation: Orientation::Ignore,
        }
    }
}

impl TryFrom<String> for Resize {
    type Error = String;
    fn try_from(name: String) -> Result<Resize, String> {
        known(&name, "the resize rule")
    }
}

impl TryFrom<String> for Filter {
    type Error = String;
    fn try_from(name: String) -> Result<Filter, String> {
        known(&name, "the resize filter")
    }
}

impl TryFrom<String> for Crop {
    type Error = String;
    fn try_from(name: String) -> Result<Crop, String> {
        known(&name, "the crop rule")
    }
}

/// The rule called `name`, or a sentence that it is unknown and which are known.
fn known<T: ValueEnum>(name: &str, what: &str) -> Result<T, String> {
    T::from_str(name, false).map_err(|_| {
        let all = T::value_variants().iter().filter_map(T::to_possible_value);
        let all: Vec<String> = all.map(|value| value.get_name().to_string()).collect();
        let all = all.join(" and ");
        format!("{what} `{name}` is unknown to this version of alexnet, which knows {all}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text is what data sets and checkpoints of format 1 hold.
    #[test]
    fn the_names_in_files_stay() {
        let photographs = Preparation::photographs(256, Orientation::Apply);
        let stored = Preparation::as_stored(28, 30);
        for (preparation, text) in [
            (
                photographs,
                "{\"size\":[256,256],\"resize\":\"shorter-side\",\"filter\":\"triangle\",\
                 \"crop\":\"centre\",\"orientation\":\"apply\"}",
            ),
            (
                stored,
                "{\"size\":[28,30],\"resize\":\"none\",\"filter\":\"none\",\
                 \"crop\":\"none\",\"orientation\":\"ignore\"}",
            ),
        ] {
            assert_eq!(serde_json::to_string(&preparation).unwrap(), text);
            assert_eq!(serde_json::from_str::<Preparation>(text).unwrap(), preparation);
        }
    }

    #[test]
    fn an_unknown_rule_is_named_with_those_that_are_known() {
        let text = serde_json::to_string(&Preparation::as_stored(2, 2)).unwrap();
        for (key, what, known) in [
            ("resize", "resize rule", "shorter-side and none"),
            ("filter", "resize filter", "triangle and none"),
            ("crop", "crop rule", "centre and none"),
        ] {
            let sentence = format!(
                "the {what} `x` is unknown to this version of alexnet, which knows {known}"
            );
            let text = text.replace(&format!("\"{key}\":\"none\""), &format!("\"{key}\":\"x\""));
            let error = serde_json::from_str::<Preparation>(&text).unwrap_err().to_string();
            assert!(error.starts_with(&sentence), "{error}");
        }
    }
}
