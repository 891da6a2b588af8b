//! Whether a run is gone on with on the data set that it was trained on so far.
//!
//! Another preparation or class table is refused: the network would see something else than it has
//! learnt. Another data set of the same kind is refused inside an epoch, which is a walk through
//! certain images; between epochs it is said, and where the images to validate on are others, the
//! best network is chosen anew, since errors on other images cannot be compared.

use crate::config::Config;
use crate::data::identity::Part;
use crate::note;
use crate::train::checkpoint::{Checkpoint, DataFacts, TrainingState, same_classes};
use crate::train::runs::RunFolder;
use anyhow::{Result, bail};
use std::path::Path;

/// Refuses a data set whose images or classes mean something else than those of the checkpoint.
pub fn check_kind(checkpoint: &Checkpoint, data: &Path, facts: &DataFacts) -> Result<()> {
    let (name, place) = (checkpoint.path.display().to_string(), data.display());
    let old = &checkpoint.facts;
    same_classes((&name, &old.classes), ("the data set", &facts.classes))?;
    let (ours, theirs) = (&old.preparation, &facts.preparation);
    if ours.size != theirs.size || old.channels != facts.channels {
        bail!(
            "{name} was trained on images of {}×{}×{}, those of {place} are {}×{}×{}; go on with \
             the data set it was trained on, or prepare this one in the same size",
            ours.size[0],
            ours.size[1],
            old.channels,
            theirs.size[0],
            theirs.size[1],
            facts.channels
        );
    }
    if !ours.agrees_with(theirs) {
        bail!(
            "the images of {place} were made in another way than those that {name} was trained \
             on: {} here, {} there; go on with the data set it was trained on, or prepare this one \
             in the same way",
            serde_json::to_string(theirs)?,
            serde_json::to_string(ours)?
        );
    }
    Ok(())
}

/// What is other in a data set of the same kind.
pub struct Difference {
    /// In words; empty: it is the same.
    words: Vec<String>,
    /// Whether errors can no longer be compared.
    of_validation: bool,
}

impl Difference {
    /// Compares the data set of `facts`, with `images` to train on, to the checkpoint's. What a
    /// checkpoint of an older version does not know of its data set counts as the same as long as
    /// the rest is.
    pub fn find(checkpoint: &Checkpoint, facts: &DataFacts, images: u64) -> Difference {
        let (old, trained) = (&checkpoint.facts, checkpoint.state.training_images);
        let known = old.identity.is_some();
        let differs = |train: bool| known && part(old, train) != part(facts, train);
        let mut words = Vec::new();
        if trained > 0 && trained != images {
            words.push(format!("{images} training images, not {trained}"));
        } else if differs(true) {
            words.push("other training images".into());
        }
        if old.statistics.mean != facts.statistics.mean {
            words.push("another mean image".into());
        }
        if differs(false) {
            words.push(validation_in_words(part(old, false), part(facts, false)));
        }
        let of_validation = if known { differs(false) } else { !words.is_empty() };
        Difference { words, of_validation }
    }

    /// Refuses another data set inside an epoch.
    pub fn check(&self, checkpoint: &str, inside: bool) -> Result<()> {
        if inside && !self.words.is_empty() {
            bail!(
                "{checkpoint} stands inside an epoch of another data set (this one has {}); go on \
                 with the data set it was trained on, and change it between epochs",
                self.words.join(", ")
            );
        }
        Ok(())
    }

    /// Says that it is another data set and what becomes of the best network, which is chosen anew
    /// from `state` on.
    pub fn tell(&self, run: &RunFolder, config: &Config, state: &mut TrainingState) -> Result<()> {
        if self.words.is_empty() {
            return Ok(());
        }
        note!(
            "warning: the data set is another one than the run was trained on so far: it has {}",
            self.words.join(", ")
        );
        let Some((epoch, error)) = state.best.filter(|_| self.of_validation) else { return Ok(()) };
        let kept = run.keep_best(epoch)?;
        let kept =
            kept.map_or("no longer there".into(), |kept| format!("kept in {}", kept.display()));
        note!(
            "warning: errors on other images cannot be compared, so the best network is chosen \
             anew; the best so far, with a top-1 error of {:.2} % after epoch {epoch}, is {kept}",
            100.0 * error
        );
        state.best = None;
        config.schedule.other_validation(&mut state.schedule)
    }
}

/// The split that is trained on, or else the one that is validated on, and its name.
fn part(facts: &DataFacts, train: bool) -> Option<(&String, &Part)> {
    let parts = facts.identity.iter().flat_map(|identity| &identity.0);
    parts.into_iter().find(|(name, _)| (*name == "train") == train)
}

/// What is other in the images to validate on.
fn validation_in_words(before: Option<(&String, &Part)>, now: Option<(&String, &Part)>) -> String {
    match (before, now) {
        (_, None) => "none to validate on".into(),
        (Some((_, before)), Some((name, now))) if before.images != now.images => {
            format!("{} images to validate on ({name}), not {}", now.images, before.images)
        }
        (_, Some((name, now))) => format!("{} other images to validate on ({name})", now.images),
    }
}
