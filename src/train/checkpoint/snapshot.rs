//! A checkpoint in memory: taken between two steps, written to the disk beside the next ones.

use super::{DataFacts, FORMAT, TrainingState};
use crate::config::Config;
use crate::engine::{Engine, Slot};
use crate::files::tensors::{self, Description, Values};
use anyhow::Result;
use rayon::prelude::*;
use std::path::Path;

/// A copy of all that a checkpoint holds.
pub struct Snapshot {
    /// Steps done.
    pub step: u64,
    metadata: Vec<(&'static str, String)>,
    described: Vec<Description>,
    /// As many.
    values: Vec<Values>,
}

impl Snapshot {
    /// Copies parameters and momenta out of `engine`, and what else belongs to them, into the
    /// memory of `old`, an earlier snapshot of the same network, where there is one. Of a network
    /// that ranks share all others must [`lend`] theirs.
    pub fn take(
        config: &Config,
        facts: &DataFacts,
        state: &TrainingState,
        engine: &dyn Engine,
        old: Option<Snapshot>,
    ) -> Result<Snapshot> {
        let [height, width] = facts.preparation.size;
        let channels = facts.channels;
        let metadata = metadata(config, facts, state)?;
        let (mut described, mut values) = (Vec::new(), Vec::new());
        let mut add = |name: String, shape: &[usize], floats: Vec<f32>| {
            described.push(Description::floats(name, shape));
            values.push(Values::F32(floats));
        };
        let mut old = old.into_iter().flat_map(|old| old.values);
        for (slot, prefix) in [(Slot::Value, ""), (Slot::Momentum, "momentum/")] {
            for (index, tensor) in engine.plan().tensors().iter().enumerate() {
                let memory = match old.next() {
                    Some(Values::F32(floats)) => floats,
                    _ => Vec::new(),
                };
                let floats = engine.collect_into(slot, index, memory)?.values;
                add(format!("{prefix}{}", tensor.name), &tensor.shape, floats);
            }
        }
        let statistics = &facts.statistics;
        let mean = planes(&statistics.mean, channels);
        add("data.mean".into(), &[channels, height, width], mean);
        add("data.components".into(), &[channels, channels], statistics.components.clone());
        add("data.deviations".into(), &[channels], statistics.deviations.clone());
        Ok(Snapshot { step: state.step, metadata, described, values })
    }

    /// The first parameter that has a value that is no number, or infinite.
    pub fn not_finite(&self) -> Option<&str> {
        let mut all = self.described.iter().zip(&self.values);
        let found = all.find(|(tensor, values)| match values {
            Values::F32(values) if !tensor.name.contains('/') => {
                !values.par_iter().all(|v| v.is_finite())
            }
            _ => false,
        });
        found.map(|(tensor, _)| tensor.name.as_str())
    }

    /// Writes the checkpoint `path`, whole or not at all.
    pub fn write(&self, path: &Path) -> Result<()> {
        tensors::write(path, &self.metadata, &self.described, |index| Ok(&self.values[index]))
    }
}

/// Another rank's part in [`Snapshot::take`]: its shares of a network that ranks share.
pub fn lend(engine: &dyn Engine) -> Result<()> {
    let mut memory = Vec::new();
    for slot in [Slot::Value, Slot::Momentum] {
        for index in (0..engine.plan().tensors().len()).filter(|&t| engine.is_shared(t)) {
            memory = engine.collect_into(slot, index, memory)?.values;
        }
    }
    Ok(())
}

/// The entries beside the tensors.
pub(super) fn metadata(
    config: &Config,
    facts: &DataFacts,
    state: &TrainingState,
) -> Result<Vec<(&'static str, String)>> {
    let mut metadata = vec![
        ("format", FORMAT.to_string()),
        ("config", config.to_toml()),
        ("classes", serde_json::to_string(&facts.classes)?),
        ("seed", config.seed.to_string()),
        ("step", state.step.to_string()),
        ("preparation", serde_json::to_string(&facts.preparation)?),
        ("state", serde_json::to_string(state)?),
    ];
    if let Some(identity) = &facts.identity {
        metadata.push(("data", serde_json::to_string(identity)?));
    }
    Ok(metadata)
}

/// `[pixel][channel]` to `[channel][pixel]`.
pub(super) fn planes(interleaved: &[f32], channels: usize) -> Vec<f32> {
    let pixels = interleaved.len() / channels;
    (0..interleaved.len()).map(|i| interleaved[i % pixels * channels + i / pixels]).collect()
}
