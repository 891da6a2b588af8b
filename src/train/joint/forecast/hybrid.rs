//! The same for `train.distribute = "hybrid"`: what is gathered is waited for, sums of gradients of
//! activations travel while those of the weights above are computed, and below the first fully
//! connected layer all is as without shares.

use super::{ALONE, Machines, Step, Wire, beside, of_gradients, works};
use crate::layers::Role;
use crate::network::{Halves, Plan, Share, Task};

/// What a rank sends in the middle of a step.
#[derive(Clone, Copy)]
struct Messages {
    /// Bytes of one f32 times what others get of it, of everything that one rank has.
    gathered: usize,
    /// Of sums that are the others' share.
    scattered: usize,
}

impl Messages {
    /// Of numbers, `all` by all ranks, of which this one has `own`.
    fn of(all: usize, own: usize, share: Share) -> Messages {
        Messages { gathered: 4 * own * (share.ranks - 1), scattered: 4 * (all - own) }
    }
}

/// Images of a step: of the rank that has most, and of all.
fn images(halves: &Halves) -> (usize, usize) {
    (halves.share.of(halves.batch).len(), halves.batch)
}

/// The labels, and the upper half's input.
fn between(halves: &Halves) -> [Messages; 2] {
    let (own, all) = images(halves);
    [1, halves.above.input.len()].map(|n| Messages::of(all * n, own * n, halves.share))
}

/// The neurons that a layer of the upper half reads; `alike`: no gradient is added up over ranks.
fn neurons(halves: &Halves, layer: usize) -> Option<(Messages, bool)> {
    let gathered = halves.above.gathered(layer)?;
    let (all, own) = (gathered.all * halves.batch, gathered.own.len() * halves.batch);
    Some((Messages::of(all, own, halves.share), gathered.alike))
}

/// Bytes that the rank of `halves` sends in a step.
pub fn hybrid_bytes_sent(halves: &Halves) -> u64 {
    if halves.share.ranks == 1 {
        return 0;
    }
    let [labels, input] = between(halves);
    let scattered = if descends(halves, 0) { input.scattered } else { 0 };
    let mut sent = labels.gathered + input.gathered + scattered;
    for layer in 0..halves.above.layers.len() {
        let Some((messages, alike)) = neurons(halves, layer) else { continue };
        let back = if alike || !descends(halves, layer) { 0 } else { messages.scattered };
        sent += messages.gathered + back;
    }
    sent as u64 + of_gradients(&halves.below, halves.share.ranks)
}

/// Whether a gradient goes on below a layer of the upper half.
fn descends(halves: &Halves, layer: usize) -> bool {
    halves.above.layers[layer].parts[0].dx.is_some()
}

/// A step of the rank of `halves`, a part of the network of `plan`.
pub fn hybrid_step(plan: &Plan, halves: &Halves, machines: &Machines) -> Step {
    let (own, all) = images(halves);
    let compute = own as f64 / machines.images_per_second;
    // Seconds of a multiply-add of one image.
    let whole: f64 = works(plan).iter().map(|work| work.multiply_adds).sum();
    let second = 1.0 / machines.images_per_second / whole.max(1.0);
    let (below, above) = (second * own as f64, second * all as f64);
    let works = works(&halves.below);
    let (forward, backward) = works.split_first().expect("the forward pass");
    let mut wire = Wire::new(halves.share.ranks, machines);
    let busy = below * works.iter().map(|work| work.multiply_adds).sum::<f64>();
    let (mut now, done) =
        middle(halves, machines, above, below * forward.multiply_adds + wire.round());
    wire.free = now;
    for work in backward {
        now = wire.meanwhile(now, below * work.multiply_adds);
        work.sends.iter().for_each(|&values| wire.send(values, now));
    }
    wire.flush(now);
    let seconds = wire.free.max(now);
    // Ranks with fewer neurons or images wait for the one with most.
    let computed = (busy + done).max(compute);
    Step { seconds, exposed: seconds - computed }
}

