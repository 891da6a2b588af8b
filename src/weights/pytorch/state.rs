//! From a pickle's values to the tensors of a state dict.

use super::pickle::Pickle;
use super::values::{Id, LONGEST_NAME, Storage, Value, View, WAY_OUT};
use crate::weights::{MOST_TENSORS, Numbers, Source, Tensor};
use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Where training scripts keep the state dict among other things, the likeliest first.
const WITHIN: [&str; 5] = ["state_dict", "model_state_dict", "model", "net", "weights"];

/// What modules that wrap a model put before its names.
const PREFIXES: [&str; 3] = ["module.", "_orig_mod.", "model."];

/// The tensors of the state dict in `pickle`, in its order. `place` says where a storage's bytes
/// lie.
///
/// # Errors
/// A sentence: there is none, or a tensor is not all there.
pub fn tensors(
    source: &Source,
    pickle: &Pickle,
    place: impl Fn(&str) -> Result<Range<usize>>,
) -> Result<Vec<Tensor>> {
    let views = views(pickle)?;
    let mut places: BTreeMap<&str, Range<usize>> = BTreeMap::new();
    let (mut tensors, mut names) = (Vec::new(), BTreeSet::new());
    for (name, view) in &views {
        ensure!(names.insert(name), "{name} is there twice");
        let Storage { kind: Some(kind), key, .. } = &view.storage else {
            // Counters, such as `num_batches_tracked`, are no weights.
            continue;
        };
        let whole = match places.get(key.as_str()) {
            Some(whole) => whole.clone(),
            None => place(key).with_context(|| format!("tensor {name}"))?,
        };
        places.insert(key, whole.clone());
        let part = part(&view.storage, whole).with_context(|| format!("tensor {name}"))?;
        let (steps, shape) = (view.steps.clone(), view.shape.clone());
        let numbers = Numbers::strided(source, *kind, part, view.first, steps, shape);
        let numbers = numbers.with_context(|| format!("tensor {name}"))?;
        tensors.push(Tensor { name: name.clone(), numbers });
    }
    ensure!(!tensors.is_empty(), "there are no tensors in it; {WAY_OUT}");
    Ok(tensors)
}

/// The bytes of a storage's numbers among those at `whole`.
fn part(storage: &Storage, whole: Range<usize>) -> Result<Range<usize>> {
    let bytes = |count: usize| count.checked_mul(storage.size);
    let start = bytes(storage.first).and_then(|first| whole.start.checked_add(first));
    let end = start.and_then(|start| start.checked_add(bytes(storage.count)?));
    match (start, end) {
        (Some(start), Some(end)) if end <= whole.end => Ok(start..end),
        _ => bail!(
            "its storage {} has {} bytes, and {} numbers of {} bytes are to be there",
            storage.key,
            whole.len(),
            storage.count,
            storage.size
        ),
    }
}

/// Bytes of one number of each storage that a tensor or anything else in `pickle` lies on.
pub fn sizes(pickle: &Pickle) -> BTreeMap<String, usize> {
    let storages = pickle.all().filter_map(|value| match value {
        Value::Storage(storage) => Some((storage.key.clone(), storage.size)),
        _ => None,
    });
    storages.collect()
}

/// Names and views of the state dict that `pickle` is or has within it.
fn views(pickle: &Pickle) -> Result<Vec<(String, View)>> {
    let mut at = pickle.root;
    // A dictionary in a dictionary in a dictionary is as deep as scripts go.
    for _ in 0..3 {
        let Value::Dict(items) = pickle.get(at) else {
            bail!("it holds no dictionary of tensors; {WAY_OUT}");
        };
        let views: Vec<(&str, &View)> = items
            .iter()
            .filter_map(|&(name, value)| match pickle.get(value) {
                Value::Tensor(view) => Some((pickle.text(name)?, view)),
                _ => None,
            })
            .take(MOST_TENSORS + 1)
            .collect();
        let longest = views.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        ensure!(longest <= LONGEST_NAME, "a tensor has a name of {longest} bytes");
        ensure!(views.len() <= MOST_TENSORS, "it has more than {MOST_TENSORS} tensors");
        if !views.is_empty() {
            let own = |(name, view): (&str, &View)| (name.to_string(), view.clone());
            return Ok(without_prefix(views.into_iter().map(own).collect()));
        }
        match within(pickle, items) {
            Some(next) => at = next,
            None => break,
        }
    }
    bail!("there are no tensors in its dictionary; {WAY_OUT}")
}

/// The dictionary among `items` that is likeliest to be the state dict.
fn within(pickle: &Pickle, items: &[(Id, Id)]) -> Option<Id> {
    let named = |name: &str| {
        let is_it = |(key, value): &&(Id, Id)| {
            pickle.text(*key) == Some(name) && matches!(pickle.get(*value), Value::Dict(_))
        };
        items.iter().find(is_it).map(|item| item.1)
    };
    WITHIN.iter().find_map(|name| named(name))
}

/// Takes off what wrappers have put before all names.
fn without_prefix(mut views: Vec<(String, View)>) -> Vec<(String, View)> {
    while let Some(prefix) =
        PREFIXES.iter().find(|prefix| views.iter().all(|(name, _)| name.starts_with(**prefix)))
    {
        for (name, _) in &mut views {
            name.drain(..prefix.len());
        }
    }
    views
}
