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
use crate::train::evaluate::{images_per_batch, probabilities};
use crate::train::feed;
use crate::train::runs::RunFolder;
use anyhow::{Context, Result, ensure};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use jpeg_encoder::{ColorType, Encoder};
use std::collections::BTreeMap;
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
    /// Of each class.
    pub by_class: Vec<Count>,
    /// How often a class (first) was taken for a class, where it ever was.
    pub confusion: BTreeMap<(u32, u32), u64>,
    /// The wrong answers that give the right class the least, the worst first.
    pub hardest: Vec<Hard>,
}

/// Images and errors.
#[derive(Clone, Copy, Default)]
pub struct Count {
    pub images: u64,
    pub top1_wrong: u64,
    pub top5_wrong: u64,
}

/// A picture and what was made of it.
pub struct Hard {
    /// The file that it was made from.
    pub file: String,
    pub label: u32,
    pub answer: u32,
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
        classes: dataset.header.classes.iter().map(|class| class.name.clone()).collect(),
        by_class: vec![Count::default(); dataset.header.classes.len()],
        confusion: BTreeMap::new(),
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
    index: u32,
    label: u32,
    answer: u32,
    of_label: f32,
    of_answer: f32,
}

/// Counts all answers; the worst of the wrong ones.
fn answers(model: &mut Model, split: &Arc<Split>, into: &mut Evaluation) -> Result<Vec<Wrong>> {
    let (crops, engine) = (Crops::Centre, model.engine.as_mut());
    let (batch, classes) = (images_per_batch(engine.plan().batch, crops), engine.plan().classes);
    let images: Arc<Split> = split.clone();
    let mut loader = feed::evaluation(&model.config.data, images, &model.cropping, crops, batch)?;
    let progress = Progress::new("evaluation", split.len() as u64);
    let mut wrong: Vec<Wrong> = Vec::new();
    while let Some(batch) = loader.next()? {
        let all = probabilities(engine, batch.images.view(), crops)?;
        let all: Vec<f32> = all.iter().map(|&p| p as f32).collect();
        for (image, probabilities) in all.chunks_exact(classes).enumerate() {
            let label = batch.labels[image];
            let rank = rank(probabilities, label);
            let answer = (0..classes).fold(0, |best, class| {
                if probabilities[class] > probabilities[best] { class } else { best }
            });
            let count = &mut into.by_class[label as usize];
            count.images += 1;
            count.top1_wrong += u64::from(rank >= 1);
            count.top5_wrong += u64::from(rank >= 5);
            *into.confusion.entry((label, answer as u32)).or_default() += 1;
            if rank >= 1 {
                wrong.push(Wrong {
                    index: batch.indices[image],
                    label,
                    answer: answer as u32,
                    of_label: probabilities[label as usize],
                    of_answer: probabilities[answer],
                });
            }
        }
        wrong.sort_by(|a, b| a.of_label.total_cmp(&b.of_label).then(a.index.cmp(&b.index)));
        wrong.truncate(HARDEST);
        progress.advance(batch.labels.len() as u64);
        loader.recycle(batch);
    }
    progress.finish();
    Ok(wrong)
}

/// A wrong answer with its picture, which has `size` [height, width, channels].
fn hard(wrong: &Wrong, split: &Split, [height, width, channels]: [usize; 3]) -> Result<Hard> {
    let index = wrong.index as usize;
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
        answer: wrong.answer,
        of_label: wrong.of_label,
        of_answer: wrong.of_answer,
        side: height.max(width),
        picture: (kind, file),
    })
}