/// The upper half, begun at `now`, where a multiply-add of all images takes `second`: when its
/// backward pass is over, and how much of that was computing.
fn middle(halves: &Halves, machines: &Machines, second: f64, mut now: f64) -> (f64, f64) {
    let several = halves.share.ranks > 1;
    let seconds = |bytes: usize| match several {
        true => bytes as f64 / machines.travel().0 + machines.latency,
        false => 0.0,
    };
    let plan = &halves.above;
    let work = |layer: usize| second * plan.layers[layer].parts[0].layer.multiply_adds() as f64;
    let mut busy = 0.0;
    now += between(halves).map(|messages| seconds(messages.gathered)).iter().sum::<f64>();
    for task in plan.forward(ALONE) {
        let Task::Forward { layer, .. } = task else { continue };
        now += neurons(halves, layer).map_or(0.0, |(messages, _)| seconds(messages.gathered));
        now += work(layer);
        busy += work(layer);
    }
    for task in plan.backward(ALONE) {
        let Task::Backward { layer, .. } = task else { continue };
        let Role::Learn(_) = plan.layers[layer].parts[0].layer.role() else { continue };
        let (down, learns) = (descends(halves, layer), plan.layers[layer].learns());
        let scattered = match layer {
            0 => Some(between(halves)[1]),
            _ => neurons(halves, layer).map(|(messages, _)| messages),
        };
        let scattered = scattered.filter(|_| down).map_or(0.0, |m| seconds(m.scattered));
        let (to_input, to_weights) = (f64::from(u8::from(down)), f64::from(u8::from(learns)));
        now += to_input * work(layer);
        now = beside(now, to_weights * work(layer), scattered, machines).max(now + scattered);
        busy += (to_input + to_weights) * work(layer);
    }
    (now, busy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::layers::Classes;
    use crate::network::Mode;

    /// Fully connected layers alone, of 48,000, a million and 4,000 weights.
    const NETWORK: &str = "[data]\ncrop = 4\nclasses = 4\n[schedule]\nkind = 'steps'\n\
        [[layer]]\nname = 'fc1'\nkind = 'fc'\noutputs = 1000\n\
        [[layer]]\nname = 'fc2'\nkind = 'fc'\noutputs = 1000\n\
        [[layer]]\nname = 'fc3'\nkind = 'fc'\noutputs = 4\n\
        [[layer]]\nname = 'softmax'\nkind = 'softmax'\n";
    const MACHINES: Machines =
        Machines { images_per_second: 100.0, bytes_per_second: 1e8, latency: 1e-3, processor: 0.0 };

    /// By hand: 20 images on two ranks, 500 neurons each. Nothing learns below fc1, so that no
    /// gradient goes on from there, and no weights' gradient travels at all.
    #[test]
    fn two_ranks_by_hand() {
        let config = Config::parse(NETWORK, &[], "test").unwrap();
        let plan = Plan::new(&config, 10, Mode::Training, &[0], Classes::Any).unwrap();
        let share = Share { rank: 1, ranks: 2 };
        let halves = Halves::new(&config, 20, share, Classes::Any).unwrap();
        let all = 3.0 * 1_004_000.0 + 2.0 * 48_000.0;
        let work = |multiply_adds: f64| 0.1 * multiply_adds / all;
        let wire = |values: f64| 4.0 * values / 1e8 + 1e-3;
        let forward = work(1_052_000.0) + 2e-3 + wire(10.0) + wire(480.0);
        let forward = forward + 2.0 * wire(20.0 * 500.0) + wire(20.0 * 2.0);
        let sums = wire(20.0 * 500.0);
        let backward = work(4_000.0) + work(4_000.0).max(sums);
        let backward = backward + work(1e6) + work(1e6).max(sums) + work(48_000.0);
        let step = hybrid_step(&plan, &halves, &MACHINES);
        let expected = forward + backward;
        assert!((step.seconds - expected).abs() < 1e-9, "{} and {expected}", step.seconds);
        assert!((step.exposed - (expected - 0.1)).abs() < 1e-9);
        let values = 10 + 480 + 2 * 10_000 + 40 + 2 * 10_000;
        assert_eq!(hybrid_bytes_sent(&halves), 4 * values);
    }

    #[test]
    fn one_rank_waits_for_nobody() {
        let config = Config::parse(NETWORK, &[], "test").unwrap();
        let plan = Plan::new(&config, 10, Mode::Training, &[0], Classes::Any).unwrap();
        let halves = Halves::new(&config, 10, Share { rank: 0, ranks: 1 }, Classes::Any).unwrap();
        let step = hybrid_step(&plan, &halves, &MACHINES);
        assert!((step.seconds - 0.1).abs() < 1e-12 && step.exposed.abs() < 1e-12, "{step:?}");
        assert_eq!(hybrid_bytes_sent(&halves), 0);
    }
}
