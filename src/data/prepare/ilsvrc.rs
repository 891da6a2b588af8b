//! The ImageNet contests of 2010 and 2012, from the archives as downloaded, or Kaggle's folder.
//!
//! Classes, and so the network's outputs, are in alphabetical order of their WNIDs, as most programs
//! and published weights have them; the contest's own ids, in which its ground truth is written, are
//! kept beside ([`Class::number`]). Archives are read where they are ([`tape`]).
//!
//! 2010: files of the optional `patch_images.tar` replace those of the same name.

use super::{
    Backing, Content, Item, Source, Stored, base_name, check_folder, entries, image_folder, lines,
    matlab, tape, text_lines, walk,
};
use crate::config_error;
use crate::data::dataset::{Class, Orientation, Preparation};
use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;
use rayon::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The archives are searched for this many folders deep.
const DEPTH: usize = 2;
/// Bounds for the kit: all of it unpacked, and one file of it.
const KIT: u64 = 2 << 30;
const KIT_FILE: u64 = 256 << 20;

/// Which contest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Year {
    /// ILSVRC-2010: the paper's main experiments; with test labels.
    Y2010,
    /// ILSVRC-2012.
    Y2012,
}

/// Finds the pieces below the folder `path`, and says which are missing.
pub fn find(path: &Path, year: Year, size: usize, orientation: Orientation) -> Result<Source> {
    check_folder(path)?;
    let kaggle = match year {
        Year::Y2012 => kaggle_folder(path),
        Year::Y2010 => None,
    };
    let mut notes = vec![
        "classes are in alphabetical order of their WNIDs; the contest's ids are kept beside"
            .into(),
    ];
    let (classes, splits) = match kaggle {
        Some(folder) => kaggle_splits(path, &folder)?,
        None => archive_splits(path, year, &mut notes)?,
    };
    Ok(Source {
        kind: match year {
            Year::Y2010 => "ilsvrc2010".into(),
            Year::Y2012 => "ilsvrc2012".into(),
        },
        path: path.to_path_buf(),
        classes,
        preparation: Preparation::photographs(size, orientation),
        channels: 3,
        stored: Stored::Encoded,
        splits,
        notes,
    })
}

type Splits = Vec<(String, Vec<Item>)>;

fn archive_splits(
    path: &Path,
    year: Year,
    notes: &mut Vec<String>,
) -> Result<(Vec<Class>, Splits)> {
    let files = walk(path, DEPTH)?;
    let mut missing = Vec::new();
    let mut piece = |name: &str, what: &str, needed: bool| {
        let found = files.iter().find(|file| file.file_name().is_some_and(|n| n == name));
        if found.is_none() && needed {
            missing.push(format!("{name} ({what})"));
        }
        found.cloned()
    };
    let (train, val, kit, test) = match year {
        Year::Y2010 => (
            piece("ILSVRC2010_images_train.tar", "training images", true),
            piece("ILSVRC2010_images_val.tar", "validation images", true),
            piece("ILSVRC2010_devkit-1.0.tar.gz", "classes and validation labels", true),
            piece("ILSVRC2010_images_test.tar", "test images", false),
        ),
        Year::Y2012 => (
            piece("ILSVRC2012_img_train.tar", "training images", true),
            piece("ILSVRC2012_img_val.tar", "validation images", true),
            piece("ILSVRC2012_devkit_t12.tar.gz", "classes and validation labels", true),
            None,
        ),
    };
    let truth = piece("ILSVRC2010_test_ground_truth.txt", "test labels", test.is_some());
    let patch = piece("patch_images.tar", "replaced images", false);
    let (Some(train), Some(val), Some(kit), true) = (train, val, kit, missing.is_empty()) else {
        return Err(config_error!(
            "{} lacks {}; they are looked for there and {DEPTH} folders below",
            path.display(),
            missing.join(", ")
        ));
    };
    let kit = read_kit(&kit, year).with_context(|| kit.display().to_string())?;
    let patches = match patch.filter(|_| year == Year::Y2010) {
        Some(patch) => patches(&patch)?,
        None => HashMap::new(),
    };

    let mut splits = vec![
        ("train".to_string(), training_items(&train, &kit.classes)?),
        ("val".to_string(), numbered_items(&val, &kit.truth, &kit.labels)?),
    ];
    match (test, truth) {
        (Some(test), Some(truth)) => {
            let ids = lines(&truth)?;
            let items = numbered_items(&test, &ids, &kit.labels)
                .with_context(|| format!("with the labels of {}", truth.display()))?;
            splits.push(("test".to_string(), items));
        }
        _ if year == Year::Y2010 => {
            notes.push("no test split: ILSVRC2010_images_test.tar is not there".into());
        }
        _ => {}
    }
    let mut replaced = 0;
    for item in splits.iter_mut().flat_map(|(_, items)| items) {
        if let Some(content) = patches.get(base_name(&item.name)) {
            item.content = content.clone();
            replaced += 1;
        }
    }
    if !patches.is_empty() {
        notes.push(format!("{replaced} images are replaced by those of patch_images.tar"));
    }
    Ok((kit.classes, splits))
}

