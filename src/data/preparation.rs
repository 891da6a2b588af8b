//! What is done to each image file before it is stored, and again to those that `predict` looks at.
//!
//! The rules stand in `dataset.json` and in checkpoints under the names that serde gives them here.
//! A value that this version does not know was written by a later one; it is refused with those
//! known.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What becomes of an EXIF orientation mark in an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Orientation {
    /// The image is turned as the mark says, as viewers show it.
    Apply,
    /// The pixels are taken as stored, as in the paper's time.
    Ignore,
}

/// How an image is scaled: `shorter-side`, `warp` or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case", try_from = "String")]
pub enum Resize {
    /// Until the shorter side fits the size.
    ShorterSide,
    /// Each side to the size, whatever becomes of the shapes: Caffe's usual preparation.
    Warp,
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
    /// What shows through where a picture is transparent; none in data sets of before it was kept,
    /// and where the source has no picture files: hidden colours are then the picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<Colour>,
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
            background: None,
        }
    }

    /// As [`Preparation::photographs`], but each side scaled to `size`; nothing is cut away.
    pub fn warped(size: usize, orientation: Orientation) -> Preparation {
        Preparation {
            resize: Resize::Warp,
            crop: Crop::None,
            ..Preparation::photographs(size, orientation)
        }
    }

    /// Whether images are made in the same way as those of `other`. Where one of the two is of before
    /// backgrounds were kept, that counts as the same as long as the rest is: most pictures are
    /// opaque.
    pub fn agrees_with(&self, other: &Preparation) -> bool {
        let either = self.background.is_none() || other.background.is_none();
        let background = if either { self.background } else { other.background };
        *self == Preparation { background, ..other.clone() }
    }

    /// For sources whose images all have one size, such as MNIST and CIFAR.
    pub fn as_stored(height: usize, width: usize) -> Preparation {
        Preparation {
            size: [height, width],
            resize: Resize::None,
            filter: Filter::None,
            crop: Crop::None,
            orientation: Orientation::Ignore,
            background: None,
        }
    }
}

/// A colour, red, green and blue; in text six digits of base 16, `RRGGBB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Colour(pub [u8; 3]);

impl Colour {
    /// The background of new preparations, unless another is wanted.
    pub const WHITE: Colour = Colour([255; 3]);

    /// Its one value, where it is a grey.
    pub fn grey(self) -> Option<u8> {
        let [red, green, blue] = self.0;
        (red == green && green == blue).then_some(red)
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "{red:02x}{green:02x}{blue:02x}")
    }
}

impl FromStr for Colour {
    type Err = String;
    fn from_str(text: &str) -> Result<Colour, String> {
        let digits = text.strip_prefix('#').unwrap_or(text);
        let value = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
        let plain = digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        match (value(0), value(2), value(4)) {
            (Some(red), Some(green), Some(blue)) if plain => Ok(Colour([red, green, blue])),
            _ => Err("a colour is six digits of base 16, RRGGBB, such as ffffff for white".into()),
        }
    }
}

impl TryFrom<String> for Colour {
    type Error = String;
    fn try_from(text: String) -> Result<Colour, String> {
        text.parse()
    }
}

impl From<Colour> for String {
    fn from(colour: Colour) -> String {
        colour.to_string()
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
        let all = match all.split_last() {
            Some((last, others)) => format!("{} and {last}", others.join(", ")),
            None => String::new(),
        };
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
        let warped = Preparation::warped(227, Orientation::Ignore);
        let warped = Preparation { background: Some(Colour([255, 8, 0])), ..warped };
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
            (
                warped,
                "{\"size\":[227,227],\"resize\":\"warp\",\"filter\":\"triangle\",\
                 \"crop\":\"none\",\"orientation\":\"ignore\",\"background\":\"ff0800\"}",
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
            ("resize", "resize rule", "shorter-side, warp and none"),
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

    #[test]
    fn a_colour_is_six_digits() {
        assert_eq!("#FF8000".parse::<Colour>().unwrap(), Colour([255, 128, 0]));
        for wrong in ["", "fff", "white", "+f+f+f", "ffffff0", "ffééff"] {
            assert!(wrong.parse::<Colour>().unwrap_err().contains("RRGGBB"), "{wrong}");
        }
    }
}
