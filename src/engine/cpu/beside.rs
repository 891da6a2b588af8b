//! Towers side by side without copies. What reads all towers finds their channels in one buffer,
//! the same for all readers, and the layer below writes its channels of it; backward it takes the
//! sum of its channels in all readers' gradients. Layers that have such passes do so, and those
//! that work value by value on one pixel; of the others the plan's tasks copy ([`Task::Join`],
//! [`Task::Split`]).
//!
//! On two cores of a Zen 5, the paper's network, batch 128, medians of three in turn: copies 6.9 ms
//! a step and none; lrn2 with pool2 back 13.3 and 14.9, pool5 2.8 and 3.1.

use super::{Cpu, fused, rounded};
use crate::layers::beside::{Channels, Gradient};
use crate::layers::{Beside, Map, Role, Run};
use crate::network::{BufferId, Fusion, Mode, OnCpu, Part, Pass, Plan, Task};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::mem::take;

/// Where a part writes among other towers' channels.
#[derive(Debug)]
pub(super) struct Side {
    pub joined: BufferId,
    pub at: Channels,
    /// The gradients at the joined input, of its readers in their order.
    gradients: Vec<BufferId>,
    /// Backward writes to the first of these what belongs in the second, where the readers'
    /// gradient lies until all parts of the layer have read it; then they change places.
    swap: Option<(BufferId, BufferId)>,
}

/// By layer and part.
pub(super) type Sides = BTreeMap<(usize, usize), Side>;

/// `plan` with one joined input for all parts of a layer: they lie in the same memory.
pub(super) fn shared(mut plan: Plan) -> Plan {
    for layer in &mut plan.layers {
        let [first, others @ ..] = &mut layer.parts[..] else { continue };
        for part in others.iter_mut().filter(|part| part.join.is_some() && part.x != first.x) {
            plan.buffers[part.x].values = 0;
            part.x = first.x;
        }
    }
    plan
}

/// The parts of a [`shared`] plan that write where they are read.
pub(super) fn sides(plan: &Plan, fusions: &[Fusion<OnCpu>]) -> Sides {
    let mut all = Sides::new();
    // Every layer's output is there by itself, to be seen or to be rounded.
    if plan.mode == Mode::Explanation || rounded::is_asked() {
        return all;
    }
    for (index, readers) in plan.layers.iter().enumerate().skip(1) {
        let Some(join) = &readers.parts[0].join else { continue };
        let below = &plan.layers[index - 1].parts;
        let gradients: Vec<BufferId> = readers.parts.iter().filter_map(|part| part.dx).collect();
        let lowest = |part: usize| lowest(fusions, index - 1, part);
        let serves = join.from.iter().enumerate().all(|(part, source)| {
            let (from, to) = (lowest(part), &below[part]);
            source.part == part
                && writes_beside(to, from != index - 1)
                && from == lowest(0)
                && to.dy.is_none_or(|dy| !gradients.contains(&dy))
        });
        if !serves || readers.parts.iter().any(|part| part.x != readers.parts[0].x) {
            continue;
        }
        for (part, source) in join.from.iter().enumerate() {
            let dx = plan.layers[lowest(part)].parts[part].dx;
            let swap = below[part].dy.zip(dx).filter(|(dy, dx)| dy != dx);
            let side = Side {
                joined: readers.parts[0].x,
                at: Channels { own: source.channels.clone(), all: readers.parts[0].input.channels },
                gradients: gradients.clone(),
                swap,
            };
            all.insert((index - 1, part), side);
        }
    }
    all
}

/// The lowest layer that goes forward together with that part of `layer`.
fn lowest(fusions: &[Fusion<OnCpu>], layer: usize, part: usize) -> usize {
    let with = fusions.iter().find(|f| f.pass.goes_forward() && f.covers(layer, part));
    with.map_or(layer, |fusion| fusion.layers.start)
}

/// Whether a part, or the pass that it is the highest of, can write among others' channels. A
/// convolution with its ReLU cannot.
fn writes_beside(part: &Part, is_fused: bool) -> bool {
    match part.layer.role() {
        Role::Map(map) => is_fused || map.beside().is_some(),
        Role::Pointwise(_) => part.input.pixels() == 1 && !is_fused,
        Role::Learn(_) | Role::Loss(_) | Role::Reconstruction(_) => false,
    }
}