/// The contest kit.
struct Kit {
    /// In alphabetical order of WNIDs.
    classes: Vec<Class>,
    /// From the contest's id to the label.
    labels: HashMap<u32, u32>,
    /// The validation images' ids, one a line.
    truth: Vec<String>,
}

fn read_kit(path: &Path, year: Year) -> Result<Kit> {
    let truth_name = match year {
        Year::Y2010 => "ILSVRC2010_validation_ground_truth.txt",
        Year::Y2012 => "ILSVRC2012_validation_ground_truth.txt",
    };
    let (mut meta, mut truth) = (None, None);
    let mut archive = tar::Archive::new(GzDecoder::new(File::open(path)?).take(KIT));
    for entry in archive.entries()? {
        let mut entry = entry.context("the archive is damaged or cut short")?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let place = match base_name(&name) {
            "meta.mat" => &mut meta,
            name if name == truth_name => &mut truth,
            _ => continue,
        };
        let size = entry.size();
        ensure!(size <= KIT_FILE, "{name} has {size} bytes");
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        ensure!(bytes.len() as u64 == size, "the archive ends inside of {name}");
        *place = Some(bytes);
    }
    let meta = meta.context("it holds no meta.mat")?;
    let truth = truth.with_context(|| format!("it holds no {truth_name}"))?;
    let classes = read_classes(&meta, year).context("meta.mat")?;
    let labels = classes
        .iter()
        .enumerate()
        .filter_map(|(label, class)| Some((class.number?, label as u32)))
        .collect();
    Ok(Kit { classes, labels, truth: text_lines(&truth).context(truth_name)? })
}

/// The classes of a kit's `meta.mat`, in alphabetical order of their WNIDs.
fn read_classes(meta: &[u8], year: Year) -> Result<Vec<Class>> {
    let matlab::Value::Struct { fields, elements } = matlab::read(meta, "synsets")? else {
        bail!("`synsets` is no struct array");
    };
    let field = |name: &str| {
        fields.iter().position(|field| field == name).with_context(|| {
            format!("`synsets` has no field `{name}`; it has {}", fields.join(", "))
        })
    };
    let id = field(match year {
        Year::Y2010 => "ILSVRC2010_ID",
        Year::Y2012 => "ILSVRC2012_ID",
    })?;
    let (wnid, words) = (field("WNID")?, field("words")?);
    let (children, images) = (field("num_children")?, field("num_train_images")?);
    let mut classes = Vec::new();
    for (at, element) in elements.iter().enumerate() {
        let number = |field: usize| {
            element[field]
                .number()
                .filter(|n| (0.0..1e9).contains(n) && n.fract() == 0.0)
                .with_context(|| format!("`{}` of synset {at} is no count", fields[field]))
        };
        let text = |field: usize| {
            element[field]
                .text()
                .with_context(|| format!("`{}` of synset {at} is no text", fields[field]))
        };
        let is_class = match year {
            Year::Y2010 => number(images)? > 0.0,
            Year::Y2012 => number(children)? == 0.0,
        };
        if is_class {
            let wnid = text(wnid)?.to_string();
            ensure!(is_wnid(&wnid), "`{wnid}` is no WNID (n and eight digits)");
            let number = Some(number(id)? as u32);
            classes.push(Class { id: wnid, name: text(words)?.to_string(), number });
        }
    }
    ensure!(!classes.is_empty(), "`synsets` has no classes of that year");
    classes.sort_by(|a, b| a.id.cmp(&b.id));
    for pair in classes.windows(2) {
        ensure!(pair[0].id != pair[1].id, "the WNID {} is there twice", pair[0].id);
    }
    Ok(classes)
}

