//! The classes of a finished data set, how many images each has, and what of it is to be minded.

use crate::data::dataset::Class;
use crate::data::prepare::writer::{Summary, Twins};

/// So many classes are all listed.
const ALL: usize = 20;
/// Of more than that, so many of the smallest and of the largest.
const ENDS: usize = 5;
/// So many classes are named in a warning.
const NAMED: usize = 10;
/// A longer name is cut, in characters.
const LONGEST: usize = 40;
/// Classes may differ in size by this factor.
const UNEVEN: u64 = 10;

/// The table of classes and their images by split.
pub(super) fn table(summary: &Summary) -> Vec<String> {
    let classes = &summary.dataset.header.classes;
    let splits = ["train", "val", "test"];
    let splits: Vec<(&str, &Vec<u64>)> =
        splits.iter().filter_map(|name| Some((*name, summary.images.get(*name)?))).collect();
    let Some((_, train)) = splits.first() else { return Vec::new() };
    let mut shown: Vec<usize> = (0..classes.len()).collect();
    if classes.len() > ALL {
        shown.sort_by_key(|&class| (train[class], class));
    }
    let width = shown.iter().map(|&class| name_of(&classes[class]).chars().count());
    let width = width.max().unwrap_or(0).max("class".len());
    let line = |name: &str, cells: Vec<String>| {
        let cells = cells.iter().map(|cell| format!(" {cell:>9}")).collect::<String>();
        format!("    {name:width$}{cells}")
    };
    let class = |&class: &usize| {
        line(&name_of(&classes[class]), splits.iter().map(|(_, n)| n[class].to_string()).collect())
    };
    let head = splits.iter().map(|(name, _)| name.to_string()).collect();
    if classes.len() <= ALL {
        let mut lines = vec!["  images of each class:".to_string(), line("", head)];
        lines.extend(shown.iter().map(class));
        return lines;
    }
    let title = format!("  images of the {ENDS} smallest and {ENDS} largest classes:");
    let mut lines = vec![title, line("", head)];
    lines.extend(shown[..ENDS].iter().map(class));
    lines.push("    …".to_string());
    lines.extend(shown[shown.len() - ENDS..].iter().map(class));
    lines
}

/// A class's name, cut where it is long.
fn name_of(class: &Class) -> String {
    if class.name.chars().count() <= LONGEST {
        return class.name.clone();
    }
    class.name.chars().take(LONGEST - 1).chain(['…']).collect()
}

/// What a person should know of the classes, a sentence each.
pub(super) fn warnings(summary: &Summary) -> Vec<String> {
    let classes = &summary.dataset.header.classes;
    let mut warnings = Vec::new();
    for (split, images) in &summary.images {
        let empty = classes.iter().zip(images).filter(|(_, images)| **images == 0);
        let empty: Vec<&Class> = empty.map(|(class, _)| class).collect();
        if !empty.is_empty() {
            warnings.push(without_images(split, &empty));
        }
    }
    warnings.extend(uneven(summary));
    for Twins { split, images, first: (image, training) } in &summary.twins {
        let are = if *images == 1 { "image of it is" } else { "images of it are" };
        warnings.push(format!(
            "{split} is not apart from train: {images} {are} trained on too, pixel by pixel, \
             {image} (in train {training}) the first; errors on {split} will be too good"
        ));
    }
    warnings
}

/// That a split has no images of classes.
fn without_images(split: &str, empty: &[&Class]) -> String {
    let one = empty.len() == 1;
    let names: Vec<&str> = empty.iter().take(NAMED).map(|class| class.id.as_str()).collect();
    let names = names.join(", ") + if empty.len() > NAMED { " …" } else { "" };
    let classes = if one { "1 class".into() } else { format!("{} classes", empty.len()) };
    if split == "train" {
        return format!(
            "no training image of {classes} could be read: {names}; nothing will teach the network \
             what {} look like",
            if one { "its images" } else { "their images" }
        );
    }
    format!(
        "{split} has no image of {classes}: {names}; errors on {split} say nothing of {}",
        if one { "it" } else { "them" }
    )
}

/// That classes are of very different sizes.
fn uneven(summary: &Summary) -> Option<String> {
    let classes = &summary.dataset.header.classes;
    let train = summary.images.get("train")?;
    let there = || (0..classes.len()).filter(|&class| train[class] > 0);
    let smallest = there().min_by_key(|&class| train[class])?;
    let largest = there().max_by_key(|&class| train[class])?;
    (train[largest] > UNEVEN * train[smallest]).then(|| {
        format!(
            "{} has {} training images, {} has {}: over {UNEVEN} to 1; the network will lean to \
             the large classes",
            classes[largest].name, train[largest], classes[smallest].name, train[smallest]
        )
    })
}