/// Values an image of the plan's buffers where `fusions` and `sides` take their parts' places.
pub(super) fn sizes(plan: &Plan, fusions: &[Fusion<OnCpu>], sides: &Sides) -> Vec<usize> {
    let mut values = fused::sizes(plan, fusions);
    for (&(layer, part), side) in sides {
        let part = &plan.layers[layer].parts[part];
        if part.x != part.y {
            values[part.y] = 0;
        }
        if let Some((dy, dx)) = side.swap {
            let most = values[dy].max(values[dx]);
            (values[dy], values[dx]) = (most, most);
        }
    }
    values
}

/// Whether a task is still to be done, where parts write where they are read.
pub(super) fn remains(plan: &Plan, sides: &Sides, task: &Task) -> bool {
    match *task {
        Task::Join { layer, part, from } => {
            let parts = &plan.layers[layer].parts;
            let source = parts[part].join.as_ref().map_or(from, |join| join.from[from].part);
            let is_shared = part > 0 && parts[part].x == parts[0].x;
            !is_shared && !sides.contains_key(&(layer - 1, source))
        }
        Task::Split { layer, below } => !sides.contains_key(&(layer - 1, below)),
        Task::Forward { .. } | Task::Backward { .. } => true,
    }
}

impl Cpu {
    /// The forward pass of a part that has a side; `false`: it has none.
    pub(super) fn forward_beside(&mut self, (layer, part): (usize, usize), run: &Run) -> bool {
        let Some(side) = self.sides.get(&(layer, part)) else { return false };
        let part = &self.plan.layers[layer].parts[part];
        let mut joined = take(&mut self.buffers[side.joined]);
        let x = &self.buffers[part.x];
        match part.layer.role() {
            Role::Map(map) => beside(map).forward_beside(run, &mut joined, &side.at, x),
            Role::Pointwise(pointwise) => {
                let y = joined.par_chunks_exact_mut(side.at.all);
                let x = x.par_chunks_exact(part.input.len());
                y.zip(x).take(run.batch).enumerate().for_each(|(image, (y, x))| {
                    let y = &mut y[side.at.own.clone()];
                    y.copy_from_slice(x);
                    pointwise.forward(&of_image(run, image), y);
                });
            }
            Role::Learn(_) | Role::Loss(_) | Role::Reconstruction(_) => {}
        }
        self.buffers[side.joined] = joined;
        true
    }

    /// The backward pass of such a part, to the input of the ReLU below it if `past_relu`.
    pub(super) fn backward_beside(
        &mut self,
        (layer, index): (usize, usize),
        past_relu: bool,
        run: &Run,
    ) -> bool {
        let Some(side) = self.sides.get(&(layer, index)) else { return false };
        let part = &self.plan.layers[layer].parts[index];
        let (Some(dy), Some(_)) = (part.dy, part.dx) else { return true };
        let mut dx = take(&mut self.buffers[dy]);
        let readers = self.of_readers(side);
        let gradient = Gradient::new(&readers, &side.at);
        match part.layer.role() {
            Role::Map(map) => {
                let x = &self.buffers[part.x];
                match part.layer.past_relu().filter(|_| past_relu) {
                    Some(pass) => pass.backward(run, &mut dx, gradient, x),
                    None => beside(map).backward_beside(run, &mut dx, gradient, x),
                }
            }
            Role::Pointwise(pointwise) => {
                let y = self.buffers[side.joined].par_chunks_exact(side.at.all);
                let dx = dx.par_chunks_exact_mut(part.input.len());
                dx.zip(y).take(run.batch).enumerate().for_each(|(image, (dx, y))| {
                    gradient.copy(image, dx);
                    pointwise.backward(&of_image(run, image), dx, &y[side.at.own.clone()]);
                });
            }
            Role::Learn(_) | Role::Loss(_) | Role::Reconstruction(_) => {}
        }
        self.buffers[dy] = dx;
        self.has_gone_back(layer, index);
        true
    }

    /// The gradients that the readers of a part have at their joined input.
    pub(super) fn of_readers(&self, side: &Side) -> Vec<&[f32]> {
        side.gradients.iter().map(|&id| &self.buffers[id][..]).collect()
    }

    /// Backward has written that part's result: the last one's puts those of all where they belong.
    pub(super) fn has_gone_back(&mut self, layer: usize, part: usize) {
        if part + 1 < self.plan.layers[layer].parts.len() {
            return;
        }
        for (_, side) in self.sides.range((layer, 0)..=(layer, part)) {
            if let Some((dy, dx)) = side.swap {
                self.buffers.swap(dy, dx);
            }
        }
    }

