//! The best checkpoint on its validation images: errors by class, what was taken for what, and the
//! pictures that it is most wrong about.

use crate::commands::model::Model;
use crate::data::area::Area;
use crate::data::dataset::{Dataset, Split};
use crate::data::loader::Crops;
use crate::engine::Choice;
use crate::errors::sentence;
use crate::layers::softmax::rank;
use crate::progress::Progress;
use crate::train::checkpoint::same_classes;
use crate::train::evaluate::by_class::{ByClass, Confusion, distinct_names};
use crate::train::evaluate::{Ensemble, best, images_per_batch};
use crate::train::feed;
use crate::train::runs::RunFolder;
use anyhow::{Context, Result, ensure};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use jpeg_encoder::{ColorType, Encoder};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Pictures that are shown.
const HARDEST: usize = 24;
/// Smaller images are kept to the bit, as PNG.
const SMALL: usize = 64;

/// What an evaluation came to.
pub struct Evaluation {
    /// The checkpoint.
    pub checkpoint: PathBuf,
    /// Which images: `val`, or else `test`.
    pub split: &'static str,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Errors of each class.
    pub by_class: ByClass,
    /// What was taken for what.
    pub confusion: Confusion,
    /// The wrong answers that give the right class the least, the worst first.
    pub hardest: Vec<Hard>,
}

/// A picture and what was made of it.
pub struct Hard {
    /// The file that it was made from.
    pub file: String,
    pub label: usize,
    pub answer: usize,
    /// Probability of the label.
    pub of_label: f32,
    /// Probability of the answer.
    pub of_answer: f32,
    /// Its side, pixels.
    pub side: usize,
    /// MIME type and content of an image file.
    pub picture: (&'static str, Vec<u8>),
}

/// Evaluates the best checkpoint of `run` on the data set `data`, or the one it was trained on. Err:
/// why not, in a sentence.
pub fn evaluate(
    run: &RunFolder,
    data: Option<&Path>,
    device: &Choice,
) -> std::result::Result<Evaluation, String> {
    attempt(run, data, device).map_err(|error| sentence(&error))
}

fn attempt(run: &RunFolder, data: Option<&Path>, device: &Choice) -> Result<Evaluation> {
    let checkpoint = run.best();
    ensure!(checkpoint.exists(), "the run has no {} yet", checkpoint.display());
    let mut model = Model::open(&checkpoint, device, None)?;
    let path = data.or(model.config.data.path.as_deref());
    let path = path.context("the checkpoint does not say which data set it was trained on")?;
    let dataset = Dataset::open(path)
        .context("the data set cannot be opened (--data DIR says where it is now)")?;
    check(&model, &dataset)?;
    let is_there = |name: &&str| dataset.header.splits.get(*name).is_some_and(|s| s.images > 0);
    let name = ["val", "test"].into_iter().find(is_there);
    let name = name.context("the data set has no images to evaluate on")?;
    let split = Arc::new(dataset.split(name)?);
    let mut evaluation = Evaluation {
        checkpoint,
        split: name,
        classes: distinct_names(&dataset.header.classes),
        by_class: ByClass::new(dataset.header.classes.len()),
        confusion: Confusion::default(),
        hardest: Vec::new(),
    };
    let wrong = answers(&mut model, &split, &mut evaluation)?;
    let size = [dataset.header.height, dataset.header.width, dataset.header.channels];
    evaluation.hardest =
        wrong.iter().map(|wrong| hard(wrong, &split, size)).collect::<Result<_>>()?;
    Ok(evaluation)
}

/// Err: the images are not of the classes or the size that the network knows.
fn check(model: &Model, dataset: &Dataset) -> Result<()> {
    let (facts, header) = (&model.checkpoint.facts, &dataset.header);
    let names = [model.checkpoint.path.display().to_string(), dataset.path.display().to_string()];
    same_classes((&names[0], &facts.classes), (&names[1], &header.classes))?;
    ensure!(
        facts.preparation.size == header.preparation.size && facts.channels == header.channels,
        "the images of {} are of another size than those of {}",
        names[1],
        names[0]
    );
    Ok(())
}

/// A wrong answer.
struct Wrong {
    index: usize,
    label: usize,
    /// The most probable class and its probability.
    answer: (usize, f32),
    of_label: f32,
}

/// Counts all answers; the worst of the wrong ones.
fn answers(model: &mut Model, split: &Arc<Split>, into: &mut Evaluation) -> Result<Vec<Wrong>> {
    let crops = Crops::Centre;
    let batch = images_per_batch(model.engine.plan().batch, crops);
    let images: Arc<Split> = split.clone();
    let loader = feed::evaluation(&model.config.data, images, &model.cropping, crops, batch)?;
    let mut network = Ensemble::new(vec![(model.engine.as_mut(), 0)], vec![loader], crops, &[1.0]);
    let progress = Progress::new("evaluation", split.len() as u64);
    let mut wrong: Vec<Wrong> = Vec::new();
    while let Some(answers) = network.next_answers()? {
        into.by_class.add(&answers);
        into.confusion.add(&answers);
        let images = answers.images().zip(&answers.labels).zip(&answers.indices);
        for ((probabilities, &label), &index) in images {
            if rank(probabilities, label) > 0 {
                let (index, label) = (index as usize, label as usize);
                let answer = best(probabilities, 1)[0];
                wrong.push(Wrong { index, label, answer, of_label: probabilities[label] });
            }
        }
        wrong.sort_by(|a, b| a.of_label.total_cmp(&b.of_label).then(a.index.cmp(&b.index)));
        wrong.truncate(HARDEST);
        progress.advance(answers.labels.len() as u64);
    }
    progress.finish();
    Ok(wrong)
}

/// A wrong answer with its picture, which has `size` [height, width, channels].
fn hard(wrong: &Wrong, split: &Split, [height, width, channels]: [usize; 3]) -> Result<Hard> {
    let index = wrong.index;
    let mut pixels = vec![0; height * width * channels];
    split.read(index, &Area::all(height, width), &mut pixels)?;
    let (mut file, size) = (Vec::new(), [height, width].map(|side| side as u32));
    let kind = if height.max(width) <= SMALL {
        let color = if channels == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
        PngEncoder::new(&mut file).write_image(&pixels, size[1], size[0], color)?;
        "image/png"
    } else {
        let color = if channels == 1 { ColorType::Luma } else { ColorType::Rgb };
        Encoder::new(&mut file, 85).encode(&pixels, width as u16, height as u16, color)?;
        "image/jpeg"
    };
    Ok(Hard {
        file: split.name(index).to_string(),
        label: wrong.label,
        answer: wrong.answer.0,
        of_label: wrong.of_label,
        of_answer: wrong.answer.1,
        side: height.max(width),
        picture: (kind, file),
    })
}
