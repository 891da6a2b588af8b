//! How long a step of several ranks takes, foretold: the trainer's tasks in their order, as events.
//!
//! What is assumed: a rank computes so many images a second, whatever its share, and a task's part
//! of that is its part of the multiply-adds. One connection a rank, both ways at once, carries what
//! is sent in the order in which it is sent. A sum over N ranks takes each 2·(N − 1)/N of its
//! bytes, which is the least there can be, and 2·⌈log₂ N⌉ times the latency (reduce-scatter and
//! all-gather by halves). Updates are part of what a rank computes.
//!
//! What a byte that travels takes of the processor, in the network's code, in MPI and in being
//! added up, is a number of its own, 0 where nobody has measured it: numbers then come no faster
//! than the processor takes them, and what is computed meanwhile is slower by its share.

mod hybrid;

use crate::mpi::{SMALL, TRANSFER};
use crate::network::{Fusion, OnCpu, Plan, Task};
pub use hybrid::{hybrid_bytes_sent, hybrid_step};

/// No pass of several layers: what is foretold goes layer by layer.
const ALONE: &[Fusion<OnCpu>] = &[];

/// What ranks compute with, and what is between them.
#[derive(Clone, Copy, Debug)]
pub struct Machines {
    /// Images that one rank by itself trains on in a second.
    pub images_per_second: f64,
    /// Bytes that a rank sends in a second, while as many come.
    pub bytes_per_second: f64,
    /// Seconds from one rank to another.
    pub latency: f64,
    /// Seconds of a rank's processor for a byte that it sends while one comes.
    pub processor: f64,
}

impl Machines {
    /// Bytes that travel in a second, and the part of the processor that they take meanwhile.
    fn travel(&self) -> (f64, f64) {
        let rate = self.bytes_per_second.min(1.0 / self.processor);
        (rate, rate * self.processor)
    }
}

/// A step, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// All of it.
    pub seconds: f64,
    /// What others take of it: waits, and the processor's time for what travels.
    pub exposed: f64,
}

/// Bytes that a rank sends in a step, at most, of `ranks` that train `plan` in `parts`.
pub fn bytes_sent(plan: &Plan, ranks: usize, parts: usize) -> u64 {
    match (ranks, parts) {
        (1, _) => 0,
        (_, 1) => of_gradients(plan, ranks),
        // Up the tree, and on to others from rank 0 by a library that sends each byte on once.
        _ => 2 * all_bytes(plan),
    }
}

/// Bytes of all gradients of weights and biases.
fn all_bytes(plan: &Plan) -> u64 {
    lengths(plan).iter().flatten().map(|&n| 4 * n as u64).sum()
}

/// Bytes that each of `ranks` ranks sends to add them up.
fn of_gradients(plan: &Plan, ranks: usize) -> u64 {
    2 * all_bytes(plan) * (ranks as u64 - 1) / ranks as u64
}

/// A step of `ranks` ranks, each with `images` images, without `train.parts`.
pub fn step(plan: &Plan, ranks: usize, images: usize, machines: &Machines) -> Step {
    let works = works(plan);
    let all: f64 = works.iter().map(|work| work.multiply_adds).sum();
    let compute = images as f64 / machines.images_per_second;
    let mut wire = Wire::new(ranks, machines);
    let mut now = wire.round();
    for work in &works {
        now = wire.meanwhile(now, compute * work.multiply_adds / all.max(1.0));
        work.sends.iter().for_each(|&values| wire.send(values, now));
    }
    wire.flush(now);
    let seconds = wire.free.max(now);
    Step { seconds, exposed: seconds - compute }
}

/// The same with `train.parts`: sums go up a tree over the ranks and back to all, once all is
/// computed.
pub fn step_in_parts(plan: &Plan, ranks: usize, images: usize, machines: &Machines) -> Step {
    let compute = images as f64 / machines.images_per_second;
    let all: usize = lengths(plan).iter().flatten().sum();
    let wire = Wire::new(ranks, machines);
    let levels = ranks.next_power_of_two().ilog2() as f64;
    let up = levels * (4.0 * all as f64 / machines.travel().0 + machines.latency);
    let exposed = if ranks > 1 { wire.round() + up + wire.seconds(all) } else { 0.0 };
    Step { seconds: compute + exposed, exposed }
}

