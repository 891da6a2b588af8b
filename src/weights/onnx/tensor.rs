//! ONNX's tensors, the message `TensorProto`: their numbers lie in it as bytes or as floats, or in
//! another file beside the model.

use crate::weights::wire::{Field, Message, sizes};
use crate::weights::{Kind, Numbers, Source, Tensor};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Files beside a model that its tensors lie in.
const MOST_FILES: usize = 64;

/// The model's file and those beside it.
pub struct Files<'a> {
    model: &'a Source,
    folder: Option<PathBuf>,
    others: BTreeMap<String, Source>,
}

/// A tensor's message.
#[derive(Default)]
struct Parts {
    name: String,
    shape: Vec<usize>,
    kind: u64,
    /// Where its numbers lie in the model's file.
    place: Option<(Kind, Range<usize>)>,
    /// Floats that do not lie side by side.
    loose: Vec<u8>,
    is_outside: bool,
    outside: BTreeMap<String, String>,
}

impl<'a> Files<'a> {
    /// Those of a model in `folder`, of which none has been opened.
    pub fn new(model: &'a Source, folder: Option<&Path>) -> Files<'a> {
        Files { model, folder: folder.map(Path::to_path_buf), others: BTreeMap::new() }
    }

    /// The tensor that `message` is; None: it has no floats.
    ///
    /// # Errors
    /// If it is damaged, or its shape is not that of its numbers.
    pub fn tensor(&mut self, message: Message<'_>) -> Result<Option<Tensor>> {
        let parts = parts(message).context("a tensor is damaged")?;
        let name = parts.name.clone();
        let numbers = self.numbers(parts).with_context(|| format!("tensor {name}"))?;
        Ok(numbers.map(|numbers| Tensor { name, numbers }))
    }

    fn numbers(&mut self, parts: Parts) -> Result<Option<Numbers>> {
        let kind = match parts.kind {
            1 => Kind::F32,
            10 => Kind::F16,
            11 => Kind::F64,
            16 => Kind::BF16,
            // Integers: sizes of shapes.
            _ => return Ok(None),
        };
        if parts.is_outside {
            return self.outside(kind, parts.outside, parts.shape).map(Some);
        }
        if !parts.loose.is_empty() {
            ensure!(parts.place.is_none() && kind == Kind::F32, "its numbers come in two ways");
            let place = 0..parts.loose.len();
            return Numbers::whole(&Source::memory(parts.loose), kind, place, parts.shape)
                .map(Some);
        }
        let (found, place) = match parts.place {
            Some(found) => found,
            None if parts.shape.contains(&0) => return Ok(None),
            None => bail!("it has no numbers"),
        };
        ensure!(found == kind, "its numbers are of another kind than it says");
        Numbers::whole(self.model, kind, place, parts.shape).map(Some)
    }

    /// Numbers in a file beside the model, `location` by name, from `offset` on.
    fn outside(
        &mut self,
        kind: Kind,
        entries: BTreeMap<String, String>,
        shape: Vec<usize>,
    ) -> Result<Numbers> {
        let name = entries.get("location").context("it lies in another file without a name")?;
        let plain = Path::new(name).file_name() == Some(name.as_ref());
        ensure!(plain, "{name:?}, where it is to lie, is no name of a file beside the model");
        let number = |key: &str| entries.get(key).map(|text| text.parse::<usize>()).transpose();
        let source = match self.others.get(name) {
            Some(source) => source.clone(),
            None => {
                let folder = self.folder.as_ref().context("it lies in another file")?;
                ensure!(self.others.len() < MOST_FILES, "its tensors lie in too many files");
                let path = folder.join(name);
                let source = Source::open(&path).with_context(|| {
                    format!("its numbers are in {}, which belongs to the model", path.display())
                })?;
                self.others.insert(name.clone(), source.clone());
                source
            }
        };
        let start = number("offset")?.unwrap_or(0);
        let length = match number("length")? {
            Some(length) => length,
            None => source.bytes().len().saturating_sub(start),
        };
        let end = start.checked_add(length).context("its place is beyond counting")?;
        Numbers::whole(&source, kind, start..end, shape)
    }
}

fn parts(message: Message<'_>) -> Result<Parts> {
    let mut parts = Parts::default();
    message.fields(|number, field| {
        match (number, field) {
            (1, field) => sizes(&mut parts.shape, field)?,
            (2, Field::Varint(kind)) => parts.kind = kind,
            (3, _) => bail!("it comes in segments, which are not read"),
            (4, Field::Four(value)) => parts.loose.extend(value),
            (8, Field::Bytes(name)) => parts.name = name.text()?.into(),
            (4 | 9 | 10, Field::Bytes(all)) => {
                let kind = match (number, parts.kind) {
                    (4, _) | (9, 1) => Kind::F32,
                    (10, _) | (9, 11) => Kind::F64,
                    (9, 10) => Kind::F16,
                    (9, 16) => Kind::BF16,
                    _ => return Ok(()),
                };
                // Writers leave fields empty that have nothing.
                if !all.bytes().is_empty() {
                    ensure!(parts.place.is_none(), "its numbers come in two ways");
                    parts.place = Some((kind, all.place()));
                }
            }
            (13, Field::Bytes(entry)) => {
                let (mut key, mut value) = (String::new(), String::new());
                entry.fields(|number, field| {
                    match (number, field) {
                        (1, Field::Bytes(text)) => key = text.text()?.into(),
                        (2, Field::Bytes(text)) => value = text.text()?.into(),
                        _ => {}
                    }
                    Ok(())
                })?;
                ensure!(parts.outside.len() < 16, "too much is said of where it lies");
                parts.outside.insert(key, value);
            }
            (14, Field::Varint(place)) => parts.is_outside = place == 1,
            _ => {}
        }
        Ok(())
    })?;
    Ok(parts)
}
