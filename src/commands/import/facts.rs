//! What belongs to a network beside its weights and stands in no file of weights: its classes, the
//! mean that is subtracted, and how image files became its images.

use crate::config_error;
use crate::data::dataset::Class;
use crate::data::imagenet;
use crate::data::preparation::{Orientation, Preparation};
use crate::data::statistics::Statistics;
use crate::files::text;
use crate::weights::{Source, caffe};
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::Path;

/// A table of classes is no longer than this.
const MOST_TEXT: u64 = 16 << 20;

/// ImageNet's mean colour (red, green, blue) as torchvision has it, 255 · (0.485, 0.456, 0.406).
pub const TORCHVISION_MEAN: [f32; 3] = [123.675, 116.28, 103.53];
/// The same of Caffe's mean image.
pub const CAFFE_MEAN: [f32; 3] = [122.678_91, 116.668_77, 104.006_99];

/// The principal components of ImageNet's colours and the variances along them, of values from 0 to
/// 1, as they are quoted since Facebook's ResNets in Torch (2016).
const COMPONENTS: [f32; 9] =
    [0.5675, 0.5808, 0.5836, 0.7192, -0.0045, -0.6948, -0.4009, 0.8140, -0.4203];
const VARIANCES: [f32; 3] = [0.2175, 0.0188, 0.0045];

/// The mean to subtract.
pub struct Mean {
    /// [height, width, channels].
    pub values: Vec<f32>,
    /// Height and width of the images that it is of, where it is an image.
    pub size: Option<[usize; 2]>,
    /// What it is, for people.
    pub words: String,
}

impl Mean {
    /// One value a channel.
    pub fn flat(values: &[f32], whose: &str) -> Mean {
        let numbers: Vec<String> = values.iter().map(f32::to_string).collect();
        let words = format!("{}{whose}", numbers.join(", "));
        Mean { values: values.to_vec(), size: None, words }
    }

    /// That of the option `--mean`: a file of Caffe's, or numbers with commas between.
    pub fn given(text: &str) -> Result<Mean> {
        let path = Path::new(text);
        let numbers: Result<Vec<f32>, _> = text.split(',').map(|n| n.trim().parse()).collect();
        match numbers {
            Ok(numbers) if !path.exists() => {
                let usable = |n: &f32| n.is_finite();
                if !matches!(numbers.len(), 1 | 3) || !numbers.iter().all(usable) {
                    return Err(config_error!(
                        "--mean {text}: it must be one number for each channel, R,G,B such as \
                         123.675,116.28,103.53"
                    ));
                }
                Ok(Mean::flat(&numbers, ""))
            }
            _ if path.exists() => Mean::image(path),
            _ => Err(config_error!(
                "--mean {text} is neither a file nor three numbers R,G,B with commas between"
            )),
        }
    }

    /// A mean image of Caffe's, whose colours are blue, green, red.
    fn image(path: &Path) -> Result<Mean> {
        let read = || {
            let planes = caffe::mean(&Source::open(path)?)?;
            let [channels, height, width] = planes.shape()[..] else { unreachable!("an image") };
            let planes = planes.reversed(0).values();
            let place = |i: usize| i % channels * height * width + i / channels;
            let values: Vec<f32> = (0..planes.len()).map(|i| planes[place(i)]).collect();
            anyhow::ensure!(
                values.iter().all(|value| value.is_finite()),
                "it holds values that are no numbers"
            );
            let words = format!("the image of {height}×{width} in {}", path.display());
            Ok(Mean { values, size: Some([height, width]), words })
        };
        read().with_context(|| format!("--mean {}", path.display()))
    }

    /// The statistics of images of `size`.
    pub fn statistics(self, size: [usize; 2], channels: usize) -> Result<Statistics> {
        let pixels = size[0] * size[1];
        let mean = match self.values.len() {
            n if n == channels => self.values.repeat(pixels),
            n if n == channels * pixels => self.values,
            n => {
                return Err(config_error!(
                    "--mean: there are {n} values, and images of {}×{}×{channels} need {channels} \
                     or as many as they have",
                    size[0],
                    size[1]
                ));
            }
        };
        let (components, deviations) = match channels {
            3 => (COMPONENTS.to_vec(), VARIANCES.map(|v| 255.0 * v.sqrt()).to_vec()),
            _ => (vec![1.0], vec![255.0 * VARIANCES[0].sqrt()]),
        };
        Ok(Statistics { mean, components, deviations })
    }
}

/// How image files became images from which squares of `crop` are cut: 256 where the paper has 224.
/// Caffe's usual way warps them.
pub fn preparation(crop: usize, mean: Option<[usize; 2]>, warps: bool) -> Preparation {
    let usual = if (193..=256).contains(&crop) { 256 } else { crop * 256 / 224 };
    let size = usual.max(crop);
    let mut made = match warps {
        true => Preparation::warped(size, Orientation::Apply),
        false => Preparation::photographs(size, Orientation::Apply),
    };
    made.size = mean.unwrap_or(made.size);
    made
}

/// The `count` classes in their order: those of a file with a line each (a synset's id and then its
/// names, or a name), ImageNet's where there are as many, or numbers. And what they are, for
/// people.
pub fn classes(count: usize, file: Option<&Path>) -> Result<(Vec<Class>, String)> {
    let Some(path) = file else {
        if count == imagenet::COUNT {
            return Ok((imagenet::classes(), "ImageNet's 1,000".into()));
        }
        let class =
            |i: usize| Class { id: i.to_string(), name: format!("class {i}"), number: None };
        let words = format!("{count} without names (--classes FILE gives them, a line each)");
        return Ok(((0..count).map(class).collect(), words));
    };
    let name = path.display();
    let text = text::read(path, MOST_TEXT)
        .map_err(|error| config_error!("--classes {name}: the file cannot be read: {error:#}"))?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.len() != count {
        return Err(config_error!(
            "--classes {name}: it has {} lines, and the network has {count} outputs; each class is \
             a line, in the order of the outputs",
            lines.len()
        ));
    }
    let classes: Vec<Class> = lines.into_iter().map(class).collect();
    let mut ids = BTreeSet::new();
    if let Some(twice) = classes.iter().find(|class| !ids.insert(&class.id)) {
        return Err(config_error!("--classes {name}: {:?} is there twice", twice.id));
    }
    Ok((imagenet::readable(classes), format!("{count} of {name}")))
}

/// `n01440764 tench, Tinca tinca`, `n01440764`, or a name.
fn class(line: &str) -> Class {
    let synset = |id: &str| {
        let digits = id.strip_prefix('n').filter(|d| d.len() == 8);
        digits.is_some_and(|d| d.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let (id, name) = match line.split_once(char::is_whitespace) {
        Some((id, name)) if synset(id) => (id, name.trim()),
        _ => (line, line),
    };
    Class { id: id.into(), name: name.into(), number: None }
}