fn is_wnid(text: &str) -> bool {
    text.len() == 9 && text.starts_with('n') && text[1..].bytes().all(|b| b.is_ascii_digit())
}

/// The training archive's images, class by class, in the archive's order.
fn training_items(path: &Path, classes: &[Class]) -> Result<Vec<Item>> {
    let file = Arc::new(Backing::open(path)?);
    let outer = tape::list(&file, 0, file.len()).with_context(|| path.display().to_string())?;
    let labels: HashMap<&str, usize> =
        classes.iter().enumerate().map(|(label, class)| (class.id.as_str(), label)).collect();
    let label_of = |id: &str, name: &str| {
        labels.get(id).copied().with_context(|| {
            format!("{}: {name} belongs to no class of the kit's meta.mat", path.display())
        })
    };
    let of_entry = |entry: &tape::Entry| -> Result<Vec<(usize, tape::Entry)>> {
        let name = base_name(&entry.name);
        match name.strip_suffix(".tar") {
            Some(id) => {
                let label = label_of(id, &entry.name)?;
                let inner = tape::list(&file, entry.offset, entry.length)
                    .with_context(|| format!("{} in {}", entry.name, path.display()))?;
                Ok(inner.into_iter().map(|image| (label, image)).collect())
            }
            // Some copies hold the images themselves, in folders.
            None => {
                let id = name.split('_').next().unwrap_or(name);
                Ok(vec![(label_of(id, &entry.name)?, entry.clone())])
            }
        }
    };
    let found: Vec<Vec<(usize, tape::Entry)>> =
        outer.par_iter().map(of_entry).collect::<Result<_>>()?;
    let mut of_class: Vec<Vec<Item>> = classes.iter().map(|_| Vec::new()).collect();
    for (label, image) in found.into_iter().flatten() {
        of_class[label].push(part(&file, image, label as u32));
    }
    let empty: Vec<&str> = classes
        .iter()
        .zip(&of_class)
        .filter(|(_, images)| images.is_empty())
        .map(|(class, _)| class.id.as_str())
        .collect();
    if let [first, ..] = empty[..] {
        bail!(
            "{} has no images of {} of the {} classes, {first} the first of them",
            path.display(),
            empty.len(),
            classes.len()
        );
    }
    Ok(of_class.into_iter().flatten().collect())
}

fn part(of: &Arc<Backing>, entry: tape::Entry, label: u32) -> Item {
    let tape::Entry { name, offset, length } = entry;
    Item { name, label, content: Content::Part { of: of.clone(), offset, length } }
}

/// The images of a flat archive, sorted by name; the number in a name is the line of `truth` that
/// holds its class's id.
fn numbered_items(path: &Path, truth: &[String], labels: &HashMap<u32, u32>) -> Result<Vec<Item>> {
    let file = Arc::new(Backing::open(path)?);
    let mut found = tape::list(&file, 0, file.len()).with_context(|| path.display().to_string())?;
    found.sort_by(|a, b| base_name(&a.name).cmp(base_name(&b.name)));
    ensure!(
        found.len() == truth.len(),
        "{} has {} images, and there are {} labels",
        path.display(),
        found.len(),
        truth.len()
    );
    let label_of = |name: &str| {
        let line = number_in(name).context("its name has no number")?;
        let id = line.checked_sub(1).and_then(|at| truth.get(at));
        let id = id.with_context(|| format!("there are {} labels", truth.len()))?;
        let label = id.parse().ok().and_then(|id: u32| labels.get(&id).copied());
        label.with_context(|| format!("its label `{id}` is no class's id"))
    };
    found
        .into_iter()
        .map(|entry| {
            let label = label_of(base_name(&entry.name))
                .with_context(|| format!("{} in {}", entry.name, path.display()))?;
            Ok(part(&file, entry, label))
        })
        .collect()
}

/// 17 for `ILSVRC2010_val_00000017.JPEG`.
fn number_in(name: &str) -> Option<usize> {
    let stem = name.split('.').next()?;
    stem.rsplit('_').next()?.parse().ok()
}

