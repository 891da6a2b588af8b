//! A checkpoint whose weights come from another program's file: they go from one file to the other
//! piece by piece, and no momenta are written, since there are none.

use super::snapshot::{metadata, planes};
use super::{DataFacts, TrainingState};
use crate::config::Config;
use crate::files::tensors::{self, Description, write_floats};
use crate::weights::Numbers;
use anyhow::{Context, Result, ensure};
use std::path::Path;

/// Writes the checkpoint `path`, whole or not at all, with `parameters` under their names here.
///
/// # Errors
/// If a value is no finite number, or the file cannot be written.
pub fn write_imported(
    path: &Path,
    config: &Config,
    facts: &DataFacts,
    state: &TrainingState,
    parameters: &[(String, Numbers)],
) -> Result<()> {
    let [height, width] = facts.preparation.size;
    let (channels, statistics) = (facts.channels, &facts.statistics);
    ensure!(
        statistics.mean.len() == height * width * channels,
        "the mean image is no image of {height}×{width}×{channels}"
    );
    let mut described: Vec<Description> = parameters
        .iter()
        .map(|(name, numbers)| Description::floats(name, numbers.shape()))
        .collect();
    let own = [
        ("data.mean", vec![channels, height, width], planes(&statistics.mean, channels)),
        ("data.components", vec![channels; 2], statistics.components.clone()),
        ("data.deviations", vec![channels], statistics.deviations.clone()),
    ];
    described.extend(own.iter().map(|(name, shape, _)| Description::floats(*name, &shape[..])));
    let metadata = metadata(config, facts, state)?;
    tensors::write_streamed(path, &metadata, &described, |index, sink| {
        match parameters.get(index) {
            Some((name, numbers)) => numbers.write(sink).with_context(|| name.clone()),
            None => write_floats(sink, &own[index - parameters.len()].2),
        }
    })
}
