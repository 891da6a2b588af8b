//! The layers of a config: what a child changes in its parent's, adds to them, takes out of them;
//! and each one's keys, read and checked.
//!
//! `[[layer]]` in a child replaces the whole list. `[layer.NAME]` changes the parent's layer of that
//! name; with `remove = true` it takes it out; and where the parent has none of that name it is a
//! new one, with its `kind` and `after = "NAME"`, the layer that it follows.

use super::{LayerConfig, LayerHead, kind_named};
use crate::config_error;
use crate::keys::{self, typed};
use crate::layers::{Family, Weights};
use crate::random::name_word;
use anyhow::{Context, Result};
use toml::{Table, Value};

/// Lays a child's `[layer.NAME]` on its parent's list: changes first, then new layers, then what is
/// taken out, so that a new layer may follow one that it replaces.
pub(super) fn merge(layers: &mut Vec<Value>, changes: Table) -> Result<()> {
    let mut new = Vec::new();
    for (name, change) in changes {
        let Value::Table(change) = change else {
            return Err(config_error!("layer.{name} must be a table"));
        };
        match position(layers, &name) {
            None if change.contains_key("kind") => new.push((name, change)),
            _ => change_one(named(layers, &name)?, change, &name)?,
        }
    }
    insert(layers, new)?;
    remove(layers)
}

/// Changes a layer that is there.
fn change_one(layer: &mut Table, change: Table, name: &str) -> Result<()> {
    if let Some(after) = change.get("after") {
        return Err(config_error!(
            "layer.{name}.after = {after}: the layer is there already; after is for a new one, and \
             a layer that is to stand elsewhere is removed and added under another name"
        ));
    }
    layer.extend(change);
    Ok(())
}

/// Adds the layers of `new`, each behind the one that it names, be that a new one too.
fn insert(layers: &mut Vec<Value>, mut new: Vec<(String, Table)>) -> Result<()> {
    let mut taken: Vec<(String, String)> = Vec::new();
    while !new.is_empty() {
        let count = new.len();
        let mut waiting = Vec::new();
        for (name, mut layer) in std::mem::take(&mut new) {
            let Some(Value::String(after)) = layer.get("after").cloned() else {
                return Err(config_error!(
                    "layer.{name} is new, so it says which layer it follows: after = {:?}",
                    names(layers).last().copied().unwrap_or_default()
                ));
            };
            let Some(place) = position(layers, &after) else {
                waiting.push((name, layer));
                continue;
            };
            if let Some((other, _)) = taken.iter().find(|(_, place)| *place == after) {
                return Err(config_error!(
                    "layer.{name} and layer.{other} both say after = {after:?}; let one of them \
                     follow the other"
                ));
            }
            layer.remove("after");
            layer.insert("name".into(), name.clone().into());
            layers.insert(place + 1, Value::Table(layer));
            taken.push((name, after));
        }
        if waiting.len() == count {
            let (name, layer) = &waiting[0];
            let after = layer["after"].as_str().unwrap_or_default();
            return Err(no_such(layers, after))
                .with_context(|| format!("layer.{name}.after = {after:?}"));
        }
        new = waiting;
    }
    Ok(())
}

/// Takes out the layers that say `remove = true`.
pub(super) fn remove(layers: &mut Vec<Value>) -> Result<()> {
    for layer in layers.iter_mut().filter_map(Value::as_table_mut) {
        match layer.get("remove") {
            None | Some(Value::Boolean(true)) => {}
            Some(Value::Boolean(false)) => _ = layer.remove("remove"),
            Some(other) => {
                let name = layer.get("name").and_then(Value::as_str).unwrap_or_default();
                return Err(config_error!("layer.{name}.remove = {other}: it must be true"));
            }
        }
    }
    layers.retain(|layer| layer.get("remove").is_none());
    Ok(())
}

/// The layer of that name, to be changed.
pub(super) fn named<'a>(layers: &'a mut [Value], name: &str) -> Result<&'a mut Table> {
    match position(layers, name) {
        Some(index) => Ok(layers[index].as_table_mut().expect("it has a name")),
        None => Err(no_such(layers, name)),
    }
}

fn no_such(layers: &[Value], name: &str) -> anyhow::Error {
    let names = names(layers);
    config_error!(
        "no layer is called {name:?}{}; there are {}",
        keys::nearest(name, &names),
        names.join(", ")
    )
}

fn names(layers: &[Value]) -> Vec<&str> {
    layers.iter().filter_map(|layer| layer.get("name").and_then(Value::as_str)).collect()
}

fn position(layers: &[Value], name: &str) -> Option<usize> {
    layers.iter().position(|layer| layer.get("name").and_then(Value::as_str) == Some(name))
}

/// Takes the layers out of a whole config; there must be some, each with a name of its own.
pub(super) fn read(top: &mut Table) -> Result<Vec<LayerConfig>> {
    let mut layers = match top.remove("layer") {
        Some(Value::Array(layers)) => layers,
        Some(Value::Table(changes)) if !changes.is_empty() => {
            return Err(config_error!(
                "[layer.{}] changes a layer of the config that this one extends, and there is \
                none; a layer of its own is written as [[layer]] with a name",
                changes.keys().next().expect("not empty")
            ));
        }
        _ => Vec::new(),
    };
    remove(&mut layers)?;
    if layers.is_empty() {
        return Err(config_error!("the network has no layers; write one [[layer]] each"));
    }
    let layers = layers.into_iter().enumerate();
    let layers = layers.map(|(i, value)| layer(value, i)).collect::<Result<Vec<_>>>()?;
    check_names(&layers)?;
    Ok(layers)
}

