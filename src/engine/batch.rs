//! What every engine refuses of a batch before it touches it.

use crate::layers::Run;
use crate::network::Plan;
use anyhow::{Result, bail};

/// Refuses a batch that does not fit the plan. `given` is what the images are made of: its name,
/// how many the batch has, how many an image has.
pub(super) fn check_images(plan: &Plan, run: &Run, given: &[(&str, usize, usize)]) -> Result<()> {
    let whole = given.iter().all(|&(_, all, each)| all == run.batch * each);
    if whole && (1..=plan.batch).contains(&run.batch) {
        return Ok(());
    }
    let list = |text: &dyn Fn(&(&str, usize, usize)) -> String| {
        given.iter().map(text).collect::<Vec<_>>().join(" and ")
    };
    // What the numbers of an image are follows from those of the batch.
    bail!(
        "a batch of {} images with {} does not fit the plan: at most {} of {}",
        run.batch,
        list(&|(name, all, _)| format!("{all} {name}")),
        plan.batch,
        list(&|(_, _, each)| each.to_string())
    )
}

/// Refuses labels that are not one an image, each below the number of classes.
pub(super) fn check_labels(plan: &Plan, run: &Run, labels: &[u32]) -> Result<()> {
    let classes = plan.classes;
    if labels.len() != run.batch {
        bail!("{} labels for a batch of {} images", labels.len(), run.batch);
    }
    if let Some(label) = labels.iter().find(|&&l| l as usize >= classes) {
        bail!("label {label} is out of range: the network has {classes} classes");
    }
    Ok(())
}