/// One task's work, and the lengths of gradients that are complete after it.
struct Work {
    multiply_adds: f64,
    sends: Vec<usize>,
}

/// The forward pass as one, and then each task of the backward pass.
fn works(plan: &Plan) -> Vec<Work> {
    let parts = || plan.layers.iter().flat_map(|layer| &layer.parts);
    let forward = parts().map(|part| part.layer.multiply_adds() as f64).sum();
    let mut works = vec![Work { multiply_adds: forward, sends: Vec::new() }];
    for task in plan.backward(ALONE) {
        let Task::Backward { layer, part, .. } = task else { continue };
        let (planned, part) = (&plan.layers[layer], &plan.layers[layer].parts[part]);
        let passes = f64::from(u8::from(part.dx.is_some()) + u8::from(planned.learns()));
        let multiply_adds = passes * part.layer.multiply_adds() as f64;
        let sizes = part.layer.parameters().filter(|_| planned.learns());
        let sends = sizes.map_or(Vec::new(), |sizes| sizes.sizes().to_vec());
        works.push(Work { multiply_adds, sends });
    }
    works
}

/// Of each part that learns, the lengths of weights and biases.
fn lengths(plan: &Plan) -> Vec<[usize; 2]> {
    let learning = plan.layers.iter().filter(|layer| layer.learns());
    let parts = learning.flat_map(|layer| &layer.parts);
    parts.filter_map(|part| Some(part.layer.parameters()?.sizes())).collect()
}

/// A rank's connection.
struct Wire<'a> {
    ranks: usize,
    machines: &'a Machines,
    /// When all is through that has been sent.
    free: f64,
    /// Values that wait for others.
    small: usize,
}

impl Wire<'_> {
    fn new(ranks: usize, machines: &Machines) -> Wire<'_> {
        Wire { ranks, machines, free: 0.0, small: 0 }
    }

    /// What all say to rank 0, and its answer.
    fn round(&self) -> f64 {
        if self.ranks > 1 { 2.0 * self.machines.latency } else { 0.0 }
    }

    /// A sum of so many values.
    fn seconds(&self, values: usize) -> f64 {
        let n = self.ranks as f64;
        let bytes = 2.0 * (n - 1.0) / n * 4.0 * values as f64;
        let hops = 2.0 * f64::from(self.ranks.next_power_of_two().ilog2());
        bytes / self.machines.travel().0 + hops * self.machines.latency
    }

    /// When a task is over that is begun at `now` and takes so many seconds by itself.
    fn meanwhile(&self, now: f64, seconds: f64) -> f64 {
        beside(now, seconds, (self.free - now).max(0.0), self.machines)
    }

    /// As [`Travelling::send`](crate::mpi::Travelling::send), at the time `now`.
    fn send(&mut self, values: usize, now: f64) {
        if values < SMALL {
            self.small += values;
            if self.small < TRANSFER {
                return;
            }
            return self.flush(now);
        }
        self.begin(values, now);
    }

    fn flush(&mut self, now: f64) {
        let values = std::mem::take(&mut self.small);
        self.begin(values, now);
    }

    fn begin(&mut self, values: usize, now: f64) {
        if self.ranks == 1 || values == 0 {
            return;
        }
        self.free = self.free.max(now);
        let whole = values / TRANSFER;
        self.free += whole as f64 * self.seconds(TRANSFER);
        if !values.is_multiple_of(TRANSFER) {
            self.free += self.seconds(values % TRANSFER);
        }
    }
}

