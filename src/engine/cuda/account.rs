//! What a step on GPUs consists of, without one: every launch and the memory that it reads and
//! writes.

use super::layout::Layout;
use super::norms::Norms;
use crate::gpu::launch::Launch;
use crate::layers::cuda::When;
use crate::network::{Mode, Plan, Task};

/// Why something is launched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Crops to the network's input; no layer's.
    Batch,
    /// From input to output.
    Forward,
    /// Gradient to the input.
    Input,
    /// Gradients of weights and biases.
    Weights,
    /// Joining and splitting at layers that read all towers.
    Copies,
    /// The update rule.
    Update,
}

/// One launch of a step.
pub struct Work<'a> {
    /// Index into the plan's layers; of [`Purpose::Batch`] the first.
    pub layer: usize,
    /// What it is for.
    pub purpose: Purpose,
    /// The kernel.
    pub launch: &'a Launch,
}

/// Every launch of one step of a full batch, as the workers queue them: in training with the
/// update, in evaluation the forward pass.
pub fn step<'a>(plan: &Plan, layout: &'a Layout) -> Vec<Work<'a>> {
    let training = plan.mode == Mode::Training;
    let batch = |launch| Work { layer: 0, purpose: Purpose::Batch, launch };
    let mut all: Vec<Work<'a>> = layout.inputs.iter().map(batch).collect();
    let forward = plan.forward(&layout.fusions);
    let backward = if training { plan.backward(&layout.fusions) } else { Vec::new() };
    for task in forward.into_iter().chain(backward) {
        if layout.portions.take(task) {
            (0..layout.portions.count).for_each(|_| of_portion(layout, task, &mut all));
        } else {
            of_task(plan, layout, task, &mut all);
        }
    }
    for (layer, planned) in plan.layers.iter().enumerate().filter(|(_, l)| training && l.learns()) {
        for part in 0..planned.parts.len() {
            let of = &layout.parts[layer][part];
            let norms = of.norms.iter().flat_map(Norms::launches);
            let own = !at_once(plan, layout, layer, part) && !layout.with(layer, part).is_empty();
            let update = of.update.iter().filter(|_| own);
            let updates = norms.chain(update);
            all.extend(updates.map(|launch| Work { layer, purpose: Purpose::Update, launch }));
        }
    }
    all
}

/// Whether weights and biases of a part are updated as their gradients come into being, or as the
/// parts of these are added up: where the loss is on the same device.
fn at_once(plan: &Plan, layout: &Layout, layer: usize, part: usize) -> bool {
    let of = &layout.parts[layer][part];
    let can = of.launches.updates() || of.update_by_parts.is_some();
    plan.data.len() == 1 && !plan.lars && can
}

/// What a task of the forward pass is for one portion of the batch.
fn of_portion<'a>(layout: &'a Layout, task: Task, all: &mut Vec<Work<'a>>) {
    let portion = |layer: usize, part: usize| layout.parts[layer][part].portion.as_ref();
    match task {
        Task::Join { layer, part, from } => {
            let join = portion(layer, part).and_then(|own| own.joins[from].as_ref());
            all.extend(join.map(|launch| Work { layer, purpose: Purpose::Copies, launch }));
        }
        Task::Forward { layer, part, .. } => {
            let own = portion(layer, part).into_iter().flat_map(|own| own.launches.launches());
            let forward = own.filter(|(when, _)| *when == When::Forward);
            let work = |(_, launch)| Work { layer, purpose: Purpose::Forward, launch };
            all.extend(forward.map(work));
        }
        Task::Backward { .. } | Task::Split { .. } => {}
    }
}

fn of_task<'a>(plan: &Plan, layout: &'a Layout, task: Task, all: &mut Vec<Work<'a>>) {
    let mut add = |layer, purpose, launch: &'a Launch| all.push(Work { layer, purpose, launch });
    let of = |layer: usize, part: usize, when| {
        let launches = layout.parts[layer][part].launches.launches();
        launches.into_iter().filter(move |(own, _)| *own == when).map(|(_, launch)| launch)
    };
    match task {
        Task::Join { layer, part, from } => {
            let join = layout.parts[layer][part].sources[from].join.iter();
            join.for_each(|launch| add(layer, Purpose::Copies, launch));
        }
        Task::Forward { layer, part, .. } | Task::Backward { layer, part, .. }
            if layout.with(layer, part).is_empty() => {}
        Task::Forward { layer, part, .. } => {
            let when = match plan.mode {
                Mode::Training => When::Forward,
                Mode::Evaluation | Mode::Explanation => When::Evaluation,
            };
            of(layer, part, when).for_each(|launch| add(layer, Purpose::Forward, launch));
        }
        Task::Backward { layer, .. } if layout.masked[layer] => {}
        Task::Backward { layer, part, .. } => {
            let planned = &plan.layers[layer];
            let input = planned.parts[part].dx.map(|_| (When::Input, Purpose::Input));
            let of_part = &layout.parts[layer][part];
            let weights = match at_once(plan, layout, layer, part) {
                true if of_part.update_by_parts.is_some() => (When::Parts, Purpose::Weights),
                true => (When::Update, Purpose::Update),
                false => (When::Weights, Purpose::Weights),
            };
            for (when, purpose) in input.into_iter().chain(planned.learns().then_some(weights)) {
                of(layer, part, when).for_each(|launch| add(layer, purpose, launch));
            }
            let by_parts = of_part.update_by_parts.iter().filter(|_| weights.0 == When::Parts);
            by_parts.for_each(|launch| add(layer, Purpose::Update, launch));
        }
        Task::Split { layer, below } => {
            for part in &layout.parts[layer] {
                let source = &part.sources[below];
                let both = source.take.iter().chain(&source.collect);
                both.for_each(|launch| add(layer, Purpose::Copies, launch));
            }
        }
    }
}
