//! A network as a folder for PyTorch: `model.py`, `weights.safetensors`, `labels.txt`.

use super::Exported;
use super::names::Names;
use super::python::module;
use crate::files::tensors::{Description, Values, write as write_tensors};
use crate::files::write_whole;
use crate::quoting;
use anyhow::{Context, Result};
use std::io::Write;
use std::path::Path;

/// Writes the folder `out`; `model.py` comes last, so that a folder that has one is whole.
///
/// # Errors
/// If a file cannot be written, or a tensor of the checkpoint is damaged.
pub fn write(out: &Path, exported: &Exported<'_>) -> Result<()> {
    let names = Names::new(exported.steps.iter().map(|step| step.name));
    std::fs::create_dir_all(out)
        .with_context(|| format!("the folder {} cannot be made", out.display()))?;
    weights(&out.join("weights.safetensors"), exported, &names)?;
    let lines = |text: String| move |to: &mut dyn Write| Ok(to.write_all(text.as_bytes())?);
    // A label is a line.
    let labels = exported.classes.iter().map(|class| class.name.replace(['\n', '\r'], " ") + "\n");
    let labels = lines(labels.collect());
    write_whole(&out.join("labels.txt"), |to| labels(to))?;
    let code = lines(module(exported, &names)?);
    write_whole(&out.join("model.py"), |to| code(to))
}

fn weights(path: &Path, exported: &Exported<'_>, names: &Names) -> Result<()> {
    let channels = exported.input.channels;
    let (mut tensors, mut given) = (Vec::new(), Vec::new());
    for (name, values) in [("mean", exported.mean()), ("scale", exported.scale())] {
        let Some((side, values)) = values else { continue };
        tensors.push(Description::floats(name, [channels, side, side]));
        given.push(values);
    }
    let mut stored = Vec::new();
    for step in exported.steps.iter().filter(|step| step.work.has_weights()) {
        for which in ["weight", "bias"] {
            let name = format!("{}.{which}", step.name);
            let shape = exported.checkpoint.shape(&name).expect("it fits its plan");
            let known = names.of(step.name);
            tensors.push(Description::floats(format!("{known}.{which}"), shape));
            stored.push(name);
        }
    }
    write_tensors(path, &[("format", "pt".into())], &tensors, |index| {
        Ok(match given.get(index) {
            Some(values) => Values::F32(values.clone()),
            None => {
                let tensor = exported.checkpoint.tensor(&stored[index - given.len()])?;
                Values::F32(tensor.values)
            }
        })
    })
}

/// What was written, and how it is used.
pub fn words(out: &Path, exported: &Exported<'_>, parameters: u64) -> String {
    let folder = out.display();
    format!(
        "{folder}: {} with {parameters} parameters for PyTorch: model.py, weights.safetensors, \
         labels.txt; the five most probable labels of an image:\n  python {} photo.jpg",
        exported.name,
        quoting::path(&out.join("model.py"))
    )
}
