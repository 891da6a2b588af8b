//! Caffe's tensors, the message `BlobProto`.

use crate::weights::wire::{Field, Message, sizes};
use crate::weights::{Kind, Numbers, Source};
use anyhow::{Result, bail, ensure};
use std::ops::Range;

/// The numbers of a blob: where they lie, or, where they do not lie side by side, a copy.
enum Found {
    None,
    There(Kind, Range<usize>),
    Copied(Kind, Vec<u8>),
}

/// Reads a blob. Its shape is a list of sizes, or in old files four of them by name.
///
/// # Errors
/// If it is damaged, or its shape is not that of its numbers.
pub fn read(source: &Source, message: Message<'_>) -> Result<Numbers> {
    let (mut shape, mut old) = (None, [None; 4]);
    let mut found = Found::None;
    message.fields(|number, field| {
        match (number, field) {
            (1..=4, Field::Varint(size)) => old[number as usize - 1] = Some(size),
            (5, Field::Four(value)) => found.add(Kind::F32, &value)?,
            (8, Field::Eight(value)) => found.add(Kind::F64, &value)?,
            (5 | 8, Field::Bytes(all)) => {
                let kind = if number == 5 { Kind::F32 } else { Kind::F64 };
                match &found {
                    Found::None => found = Found::There(kind, all.place()),
                    Found::There(_, place) => {
                        let first = source.bytes()[place.clone()].to_vec();
                        found = Found::Copied(kind, first);
                        found.add(kind, all.bytes())?;
                    }
                    Found::Copied(..) => found.add(kind, all.bytes())?,
                }
            }
            (7, Field::Bytes(message)) => {
                let mut list = Vec::new();
                message.fields(|number, field| match number {
                    1 => sizes(&mut list, field),
                    _ => Ok(()),
                })?;
                shape = Some(list);
            }
            _ => {}
        }
        Ok(())
    })?;
    let shape = match shape {
        Some(shape) => shape,
        None if old.iter().any(Option::is_some) => {
            old.iter().map(|size| usize::try_from(size.unwrap_or(0))).collect::<Result<_, _>>()?
        }
        None => bail!("it has no shape"),
    };
    match found {
        Found::None => bail!("it has no numbers"),
        Found::There(kind, place) => Numbers::whole(source, kind, place, shape),
        Found::Copied(kind, bytes) => {
            let place = 0..bytes.len();
            Numbers::whole(&Source::memory(bytes), kind, place, shape)
        }
    }
}

impl Found {
    /// Adds numbers to those copied so far.
    fn add(&mut self, kind: Kind, bytes: &[u8]) -> Result<()> {
        if let Found::None = self {
            *self = Found::Copied(kind, Vec::new());
        }
        match self {
            Found::Copied(same, all) if *same == kind => all.extend(bytes),
            _ => bail!("its numbers come in two ways"),
        }
        Ok(())
    }
}

/// The same numbers with the last `count` of their sizes, where the others are 1.
///
/// # Errors
/// If they are not.
pub fn last_sizes(numbers: &Numbers, count: usize) -> Result<Numbers> {
    let shape = numbers.shape();
    let spare = shape.len().saturating_sub(count);
    ensure!(
        shape.len() >= count && shape[..spare].iter().all(|&size| size == 1),
        "its sizes are {shape:?}, and {count} are wanted"
    );
    numbers.reshaped(shape[spare..].to_vec())
}