/// When a task is over that is begun at `now`, where it takes so many seconds by itself, and for so
/// many from now on numbers travel, which the processor serves first.
fn beside(now: f64, seconds: f64, travel: f64, machines: &Machines) -> f64 {
    let taken = machines.travel().1;
    if seconds < travel * (1.0 - taken) {
        now + seconds / (1.0 - taken)
    } else {
        now + seconds + travel * taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::layers::Classes;
    use crate::network::Mode;

    /// Two layers of 2 and 3 million weights; 48 inputs, 4 outputs.
    const NETWORK: &str = "[data]\ncrop = 4\nclasses = 4\n[schedule]\nkind = 'steps'\n\
        [[layer]]\nname = 'fc1'\nkind = 'fc'\noutputs = 1000\n\
        [[layer]]\nname = 'fc2'\nkind = 'fc'\noutputs = 1000\n\
        [[layer]]\nname = 'fc3'\nkind = 'fc'\noutputs = 4\n\
        [[layer]]\nname = 'softmax'\nkind = 'softmax'\n";

    fn plan() -> Plan {
        let config = Config::parse(NETWORK, &[], "test").unwrap();
        Plan::new(&config, 10, Mode::Training, &[0], Classes::Any).unwrap()
    }

    const MACHINES: Machines =
        Machines { images_per_second: 100.0, bytes_per_second: 1e8, latency: 1e-3, processor: 0.0 };

    #[test]
    fn one_rank_waits_for_nobody() {
        let alone = Step { seconds: 0.1, exposed: 0.0 };
        let step = step(&plan(), 1, 10, &MACHINES);
        assert!((step.seconds - alone.seconds).abs() < 1e-12 && step.exposed.abs() < 1e-12);
        assert_eq!(step_in_parts(&plan(), 1, 10, &MACHINES), alone);
        assert_eq!(bytes_sent(&plan(), 1, 1), 0);
    }

    /// By hand: multiply-adds are 48,000, 1,000,000 and 4,000 forward, twice that backward but for
    /// fc1, which hands nothing down. fc2's million travels while fc1 is computed; the others are
    /// small, wait, and follow it.
    #[test]
    fn two_ranks_by_hand() {
        let all = 3.0 * 1_004_000.0 + 2.0 * 48_000.0;
        let until_fc2 = 0.1 * (1_052_000.0 + 2.0 * 1_004_000.0) / all;
        let (large, small) = (4e6 / 1e8 + 2e-3, 4.0 * (4_000.0 + 48_000.0 + 2_004.0) / 1e8 + 2e-3);
        let begun = 2e-3 + until_fc2;
        let expected = begun + large + small;
        let step = step(&plan(), 2, 10, &MACHINES);
        assert!((step.seconds - expected).abs() < 1e-9, "{} and {expected}", step.seconds);
        assert!((step.exposed - (expected - 0.1)).abs() < 1e-9);
        let parameters = 48_000 + 1_000_000 + 4_000 + 2_004;
        assert_eq!(bytes_sent(&plan(), 2, 1), 4 * parameters);
        assert_eq!(bytes_sent(&plan(), 4, 1), 6 * parameters);
    }

    /// By hand: 10 ns a byte are all of the processor at 1e8 bytes a second, 4 ns two fifths.
    #[test]
    fn what_travels_takes_its_part_of_the_processor() {
        let at = |processor: f64, rate: f64| {
            let machines = Machines { processor, bytes_per_second: rate, ..MACHINES };
            step(&plan(), 2, 10, &machines)
        };
        let [slow, free] = [at(4e-9, 1e8), at(0.0, 1e8)];
        // The wire is as fast, and what is computed after fc2's gradient is over before it.
        assert!((slow.seconds - free.seconds).abs() < 1e-9, "{slow:?} and {free:?}");
        // Where the processor is what keeps it up, a faster network is of no use.
        let [narrow, wide] = [at(1e-8, 1e8), at(1e-8, 1e12)];
        assert!((narrow.seconds - wide.seconds).abs() < 1e-9, "{narrow:?} and {wide:?}");
        // All bytes' time adds to what is computed, and latencies of a round and two sums.
        let bytes = 4.0 * 1_054_004.0;
        assert!((wide.exposed - (bytes * 1e-8 + 6e-3)).abs() < 1e-9, "{wide:?}");
        let machines = Machines { processor: 4e-9, ..MACHINES };
        // Over before what travels; after it; without it.
        for (seconds, travel, expected) in [(0.3, 1.0, 1.5), (0.9, 1.0, 2.3), (0.9, 0.0, 1.9)] {
            assert!((beside(1.0, seconds, travel, &machines) - expected).abs() < 1e-12);
        }
    }

    /// A fast network hides all but the last sum.
    #[test]
    fn what_is_faster_exposes_less() {
        let at = |bytes_per_second: f64| {
            let machines = Machines { bytes_per_second, ..MACHINES };
            step(&plan(), 8, 10, &machines).exposed
        };
        assert!(at(1e8) > at(1e9) && at(1e9) > at(1e11));
        let parts = step_in_parts(&plan(), 8, 10, &MACHINES);
        assert!(parts.exposed > at(1e8), "nothing is hidden with parts");
    }
}
