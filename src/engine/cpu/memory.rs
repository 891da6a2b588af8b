//! What a network needs of main memory, asked for before it is taken.

use super::{beside, together};
use crate::errors::{BATCH_OPTION, TooLarge};
use crate::layers::{ParameterShapes, Role};
use crate::machine::memory::{Supply, size, supply};
use crate::network::{Fusion, Mode, OnCpu, Part, Plan};
use anyhow::{Error, Result};

/// Images up to which a network for evaluation uses weights where they lie: ten crops.
pub(super) const FEW: usize = 10;

/// Images a thread from which on evaluation keeps what is made of weights.
const KEPT: usize = 4;

/// Whether it does with such a batch.
pub(super) fn keeps(batch: usize) -> bool {
    batch >= KEPT * rayon::current_num_threads()
}

/// Refuses a batch for which there is too little memory; says how large a one would fit.
pub(super) fn check(plan: &Plan, fusions: &[Fusion<OnCpu>]) -> Result<()> {
    let Some(supply) = supply() else { return Ok(()) };
    refuse(plan, fusions, &supply).map_or(Ok(()), |too_large| Err(Error::new(too_large)))
}

/// As [`check`], of the two halves of the network of `plan`. `saves`: this process holds what is
/// written to the disk, the parameters of all.
pub(super) fn check_halves(plan: &Plan, below: &Plan, above: &Plan, saves: bool) -> Result<()> {
    let Some(supply) = supply() else { return Ok(()) };
    let saved = if saves { saved(plan) } else { 0 };
    let too_large = refuse_halves(below, above, saved, &supply);
    too_large.map_or(Ok(()), |too_large| Err(Error::new(too_large)))
}

fn refuse_halves(below: &Plan, above: &Plan, saved: u64, supply: &Supply) -> Option<TooLarge> {
    let passes = (below.batch, above.batch / below.batch);
    too_large(passes, |images| bytes_of_halves(below, above, saved, images), supply)
}

/// As [`bytes()`], of the two halves of a network, with so many images at once in the lower one and
/// those of all processes in the upper one; `saved` values are being written to the disk.
fn bytes_of_halves(below: &Plan, above: &Plan, saved: u64, images: usize) -> u64 {
    let ranks = above.batch / below.batch;
    // What travels, and room for what comes.
    let wide = above.layers.iter().map(|layer| layer.parts[0].input.len()).max().unwrap_or(0);
    let halves = [(below, images), (above, images * ranks)];
    let values = halves.map(|(half, batch)| values(half, &super::fusions(half), batch));
    let all = values.into_iter().chain([saved, (2 * wide * images * ranks) as u64]);
    all.fold(0, u64::saturating_add).saturating_mul(4)
}

fn refuse(plan: &Plan, fusions: &[Fusion<OnCpu>], supply: &Supply) -> Option<TooLarge> {
    too_large((plan.batch, plan.pieces.all), |batch| bytes(plan, fusions, batch), supply)
}

/// Whether `batch` images at once, `passes` times, need more than there is, and how many would not;
/// `bytes` says what so many need.
fn too_large(
    (batch, passes): (usize, usize),
    bytes: impl Fn(usize) -> u64,
    supply: &Supply,
) -> Option<TooLarge> {
    let fits = |batch: usize| bytes(batch) <= supply.free;
    if fits(batch) {
        return None;
    }
    let (mut most, mut too_many) = (0, batch);
    while too_many - most > 1 {
        let middle = most.midpoint(too_many);
        *(if fits(middle) { &mut most } else { &mut too_many }) = middle;
    }
    Some(TooLarge {
        batch: batch * passes,
        why: format!("the network needs {}, and {supply}", size(bytes(batch))),
        fits: most * passes,
        none_fits: "use a smaller network or crop, or a machine with more memory",
        option: BATCH_OPTION,
    })
}

/// Batches that the loader has in work at least: one that is used, one that waits, one being made.
const LOADED: u64 = 3;
/// Copies of a tensor while it is initialised or taken out.
const COPIES: u64 = 2;

