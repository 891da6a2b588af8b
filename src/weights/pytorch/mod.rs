//! What `torch.save` writes: since 1.6 a zip archive (`NAME/data.pkl`, a pickle that describes the
//! tensors, and `NAME/data/KEY`, their numbers, never packed); before, one pickle after the other
//! (a number that says what this is, the version, the machine, the object, the keys), then the
//! numbers. torchvision's `alexnet-owt-4df8aa71.pth` is of the older kind,
//! `alexnet-owt-7be5be79.pth` of the newer.
//!
//! A state dict is a dictionary of tensors by name. Training scripts keep theirs within another
//! one, under a name such as `state_dict`, and `DataParallel` puts `module.` before each name.

mod archive;
mod calls;
mod pickle;
mod state;
mod values;

use super::{Source, Weights};
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::ops::Range;
use values::{Value, WAY_OUT};

const FORMAT: &str = "a state dict of PyTorch's";

/// What the first pickle of an older file is: 0x1950a86a20f9469cfc6c.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// Reads a file of `torch.save` since 1.6.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn zip(source: &Source) -> Result<Weights> {
    let archive = archive::Archive::open(source.bytes())?;
    let pickle = pickle::read(archive.pickle()?)?;
    let place = |key: &str| archive.numbers(key);
    let tensors = state::tensors(source, &pickle, place)?;
    Ok(Weights { format: FORMAT, tensors, graph: None, metadata: BTreeMap::new() })
}

/// Reads a file of `torch.save` before 1.6, or with `_use_new_zipfile_serialization=False`.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn legacy(source: &Source) -> Result<Weights> {
    let bytes = source.bytes();
    let mut at = 0;
    let mut next = |what: &str| {
        let pickle = pickle::read(&bytes[at..]).with_context(|| what.to_string())?;
        at += pickle.length;
        Ok::<_, anyhow::Error>(pickle)
    };
    let first = next("its beginning")?;
    ensure!(
        *first.get(first.root) == Value::Long(MAGIC.to_vec()),
        "this is a pickle, but none that torch.save has written; {}",
        WAY_OUT
    );
    let version = next("its version")?;
    ensure!(
        *version.get(version.root) == Value::Int(1001),
        "it is of a version of PyTorch's files that is not known; save it again with a later one"
    );
    let machine = next("what it says of its machine")?;
    check_machine(&machine)?;
    let object = next("what it holds")?;
    let keys = next("its list of storages")?;
    let places = storages(bytes, at, &keys, &state::sizes(&object))?;
    let place =
        |key: &str| places.get(key).cloned().with_context(|| format!("it has no storage {key:?}"));
    let tensors = state::tensors(source, &object, place)?;
    Ok(Weights { format: FORMAT, tensors, graph: None, metadata: BTreeMap::new() })
}

/// Refuses numbers whose highest byte comes first.
fn check_machine(machine: &pickle::Pickle) -> Result<()> {
    let Value::Dict(facts) = machine.get(machine.root) else {
        bail!("what it says of its machine is no dictionary");
    };
    let big = facts.iter().any(|&(key, value)| {
        machine.text(key) == Some("little_endian") && *machine.get(value) == Value::Bool(false)
    });
    ensure!(!big, "it was written on a machine whose numbers begin with their highest byte");
    Ok(())
}

/// Where each storage's numbers lie: they follow each other in the order of `keys`, each behind how
/// many there are. `sizes`: bytes of one number, by storage.
fn storages(
    bytes: &[u8],
    mut at: usize,
    keys: &pickle::Pickle,
    sizes: &BTreeMap<String, usize>,
) -> Result<BTreeMap<String, Range<usize>>> {
    let Value::List(list) = keys.get(keys.root) else {
        bail!("its list of storages is no list");
    };
    let mut places = BTreeMap::new();
    for &key in list {
        let key = keys.text(key).context("a storage's name is no text")?;
        let size = sizes.get(key).with_context(|| format!("nothing says what storage {key} is"))?;
        let count = bytes.get(at..).and_then(|rest| rest.first_chunk());
        let count = count.map(|count| u64::from_le_bytes(*count));
        let start = at + 8;
        let end = count.and_then(|count| {
            let length = usize::try_from(count).ok()?.checked_mul(*size)?;
            start.checked_add(length).filter(|&end| end <= bytes.len())
        });
        at = end.with_context(|| {
            format!("it is cut short: the numbers of storage {key} are not all there")
        })?;
        let twice = places.insert(key.to_string(), start..at).is_some();
        ensure!(!twice, "storage {key} is there twice");
    }
    ensure!(at == bytes.len(), "{} bytes follow its last numbers", bytes.len() - at);
    Ok(places)
}
