//! The forward pass in portions of the batch, on two GPUs.
//!
//! Images go through the layers one beside the other, so the first of them can be on their way to
//! the other GPU while the next are computed, and the layer that reads both towers begins with
//! those that have arrived. Each sum has the order that it has in a pass over the whole batch, so
//! the bits stay. Fully connected layers, for which few images are as much work as many, and what
//! follows them take the whole batch.

use crate::gpu::launch::Launch;
use crate::gpu::precision::Precision;
use crate::layers::cuda::{Launches, When};
use crate::layers::{Role, Stage};
use crate::network::{Part, Plan, Task};

/// A test mode, no promise to users: as many portions, however little crosses.
const PORTIONS: &str = "ALEXNET_TEST_PORTIONS";

/// Portions of a batch where much crosses between GPUs. On tensor cores less time passes in which
/// one portion can be on its way.
fn portions(precision: Precision) -> usize {
    if precision == Precision::F32 { 2 } else { 4 }
}

/// From so many bytes on a copy takes longer (90 µs at 12 GB/s) than the launches that portions add.
const MUCH: usize = 1 << 20;

/// Images of a portion are a multiple of this, so that each begins where 16 bytes begin, even of
/// single bytes.
const IMAGES: usize = 16;

/// How a batch's forward pass is shared out.
#[derive(Clone, Copy, Debug)]
pub struct Portions {
    /// 1 where it is not.
    pub count: usize,
    /// The first layer that takes the whole batch; its input is still joined in portions.
    pub below: usize,
}

impl Portions {
    /// For batches of `images`.
    pub fn new(plan: &Plan, images: usize) -> Portions {
        let takes_all = |part: &Part| {
            matches!(part.layer.role(), Role::Loss(_) | Role::Reconstruction(_))
                || matches!(part.layer.stage(), Some(Stage::Connect(_) | Stage::Drop(_)))
        };
        let below = plan.layers.iter().position(|layer| layer.parts.iter().any(takes_all));
        let below = below.unwrap_or(plan.layers.len());
        let crosses = |part: &Part| {
            let sources = part.join.iter().flat_map(|join| &join.from);
            let others = sources.filter(|from| plan.devices[from.tower] != part.device);
            others.map(|from| part.input.pixels() * from.channels.len()).max().unwrap_or(0)
        };
        let parts = plan.layers.iter().take(below + 1).flat_map(|layer| &layer.parts);
        let bytes =
            parts.map(crosses).max().unwrap_or(0) * images * plan.precision.format().bytes();
        let asked = std::env::var(PORTIONS).ok().and_then(|count| count.parse().ok());
        let wanted = asked.unwrap_or(if bytes < MUCH { 1 } else { portions(plan.precision) });
        // One tower on each GPU, so that there is one lane.
        let crosses = bytes > 0 && plan.data.len() == plan.devices.len();
        let counts = (1..=wanted).rev().filter(|_| crosses);
        let count = counts.into_iter().find(|count| images.is_multiple_of(count * IMAGES));
        Portions { count: count.unwrap_or(1), below }
    }

    /// Whether a layer's work is done in portions: all of it, or at its input alone.
    pub fn reach(&self, layer: usize) -> bool {
        self.count > 1 && layer <= self.below
    }

    /// Whether a task is done in portions.
    pub fn take(&self, task: Task) -> bool {
        self.count > 1
            && match task {
                Task::Forward { layer, .. } => layer < self.below,
                Task::Join { layer, .. } => layer <= self.below,
                Task::Backward { .. } | Task::Split { .. } => false,
            }
    }
}

/// What one layer needs on one tower for one portion.
pub struct PortionLayout {
    /// Its kernels, of which those of the forward pass are used.
    pub launches: Box<dyn Launches>,
    /// For each source of its input.
    pub joins: Vec<Option<Launch>>,
}

impl PortionLayout {
    /// Every kernel that is used.
    pub fn used(&self) -> impl Iterator<Item = &Launch> {
        let own = self.launches.launches().into_iter();
        let forward = own.filter(|(when, _)| matches!(when, When::Forward | When::Evaluation));
        forward.map(|(_, launch)| launch).chain(self.joins.iter().flatten())
    }
}

/// Whether the work of a portion is behind the lane: every other one's, which fills what the one
/// before it leaves idle at the ends of its launches.
pub fn is_behind(portion: Option<usize>) -> bool {
    portion.is_some_and(|portion| portion % 2 == 1)
}

/// Tasks of a forward pass, from each exchange to the next.
pub fn stretches(tasks: &[Task]) -> impl Iterator<Item = &[Task]> {
    let joins = |task: &Task| matches!(task, Task::Join { .. });
    tasks.chunk_by(move |a, b| joins(a) || !joins(b))
}