/// Bytes that are written to, at most, with so many images at once: what the loader makes of them,
/// activations and gradients, parameters, scratch space.
fn bytes(plan: &Plan, fusions: &[Fusion<OnCpu>], batch: usize) -> u64 {
    let saved = if plan.mode == Mode::Training { saved(plan) } else { 0 };
    values(plan, fusions, batch).saturating_add(saved).saturating_mul(4)
}

/// Values of what is being written to the disk: all parameters and their momenta.
fn saved(plan: &Plan) -> u64 {
    2 * plan.parameters()
}

/// Values as [`bytes()`] counts them, but for what is being written to the disk.
fn values(plan: &Plan, fusions: &[Fusion<OnCpu>], batch: usize) -> u64 {
    let add = |sum: u64, values: u64| sum.saturating_add(values);
    let loaded = LOADED.saturating_mul((plan.pieces.own * plan.input.len()) as u64);
    let sizes = beside::sizes(plan, fusions, &beside::sides(plan, fusions));
    let image = sizes.into_iter().map(|n| n as u64).fold(loaded, add);
    let parts = || plan.layers.iter().flat_map(|layer| &layer.parts);
    let own = parts().map(|part| of_parameters(part, plan, batch)).fold(0, add);
    let beside = match plan.mode {
        Mode::Training => {
            let largest = plan.tensors().iter().map(|tensor| tensor.len() as u64).max();
            let waiting = (plan.pieces.waiting as u64).saturating_mul(plan.parameters());
            let copies = (COPIES * largest.unwrap_or(0)).saturating_add(waiting);
            copies.saturating_add(together::workspace(plan, batch) as u64)
        }
        Mode::Evaluation | Mode::Explanation => 0,
    };
    let all = [image.saturating_mul(batch as u64), own, beside];
    all.into_iter().fold(0, add)
}