    /// What the last pass has left of a part's output among others' channels, if that is `buffer`.
    pub(super) fn left_beside(&self, buffer: BufferId) -> Option<Vec<f32>> {
        let is_its =
            |&(layer, part): &(usize, usize)| self.plan.layers[layer].parts[part].y == buffer;
        let (&(layer, part), side) = self.sides.iter().find(|(key, _)| is_its(key))?;
        let pixels = self.plan.layers[layer].parts[part].layer.output().pixels();
        let joined = &self.buffers[side.joined][..self.last_batch * pixels * side.at.all];
        Some(side.at.of(joined).flatten().copied().collect())
    }
}

fn beside(map: &dyn Map) -> &dyn Beside {
    map.beside().expect("it has a side because it has that")
}

/// A pass over one image of a run's.
fn of_image(run: &Run, image: usize) -> Run {
    Run { batch: 1, first_image: run.first_image + image as u32, ..*run }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::form::CropView;
    use crate::engine::cpu::{fusions, small};
    use crate::engine::{Engine, Rates, Slot};
    use crate::random::numbers;

    const BATCH: usize = 6;
    const CROP: usize = 21;

    /// A layer's name, its kind and its keys.
    type Lines = [(&'static str, &'static str, &'static str)];

    const CONVOLUTIONS: &Lines = &[
        ("conv1", "conv", "kernels = 32\nsize = 5\npadding = [2, 2, 2, 2]"),
        ("relu1", "relu", ""),
        ("lrn1", "lrn", "n = 5\nk = 2\nalpha = 0.1\nbeta = 0.75"),
        ("pool1", "max-pool", "size = 3\nstride = 2"),
        ("conv2", "conv", "kernels = 38\nsize = 3\npadding = [1, 1, 1, 1]\ninput = \"all-towers\""),
    ];
    const PAPER: &Lines = &[
        ("relu2", "relu", ""),
        ("pool2", "max-pool", "size = 3\nstride = 2"),
        ("fc3", "fc", "outputs = 64"),
        ("relu3", "relu", ""),
        ("drop3", "dropout", "rate = 0.5"),
        ("fc4", "fc", "outputs = 30"),
        ("tanh4", "tanh", ""),
        ("drop4", "dropout", "rate = 0.25\nscale = \"train\""),
        ("fc5", "fc", "outputs = 4\ntower = 0"),
    ];
    /// Towers' outputs that no pass writes among others': of convolutions, of ReLU on many pixels,
    /// of normalisation alone.
    const COPIED: &Lines = &[
        ("relu2", "relu", ""),
        ("conv3", "conv", "kernels = 8\nsize = 3\ninput = \"all-towers\""),
        ("conv4", "conv", "kernels = 8\nsize = 3\ninput = \"all-towers\""),
        ("lrn4", "lrn", "n = 3\nk = 1\nalpha = 0.1\nbeta = 0.5"),
        ("fc5", "fc", "outputs = 10\ninput = \"all-towers\""),
        ("fc6", "fc", "outputs = 4"),
    ];
    const AVERAGES: &Lines =
        &[("pool2", "average-pool", "size = 3\nstride = 2"), ("fc3", "fc", "outputs = 4")];

    fn plan(above: &Lines, mode: Mode) -> Plan {
        let mut text = format!(
            "towers = 2\n[data]\ncrop = {CROP}\nclasses = 4\n[train]\nbatch = {BATCH}\n\
             [schedule]\nrate = 0.1\n"
        );
        let end = [("softmax", "softmax", "")];
        for (name, kind, keys) in CONVOLUTIONS.iter().chain(above).chain(&end) {
            text += &format!("[[layer]]\nname = \"{name}\"\nkind = \"{kind}\"\n{keys}\n");
        }
        small::plan(&text, BATCH, mode)
    }

    /// The plan's own tasks, copies among them.
    fn copying(plan: Plan) -> Cpu {
        let fusions = fusions(&plan);
        Cpu::with(plan, fusions, Sides::new()).unwrap()
    }

    /// The bits of what each layer has left, and of every weight.
    fn all(cpu: &Cpu) -> Vec<Vec<u32>> {
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
        let parts = cpu.plan.layers.iter().flat_map(|layer| &layer.parts);
        let left = parts.map(|part| bits(cpu.left_in(part.y).unwrap()));
        let tensors = 0..cpu.plan.tensors().len();
        left.chain(tensors.map(|t| bits(cpu.read(Slot::Value, t).unwrap().values))).collect()
    }

    /// Three steps, the last of fewer images.
    fn trained(mut cpu: Cpu) -> Vec<Vec<Vec<u32>>> {
        small::write(&mut cpu, 0);
        let rates =
            Rates { weight: 0.05, weight_decay: 0.001, bias: 0.1, bias_decay: 0.0, trust: None };
        let rates: Vec<_> = cpu.plan.layers.iter().map(|l| l.learns().then_some(rates)).collect();
        let step = |step: u32| {
            let batch = BATCH - usize::from(step == 3);
            let run = Run { batch, training: true, seed: 4, step, first_image: 3 };
            let images = numbers(batch * cpu.plan.input.len(), step);
            let labels: Vec<u32> = (0..batch as u32).map(|image| (image + step) % 4).collect();
            cpu.step(&run, CropView::Floats(&images), &labels, 0.9, &rates).unwrap();
            all(&cpu)
        };
        (1..=3).map(step).collect()
    }

    fn evaluated(mut cpu: Cpu) -> Vec<Vec<u32>> {
        small::write(&mut cpu, 0);
        let run = Run { batch: BATCH - 1, training: false, seed: 4, step: 0, first_image: 0 };
        let images = numbers(run.batch * cpu.plan.input.len(), 9);
        cpu.forward(&run, CropView::Floats(&images)).unwrap();
        all(&cpu)
    }

    fn copies(cpu: &Cpu) -> usize {
        let tasks = cpu.forward.iter().chain(&cpu.backward);
        tasks.filter(|task| matches!(task, Task::Join { .. } | Task::Split { .. })).count()
    }

    #[test]
    fn without_copies_bits_are_those_of_copies() {
        // What is left: the two sources of an input each, and where gradients go back.
        for (above, in_place, before) in [
            // Of fc5, on one tower, to softmax no gradient is split.
            (PAPER, 0, 4 + 2 + 4 + 2 + 4 + 2 + 2 + 2),
            (AVERAGES, 2 + 2, 4 + 2 + 4 + 2 + 2 + 2),
            (COPIED, 5 * (2 + 2), 4 + 2 + 4 * (4 + 2) + 2 + 2),
        ] {
            let cpu = Cpu::new(plan(above, Mode::Training)).unwrap();
            let reference = copying(plan(above, Mode::Training));
            assert_eq!((copies(&cpu), copies(&reference)), (in_place, before));
            let (own, copied) = (trained(cpu), trained(reference));
            assert!(own == copied);
            assert!(own[0] != own[1], "it learns nothing");
            let cpu = Cpu::new(plan(above, Mode::Evaluation)).unwrap();
            assert!(evaluated(cpu) == evaluated(copying(plan(above, Mode::Evaluation))));
        }
    }

    /// Towers' outputs, and all but one of the joined inputs, take no memory.
    #[test]
    fn what_is_in_one_place_takes_no_memory_elsewhere() {
        let plan = plan(PAPER, Mode::Training);
        let before: usize = fused::sizes(&plan, &fusions(&plan)).iter().sum();
        let cpu = Cpu::new(plan).unwrap();
        let taken = |cpu: &Cpu| cpu.buffers.iter().map(Vec::len).sum::<usize>() / BATCH;
        // Each of two readers' inputs of conv2, fc3, fc4; pool1's, pool2's and drop4's outputs.
        let (pool1, pool2, drop4) = (10 * 10 * 32, 5 * 5 * 38, 30);
        let outputs = pool1 + pool2 + drop4;
        let inputs = pool1 + pool2 + 64;
        assert_eq!(taken(&cpu) + outputs + inputs, before);
    }

    /// Nothing that only training needs: of the paper's network each convolution's output, the
    /// pooled ones, the neurons' and the input are there.
    #[test]
    fn evaluation_writes_what_is_read() {
        let paper = include_str!("../../../configs/ilsvrc2010.toml");
        let plan = shared(small::plan(paper, 10, Mode::Evaluation));
        let fusions = fusions(&plan);
        let taken = sizes(&plan, &fusions, &sides(&plan, &fusions));
        let maps = |side: usize, channels: usize| side * side * channels;
        let convolved = maps(55, 96) + maps(27, 256) + 2 * maps(13, 384) + maps(13, 256);
        let pooled = maps(27, 96) + maps(13, 256) + maps(6, 256);
        // And what dropout and softmax make of them, the former for both towers to read.
        let neurons = 2 * (2 * 4096 + 1000);
        let wanted = maps(224, 3) + convolved + pooled + neurons;
        assert_eq!(taken.iter().sum::<usize>(), wanted);
    }
}