/// The replaced images by name.
fn patches(path: &Path) -> Result<HashMap<String, Content>> {
    let file = Arc::new(Backing::open(path)?);
    let found = tape::list(&file, 0, file.len()).with_context(|| path.display().to_string())?;
    Ok(found
        .into_iter()
        .map(|entry| {
            let name = base_name(&entry.name).to_string();
            (name, part(&file, entry, 0).content)
        })
        .collect())
}

/// Kaggle's folder `CLS-LOC` at or below `path`.
fn kaggle_folder(path: &Path) -> Option<PathBuf> {
    ["ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", "CLS-LOC", "."]
        .iter()
        .map(|inner| path.join(inner))
        .find(|folder| {
            let class = |path: &PathBuf| {
                path.is_dir() && is_wnid(&path.file_name().unwrap_or_default().to_string_lossy())
            };
            entries(&folder.join("train")).is_ok_and(|all| all.iter().any(class))
        })
}

/// Classes and splits of Kaggle's folder.
fn kaggle_splits(path: &Path, folder: &Path) -> Result<(Vec<Class>, Splits)> {
    let beside = |name: &str| {
        path.ancestors().take(4).map(|up| up.join(name)).find(|file| file.is_file()).with_context(
            || format!("{name} is missing; it is to lie in {} or above it", path.display()),
        )
    };
    let mapping = beside("LOC_synset_mapping.txt")?;
    let mut classes = Vec::new();
    for line in lines(&mapping)? {
        let (id, name) = line.split_once(' ').unwrap_or((&line, ""));
        ensure!(is_wnid(id), "{}: `{line}` does not begin with a WNID", mapping.display());
        classes.push(Class { id: id.into(), name: name.trim().into(), number: None });
    }
    classes.sort_by(|a, b| a.id.cmp(&b.id));
    classes.dedup_by(|a, b| a.id == b.id);
    let labels: HashMap<&str, u32> = classes
        .iter()
        .enumerate()
        .map(|(label, class)| (class.id.as_str(), label as u32))
        .collect();

    let folders = |name: &str| -> Result<Vec<PathBuf>> {
        Ok(entries(&folder.join(name))?.into_iter().filter(|path| path.is_dir()).collect())
    };
    let train = folders("train")?;
    ensure!(
        train.len() == classes.len(),
        "{} has {} class folders, but {} names {}",
        folder.join("train").display(),
        train.len(),
        mapping.display(),
        classes.len()
    );
    let mut splits = vec![("train".to_string(), image_folder::items(path, &train, &labels)?)];
    ensure!(
        folder.join("val").is_dir(),
        "{} is missing, the validation images",
        folder.join("val").display()
    );
    let sorted = folders("val")?;
    let val = if sorted.is_empty() {
        let solution = beside("LOC_val_solution.csv")?;
        kaggle_val(path, &folder.join("val"), &solution, &labels)?
    } else {
        image_folder::items(path, &sorted, &labels)?
    };
    splits.push(("val".to_string(), val));
    Ok((classes, splits))
}

/// The flat folder of validation images with its solution: lines `ImageId,WNID x y x y WNID …`.
fn kaggle_val(
    path: &Path,
    folder: &Path,
    solution: &Path,
    labels: &HashMap<&str, u32>,
) -> Result<Vec<Item>> {
    let mut of_image = BTreeMap::new();
    for line in lines(solution)?.iter().skip(1) {
        let pair = line.split_once(',').and_then(|(image, rest)| {
            Some((image.trim(), rest.split_whitespace().next()?.trim_matches('"')))
        });
        let (image, id) =
            pair.with_context(|| format!("{}: `{line}` has no label", solution.display()))?;
        let label = labels.get(id).copied().with_context(|| {
            format!("{}: {id}, the label of {image}, is no class", solution.display())
        })?;
        of_image.insert(image.to_string(), label);
    }
    let mut items = Vec::new();
    for file in walk(folder, 0)? {
        let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let label = *of_image.get(&stem).with_context(|| {
            format!("{} has no label in {}", file.display(), solution.display())
        })?;
        items.push(Item {
            name: file.strip_prefix(path).unwrap_or(&file).to_string_lossy().into_owned(),
            label,
            content: Content::File(file),
        });
    }
    ensure!(
        items.len() == of_image.len(),
        "{} has {} images, but {} labels {}",
        folder.display(),
        items.len(),
        solution.display(),
        of_image.len()
    );
    Ok(items)
}