/// Refuses two layers of one name, and names that random numbers cannot tell apart.
fn check_names(layers: &[LayerConfig]) -> Result<()> {
    for (i, layer) in layers.iter().enumerate() {
        let name = &layer.name;
        let same = layers[..i].iter().find(|other| name_word(&other.name) == name_word(name));
        match same {
            Some(other) if other.name == *name => {
                return Err(config_error!("two layers are called {name:?}"));
            }
            Some(other) => {
                return Err(config_error!(
                    "the layers {:?} and {name:?} would draw the same random numbers, since 24 \
                     bits of their names' checksums agree; call one of them something else",
                    other.name
                ));
            }
            None => {}
        }
    }
    Ok(())
}

/// One `[[layer]]`, its keys checked against its kind's.
fn layer(value: Value, index: usize) -> Result<LayerConfig> {
    let Value::Table(table) = value else {
        return Err(config_error!("layer {} is not a table", index + 1));
    };
    let place = match table.get("name") {
        Some(Value::String(name)) => format!("layer {name}"),
        _ => return Err(config_error!("layer {} has no name (name = \"conv1\")", index + 1)),
    };
    let head: LayerHead = typed(&table, &place)?;
    if head.name.is_empty() || head.name.contains(['.', '/', ' ', '\\']) {
        return Err(config_error!("{place}: a layer's name has no dots, slashes or spaces"));
    }
    let kind = kind_named(&head.kind).with_context(|| place.clone())?;
    let mut known = keys::fields_of::<LayerHead>().to_vec();
    known.extend((kind.keys)());
    let learns = matches!(kind.family, Family::Learns(_));
    if learns {
        known.extend(keys::fields_of::<Weights>());
    }
    keys::check(&table, &known, &format!("{place} ({})", kind.name))?;
    let weights = learns.then(|| typed::<Weights>(&table, &place)).transpose()?;
    if let Some(weights) = &weights {
        weights.check().with_context(|| place.clone())?;
    }
    let settings = (kind.read)(&table).map_err(|e| config_error!("{place}: {e:#}"))?;
    Ok(LayerConfig { name: head.name, kind, tower: head.tower, weights, settings })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layers' names after `child` is laid on a parent with conv, relu, pool, fc, softmax.
    fn after(child: &str) -> Result<Vec<String>> {
        let base = "[[layer]]\nname='conv'\n[[layer]]\nname='relu'\n[[layer]]\nname='pool'\n[[layer]]\n\
                    name='fc'\nbias=1\n[[layer]]\nname='softmax'\n";
        let mut base: Table = base.parse().unwrap();
        let mut child: Table = child.parse().unwrap();
        let Some(Value::Table(changes)) = child.remove("layer") else { panic!("no changes") };
        let layers = base.get_mut("layer").and_then(Value::as_array_mut).unwrap();
        merge(layers, changes)?;
        Ok(names(layers).into_iter().map(str::to_string).collect())
    }

    #[test]
    fn layers_are_added_and_taken_out() {
        let list = |child: &str| after(child).unwrap().join(" ");
        assert_eq!(list("layer.relu.remove=true"), "conv pool fc softmax");
        // Tables come in the order of their names; a new layer may follow a new one.
        let two =
            "[layer.a6]\nkind='relu'\nafter='conv6'\n[layer.conv6]\nkind='conv'\nafter='pool'";
        assert_eq!(list(two), "conv relu pool conv6 a6 fc softmax");
        let replaced = "[layer.conv]\nremove=true\n[layer.wide]\nkind='conv'\nafter='conv'";
        assert_eq!(list(replaced), "wide relu pool fc softmax");
        assert_eq!(list("[layer.fc]\nbias=2\nremove=false"), "conv relu pool fc softmax");
    }

    #[test]
    fn what_cannot_be_added_or_taken_out_is_a_sentence() {
        let error = |child: &str| format!("{:#}", after(child).unwrap_err());
        assert_eq!(
            error("[layer.pol]\nremove=true"),
            "no layer is called \"pol\" (the nearest is \"pool\"); there are conv, relu, pool, fc, \
             softmax"
        );
        assert!(error("[layer.new]\nkind='relu'").contains("after = \"softmax\""));
        let nowhere = error("[layer.new]\nkind='relu'\nafter='pol'");
        assert!(nowhere.contains("layer.new.after = \"pol\""), "{nowhere}");
        assert!(nowhere.contains("the nearest is \"pool\""), "{nowhere}");
        let circle = "[layer.a]\nkind='relu'\nafter='b'\n[layer.b]\nkind='relu'\nafter='a'";
        assert!(error(circle).contains("layer.a.after = \"b\""));
        let both = "[layer.a]\nkind='relu'\nafter='fc'\n[layer.b]\nkind='relu'\nafter='fc'";
        assert!(error(both).contains("both say after = \"fc\""));
        assert!(error("layer.fc.after='conv'").contains("is there already"));
        assert!(error("layer.fc.remove='yes'").contains("must be true"));
    }
}