/// Values of a part's parameters that are used: not the weights that stay in their file, nor the
/// gradient of weights that are updated as it comes into being.
fn of_parameters(part: &Part, plan: &Plan, batch: usize) -> u64 {
    let Some([weights, biases]) = part.layer.parameters().map(|p| ParameterShapes::sizes(&p))
    else {
        return 0;
    };
    let Role::Learn(learn) = part.layer.role() else { return 0 };
    let copies = match plan.mode {
        Mode::Training if learn.update_at_once().is_some() && !plan.pieces.gradients => 2,
        Mode::Training => 3,
        Mode::Evaluation if batch <= FEW && learn.forward_few().is_some() => 0,
        Mode::Evaluation | Mode::Explanation => 1,
    };
    let kept = learn.keeps();
    let kept = kept.filter(|_| plan.mode == Mode::Evaluation && keeps(batch));
    let kept = kept.map_or(0, |layer| layer.len(batch));
    copies * weights as u64 + 3 * biases as u64 + kept as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::layers::Classes;
    use crate::network::{Halves, Pieces, Share};

    const NETWORK: &str = "[data]\ncrop = 10\nclasses = 4\n[train]\nbatch = 100\n[schedule]\n\
        rate = 0.1\n[[layer]]\nname = \"fc\"\nkind = \"fc\"\noutputs = 4\n[[layer]]\n\
        name = \"softmax\"\nkind = \"softmax\"\n";

    /// Eight passes of 25 images make a batch of 200; of the three levels of the tree two wait.
    #[test]
    fn passes_that_make_a_batch_need_their_images_and_gradients() {
        let config = Config::parse(NETWORK, &[], "test").unwrap();
        let mut plan = Plan::new(&config, 25, Mode::Training, &[0], Classes::Any).unwrap();
        let before = bytes(&plan, &[], 25);
        plan.pieces = Pieces { all: 8, own: 4, waiting: 2, gradients: true };
        // Three more parts' images, three batches of them; 1,204 parameters, twice; and the
        // weights' gradient where the layer could do without.
        let Role::Learn(learn) = plan.layers[0].parts[0].layer.role() else { panic!() };
        let gradient = if learn.update_at_once().is_some() { 1200 } else { 0 };
        let more = 3 * 3 * 25 * 300 + 2 * 1204 + gradient;
        assert_eq!(bytes(&plan, &[], 25) - before, 4 * more);
        let supply = Supply { free: before, total: 1 << 30, whose: "the machine's memory" };
        let too_large = refuse(&plan, &[], &supply).unwrap();
        assert_eq!((too_large.batch, too_large.fits % 8), (200, 0));
        assert!((1..200).contains(&too_large.fits));
    }

    /// Two processes, 50 images and two neurons each. An image more of each is one more in the
    /// lower half, two in the upper one, and two rows of 300 values that go out and two that come
    /// in.
    #[test]
    fn halves_need_the_images_of_all_and_room_for_what_travels() {
        let config = Config::parse(NETWORK, &[], "test").unwrap();
        let share = Share { rank: 0, ranks: 2 };
        let Halves { below, above, .. } = Halves::new(&config, 100, share, Classes::Any).unwrap();
        assert_eq!((below.batch, above.batch), (50, 100));
        let at = |images| bytes_of_halves(&below, &above, 0, images);
        let of = |half: &Plan, images| values(half, &super::super::fusions(half), images);
        let lower = of(&below, 2) - of(&below, 1);
        let upper = of(&above, 2) - of(&above, 1);
        // An image that is loaded three times; an input, two outputs, four scores, their gradients.
        assert!(lower >= 3 * 300 && upper >= 300 + 2 + 4 + 2, "{lower} and {upper}");
        assert_eq!(at(2) - at(1), 4 * (lower + 2 * upper + 2 * 2 * 300));
        let free = |free| Supply { free, total: 1 << 30, whose: "the machine's memory" };
        assert!(refuse_halves(&below, &above, 0, &free(at(50))).is_none());
        let too_large = refuse_halves(&below, &above, 0, &free(at(50) - 1)).unwrap();
        assert_eq!((too_large.batch, too_large.fits), (100, 98));
        let text = too_large.to_string();
        assert!(text.contains("a batch of 98 would fit (--set train.batch=98)"), "{text}");
        // Rank 0 writes all 1,204 parameters and as many momenta.
        let plan = Plan::new(&config, 50, Mode::Training, &[0], Classes::Any).unwrap();
        assert_eq!(saved(&plan), 2 * 1204);
        let saves = |free| refuse_halves(&below, &above, saved(&plan), &free).map(|t| t.fits);
        assert_eq!(saves(free(at(50) + 4 * 2 * 1204)), None);
        assert_eq!(saves(free(at(50) + 4 * 2 * 1204 - 1)), Some(98));
    }

    /// Per image four times 300 inputs, 4 outputs, 4 probabilities, 4 gradients of scores.
    #[test]
    fn need_against_supply() {
        let config = Config::parse(NETWORK, &[], "test").unwrap();
        let plan = Plan::new(&config, 100, Mode::Training, &[0], Classes::Any).unwrap();
        let fusions = plan.fusions();
        let at = |batch| bytes(&plan, &fusions, batch);
        let image = at(2) - at(1);
        assert_eq!(image, 4 * 1212);
        let free = |free| Supply { free, total: 1 << 30, whose: "the machine's memory" };
        assert!(refuse(&plan, &fusions, &free(at(100))).is_none());
        let too_large = refuse(&plan, &fusions, &free(at(100) - 1)).unwrap();
        assert_eq!(too_large.fits, 99);
        let text = refuse(&plan, &fusions, &free(at(37))).unwrap().to_string();
        assert!(text.contains("a batch of 37 would fit (--set train.batch=37)"), "{text}");
        let text = refuse(&plan, &fusions, &free(at(1) - 1)).unwrap().to_string();
        assert!(text.contains("not even one image fits"), "{text}");
    }
}
