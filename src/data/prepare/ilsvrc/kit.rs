//! The contest's kit: its classes and the labels of the validation images.

use super::{Year, is_wnid};
use crate::data::dataset::Class;
use crate::data::prepare::{matlab, text_lines};
use crate::data::unpack::{Limits, tar_gz};
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::path::Path;

/// Bounds for the kit: all of it unpacked, and one file of it.
const KIT: Limits = Limits { archive: 2 << 30, file: 256 << 20 };

/// The contest kit.
pub(super) struct Kit {
    /// In alphabetical order of WNIDs.
    pub(super) classes: Vec<Class>,
    /// From the contest's id to the label.
    pub(super) labels: HashMap<u32, u32>,
    /// The validation images' ids, one a line.
    pub(super) truth: Vec<String>,
}

pub(super) fn read_kit(path: &Path, year: Year) -> Result<Kit> {
    let truth_name = match year {
        Year::Y2010 => "ILSVRC2010_validation_ground_truth.txt",
        Year::Y2012 => "ILSVRC2012_validation_ground_truth.txt",
    };
    let wanted = |name: &str| name == "meta.mat" || name == truth_name;
    let mut files = tar_gz(path, KIT, wanted)?;
    let meta = files.remove("meta.mat").context("it holds no meta.mat")?;
    let truth = files.remove(truth_name).with_context(|| format!("it holds no {truth_name}"))?;
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
