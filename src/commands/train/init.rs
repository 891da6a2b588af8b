//! A new run that begins with the weights of another one: `[init]` and `--init`.

use crate::commands::model;
use crate::config::{Config, MeanOf};
use crate::engine::Engine;
use crate::network::Plan;
use crate::note;
use crate::train::checkpoint::{Checkpoint, DataFacts};
use crate::train::transfer::{Transfer, take_mean};
use anyhow::{Context, Result};
use std::path::Path;

/// The checkpoint that a new run begins with.
pub struct Origin(Checkpoint);

impl Origin {
    /// That of `config`, or of `named` on the command line, which the config is to keep; none where
    /// neither names one.
    pub fn open(config: &mut Config, named: Option<&Path>) -> Result<Option<Origin>> {
        if let Some(named) = named {
            config.init.from = Some(named.to_path_buf());
        }
        let Some(path) = &mut config.init.from else { return Ok(None) };
        *path = model::file(Some(path))?;
        let checkpoint =
            Checkpoint::open(path).context("the network to begin with cannot be read")?;
        // The run's config is to name it from any folder.
        let whole = std::path::absolute(&*path)?;
        if whole.to_str().is_some() {
            *path = whole;
        }
        Ok(Some(Origin(checkpoint)))
    }

    /// What the new network, of `plan`, takes; said.
    pub fn fit(&self, config: &Config, plan: &Plan, facts: &DataFacts) -> Result<Transfer> {
        let checkpoint = &self.0;
        let transfer = Transfer::plan(checkpoint, &config.init, plan, facts)?;
        let (file, step) = (checkpoint.path.display(), checkpoint.state.step);
        note!("beginning with {file} of step {step}; {transfer}");
        Ok(transfer)
    }

    /// Writes what is taken into `engine`.
    pub fn give(&self, transfer: &Transfer, engine: &mut dyn Engine) -> Result<()> {
        transfer.carry_out(&self.0, engine)
    }
}

/// Whose mean image counts: the data set's, or the one of the checkpoint that the run began with,
/// which the run's own checkpoints keep.
pub fn settle_mean(
    config: &Config,
    facts: &mut DataFacts,
    origin: Option<&Origin>,
    old: Option<&Checkpoint>,
) -> Result<()> {
    let checkpoint = old.or(origin.map(|origin| &origin.0));
    match (config.init.mean, checkpoint) {
        (MeanOf::Checkpoint, Some(checkpoint)) => take_mean(facts, checkpoint),
        _ => Ok(()),
    }
}
